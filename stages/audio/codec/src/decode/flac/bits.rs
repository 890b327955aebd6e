//! Bits from bytes, the highest first.

#![expect(clippy::inline_always, reason = "measured: what happens for every sample must not be a call")]

/// Why decoding stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes end within it.
    End,
    /// It is damaged, and how.
    Bad(&'static str),
}

/// Reads bits. The next ones wait in `word`, so that most reads touch no memory. What is rare takes and gives the whole by value,
/// so that the fields of a local one can stay in registers.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The first byte of which nothing is counted in `len`.
    at: usize,
    /// The next bit is the highest; below the first `len` lie bits that come again.
    word: u64,
    len: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, word: 0, len: 0 }
    }

    /// Afterwards there are at least 56 bits, or all that are left.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        if let Some(next) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            self.word |= u64::from_be_bytes(*next) >> self.len;
            let whole = (63 - self.len) >> 3;
            self.at += whole as usize;
            self.len += whole << 3;
        } else {
            *self = self.filled_at_end();
        }
    }

    #[cold]
    fn filled_at_end(mut self) -> Self {
        // What lay below the first `len` bits may be a part of a byte that is read now.
        self.word = if self.len == 0 { 0 } else { self.word & !0 << (64 - self.len) };
        while self.len < 56
            && let Some(&byte) = self.bytes.get(self.at)
        {
            self.word |= u64::from(byte) << (56 - self.len);
            self.at += 1;
            self.len += 8;
        }
        self
    }

    #[inline(always)]
    fn drop_bits(&mut self, len: u32) {
        self.word <<= len;
        self.len -= len;
    }

    /// At most 32 bits.
    #[inline(always)]
    pub(super) fn take(&mut self, len: u32) -> Result<u32, Stop> {
        if self.len < len {
            self.fill();
            if self.len < len {
                return Err(Stop::End);
            }
        }
        let value = (self.word >> 1 >> (63 - len)) as u32;
        self.drop_bits(len);
        Ok(value)
    }

    /// At most 33 bits, with a sign.
    #[inline(always)]
    pub(super) fn take_signed(&mut self, len: u32) -> Result<i64, Stop> {
        if len == 0 {
            return Ok(0);
        }
        let high = self.take(1)?;
        let low = self.take(len - 1)?;
        Ok(i64::from(low) - (i64::from(high) << (len - 1)))
    }

    /// Zeros up to the next one.
    pub(super) fn take_zeros(&mut self) -> Result<u32, Stop> {
        let mut zeros = 0_u32;
        loop {
            if self.len == 0 {
                self.fill();
                if self.len == 0 {
                    return Err(Stop::End);
                }
            }
            let here = self.word.leading_zeros();
            if here < self.len {
                self.drop_bits(here + 1);
                return Ok(zeros + here);
            }
            zeros = zeros.checked_add(self.len).ok_or(Stop::Bad("a run of zeros without an end"))?;
            (self.word, self.len) = (0, 0);
        }
    }

    /// A residual in a Rice code (section 9.2.7.1). Faster when [`Bits::fill`] came shortly before.
    #[inline(always)]
    pub(super) fn take_rice(&mut self, parameter: u32) -> Result<i32, Stop> {
        let zeros = self.word.leading_zeros();
        let len = zeros + 1 + parameter;
        let folded = if len <= self.len {
            let low = (self.word << zeros << 1 >> 1 >> (63 - parameter)) as u32;
            self.drop_bits(len);
            zeros << parameter | low
        } else {
            let folded;
            (*self, folded) = self.take_long_rice(parameter)?;
            folded
        };
        Ok((folded >> 1) as i32 ^ -((folded & 1) as i32))
    }

    #[cold]
    fn take_long_rice(mut self, parameter: u32) -> Result<(Self, u32), Stop> {
        let zeros = self.take_zeros()?;
        if parameter > 0 && zeros >> (32 - parameter) > 0 {
            return Err(Stop::Bad("a residual that does not fit 32 bits"));
        }
        let folded = zeros << parameter | self.take(parameter)?;
        Ok((self, folded))
    }

    /// Where the byte ends that was read last. The bits up to there must be zeros.
    pub(super) fn end_of_byte(&mut self) -> Result<usize, Stop> {
        let padding = self.len % 8;
        if self.take(padding)? != 0 {
            return Err(Stop::Bad("a frame does not end in zeros"));
        }
        Ok(self.at - self.len as usize / 8)
    }
}
