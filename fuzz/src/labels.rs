//! Label files that may be anything, in a copy of a corpus that is else as it should be. Its reader may refuse or skip; it must
//! not panic, and what it lists must keep the contract of listings.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use datasets::synthetic::{Miniature, Options, write_miniature, write_speech_commands};
use datasets::{Corpus, find};
use tempfile::TempDir;

/// Label files end so.
const ENDINGS: [&str; 7] = [".txt", ".csv", ".tsv", ".textgrid", ".jsonl", ".parquet", "readme.md"];

/// A copy of a corpus, and which of its files are label files.
struct Copy {
    folder: TempDir,
    corpus: &'static dyn Corpus,
    labels: Vec<(PathBuf, Vec<u8>)>,
}

impl Copy {
    fn of(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a scratch folder");
        let root = folder.path().join("root");
        if name == "speech_commands" {
            let options = Options { speakers: 3, takes: 1, words: vec!["yes".to_owned(), "no".to_owned()], ..Options::quickstart() };
            write_speech_commands(&root, &options).expect("a corpus of two words");
        } else {
            write_miniature(name, &root, Miniature::default()).expect("a miniature of every other corpus");
        }
        if name == "table" {
            more_tables(&root);
        }
        let mut labels = Vec::new();
        for path in files(&root) {
            let shown = path.to_string_lossy().to_lowercase();
            if !shown.contains("._") && ENDINGS.iter().any(|ending| shown.ends_with(ending)) {
                labels.push((path.clone(), fs::read(path).expect("a file that was just written")));
            }
        }
        Self { folder, corpus: find(name).expect("a reader of every corpus"), labels }
    }

    /// Puts `content` in the place of a label file, lists, and puts the label file back. The first byte says which file, the
    /// second by which protocol.
    fn list(&self, file: &[u8]) {
        let [which, protocol, content @ ..] = file else { return };
        let (path, whole) = &self.labels[usize::from(*which) % self.labels.len()];
        let protocols = self.corpus.protocols();
        let protocol = &protocols[usize::from(*protocol) % protocols.len()];
        fs::write(path, content).expect("a scratch file can be written");
        if self.corpus.name() == "table" {
            // One table at a time can be meant.
            self.labels.iter().filter(|(other, _)| other != path).for_each(|(other, _)| drop(fs::remove_file(other)));
        }
        if let Ok(listing) = self.corpus.list(&self.folder.path().join("root"), protocol) {
            assert!(listing.utterances.is_sorted_by(|a, b| a.id < b.id), "ids are unique and sorted");
            for utterance in &listing.utterances {
                assert!(utterance.annotation.label.as_ref().is_none_or(|label| listing.labels.contains(label)), "every label is known");
                assert!(!utterance.path.starts_with('/') && !utterance.path.split('/').any(|part| part == ".."));
            }
        }
        fs::write(path, whole).expect("a scratch file can be written");
    }
}

/// The table of the miniature in the other formats too.
fn more_tables(root: &Path) {
    let rows = "path\tsplit\tspeaker\ttext\nclips/a 0.wav\ttest\tanna\tYes, \"please\"\n";
    fs::write(root.join("table.tsv"), rows).expect("a scratch file can be written");
    let object = "{\"audio\": {\"path\": \"clips/a 0.wav\"}, \"start\": 0.0, \"end\": 0.1, \"text\": \"Yes\", \"list\": [1, null]}\n";
    fs::write(root.join("table.jsonl"), object).expect("a scratch file can be written");
    let parquet = include_bytes!("../../datasets/tests/fixtures/snappy.parquet");
    fs::write(root.join("table.parquet"), parquet).expect("a scratch file can be written");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

thread_local! {
    static COPY: OnceCell<Copy> = const { OnceCell::new() };
}

/// Lists the corpus `name` with a label file of the fuzzer's.
pub fn list(name: &str, file: &[u8]) {
    COPY.with(|copy| copy.get_or_init(|| Copy::of(name)).list(file));
}

/// Writes the label files of the miniature as seeds into the folder that `SURE_FUZZ_SEEDS` names.
pub fn begin(name: &str) {
    crate::begin();
    let Some(seeds) = std::env::var_os("SURE_FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (number, (_, content)) in Copy::of(name).labels.iter().enumerate().take(256) {
        let seed = [&[number as u8, number as u8], content.as_slice()].concat();
        fs::write(seeds.join(format!("miniature-{number:03}")), seed).expect("the folder of seeds can be written");
    }
}
