//! Tests of the engine, with toy text stages.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "tests: what should be there is there, and texts are small"
)]

#[path = "../toy/stages.rs"]
mod stages;

mod harness;

mod big;
mod cluster;
mod derived;
mod disk;
mod failures;
mod history;
mod honesty;
mod housekeeping;
mod includes;
mod kills;
mod matrix;
mod mistakes;
mod points;
mod records;
mod reruns;
mod scheduling;
mod schema;
mod showing;
mod stores;
mod tools;
mod used;
mod validator;
mod workers;
