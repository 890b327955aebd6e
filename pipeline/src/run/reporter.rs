//! The progress of one node, on its way to the listener and into the log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::event::{Event, Progress};
use crate::stage::JobProgress;
use crate::text::printable;

/// Passes on the progress of one node.
#[derive(Clone)]
pub(super) struct Reporter {
    pub(super) node: String,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) facts: Arc<Mutex<BTreeMap<String, Value>>>,
    pub(super) log: PathBuf,
}

impl Reporter {
    /// Writes a line into the log only.
    pub(super) fn write(&self, line: &str) {
        let log = File::options().create(true).append(true).open(&self.log);
        let _ = log.and_then(|mut log| writeln!(log, "{line}")); // the log is a courtesy
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.node)
    }
}

impl JobProgress for Reporter {
    fn tick(&self, done: u64, total: u64, unit: &str, note: &str) {
        let (unit, note) = (printable(unit).into_owned(), printable(note).into_owned());
        self.progress.event(&Event::Tick { node: self.node.clone(), done, total, unit, note });
    }
    fn note(&self, line: &str) {
        self.write(line);
        self.progress.event(&Event::Note { node: self.node.clone(), line: printable(line).into_owned() });
    }
    fn fact(&self, name: &str, value: Value) {
        self.facts.lock().expect("no holder of this lock panics").insert(name.to_owned(), value);
    }
}
