//! The samples of one channel of a frame (section 9.2).

#![expect(clippy::inline_always, reason = "measured: what happens for every sample must not be a call")]

use std::cell::Cell;

use multiversion::multiversion;

use super::bits::{Bits, Stop};

/// Fills `block` with samples of `width` bits, 33 at most.
#[multiversion(targets("x86_64+bmi1+bmi2+lzcnt"))]
pub(super) fn decode(bits: &mut Bits<'_>, width: u32, block: &mut [i32]) -> Result<(), Stop> {
    let head = bits.take(8)?;
    let wasted = if head & 1 == 1 { bits.take_zeros()? + 1 } else { 0 };
    if head & 0x80 != 0 {
        return Err(Stop::Bad("a subframe does not begin with a zero"));
    }
    if wasted >= width {
        return Err(Stop::Bad("a subframe wastes all of its bits"));
    }
    let width = width - wasted;
    if width > 32 {
        // Only 32-bit stereo has such a channel; speech has not.
        return Err(Stop::Bad("a channel of 33 bits"));
    }
    match head >> 1 & 0x3f {
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

/// Section 9.2.5: a polynomial through the samples before.
#[inline(always)]
fn fixed(bits: &mut Bits<'_>, width: u32, order: usize, block: &mut [i32]) -> Result<(), Stop> {
    warm_up(bits, width, order, block)?;
    match order {
        0 => residual(bits, block, &Polynomial::<0>::new(&[], 0)),
        1 => residual(bits, block, &Polynomial::<1>::new(&[1], 0)),
        2 => residual(bits, block, &Polynomial::<2>::new(&[-1, 2], 0)),
        3 => residual(bits, block, &Polynomial::<3>::new(&[1, -3, 3], 0)),
        _ => residual(bits, block, &Polynomial::<4>::new(&[-1, 4, -6, 4], 0)),
    }
}

/// Section 9.2.6: a sum of the samples before, by coefficients in the file.
#[inline(always)]
fn linear(bits: &mut Bits<'_>, width: u32, order: usize, block: &mut [i32]) -> Result<(), Stop> {
    warm_up(bits, width, order, block)?;
    let precision = bits.take(4)? + 1;
    if precision == 16 {
        return Err(Stop::Bad("coefficients of no known precision"));
    }
    let shift = bits.take_signed(5)?;
    if shift < 0 {
        return Err(Stop::Bad("coefficients with a negative shift"));
    }
    let shift = shift as u32;
    // The first is for the sample just before; they are kept the other way round, in the order of the samples.
    let mut coefficients = [0_i32; 32];
    for at in (0..order).rev() {
        coefficients[at] = bits.take_signed(precision)? as i32;
    }
    macro_rules! of_order {
        ($($order:literal)*) => {
            match order {
                $($order => residual(bits, block, &Polynomial::<$order>::new(&coefficients, shift)),)*
                _ => residual(bits, block, &Long { coefficients: &coefficients[..order], shift }),
            }
        };
    }
    of_order!(1 2 3 4 5 6 7 8 9 10 11 12)
}

#[inline(always)]
fn warm_up(bits: &mut Bits<'_>, width: u32, order: usize, block: &mut [i32]) -> Result<(), Stop> {
    let Some(first) = block.get_mut(..order) else { return Err(Stop::Bad("a block shorter than its predictor")) };
    for sample in first {
        *sample = bits.take_signed(width)? as i32;
    }
    Ok(())
}

/// Foretells a sample from those before, in two parts: all but the very last of them are added up while that one is still being
/// computed. Sums that do not fit come from damage only, and the checksum finds it.
trait Predictor {
    fn order(&self) -> usize;

    /// What all but the last contribute: `before` begins with them, oldest first. The newest of them by value too, since what
    /// was just stored is slow to load again.
    fn sum(&self, before: &[Cell<i32>], newest: i32) -> i64;

    /// From that sum and the last sample.
    fn predict(&self, sum: i64, last: i32) -> i32;
}

/// Of an order that the compiler knows. The sums have 64 bits: 32 would often do, but for those the compiler chooses vector
/// instructions that are several times slower here.
struct Polynomial<const ORDER: usize> {
    coefficients: [i64; ORDER],
    shift: u32,
}

impl<const ORDER: usize> Polynomial<ORDER> {
    fn new(coefficients: &[i32], shift: u32) -> Self {
        Self { coefficients: std::array::from_fn(|at| i64::from(coefficients[at])), shift }
    }
}

impl<const ORDER: usize> Predictor for Polynomial<ORDER> {
    #[inline(always)]
    fn order(&self) -> usize {
        ORDER
    }

    #[inline(always)]
    fn sum(&self, before: &[Cell<i32>], newest: i32) -> i64 {
        let mut sum = 0_i64;
        #[expect(clippy::needless_range_loop, reason = "with iterators the whole takes half as long again")]
        for at in 0..ORDER.saturating_sub(1) {
            let sample = if at + 2 == ORDER { newest } else { before[at].get() };
            sum = sum.wrapping_add(i64::from(sample) * self.coefficients[at]);
        }
        sum
    }

    #[inline(always)]
    fn predict(&self, sum: i64, last: i32) -> i32 {
        let factor = self.coefficients.last().copied().unwrap_or(0);
        (sum.wrapping_add(i64::from(last) * factor) >> self.shift) as i32
    }
}

/// Of any order.
struct Long<'a> {
    coefficients: &'a [i32],
    shift: u32,
}

impl Predictor for Long<'_> {
    #[inline(always)]
    fn order(&self) -> usize {
        self.coefficients.len()
    }

    #[inline(always)]
    fn sum(&self, before: &[Cell<i32>], _newest: i32) -> i64 {
        let pairs = before.iter().zip(&self.coefficients[..self.coefficients.len() - 1]);
        pairs.map(|(sample, &factor)| i64::from(sample.get()) * i64::from(factor)).sum()
    }

    #[inline(always)]
    fn predict(&self, sum: i64, last: i32) -> i32 {
        let factor = self.coefficients[self.coefficients.len() - 1];
        (sum.wrapping_add(i64::from(last) * i64::from(factor)) >> self.shift) as i32
    }
}

/// Four codes with this parameter nearly always fit the bits that [`Bits::fill`] provides.
const MAX_FOR_FOUR: u32 = 10;

/// Section 9.2.7: the difference between each sample and its prediction.
#[inline(always)]
fn residual<P: Predictor>(reader: &mut Bits<'_>, block: &mut [i32], predictor: &P) -> Result<(), Stop> {
    let mut bits = *reader;
    let order = predictor.order();
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
    let [newest, mut last] = [2, 1].map(|back| order.checked_sub(back).map_or(0, |at| block[at]));
    let block = Cell::from_mut(block).as_slice_of_cells();
    let mut sum = predictor.sum(block, newest);
    let mut start = order;
    for end in (1..=1_usize << partition_order).map(|part| part * len) {
        let parameter = bits.take(parameter_len)?;
        // A window holds a sample behind those that it is foretold from.
        if parameter == escape {
            let width = bits.take(5)?;
            for window in block[start - order..end].windows(order + 1) {
                let residual = bits.take_signed(width)? as i32;
                (sum, last) = add(predictor, window, sum, last, residual);
            }
        } else {
            // To fill is a chain of steps that the next code would wait for; so many codes nearly always fit.
            let mut at = start - order;
            if parameter <= MAX_FOR_FOUR {
                while let Some(window) = block[at..end].get(..order + 4) {
                    bits.fill();
                    for step in 0..4 {
                        let residual = bits.take_rice(parameter)?;
                        (sum, last) = add(predictor, &window[step..=step + order], sum, last, residual);
                    }
                    at += 4;
                }
            }
            for window in block[at..end].windows(order + 1) {
                bits.fill();
                let residual = bits.take_rice(parameter)?;
                (sum, last) = add(predictor, window, sum, last, residual);
            }
        }
        start = end;
    }
    *reader = bits;
    Ok(())
}

/// Sets the last sample of the window, and gives the sum for the next one, and the sample.
#[inline(always)]
fn add<P: Predictor>(predictor: &P, window: &[Cell<i32>], sum: i64, last: i32, residual: i32) -> (i64, i32) {
    let sample = residual.wrapping_add(predictor.predict(sum, last));
    window[predictor.order()].set(sample);
    (predictor.sum(&window[1..], last), sample)
}
