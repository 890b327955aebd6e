//! One module per command.

#[cfg(feature = "cache")]
pub(crate) mod cache;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod corpus;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod errors;
pub(crate) mod fetch;
pub(crate) mod graph;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod methods;
mod models;
pub(crate) mod node;
pub(crate) mod path;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod prepare;
pub(crate) mod push;
pub(crate) mod rebuild;
pub(crate) mod results;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod say;
pub(crate) mod schedule;
pub(crate) mod schema;
pub(crate) mod serve_stage;
pub(crate) mod store;
pub(crate) mod synth;
mod tables;
pub(crate) mod times;
pub(crate) mod why;
