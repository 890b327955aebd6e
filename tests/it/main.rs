//! The program as a user runs it: both executables, from recordings to the table.

mod mistakes;
mod reruns;
mod survival;
