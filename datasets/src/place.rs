//! Where a corpus lies: its root, the folder an archive may have put around it, and what is to be read there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::folder::{Entry, Kind, entries};
use crate::text::{Fallback, decode};
use crate::{CorpusError, Listing, Protocol, Split, Utterance};

/// The file that says that a corpus is one of [`crate::synthetic`]'s miniatures: published sizes do not apply to it.
pub(crate) const MINIATURE: &str = "MINIATURE.md";

/// Layout of a corpus, as its reader knows it in advance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Name of the reader.
    pub(crate) corpus: &'static str,
    /// Description of a folder of this corpus, for messages.
    pub(crate) expected: &'static str,
    /// Folders that archives put around the corpus, with `/` at the end. The root may be such a folder or hold it.
    pub(crate) outer: &'static [&'static str],
}

impl Layout {
    /// A path relative to where the corpus begins.
    pub(crate) fn inner<'a>(&self, path: &'a str) -> &'a str {
        self.outer.iter().find_map(|outer| path.strip_prefix(outer)).unwrap_or(path)
    }

    /// Finds where the corpus begins: where one of `marks` is.
    ///
    /// Errors: no root, or none of the marks.
    pub(crate) fn open<'a>(&self, root: &'a Path, marks: &[&str]) -> Result<Place<'a>, CorpusError> {
        let Self { corpus, expected, .. } = *self;
        if !root.is_dir() {
            return Err(CorpusError::NoRoot { corpus, root: root.to_owned(), expected });
        }
        let bases = std::iter::once("").chain(self.outer.iter().copied());
        let is_there = |base: &&str| marks.iter().any(|mark| root.join(base).join(mark).exists());
        match bases.into_iter().find(is_there) {
            Some(base) => Ok(Place { layout: *self, root, base, is_miniature: root.join(MINIATURE).is_file() }),
            None => Err(CorpusError::Missing { corpus, root: root.to_owned(), missing: one_of(marks), expected }),
        }
    }
}

/// Names of which one should be there, without the closing quotes: the first few of many.
fn one_of(marks: &[&str]) -> String {
    const MOST: usize = 3;
    match marks.get(MOST..) {
        None | Some([]) => marks.join("` or `"),
        Some(more) => format!(
            "{}` or another of {} such names, the last `{}",
            marks[..MOST].join("` or `"),
            marks.len(),
            more[more.len() - 1]
        ),
    }
}

/// A corpus that was found.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    layout: Layout,
    root: &'a Path,
    base: &'static str,
    /// Published sizes do not apply.
    pub(crate) is_miniature: bool,
}

impl Place<'_> {
    /// A path in the corpus as an utterance has it: relative to the root.
    pub(crate) fn path(&self, inner: &str) -> String {
        format!("{}{inner}", self.base)
    }

    /// Returns the full path of a path inside the corpus.
    pub(crate) fn full(&self, inner: &str) -> PathBuf {
        self.root.join(self.base).join(inner)
    }

    pub(crate) fn is_file(&self, inner: &str) -> bool {
        self.full(inner).is_file()
    }

    pub(crate) fn is_dir(&self, inner: &str) -> bool {
        self.full(inner).is_dir()
    }

    /// Errors: a folder that cannot be listed.
    pub(crate) fn entries(&self, inner: &str) -> Result<Vec<Entry>, CorpusError> {
        entries(&self.full(inner))
    }

    /// The text of a label file. Errors: it cannot be read.
    pub(crate) fn text(&self, inner: &str) -> Result<String, CorpusError> {
        self.text_as(inner, Fallback::Windows1252)
    }

    /// The text of a label file that may be in an encoding of its own. Errors: it cannot be read.
    pub(crate) fn text_as(&self, inner: &str, fallback: Fallback) -> Result<String, CorpusError> {
        self.bytes(inner).map(|bytes| decode(&bytes, fallback))
    }

    /// The text of one clip, trimmed: a file that cannot be read or is empty is no reason to give up a corpus.
    pub(crate) fn clip_text(&self, inner: &str) -> Option<String> {
        let text = self.text(inner).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The content of a label file. Errors: it cannot be read.
    pub(crate) fn bytes(&self, inner: &str) -> Result<Vec<u8>, CorpusError> {
        let path = self.full(inner);
        fs::read(&path).map_err(|source| CorpusError::Read { path, source })
    }

    /// The error that something is not there.
    pub(crate) fn missing(&self, inner: &str) -> CorpusError {
        let Layout { corpus, expected, .. } = self.layout;
        CorpusError::Missing { corpus, root: self.root.to_owned(), missing: self.path(inner), expected }
    }

    /// The error that a label file cannot be understood.
    pub(crate) fn malformed(&self, inner: &str, problem: String) -> CorpusError {
        CorpusError::Malformed { path: self.full(inner), problem }
    }

    /// Puts a listing in order. Errors: it has no utterance.
    pub(crate) fn finish(&self, mut listing: Listing, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let Layout { corpus, expected, .. } = self.layout;
        if listing.utterances.is_empty() {
            return Err(listing.empty(corpus, self.root, expected));
        }
        if listing.labels.is_empty() {
            listing.labels = protocol.labels.iter().map(|&label| label.to_owned()).collect();
        }
        if !listing.classes.contains_key("speaker") {
            let speakers = listing.names_of(|utterance| utterance.annotation.speaker.as_deref());
            listing.classes.insert("speaker".to_owned(), speakers);
        }
        listing.hold_against(protocol, self.is_miniature);
        Ok(listing.seal())
    }
}

/// Names of the recordings of a folder without their extension, each with true if a label file names it.
#[derive(Debug, Default)]
pub(crate) struct Recordings(BTreeMap<String, (String, bool)>);

impl Recordings {
    /// Reads the recordings below `inner` (which may not be there) at the given number of folders in between; whatever else
    /// lies there is skipped with a reason, unless its name ends as one of `known`. Keys are relative to `inner`, for example
    /// `speaker/name`.
    ///
    /// Errors: a folder that cannot be listed.
    pub(crate) fn read(
        place: &Place,
        inner: &str,
        depth: u32,
        extensions: &[&str],
        known: &[&str],
        listing: &mut Listing,
    ) -> Result<Self, CorpusError> {
        let mut found = Self::default();
        if !place.is_dir(inner) {
            return Ok(found);
        }
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, level)) = folders.pop() {
            let within = format!("{inner}/{folder}");
            for entry in place.entries(within.trim_end_matches('/'))? {
                let name = format!("{folder}{}", entry.name);
                if level < depth && entry.kind == Kind::Folder {
                    folders.push((format!("{name}/"), level + 1));
                    continue;
                }
                if known.iter().any(|ending| name.ends_with(ending)) {
                    continue;
                }
                let path = place.path(&format!("{inner}/{name}"));
                match crate::folder::stem(&entry, extensions) {
                    Ok(_) if level < depth => listing.skip(path, "a recording outside the folders that hold them"),
                    Ok(stem) => {
                        let key = format!("{folder}{stem}");
                        match found.0.get(&key) {
                            None => drop(found.0.insert(key, (path, false))),
                            Some((first, _)) => listing.skip(path, format!("the same name as `{first}`")),
                        }
                    }
                    Err(reason) => listing.skip(path, reason),
                }
            }
        }
        Ok(found)
    }

    /// The path of a recording, noting that it was met.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        let (path, met) = self.0.get_mut(key)?;
        *met = true;
        Some(path.clone())
    }

    /// All that were never met: key and path.
    pub(crate) fn left(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(_, (_, met))| !met).map(|(key, (path, _))| (key.as_str(), path.as_str()))
    }

    /// All: key and path.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, (path, _))| (key.as_str(), path.as_str()))
    }

    /// Notes all that were never met as extra.
    pub(crate) fn report_left(&self, reason: &str, listing: &mut Listing) {
        for (_, path) in self.left() {
            listing.extra(path, reason);
        }
    }
}

/// A path of a label file, made relative to the corpus: forward slashes, no `.` parts. Errors: why it is no such path.
pub(crate) fn clean(path: &str) -> Result<String, String> {
    let path = path.trim().replace('\\', "/");
    let is_drive = path.as_bytes().get(1) == Some(&b':');
    if path.is_empty() || path.starts_with('/') || is_drive || path.contains('\0') {
        return Err(format!("path `{}` is not relative to the corpus", path.escape_default()));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    match parts.as_slice() {
        [] => Err("the path is empty".to_owned()),
        parts if parts.contains(&"..") => Err(format!("path `{path}` leads out of the corpus")),
        parts => Ok(parts.join("/")),
    }
}

/// Puts utterances that have no split of their own into one, for good and on every machine: by BLAKE3 of a key. Of 100 keys
/// about `dev` go to dev and about `test` to test.
pub(crate) fn split_of(key: &str, dev: u64, test: u64) -> Split {
    match stable(key) % 100 {
        place if place < dev => Split::Dev,
        place if place < dev + test => Split::Test,
        _ => Split::Train,
    }
}

/// Sends the `count` utterances whose ids come first by BLAKE3 to dev, all others to train.
pub(crate) fn hold_out(listing: &mut Listing, count: usize) {
    let mut order: Vec<(u64, usize)> =
        listing.utterances.iter().enumerate().map(|(index, utterance)| (stable(&utterance.id), index)).collect();
    order.sort_unstable();
    for (rank, (_, index)) in order.into_iter().enumerate() {
        listing.utterances[index].split = if rank < count { Split::Dev } else { Split::Train };
    }
}

/// Sends one of twenty sentences to test, as many to dev, and the others to train: those whose texts come first by BLAKE3. A sentence is
/// in one split, whoever says it. An utterance without a text is a sentence of its own.
pub(crate) fn hold_out_sentences(listing: &mut Listing) {
    const SHARE: usize = 20;
    let sentence = |utterance: &Utterance| {
        let annotation = &utterance.annotation;
        let text = annotation.normalised.as_ref().or(annotation.transcript.as_ref());
        text.map_or_else(|| utterance.id.clone(), |text| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase())
    };
    let all: BTreeSet<String> = listing.utterances.iter().map(sentence).collect();
    let each = all.len().div_ceil(SHARE);
    let mut order: Vec<(u64, String)> = all.into_iter().map(|text| (stable(&text), text)).collect();
    order.sort_unstable();
    let held_out: BTreeMap<String, Split> = order
        .into_iter()
        .take(2 * each)
        .enumerate()
        .map(|(rank, (_, text))| (text, if rank < each { Split::Test } else { Split::Dev }))
        .collect();
    for utterance in &mut listing.utterances {
        utterance.split = held_out.get(&sentence(utterance)).copied().unwrap_or(Split::Train);
    }
}

/// A number that depends on the key alone.
fn stable(key: &str) -> u64 {
    let hash = blake3::hash(key.as_bytes());
    let head: [u8; 8] = hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
    u64::from_le_bytes(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_of_label_files_stay_in_the_corpus() {
        assert_eq!(clean("./wavs//a\\b.wav").unwrap(), "wavs/a/b.wav");
        for bad in ["", " ", "/etc/passwd", "../x.wav", "a/../../x", "C:\\x.wav", ".", "a\0b"] {
            assert!(clean(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn held_out_are_so_many_and_do_not_depend_on_the_order() {
        let list = |ids: &mut dyn Iterator<Item = u32>| {
            let utterances = ids.map(|id| Utterance::new(format!("u{id}"), "", Split::Test)).collect();
            let mut listing = Listing { utterances, ..Listing::default() };
            hold_out(&mut listing, 3);
            listing.seal()
        };
        let listing = list(&mut (0..10));
        assert_eq!(Split::ALL.map(|split| listing.count(split)), [7, 3, 0]);
        assert_eq!(listing, list(&mut (0..10).rev()));
        assert_eq!(list(&mut (0..2)).count(Split::Dev), 2);
    }

    #[test]
    fn a_split_by_hash_has_about_the_shares_asked_for() {
        let mut counts = [0; 3];
        for key in 0..10_000 {
            counts[split_of(&format!("speaker {key}"), 10, 20) as usize] += 1;
        }
        assert!((850..1150).contains(&counts[1]) && (1800..2200).contains(&counts[2]), "{counts:?}");
    }

    proptest! {
        #[test]
        fn no_path_leads_out(path in "[a./\\\\: ]{0,12}") {
            if let Ok(path) = clean(&path) {
                prop_assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".." || part.is_empty()));
            }
        }
    }
}
