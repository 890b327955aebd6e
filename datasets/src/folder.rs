//! Lists folders the same way for every reader: sorted, without hidden names, each entry with what it is.

use std::fs;
use std::path::Path;

use crate::CorpusError;

/// Kind of an entry of a folder, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    /// A pipe, a socket, a link to nothing, or a name that is not UTF-8.
    Neither,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// The entries of a folder in order of name. Names that begin with `.` (which covers the `._` debris of macOS) are not there.
pub(crate) fn entries(folder: &Path) -> Result<Vec<Entry>, CorpusError> {
    let error = |source| CorpusError::List { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let (name, is_text) = match entry.file_name().into_string() {
            Ok(name) => (name, true),
            Err(raw) => (raw.to_string_lossy().into_owned(), false),
        };
        if name.starts_with('.') {
            continue;
        }
        let kind = if is_text { kind_of(&entry).map_err(error)? } else { Kind::Neither };
        found.push(Entry { name, kind });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn kind_of(entry: &fs::DirEntry) -> std::io::Result<Kind> {
    let mut kind = entry.file_type()?;
    if kind.is_symlink() {
        let Ok(target) = fs::metadata(entry.path()) else { return Ok(Kind::Neither) };
        kind = target.file_type();
    }
    Ok(if kind.is_file() {
        Kind::File
    } else if kind.is_dir() {
        Kind::Folder
    } else {
        Kind::Neither
    })
}

/// The stem of a recording's name, or why the entry is not a recording.
pub(crate) fn wav_stem(entry: &Entry) -> Result<&str, String> {
    stem(entry, &["wav"])
}

/// The stem of the name of a recording with one of some extensions (in lower case, met in any), or why it is not one.
pub(crate) fn stem<'a>(entry: &'a Entry, extensions: &[&str]) -> Result<&'a str, String> {
    let is_known = |found: &str| extensions.iter().any(|extension| found.eq_ignore_ascii_case(extension));
    match (entry.kind, entry.name.rsplit_once('.')) {
        (Kind::Folder, _) => Err("a folder, not a file".to_owned()),
        (Kind::Neither, _) => {
            Err("neither a file nor a folder: a pipe, a link to nothing, or a name that is not UTF-8".to_owned())
        }
        (Kind::File, Some((stem, found))) if is_known(found) => Ok(stem),
        (Kind::File, _) => Err(format!("not a .{} file", extensions.join(" or ."))),
    }
}
