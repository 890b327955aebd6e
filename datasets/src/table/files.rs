//! Recordings by the paths that tables give them.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use crate::folder::Kind;
use crate::place::Place;
use crate::{Cause, CorpusError, Listing};

use super::{Amiss, is_recording};

/// Folders in which well-known corpora keep the recordings that their tables name without a folder.
const FOLDERS: [&str; 6] = ["clips", "wavs", "wav", "audio", "recordings", "data"];
/// Files are looked for this many folders deep: a link may lead back to where it is.
const DEEPEST: u32 = 8;

/// Files of a corpus.
pub(super) struct Files<'a> {
    place: &'a Place<'a>,
    root: &'a Path,
    full_root: Option<PathBuf>,
    index: OnceCell<Index>,
}

/// Files by what their paths have in common.
#[derive(Default)]
struct Index {
    all: Vec<String>,
    /// Path in the Unicode form NFC.
    by_form: HashMap<String, Vec<usize>>,
    /// Indices of the files by name without extension.
    by_stem: HashMap<String, Vec<usize>>,
    /// Indices of the files by name without extension, in lower case.
    by_letters: HashMap<String, Vec<usize>>,
}

fn nfc(text: &str) -> String {
    text.nfc().collect()
}

fn stem(path: &str) -> &str {
    let name = path.rfind('/').map_or(0, |at| at + 1);
    path[name..].rfind('.').filter(|&at| at > 0).map_or(path, |at| &path[..name + at])
}

impl<'a> Files<'a> {
    pub(super) fn new(place: &'a Place<'a>, root: &'a Path) -> Self {
        Self { place, root, full_root: root.canonicalize().ok(), index: OnceCell::new() }
    }

    /// Path of the recording that a table in `folder` names: as given; else in the table's own folder or in that of a well-known
    /// corpus; else in the other Unicode form; else without its extension.
    ///
    /// Errors: why there is no such recording.
    pub(super) fn find(&self, given: &str, folder: &str) -> Result<String, Amiss> {
        if given.trim().is_empty() {
            return Err("no `path`".into());
        }
        let scheme = given.trim().split_once("://").map(|(scheme, _)| scheme).filter(|scheme| !scheme.contains('/'));
        if let Some(scheme) = scheme.filter(|&scheme| scheme != "file") {
            let reason = format!("`{}` is an address ({scheme}), not a file: download it first", given.trim());
            return Err(Amiss { cause: Cause::Missing, reason });
        }
        // Spaces around a name may belong to it.
        let exact = self.inner(given).ok().filter(|path| given != given.trim() && self.place.is_file(path));
        let inner = match exact {
            Some(path) => path,
            None => self.inner(given.trim())?,
        };
        if inner.split('/').any(|part| part.starts_with('.')) {
            return Err(format!("`{inner}` is hidden: names that begin with a point are not read").into());
        }
        let folders = std::iter::once(folder.to_owned()).chain(FOLDERS.map(|folder| format!("{folder}/")));
        let candidates: Vec<String> = std::iter::once(inner.clone())
            .chain(folders.filter(|f| !f.is_empty()).map(|folder| format!("{folder}{inner}")))
            .collect();
        if let Some(path) = candidates.iter().find(|path| self.place.is_file(path)) {
            return Ok(path.clone());
        }
        if self.place.is_dir(&inner) {
            return Err(format!("`{inner}` is a folder, not a file").into());
        }
        let index = self.index()?;
        let among = |map: &HashMap<String, Vec<usize>>, key: &dyn Fn(&str) -> String| {
            candidates.iter().find_map(|path| map.get(&key(path))).cloned().unwrap_or_default()
        };
        let named = |found: &[usize]| found.iter().map(|&at| format!("`{}`", index.all[at])).collect::<Vec<_>>().join(" and ");
        for found in [among(&index.by_form, &|path| nfc(path)), among(&index.by_stem, &|path| nfc(path))] {
            match found.as_slice() {
                [] => {}
                [one] => return Ok(index.all[*one].clone()),
                several => return Err(format!("`{inner}` may be {}", named(several)).into()),
            }
        }
        let mut near = among(&index.by_letters, &|path| nfc(path).to_lowercase());
        near.extend(among(&index.by_stem, &|path| nfc(stem(path))));
        let hint = if near.is_empty() { String::new() } else { format!("; {} is", named(&near[..1])) };
        Err(Amiss { cause: Cause::Missing, reason: format!("`{inner}` is not there{hint}") })
    }

    /// Path relative to the root, without `.` and `..`. Errors: it leads out of the root.
    fn inner(&self, given: &str) -> Result<String, String> {
        let path = given.strip_prefix("file://").unwrap_or(given).replace('\\', "/");
        let is_drive = path.as_bytes().get(1) == Some(&b':') && path.as_bytes().get(2) == Some(&b'/');
        let path = if path.starts_with('/') || is_drive { self.below_root(&path)? } else { path };
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                ".." if parts.pop().is_none() => return Err(format!("path `{path}` leads out of the corpus")),
                "" | "." | ".." => {}
                part => parts.push(part),
            }
        }
        if parts.is_empty() { Err("the path is empty".to_owned()) } else { Ok(parts.join("/")) }
    }

    /// An absolute path, made relative to the root.
    fn below_root(&self, path: &str) -> Result<String, String> {
        let roots = [Some(self.root.to_owned()), self.full_root.clone(), std::path::absolute(self.root).ok()];
        let inner = roots.iter().flatten().find_map(|root| Path::new(path).strip_prefix(root).ok());
        let inner = inner.map(Path::to_owned).or_else(|| {
            let full = Path::new(path).canonicalize().ok()?;
            full.strip_prefix(self.full_root.as_ref()?).ok().map(Path::to_owned)
        });
        match inner.and_then(|inner| inner.to_str().map(str::to_owned)) {
            Some(inner) => Ok(inner),
            // Without the root: the same corpus gives the same reasons wherever it is.
            None => Err(format!(
                "`{path}` is not below the folder of the corpus: write paths relative to it, or choose as root a folder that contains \
                 all recordings"
            )),
        }
    }

    fn index(&self) -> Result<&Index, Amiss> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let index = self.read().map_err(|error| error.to_string())?;
        Ok(self.index.get_or_init(|| index))
    }

    fn read(&self) -> Result<Index, CorpusError> {
        let mut index = Index::default();
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in self.place.entries(&folder)? {
                let path = format!("{folder}{}", entry.name);
                match entry.kind {
                    Kind::Folder if depth < DEEPEST => folders.push((format!("{path}/"), depth + 1)),
                    Kind::File => index.all.push(path),
                    _ => {}
                }
            }
        }
        index.all.sort();
        for (at, path) in index.all.iter().enumerate() {
            let form = nfc(path);
            if is_recording(path) {
                index.by_stem.entry(stem(&form).to_owned()).or_default().push(at);
            }
            index.by_letters.entry(form.to_lowercase()).or_default().push(at);
            index.by_form.entry(form).or_default().push(at);
        }
        Ok(index)
    }

    /// Notes recordings that no row names.
    pub(super) fn report_extra(&self, named: &BTreeSet<String>, listing: &mut Listing) -> Result<(), CorpusError> {
        let read;
        let index = match self.index.get() {
            Some(index) => index,
            None => {
                read = self.read()?;
                &read
            }
        };
        for path in index.all.iter().filter(|path| is_recording(path) && !named.contains(*path)) {
            listing.extra(path, "no row names it");
        }
        Ok(())
    }
}
