//! How far a score can be trusted: the confidence interval of one, and whether two differ.
//!
//! Seeded by the caller; the generator is our own, so the same seed gives the same interval everywhere.

mod bootstrap;
mod paired;
mod random;

pub use bootstrap::{Interval, Resampling, Units, intervals};
pub use paired::{CompareError, Paired, Side, Test, compare, mcnemar, print_p};
