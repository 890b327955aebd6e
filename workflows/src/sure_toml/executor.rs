//! Section `[executor.slurm]` of `sure.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pipeline::duration;
use pipeline::mistake::suggest;
use toml::Spanned;
use toml::de::DeValue;

use super::{PLACES, Reader};

/// Content of `[executor.slurm]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SlurmSection {
    /// Folder that this machine and the compute nodes share.
    pub(crate) folder: Option<PathBuf>,
    /// Options of `sbatch` by name: `partition`, `account`, `qos`, `constraint`.
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) gres: Option<String>,
    pub(crate) time: Option<Duration>,
    pub(crate) cpus: Option<usize>,
    pub(crate) memory_mib: Option<u64>,
    pub(crate) max_running: Option<u32>,
    pub(crate) max_array: Option<u32>,
    pub(crate) max_tasks: Option<u32>,
    pub(crate) result_delay: Option<Duration>,
    pub(crate) verify_all: bool,
    /// Further options of `sbatch`.
    pub(crate) extra: Vec<String>,
    /// Folders of places on the compute nodes: `corpora.fsdd`.
    pub(crate) places: BTreeMap<String, PathBuf>,
}

const KEYS: [&str; 16] = [
    "folder",
    "partition",
    "account",
    "qos",
    "constraint",
    "gres",
    "time",
    "cpus",
    "memory_mib",
    "max_running",
    "max_array",
    "max_tasks",
    "result_delay",
    "verify",
    "extra",
    "places",
];

/// Options of `sbatch` by which jobs are made and found again.
const OWN: [&str; 14] = [
    "--array",
    "-a",
    "--export",
    "--job-name",
    "-J",
    "--nodes",
    "-N",
    "--ntasks",
    "-n",
    "--output",
    "-o",
    "--parsable",
    "--requeue",
    "--wrap",
];

/// True for an option that `sure` itself sets, or must not be set.
fn is_own(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or(word);
    // A short option may have its value right behind it: `-N2`.
    let short = if word.starts_with("--") { None } else { word.get(..2) };
    OWN.contains(&name) || short.is_some_and(|short| OWN.contains(&short))
}

/// True for the name of a place: `corpora.fsdd`.
fn is_place(place: &str) -> bool {
    place
        .split_once('.')
        .is_some_and(|(section, name)| PLACES.contains(&section) && (section != "corpora" || datasets::find(name).is_some()))
}

impl Reader<'_> {
    /// Reads `[executor.slurm]`.
    pub(super) fn executor(&mut self, section: &str, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        let key = format!("{section}.{name}");
        if name != "slurm" {
            return self.mistake(at, &key, format!("unknown executor `{name}`"), "there is `slurm`: write `[executor.slurm]`");
        }
        let DeValue::Table(entries) = value.get_ref() else {
            return self.mistake(at, &key, format!("`{key}` should be a section"), format!("write `[{key}]`"));
        };
        self.written.slurm = Some(SlurmSection::default());
        for (name, value) in entries {
            self.slurm(&key, name.get_ref(), name.span().start, value);
        }
        let has_folder = self.written.slurm.as_ref().is_some_and(|slurm| slurm.folder.is_some());
        if !has_folder && !entries.contains_key("folder") {
            let hint = "write `folder = \"/shared/sure\"`: a folder that this machine and the compute nodes share";
            self.mistake(at, &key, format!("`{key}` names no `folder`"), hint);
        }
    }

    fn slurm(&mut self, section: &str, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        let key = format!("{section}.{name}");
        let mut found = self.written.slurm.take().unwrap_or_default();
        match name {
            "folder" => found.folder = self.folder(&key, value),
            "partition" | "account" | "qos" | "constraint" => {
                if let Some(text) = self.word(&key, value) {
                    found.options.insert(name.to_owned(), text);
                }
            }
            "gres" => found.gres = self.word(&key, value).or(found.gres),
            "time" => found.time = self.time(&key, value),
            "result_delay" => found.result_delay = self.time(&key, value),
            "cpus" => found.cpus = self.number(&key, value).map(|number| number as usize),
            "memory_mib" => found.memory_mib = self.number(&key, value),
            "max_running" => found.max_running = self.count(&key, value),
            "max_array" => found.max_array = self.count(&key, value),
            "max_tasks" => found.max_tasks = self.count(&key, value),
            "verify" => match self.word(&key, value).as_deref() {
                Some("all") => found.verify_all = true,
                Some("some") => found.verify_all = false,
                Some(_) => {
                    let hint = "write `verify = \"all\"` to hash every byte of a result, or `verify = \"some\"`";
                    self.mistake(value.span().start, &key, format!("`{key}` should be \"some\" or \"all\""), hint);
                }
                None => {}
            },
            "extra" => {
                let words: Option<Vec<String>> = if let DeValue::Array(items) = value.get_ref() {
                    items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
                } else {
                    None
                };
                match words {
                    Some(words) => {
                        for word in words.iter().filter(|word| is_own(word)) {
                            let message = format!("`{key}` may not have `{word}`: what it sets is part of how jobs are followed");
                            self.mistake(value.span().start, &key, message, "remove it; `docs/cluster.md` lists the keys");
                        }
                        found.extra = words;
                    }
                    None => {
                        let hint = "write `extra = [\"--reservation=speech\"]`";
                        self.mistake(value.span().start, &key, format!("`{key}` should be a list of options of sbatch"), hint);
                    }
                }
            }
            "places" => match value.get_ref() {
                DeValue::Table(entries) => {
                    for (place, value) in entries {
                        let key = format!("{key}.{}", place.get_ref());
                        if !is_place(place.get_ref()) {
                            let hint = "a place is a section and a name of sure.toml: `\"corpora.fsdd\"`, `\"checkpoints.base\"`";
                            self.mistake(place.span().start, &key, format!("no place `{}`", place.get_ref()), hint);
                        } else if let Some(folder) = self.folder(&key, value) {
                            found.places.insert(place.get_ref().to_string(), folder);
                        }
                    }
                }
                _ => {
                    let hint = "write `places = { \"corpora.fsdd\" = \"/scratch/fsdd\" }`";
                    self.mistake(value.span().start, &key, format!("`{key}` should be a table of folders"), hint);
                }
            },
            _ => self.mistake(at, &key, format!("unknown key `{key}`"), suggest(name, KEYS)),
        }
        self.written.slurm = Some(found);
    }

    fn count(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<u32> {
        self.number(key, value).map(|number| number.min(u64::from(u32::MAX)) as u32)
    }

    /// A text that is no path; it may be empty.
    fn word(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            let hint = format!("write `{} = \"...\"`", key.rsplit('.').next().unwrap_or(key));
            self.mistake(value.span().start, key, format!("`{key}` should be a text in quotation marks"), hint);
        }
        text
    }

    fn time(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Duration> {
        let time = value.get_ref().as_str().and_then(duration::parse);
        if time.is_none() {
            let hint = format!("write `{} = \"4h\"`", key.rsplit('.').next().unwrap_or(key));
            let message = format!("`{key}` should be a duration such as \"90s\", \"30m\", \"2h\" or \"1d\"");
            self.mistake(value.span().start, key, message, hint);
        }
        time
    }
}
