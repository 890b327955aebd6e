//! The program as a user runs it: both executables, from recordings to the table.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod devices;
mod front;
mod history;
mod methods;
mod mistakes;
mod own;
mod predict;
mod prepare;
mod published_voice;
mod push;
mod rebuilds;
mod reruns;
mod results;
mod survival;
mod tasks;
mod tutorial;
mod voices;
mod waiting;
