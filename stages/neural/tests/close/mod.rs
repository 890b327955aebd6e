//! Comparing what a kernel made with what libtorch makes.

use tch::{Kind, Tensor};

/// Shape and kind are the same, and no number is off by more than allowed: for float32, and for 16 bits, of values above 1 that share
/// of the value.
#[track_caller]
pub(crate) fn assert_close(found: &Tensor, expected: &Tensor, [float, half]: [f64; 2]) {
    assert_eq!((found.size(), found.kind()), (expected.size(), expected.kind()));
    let allowed = if found.kind() == Kind::Float { float } else { half };
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let off = ((&found - &expected).abs() / expected.abs().clamp_min(1.0)).max().double_value(&[]);
    assert!(off <= allowed, "off by {off:e}");
}
