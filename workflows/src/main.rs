//! The `sure` command line.
fn main() {}
