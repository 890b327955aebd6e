//! Significance: the confidence interval of a score, and tests of the difference between two.
//!
//! Seeded by the caller; the generator is our own, so the same seed gives the same interval everywhere.

mod bootstrap;
mod paired;
mod seeds;

pub use bootstrap::{Interval, Resampling, Units, intervals};
pub use paired::{CompareError, Paired, Side, Test, comparable, compare, mcnemar, print_p};
pub use seeds::{FEWEST_DEGREES, SeedNoise, TTest, benjamini_hochberg, t_test, utterance_variance};
