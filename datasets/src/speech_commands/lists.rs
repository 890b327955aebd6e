//! The two list files, and which version of the corpus they belong to.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{README, TESTING_LIST, V1, V2, VALIDATION_LIST, WORDS};
use crate::text::{Fallback, decode};
use crate::{CorpusError, Listing, Split};

/// Content of the lists and of the README.
pub(super) struct Lists {
    /// Path in a list -> where it is named, and whether a file of that name was met.
    named: BTreeMap<String, Named>,
    /// The version, and by what it was seen.
    version: Option<(&'static str, String)>,
    /// True if the README says that the corpus is not the published one.
    pub(super) synthetic: bool,
}

#[derive(Default)]
struct Named {
    testing: bool,
    validation: bool,
    met: bool,
}

impl Lists {
    pub(super) fn read(root: &Path) -> Result<Self, CorpusError> {
        let read = |name: &str| {
            let path = root.join(name);
            fs::read(&path)
                .map(|bytes| decode(&bytes, Fallback::Windows1252))
                .map_err(|source| CorpusError::Read { path, source })
        };
        let mut named: BTreeMap<String, Named> = BTreeMap::new();
        let lines =
            |text: &str| text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect::<Vec<_>>();
        for line in lines(&read(TESTING_LIST)?) {
            named.entry(line).or_default().testing = true;
        }
        for line in lines(&read(VALIDATION_LIST)?) {
            named.entry(line).or_default().validation = true;
        }
        let readme = if root.join(README).is_file() { read(README)? } else { String::new() };
        let title = readme.lines().next().unwrap_or_default();
        let version = version_of(&named, title);
        Ok(Self { named, version, synthetic: title.contains("synthetic") })
    }

    /// The split of a file, noting that it was met. Errors: a reason to skip it.
    pub(super) fn take(&mut self, path: &str) -> Result<Split, &'static str> {
        let Some(named) = self.named.get_mut(path) else { return Ok(Split::Train) };
        named.met = true;
        match (named.testing, named.validation) {
            (true, true) => Err("named in both the testing and the validation list"),
            (true, false) => Ok(Split::Test),
            _ => Ok(Split::Dev),
        }
    }

    /// Skips what the lists name and no folder has, for the words that matter.
    pub(super) fn report_absent(&self, matters: impl Fn(&str) -> bool, listing: &mut Listing) {
        for (path, named) in self.named.iter().filter(|(_, named)| !named.met) {
            let list = if named.testing { TESTING_LIST } else { VALIDATION_LIST };
            match path.split_once('/') {
                None => listing.skip(path, format!("`{list}` names it, but it is not of the form `<word>/<file>`")),
                Some((word, _)) if matters(word) => {
                    listing.missing(path, format!("`{list}` names it, but there is no such file"));
                }
                Some(_) => {}
            }
        }
    }

    /// Refuses a corpus that is known to be of another version. One that shows none is taken as it is.
    pub(super) fn check_version(&self, root: &Path, protocol: &'static str, wanted: &'static str) -> Result<(), CorpusError> {
        match &self.version {
            Some((found, evidence)) if *found != wanted => {
                Err(CorpusError::Version { protocol, wanted, root: root.to_owned(), found, evidence: evidence.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// The version that the words in the lists, or else the title of the README, show.
fn version_of(named: &BTreeMap<String, Named>, title: &str) -> Option<(&'static str, String)> {
    let (old, new) = WORDS.split_at(30);
    let lists_name = |word: &str| {
        let folder = format!("{word}/");
        named.range(folder.clone()..).next().is_some_and(|(path, _)| path.starts_with(&folder))
    };
    if let Some(word) = new.iter().find(|&&word| lists_name(word)) {
        return Some((V2, format!("its lists name `{word}`")));
    }
    if let Some(version) = [V1, V2].into_iter().find(|version| title.contains(version)) {
        return Some((version, format!("`{README}` says so")));
    }
    old.iter().all(|&word| lists_name(word)).then(|| (V1, format!("its lists name none of {}", new.join(", "))))
}
