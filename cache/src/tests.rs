//! Runs of a small workflow over several stores and one cache, with faults.

mod bed;
mod faults;
mod gc;
mod sharing;
