//! Lock files: everything that goes into a rebuild, so that a machine without its history rebuilds the same table, or says before
//! anything runs what differs.

use std::collections::BTreeMap;

use scoring::Metric;
use scoring::significance::{SeedNoise, t_test};
use serde::{Deserialize, Serialize};

use crate::record::{Ended, Program, Source};

/// Format of lock files.
const FORMAT: u32 = 1;

/// Content of a lock file; TOML, sorted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    /// Format.
    pub format: u32,
    /// Name of the rebuild file.
    pub name: String,
    /// Arguments of each run.
    pub runs: Vec<String>,
    /// Rebuild whose values are expected; empty when there was none.
    pub rebuild: String,
    /// BLAKE3 of `Cargo.lock` of the program; empty where it is not known.
    pub cargo_lock: String,
    /// Key of the machine that made the values.
    pub machine: String,
    /// Program.
    pub program: Program,
    /// Releases of libraries that results depend on.
    pub libraries: BTreeMap<String, String>,
    /// BLAKE3 of the text of each workflow, with all that it includes.
    pub workflows: BTreeMap<String, String>,
    /// Sources by place.
    pub sources: BTreeMap<String, LockedSource>,
    /// Expected values by cell.
    pub cells: BTreeMap<String, LockedCell>,
}

/// Source in a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedSource {
    /// Digest of all names and contents.
    pub digest: String,
    /// Number of files.
    pub files: usize,
    /// Bytes.
    pub bytes: u64,
    /// Where it can be had.
    pub from: String,
}

/// Expected values of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LockedCell {
    /// Metric.
    pub metric: Metric,
    /// Values by seed.
    pub values: BTreeMap<String, f64>,
}

/// Value that is not as in a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Sentence for people.
    pub text: String,
    /// True if noise does not explain it; false if nothing can be said.
    pub is_certain: bool,
}

/// A lock file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// A newer version wrote it.
    #[error("it has format {found}, and this version reads up to {FORMAT}")]
    Newer {
        /// Format found.
        found: i64,
    },
    /// It is not a lock file.
    #[error("it is no lock file: {message}")]
    Text {
        /// Message of the parser.
        message: String,
    },
}

/// Lists of the files of each source, next to a lock file: place, then lines of a digest and a path.
pub type FileLists = BTreeMap<String, BTreeMap<String, String>>;

impl LockFile {
    /// A lock file of what a rebuild would read now, with the values of the last one that ended.
    pub fn new(name: &str, runs: Vec<String>, program: Program, machine: String, last: Option<&Ended>) -> Self {
        let cells = last.into_iter().flat_map(|ended| &ended.cells).filter_map(|(key, cell)| {
            let metric = cell.metric.filter(|_| !cell.values.is_empty())?;
            Some((key.clone(), LockedCell { metric, values: cell.values.clone() }))
        });
        Self {
            format: FORMAT,
            name: name.to_owned(),
            runs,
            rebuild: last.map_or_else(String::new, |ended| ended.id.clone()),
            cargo_lock: String::new(),
            machine,
            program,
            libraries: BTreeMap::new(),
            workflows: BTreeMap::new(),
            sources: BTreeMap::new(),
            cells: cells.collect(),
        }
    }

    /// Text of the file.
    pub fn text(&self) -> String {
        let text = toml::to_string(self).unwrap_or_default(); // plain data
        format!("# Written by `sure lock`; `sure rebuild --locked` compares with it.\n{text}")
    }

    /// Reads a lock file.
    ///
    /// Errors: [`LockError`].
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let wrong = |error: toml::de::Error| LockError::Text { message: error.message().to_owned() };
        let table: toml::Table = toml::from_str(text).map_err(wrong)?;
        match table.get("format").and_then(toml::Value::as_integer) {
            Some(found) if found > i64::from(FORMAT) => Err(LockError::Newer { found }),
            _ => toml::from_str(text).map_err(wrong),
        }
    }

    /// Sentences about inputs that differ: nothing may run then. `lists` name the files, where they are known.
    pub fn refusals(
        &self,
        runs: &[String],
        workflows: &BTreeMap<String, String>,
        sources: &BTreeMap<String, Source>,
        lists: [&FileLists; 2],
    ) -> Vec<String> {
        let mut found = vec![];
        if self.runs != runs {
            found.push(format!("the runs are {runs:?}, and were {:?}", self.runs));
        }
        for (name, digest) in &self.workflows {
            if workflows.get(name).is_some_and(|now| now != digest) {
                found.push(format!("the text of the workflow `{name}` differs"));
            }
        }
        for (place, locked) in &self.sources {
            match sources.get(place) {
                None => found.push(self.describe(place, &format!("`{place}` is missing"))),
                Some(now) if now.digest != locked.digest => {
                    found.push(format!("`{place}` differs: {}", files_between(place, lists)));
                }
                Some(_) => {}
            }
        }
        found
    }

    /// Sentences about programs and libraries that differ: results may, too.
    pub fn warnings(&self, program: &Program, libraries: &BTreeMap<String, String>, machine: &str) -> Vec<String> {
        let mut found = vec![];
        if self.program.executables != program.executables {
            let name = |program: &Program| format!("{} {}", program.version, program.commit).trim().to_owned();
            found.push(format!("another program: {}, and was {}", name(program), name(&self.program)));
        }
        for (name, locked) in &self.libraries {
            if let Some(now) = libraries.get(name).filter(|now| *now != locked) {
                found.push(format!("{name} is {now}, and was {locked}"));
            }
        }
        if self.machine != machine {
            found.push(format!("another machine: {machine}, and was {}", self.machine));
        }
        found
    }

    /// Adds to a sentence about a place that is missing what the lock file knows of it: size, and where it can be had.
    pub fn describe(&self, place: &str, sentence: &str) -> String {
        let locked = self.sources.get(place);
        locked.map_or_else(
            || sentence.to_owned(),
            |locked| format!("{sentence}: {} files, {} bytes{}", locked.files, locked.bytes, from(&locked.from)),
        )
    }

    /// Values that are not as expected: on the same machine they must be equal; elsewhere within the noise of seeds.
    pub fn differences(&self, ended: &Ended) -> Vec<Difference> {
        let same_machine = self.machine == ended.machine.key() && self.program.executables == ended.program.executables;
        let mut found = vec![];
        for (key, locked) in &self.cells {
            let Some(cell) = ended.cells.get(key).filter(|cell| !cell.values.is_empty()) else {
                found.push(Difference { text: format!("{key}: no value, expected {}", mean_text(locked)), is_certain: true });
                continue;
            };
            let common: Vec<(f64, f64)> =
                locked.values.iter().filter_map(|(seed, old)| Some((*old, *cell.values.get(seed)?))).collect();
            let is_equal = common.len() == locked.values.len() && common.iter().all(|(old, new)| old.to_bits() == new.to_bits());
            if is_equal {
                continue;
            }
            let difference = common.iter().map(|(old, new)| new - old).sum::<f64>() / common.len().max(1) as f64;
            let groups = [locked.values.values().copied().collect::<Vec<_>>(), cell.values.values().copied().collect()];
            let noise = SeedNoise::pooled(groups.iter().map(Vec::as_slice));
            let test = t_test(difference, 0.0, common.len().max(1), Some(noise));
            let values = format!("{key}: {}, expected {}", cell.print(), mean_text(locked));
            let (why, is_certain) = match test {
                _ if same_machine => ("on this machine and with this program they should be equal", true),
                Some(test) if test.p >= 0.05 => continue,
                Some(_) => ("more than the noise of seeds", true),
                None => ("too few seeds to tell whether that is noise", false),
            };
            found.push(Difference { text: format!("{values}; {why}"), is_certain });
        }
        found
    }
}

fn mean_text(locked: &LockedCell) -> String {
    locked.metric.print(locked.values.values().sum::<f64>() / locked.values.len().max(1) as f64)
}

fn from(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!(", from {place}") }
}

/// Files named before the rest is only counted.
const NAMED: usize = 5;

fn files_between(place: &str, [before, now]: [&FileLists; 2]) -> String {
    let (Some(before), Some(now)) = (before.get(place), now.get(place)) else { return "other files".to_owned() };
    let names: std::collections::BTreeSet<&String> =
        before.keys().chain(now.keys()).filter(|path| before.get(*path) != now.get(*path)).collect();
    let state = |path: &&String| match (before.contains_key(*path), now.contains_key(*path)) {
        (true, false) => format!("{path} (missing)"),
        (false, true) => format!("{path} (new)"),
        _ => format!("{path} (changed)"),
    };
    let shown = names.iter().take(NAMED).map(state).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{shown}, and {} more", names.len() - NAMED) } else { shown }
}

/// Packs lists of files.
///
/// Errors: what zstd says.
pub fn pack_lists(lists: &FileLists) -> std::io::Result<Vec<u8>> {
    zstd::encode_all(&serde_json::to_vec(lists)?[..], 6)
}

/// Reads packed lists of files.
///
/// Errors: what zstd or the parser says.
pub fn unpack_lists(bytes: &[u8]) -> std::io::Result<FileLists> {
    Ok(serde_json::from_slice(&zstd::decode_all(bytes)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;
    use crate::record::tests::ended;

    fn lock() -> LockFile {
        let program = Program {
            version: "0.1.0".to_owned(),
            executables: BTreeMap::from([("sure".to_owned(), "ab".to_owned())]),
            ..Program::default()
        };
        let end = ended("a", 0, Outcome::Done, 0.25);
        let mut lock = LockFile::new("weekly", vec!["benchmark".to_owned()], program, end.machine.key(), Some(&end));
        let source = LockedSource { digest: "d1".to_owned(), files: 2, bytes: 10, from: "https://e.org/fsdd".to_owned() };
        lock.sources.insert("corpora.fsdd".to_owned(), source);
        lock.workflows.insert("benchmark".to_owned(), "w1".to_owned());
        lock.libraries.insert("libtorch".to_owned(), "2.11.0".to_owned());
        lock
    }

    #[test]
    fn a_lock_file_reads_back_and_newer_ones_are_refused() {
        let text = lock().text();
        assert_eq!(LockFile::parse(&text).unwrap(), lock());
        let newer = text.replace("format = 1", "format = 2");
        assert_eq!(LockFile::parse(&newer).unwrap_err().to_string(), "it has format 2, and this version reads up to 1");
        assert!(LockFile::parse("a = 1").unwrap_err().to_string().starts_with("it is no lock file: "));
    }

    #[test]
    fn inputs_that_differ_are_named() {
        let files = |list: &[(&str, &str)]| {
            FileLists::from([(
                "corpora.fsdd".to_owned(),
                list.iter().map(|(path, digest)| ((*path).to_owned(), (*digest).to_owned())).collect(),
            )])
        };
        let (before, now) = (files(&[("a.wav", "1"), ("b.wav", "2")]), files(&[("a.wav", "9"), ("c.wav", "3")]));
        assert_eq!(unpack_lists(&pack_lists(&before).unwrap()).unwrap(), before);
        let source = |digest: &str| {
            BTreeMap::from([("corpora.fsdd".to_owned(), Source { digest: digest.to_owned(), ..Source::default() })])
        };
        let workflows = |digest: &str| BTreeMap::from([("benchmark".to_owned(), digest.to_owned())]);
        let runs = ["benchmark".to_owned()];
        let lists = [&before, &now];
        assert_eq!(lock().refusals(&runs, &workflows("w1"), &source("d1"), lists), [""; 0]);
        assert_eq!(
            lock().refusals(&runs, &workflows("w1"), &source("d2"), lists),
            ["`corpora.fsdd` differs: a.wav (changed), b.wav (missing), c.wav (new)"]
        );
        assert_eq!(
            lock().refusals(&runs, &workflows("w2"), &BTreeMap::new(), lists),
            [
                "the text of the workflow `benchmark` differs",
                "`corpora.fsdd` is missing: 2 files, 10 bytes, from https://e.org/fsdd"
            ]
        );
        let libraries = BTreeMap::from([("libtorch".to_owned(), "2.12.0".to_owned())]);
        assert_eq!(
            lock().warnings(&Program::default(), &libraries, &lock().machine),
            ["another program: , and was 0.1.0", "libtorch is 2.12.0, and was 2.11.0"]
        );
    }

    #[test]
    fn values_must_be_equal_on_the_same_machine() {
        let mut same = ended("b", 0, Outcome::Done, 0.25);
        same.program = lock().program;
        assert_eq!(lock().differences(&same), []);
        let mut other = ended("b", 0, Outcome::Done, 0.26);
        other.program = lock().program;
        let check = |ended: &Ended, text: &str, is_certain: bool| {
            let found = lock().differences(ended);
            assert!(found.len() == 1 && found[0].text.ends_with(text) && found[0].is_certain == is_certain, "{found:?}");
        };
        let equal =
            "speech_recognition fsdd lora: 26.00, expected 25.00; on this machine and with this program they should be equal";
        check(&other, equal, true);
        other.machine.cpu = "another".to_owned();
        check(&other, "too few seeds to tell whether that is noise", false);
        other.cells.clear();
        check(&other, "no value, expected 25.00", true);
    }
}
