//! Stereo of 32 bits that is coded as a difference: a channel of 33 bits. Rare, so it is done the plain way, in 64 bits.

use super::bits::{Bits, Stop};
use super::header::Channels;
use super::subframe::{head, polynomial, residuals, taken};

/// Samples of a difference between two channels of 32 bits.
const WIDTH: u32 = 33;

/// Fills `block` with samples of 33 bits.
pub(super) fn decode(bits: &mut Bits<'_>, block: &mut [i64]) -> Result<(), Stop> {
    let (kind, wasted) = head(bits, WIDTH)?;
    let width = WIDTH - wasted;
    match kind {
        0 => block.fill(bits.take_signed(width)?),
        1 => {
            for sample in block.iter_mut() {
                *sample = bits.take_signed(width)?;
            }
        }
        kind @ 8..=12 => {
            let order = kind as usize - 8;
            warm_up(bits, width, order, block)?;
            foretold(bits, polynomial(order), 0, block)?;
        }
        kind @ 32..=63 => {
            let mut coefficients = [0; 32];
            let coefficients = &mut coefficients[..kind as usize - 31];
            warm_up(bits, width, coefficients.len(), block)?;
            let (coefficients, shift) = taken(bits, coefficients)?;
            foretold(bits, coefficients, shift, block)?;
        }
        _ => return Err(Stop::Bad("a subframe of no known kind")),
    }
    for sample in block {
        *sample <<= wasted;
    }
    Ok(())
}

fn warm_up(bits: &mut Bits<'_>, width: u32, order: usize, block: &mut [i64]) -> Result<(), Stop> {
    let Some(first) = block.get_mut(..order) else { return Err(Stop::Bad("a block shorter than its predictor")) };
    for sample in first {
        *sample = bits.take_signed(width)?;
    }
    Ok(())
}

/// The samples behind the first few, of which there is one for each coefficient.
fn foretold(bits: &mut Bits<'_>, coefficients: &[i32], shift: u32, block: &mut [i64]) -> Result<(), Stop> {
    let order = coefficients.len();
    let mut rest = vec![0; block.len()];
    residuals(bits, order, &mut rest)?;
    for at in order..block.len() {
        let before = block[..at].iter().rev().zip(coefficients);
        let sum = before.fold(0_i64, |sum, (&sample, &factor)| sum.wrapping_add(sample.wrapping_mul(i64::from(factor))));
        block[at] = i64::from(rest[at]) + (sum >> shift);
        // One of more bits comes from damage, and the checksum finds it; cut, it cannot grow without end.
        block[at] = block[at] << (64 - WIDTH) >> (64 - WIDTH);
    }
    Ok(())
}

/// Puts left and right in place of what was coded: `difference`, and in `first` or `second` the other channel.
pub(super) fn restore(coded: Channels, difference: &[i64], first: &mut [i32], second: &mut [i32]) {
    for ((first, second), &difference) in first.iter_mut().zip(second).zip(difference) {
        let (left, right) = match coded {
            Channels::LeftSide => (i64::from(*first), i64::from(*first) - difference),
            Channels::SideRight => (i64::from(*second) + difference, i64::from(*second)),
            Channels::MidSide | Channels::Independent(_) => {
                let double = i64::from(*first) << 1 | difference & 1;
                ((double + difference) >> 1, (double - difference) >> 1)
            }
        };
        (*first, *second) = (left as i32, right as i32);
    }
}
