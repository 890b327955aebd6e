//! History of rebuilds: which change of a score is an alarm, and why a score changed.
//!
//! A rebuild computes a table again. Each of its cells (a task, corpus, method, ...) is compared with the last result and with a
//! baseline ([`judge`]), and a change gets its causes from the manifests of both ([`causes`]).
//!
//! Knows no clock, no store and no network.

mod cause;
mod table;
mod verdict;

pub use cause::{Cause, Lineage, causes};
pub use table::{TableRow, encode_table};
pub use verdict::{Change, Judgement, Measured, Rule, State, Verdict, confirms, judge, to_confirm};
