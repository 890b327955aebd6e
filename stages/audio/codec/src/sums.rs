//! MD5 sums of several messages at once, one in each lane of the processor's vectors.
//!
//! One MD5 sum is a chain of steps that each wait for the one before, and was a quarter of the time of decoding FLAC. Sixteen
//! of them side by side take little longer than one. Source: RFC 1321; the section stands beside each part.

use md5::{Digest, Md5};
use multiversion::multiversion;

/// Samples whose MD5 sum is to be computed, as bytes. More than [`MAX_WAITING`] bytes are summed at once, so that memory stays
/// bounded.
#[derive(Debug)]
pub(crate) struct Summed {
    /// The sum that a header promises; absent where the sum itself is wanted.
    pub(crate) promised: Option<[u8; 16]>,
    waiting: Vec<u8>,
    /// Sum of the bytes that did not wait.
    sum: Option<Md5>,
}

/// Bytes that wait at most.
const MAX_WAITING: usize = 4 << 20;

impl Summed {
    pub(crate) fn new(promised: Option<[u8; 16]>) -> Self {
        Self { promised, waiting: Vec::new(), sum: None }
    }

    /// Returns the buffer for the next bytes.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        if self.waiting.len() > MAX_WAITING {
            self.sum.get_or_insert_with(Md5::new).update(&self.waiting);
            self.waiting.clear();
        }
        &mut self.waiting
    }
}

/// Computes the sums of several, in their order.
pub(crate) fn sums(many: Vec<Summed>) -> Vec<[u8; 16]> {
    let waiting: Vec<&[u8]> = many.iter().map(|one| if one.sum.is_none() { one.waiting.as_slice() } else { &[] }).collect();
    let mut sums = md5(&waiting);
    for (sum, one) in sums.iter_mut().zip(many) {
        if let Some(mut long) = one.sum {
            long.update(&one.waiting);
            *sum = long.finalize().into();
        }
    }
    sums
}

/// Number of messages that are summed side by side: one vector of AVX-512, two of AVX2.
pub(crate) const LANES: usize = 16;
const BLOCK: usize = 64;

/// The compiler makes vectors of these.
type Vector = [u32; LANES];

/// The sums of messages, in their order.
fn md5(messages: &[&[u8]]) -> Vec<[u8; 16]> {
    if let [only] = messages {
        return vec![Md5::digest(only).into()];
    }
    let mut sums = vec![[0; 16]; messages.len()];
    let mut waiting = messages.iter().copied().enumerate();
    let mut lanes: [Option<Lane>; LANES] = [const { None }; LANES];
    let (mut state, mut words) = (START.map(|word| [word; LANES]), [[0; LANES]; 16]);
    loop {
        for (number, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.as_ref().is_none_or(|lane| lane.left() == 0)) {
            if let Some(done) = lane.take() {
                for (word, bytes) in state.iter().zip(sums[done.index].as_chunks_mut::<4>().0) {
                    *bytes = word[number].to_le_bytes();
                }
            }
            *lane = waiting.next().map(|(index, message)| Lane::new(index, message));
            for (word, start) in state.iter_mut().zip(START) {
                word[number] = start;
            }
        }
        // Until the next of them ends.
        let Some(num_blocks) = lanes.iter().flatten().map(Lane::left).min() else { return sums };
        for _ in 0..num_blocks {
            for (number, lane) in lanes.iter_mut().enumerate() {
                let Some(lane) = lane else { continue };
                for (word, bytes) in words.iter_mut().zip(lane.block().as_chunks::<4>().0) {
                    word[number] = u32::from_le_bytes(*bytes);
                }
            }
            add_block(&mut state, &words);
        }
    }
}

/// A message on its way.
struct Lane<'a> {
    index: usize,
    /// Whole blocks that are left.
    blocks: &'a [[u8; BLOCK]],
    /// Section 3.1 and 3.2: what is left behind them, padded, and the length.
    tail: [[u8; BLOCK]; 2],
    tail_at: usize,
}

impl<'a> Lane<'a> {
    fn new(index: usize, message: &'a [u8]) -> Self {
        let (blocks, rest) = message.as_chunks::<BLOCK>();
        let mut tail = [[0; BLOCK]; 2];
        tail[0][..rest.len()].copy_from_slice(rest);
        tail[0][rest.len()] = 0x80;
        let tail_at = usize::from(rest.len() + 9 <= BLOCK);
        if tail_at == 1 {
            tail[1] = tail[0];
        }
        tail[1][BLOCK - 8..].copy_from_slice(&(8 * message.len() as u64).to_le_bytes());
        Self { index, blocks, tail, tail_at }
    }

    /// Blocks that are left.
    fn left(&self) -> usize {
        self.blocks.len() + self.tail.len() - self.tail_at
    }

    fn block(&mut self) -> &[u8; BLOCK] {
        if let Some((block, rest)) = self.blocks.split_first() {
            self.blocks = rest;
            return block;
        }
        self.tail_at += 1;
        &self.tail[self.tail_at - 1]
    }
}

/// Section 3.3.
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// Section 3.4: 2 to the 32nd times the sine of the number of the step, from 1 on, without its sign.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// Section 3.4, in every lane. Written as for one lane without a loop inside, so that the compiler makes a vector of the lanes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add_block(state: &mut [Vector; 4], words: &[Vector; 16]) {
    for lane in 0..LANES {
        let [mut a, mut b, mut c, mut d] = [state[0][lane], state[1][lane], state[2][lane], state[3][lane]];
        macro_rules! step {
            ($function:expr, $number:expr, $word:expr, $turn:literal) => {
                let sum = a.wrapping_add($function(b, c, d)).wrapping_add(words[$word % 16][lane]).wrapping_add(SINES[$number]);
                (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left($turn)));
            };
        }
        // Four steps with their function, the number of the first, its word and how many further on the next is.
        macro_rules! steps {
            ($function:expr, $number:expr, $word:expr, $further:literal, [$a:literal $b:literal $c:literal $d:literal]) => {
                step!($function, $number, $word, $a);
                step!($function, $number + 1, $word + $further, $b);
                step!($function, $number + 2, $word + 2 * $further, $c);
                step!($function, $number + 3, $word + 3 * $further, $d);
            };
        }
        macro_rules! round {
            ($function:expr, $number:literal, $word:literal, $further:literal, $turns:tt) => {
                steps!($function, $number, $word, $further, $turns);
                steps!($function, $number + 4, $word + 4 * $further, $further, $turns);
                steps!($function, $number + 8, $word + 8 * $further, $further, $turns);
                steps!($function, $number + 12, $word + 12 * $further, $further, $turns);
            };
        }
        round!(|b: u32, c, d| d ^ (b & (c ^ d)), 0, 0, 1, [7 12 17 22]);
        round!(|b, c, d: u32| c ^ (d & (b ^ c)), 16, 1, 5, [5 9 14 20]);
        round!(|b: u32, c, d| b ^ c ^ d, 32, 5, 3, [4 11 16 23]);
        round!(|b: u32, c: u32, d: u32| c ^ (b | !d), 48, 0, 7, [6 10 15 21]);
        for (word, more) in state.iter_mut().zip([a, b, c, d]) {
            word[lane] = word[lane].wrapping_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_those_of_one_at_a_time() {
        let bytes: Vec<u8> = (0..1_000_u32).map(|n| (n * n % 251) as u8).collect();
        let lens = [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 999, 0, 64, 500, 3, 1_000, 7];
        for count in [0, 1, 7, 8, 9, lens.len()] {
            let messages: Vec<&[u8]> = lens[..count].iter().map(|&len| &bytes[bytes.len() - len..]).collect();
            let expected: Vec<[u8; 16]> = messages.iter().map(|message| Md5::digest(message).into()).collect();
            assert_eq!(super::md5(&messages), expected, "{count} messages");
        }
    }

    #[test]
    fn what_is_too_long_to_wait_has_the_same_sum() {
        let long: Vec<u8> = (0..2 * MAX_WAITING + 100).map(|n| (n % 253) as u8).collect();
        let mut summed = Summed::new(None);
        long.chunks(1 << 20).for_each(|piece| summed.room().extend_from_slice(piece));
        let mut short = Summed::new(None);
        short.room().extend_from_slice(b"short");
        assert!(summed.sum.is_some() && summed.waiting.len() <= MAX_WAITING + (2 << 20));
        let expected: [[u8; 16]; 2] = [Md5::digest(&long).into(), Md5::digest(b"short").into()];
        assert_eq!(sums(vec![summed, short]), expected);
    }
}
