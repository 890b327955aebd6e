//! Lines on standard error.

use std::fmt::Arguments;
use std::io::{self, Write};

/// A line on standard error, as `eprintln!`. That one panics when the line cannot be written (a file on a full disk, a terminal
/// that is gone), and no run should end for want of a line.
macro_rules! say {
    ($($words:tt)*) => { $crate::console::write_line(format_args!($($words)*)) };
}
pub(crate) use say;

pub(crate) fn write_line(line: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}"); // see `say!`
}
