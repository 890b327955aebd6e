//! The samples of one channel of a frame (section 9.2).

#![expect(clippy::inline_always, reason = "measured: what happens for every sample must not be a call")]

use multiversion::multiversion;

use super::bits::{Bits, Stop};

/// Fills `block` with samples of `width` bits, 32 at most.
pub(super) fn decode(bits: &mut Bits<'_>, width: u32, block: &mut [i32]) -> Result<(), Stop> {
    let (kind, wasted) = head(bits, width)?;
    let width = width - wasted;
    match kind {
        0 => block.fill(bits.take_signed(width)? as i32),
        1 => {
            for sample in block.iter_mut() {
                *sample = bits.take_signed(width)? as i32;
            }
        }
        kind @ 8..=12 => fixed(bits, width, kind as usize - 8, block)?,
        kind @ 32..=63 => linear(bits, width, kind as usize - 31, block)?,
        _ => return Err(Stop::Bad("a subframe of no known kind")),
    }
    if wasted > 0 {
        for sample in block {
            *sample <<= wasted;
        }
    }
    Ok(())
}

/// Returns the kind of a subframe, and the number of zero bits at the end of every sample that it leaves out (sections 9.2.1 and 9.2.2).
pub(super) fn head(bits: &mut Bits<'_>, width: u32) -> Result<(u32, u32), Stop> {
    let head = bits.take(8)?;
    let wasted = if head & 1 == 1 { bits.take_zeros()? + 1 } else { 0 };
    if head & 0x80 != 0 {
        return Err(Stop::Bad("a subframe does not begin with a zero"));
    }
    if wasted >= width {
        return Err(Stop::Bad("a subframe wastes all of its bits"));
    }
    Ok((head >> 1 & 0x3f, wasted))
}

/// Section 9.2.5: a polynomial through the samples before.
fn fixed(bits: &mut Bits<'_>, width: u32, order: usize, block: &mut [i32]) -> Result<(), Stop> {
    warm_up(bits, width, order, block)?;
    residual(bits, width, polynomial(order), 0, block)
}

pub(super) fn polynomial(order: usize) -> &'static [i32] {
    match order {
        0 => &[],
        1 => &[1],
        2 => &[2, -1],
        3 => &[3, -3, 1],
        _ => &[4, -6, 4, -1],
    }
}

/// Section 9.2.6: a sum of the samples before, by coefficients in the file.
fn linear(bits: &mut Bits<'_>, width: u32, order: usize, block: &mut [i32]) -> Result<(), Stop> {
    warm_up(bits, width, order, block)?;
    let mut coefficients = [0; 32];
    let (coefficients, shift) = taken(bits, &mut coefficients[..order])?;
    residual(bits, width, coefficients, shift, block)
}

/// Coefficients as they stand in the file, and by how many bits their sum is shifted.
pub(super) fn taken<'c>(bits: &mut Bits<'_>, coefficients: &'c mut [i32]) -> Result<(&'c [i32], u32), Stop> {
    let precision = bits.take(4)? + 1;
    if precision == 16 {
        return Err(Stop::Bad("coefficients of no known precision"));
    }
    let shift = bits.take_signed(5)?;
    if shift < 0 {
        return Err(Stop::Bad("coefficients with a negative shift"));
    }
    for coefficient in &mut *coefficients {
        *coefficient = bits.take_signed(precision)? as i32;
    }
    Ok((coefficients, shift as u32))
}

fn warm_up(bits: &mut Bits<'_>, width: u32, order: usize, block: &mut [i32]) -> Result<(), Stop> {
    let Some(first) = block.get_mut(..order) else { return Err(Stop::Bad("a block shorter than its predictor")) };
    for sample in first {
        *sample = bits.take_signed(width)? as i32;
    }
    Ok(())
}

/// Section 9.2.7: the samples after the first few, of which there is one for each coefficient; the first coefficient is for the
/// sample just before.
fn residual(bits: &mut Bits<'_>, width: u32, coefficients: &[i32], shift: u32, block: &mut [i32]) -> Result<(), Stop> {
    let largest: u64 = coefficients.iter().map(|coefficient| u64::from(coefficient.unsigned_abs()) << (width - 1)).sum();
    let is_narrow = i32::try_from(largest).is_ok();
    macro_rules! by {
        ($sum:ty, $near:literal + $far:literal) => {
            samples(bits, block, coefficients.len(), Predictor::<$sum, $near, $far>::new(coefficients, shift))
        };
    }
    match (coefficients.len(), is_narrow) {
        (..=10, true) => by!(i32, 2 + 8),
        (..=10, false) => by!(f64, 2 + 8),
        (..=12, true) => by!(i32, 4 + 8),
        (..=12, false) => by!(f64, 4 + 8),
        (_, true) => by!(i32, 2 + 32),
        (_, false) => by!(f64, 2 + 32),
    }
}

/// The residuals alone, behind `order` samples that stay as they are.
pub(super) fn residuals(bits: &mut Bits<'_>, order: usize, block: &mut [i32]) -> Result<(), Stop> {
    let (first, _) = block.split_at_mut(order);
    first.fill(0);
    samples(bits, block, order, Predictor::<i32, 2, 8>::new(&[], 0))
}

/// A sum of products. One that does not fit comes from damage only, and the checksum finds it.
trait Sum: Copy + From<i32> {
    /// Value of `keep` for a sum that continues; for others it is zero.
    const GOES_ON: Self;

    fn plus(self, keep: Self, sample: Self, coefficient: Self) -> Self;

    /// The newest is added last of all, since it is still being computed.
    fn foretold(self, last: &[i32], near: &[i32], shift: u32) -> i32;
}

impl Sum for i32 {
    const GOES_ON: Self = !0;

    #[inline(always)]
    fn plus(self, keep: Self, sample: Self, coefficient: Self) -> Self {
        (self & keep).wrapping_add(sample.wrapping_mul(coefficient))
    }

    #[inline(always)]
    fn foretold(self, last: &[i32], near: &[i32], shift: u32) -> i32 {
        let pairs = last.iter().zip(near).rev();
        pairs.fold(self, |sum, (sample, factor)| sum.wrapping_add(sample.wrapping_mul(*factor))) >> shift
    }
}

/// Exact: a sample of 32 bits, a coefficient of 15 and a sum of 32 products take 52 bits. For whole numbers of 64 bits there are no
/// vectors.
impl Sum for f64 {
    const GOES_ON: Self = 1.0;

    #[inline(always)]
    fn plus(self, keep: Self, sample: Self, coefficient: Self) -> Self {
        self * keep + sample * coefficient
    }

    #[inline(always)]
    fn foretold(self, last: &[i32], near: &[i32], shift: u32) -> i32 {
        let pairs = last.iter().zip(near).rev();
        let product = |sample: &i32, factor: &i32| i64::from(*sample) * i64::from(*factor);
        (pairs.fold(self as i64, |sum, (sample, factor)| sum.wrapping_add(product(sample, factor))) >> shift) as i32
    }
}

/// Foretells samples. What a sample adds to later ones is added up as soon as it is known, to all of them at once: that fills a
/// vector, and nothing waits for it but what comes some samples later. The coefficients for the last samples, `near`, are applied
/// only when a sample is foretold.
struct Predictor<S, const NEAR: usize, const FAR: usize> {
    near: [i32; NEAR],
    /// Twice, one after the other: so those for all of `sums`, wherever these begin, lie side by side. The same with `keep`, which
    /// ends the sum that has been used.
    far: [[S; FAR]; 2],
    keep: [[S; FAR]; 2],
    shift: u32,
    /// Sum that samples older than `last` add to the next sample, which is at `at`, the one after it, and so on, in a circle.
    sums: [S; FAR],
    at: usize,
    /// The newest first.
    last: [i32; NEAR],
}

impl<S: Sum, const NEAR: usize, const FAR: usize> Predictor<S, NEAR, FAR> {
    fn new(coefficients: &[i32], shift: u32) -> Self {
        let coefficient = |at: usize| coefficients.get(at).copied().unwrap_or(0);
        let zero = S::from(0);
        Self {
            near: std::array::from_fn(coefficient),
            far: [std::array::from_fn(|at| S::from(coefficient(NEAR + at))); 2],
            keep: [std::array::from_fn(|at| if at + 1 == FAR { zero } else { S::GOES_ON }), [S::GOES_ON; FAR]],
            shift,
            sums: [zero; FAR],
            at: 0,
            last: [0; NEAR],
        }
    }

    #[inline(always)]
    fn next(&mut self, residual: i32) -> i32 {
        let sample = residual.wrapping_add(self.sums[self.at % FAR].foretold(&self.last, &self.near, self.shift));
        self.push(sample);
        sample
    }

    #[inline(always)]
    fn push(&mut self, sample: i32) {
        let older = S::from(self.last[NEAR - 1]);
        let first = FAR - 1 - self.at % FAR;
        let (far, keep) = (&self.far.as_flattened()[first..][..FAR], &self.keep.as_flattened()[first..][..FAR]);
        for ((sum, &coefficient), &keep) in self.sums.iter_mut().zip(far).zip(keep) {
            *sum = sum.plus(keep, older, coefficient);
        }
        self.at = (self.at + 1) % FAR;
        self.last.copy_within(..NEAR - 1, 1);
        self.last[0] = sample;
    }
}

/// Four codes with this parameter nearly always fit the bits that [`Bits::fill`] provides.
const MAX_FOR_FOUR: u32 = 10;

#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt", "x86_64+bmi1+bmi2+lzcnt"))]
fn samples<S: Sum, const NEAR: usize, const FAR: usize>(
    reader: &mut Bits<'_>,
    block: &mut [i32],
    order: usize,
    mut predictor: Predictor<S, NEAR, FAR>,
) -> Result<(), Stop> {
    let mut bits = *reader;
    for &sample in &block[..order] {
        predictor.push(sample);
    }
    let parameter_len = match bits.take(2)? {
        0 => 4,
        1 => 5,
        _ => return Err(Stop::Bad("a residual of no known coding")),
    };
    let partition_order = bits.take(4)?;
    let len = block.len() >> partition_order;
    if len << partition_order != block.len() || len < order {
        return Err(Stop::Bad("a residual in parts that do not fit"));
    }
    let escape = (1 << parameter_len) - 1;
    let mut start = order;
    for end in (1..=1_usize << partition_order).map(|part| part * len) {
        let part = &mut block[start..end];
        let parameter = bits.take(parameter_len)?;
        if parameter == escape {
            let width = bits.take(5)?;
            for sample in part {
                *sample = predictor.next(bits.take_signed(width)? as i32);
            }
        } else {
            // To fill is a chain of steps that the next code would wait for; so many codes nearly always fit.
            let (fours, rest) = if parameter <= MAX_FOR_FOUR { part.as_chunks_mut::<4>() } else { (&mut [][..], part) };
            for four in fours {
                bits.fill();
                for sample in four {
                    *sample = predictor.next(bits.take_rice(parameter)?);
                }
            }
            for sample in rest {
                bits.fill();
                *sample = predictor.next(bits.take_rice(parameter)?);
            }
        }
        start = end;
    }
    *reader = bits;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that follow no pattern (xorshift).
    struct Noise(u32);

    impl Noise {
        /// From `-limit` up to `limit`.
        fn below(&mut self, limit: i32) -> i32 {
            for (left, shift) in [(true, 13), (false, 17), (true, 5)] {
                self.0 ^= if left { self.0 << shift } else { self.0 >> shift };
            }
            ((i64::from(self.0 as i32) * i64::from(limit)) >> 31) as i32
        }
    }

    /// Bits, the highest of a byte first.
    #[derive(Default)]
    struct Writer {
        bits: Vec<bool>,
    }

    impl Writer {
        fn put(&mut self, value: u32, len: u32) {
            self.bits.extend((0..len).rev().map(|bit| value >> bit & 1 == 1));
        }

        fn rice(&mut self, value: i32, parameter: u32) {
            let folded = (value << 1 ^ value >> 31) as u32;
            self.bits.extend((0..folded >> parameter).map(|_| false));
            self.put(1, 1);
            self.put(folded & ((1 << parameter) - 1), parameter);
        }

        fn bytes(&self) -> Vec<u8> {
            self.bits
                .chunks(8)
                .map(|byte| byte.iter().zip(0..).fold(0, |all, (&bit, at)| all | u8::from(bit) << (7 - at)))
                .collect()
        }
    }

    /// The definition, sample by sample.
    fn expected(first: &[i32], coefficients: &[i32], shift: u32, residuals: &[i32]) -> Vec<i32> {
        let mut samples = first.to_vec();
        for residual in residuals {
            let before = samples.iter().rev().zip(coefficients);
            let sum: i64 = before.map(|(&sample, &coefficient)| i64::from(sample) * i64::from(coefficient)).sum();
            samples.push(residual.wrapping_add((sum >> shift) as i32));
        }
        samples
    }

    #[test]
    fn samples_are_foretold_by_any_order_and_width() {
        let mut noise = Noise(9639);
        for width in [8, 16, 17, 24, 32] {
            for order in 0..=32 {
                let mut below = |limit| noise.below(limit);
                // Together they stay below 1, so that the samples keep their width.
                let coefficients: Vec<i32> = (0..order).map(|_| below((1 << 14) / 32)).collect();
                let largest = 1 << (width - 3);
                let first: Vec<i32> = (0..order).map(|_| below(largest)).collect();
                let residuals: Vec<i32> = (order..128).map(|_| below(largest.min(300))).collect();
                let mut writer = Writer::default();
                writer.put(0, 2);
                writer.put(1, 4); // two parts of 64
                writer.put(15, 4); // the first as they are
                writer.put(10, 5);
                let (plain, coded) = residuals.split_at(64 - order);
                for &residual in plain {
                    writer.put(residual as u32 & 0x3ff, 10);
                }
                writer.put(3, 4); // the second in Rice codes, some of them long
                for &residual in coded {
                    writer.rice(residual, 3);
                }
                let mut block = [first.clone(), vec![0; 128 - order]].concat();
                residual(&mut Bits::new(&writer.bytes(), 0), width, &coefficients, 14, &mut block).unwrap();
                assert_eq!(block, expected(&first, &coefficients, 14, &residuals), "order {order}, {width} bits");
            }
        }
    }

    #[test]
    fn sums_of_the_largest_samples_are_exact() {
        for coefficients in [vec![-(1 << 14); 32], vec![(1 << 14) - 1; 32]] {
            let first = [i32::MIN; 32];
            let mut writer = Writer::default();
            writer.put(0, 6);
            writer.put(0, 4);
            let residuals = [-2, 1, 0, -1];
            for &residual in &residuals {
                writer.rice(residual, 0);
            }
            let mut block = [&first[..], &[0; 4]].concat();
            residual(&mut Bits::new(&writer.bytes(), 0), 32, &coefficients, 0, &mut block).unwrap();
            assert_eq!(block, expected(&first, &coefficients, 0, &residuals));
        }
    }
}
