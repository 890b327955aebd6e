//! Scheduled rebuilds of a table: when one is due, what it found, which change is an alarm, who is told, and the site.
//!
//! The executable `sure` runs the workflows; this crate knows the rebuild file ([`file`](mod@file)), the schedule ([`time`]), the history
//! ([`record`], [`history`]), verdicts ([`judge`]), messages ([`tell`]), the site ([`site`]) and what starts a rebuild ([`timer`]).
//! Runs no stage, opens no store and prints nothing.

pub mod file;
pub mod time;

pub mod history;
pub mod record;

pub mod alarms;
mod causes;
pub mod judge;

pub mod event;
pub mod tell;

pub mod site;

pub mod lock;
pub mod timer;
