//! Mistakes in a workflow file: collected, placed and shown together.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::Digest;

/// One mistake, with its place and the nearest right name where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Sentence that names the thing, what was expected and what was found.
    pub message: String,
    /// Hint for the user.
    pub hint: Option<String>,
    /// Place in the text (see [`Sources`]).
    pub at: Range<usize>,
}

impl Mistake {
    /// A mistake at a place.
    pub fn new(at: &Range<usize>, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, at: at.clone() }
    }
    /// A name that is not known, with the nearest of those that are.
    pub fn unknown<'a>(at: &Range<usize>, what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let mut mistake = Self::new(at, format!("unknown {what} `{name}`"));
        mistake.hint = Some(suggest(name, known));
        mistake
    }
    /// Adds what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// `did you mean ...?`, or the list of what there is.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase());
    let near = known.iter().map(|candidate| (distance(candidate), *candidate)).min();
    match near {
        None => "there are none".to_owned(),
        Some((distance, candidate)) if distance <= 1 + candidate.len() / 4 => format!("did you mean `{candidate}`?"),
        _ => format!("there is {}", join(&known)),
    }
}

/// True if a text looks like a misspelling of a name. Numbers are never misspelt.
pub(crate) fn is_slip(text: &str, name: &str) -> bool {
    let distance = strsim::damerau_levenshtein(text, name);
    name.parse::<f64>().is_err() && distance <= if name.len() < 8 { 1 } else { 2 }
}

fn join(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The files that a workflow is read from. They share one space of places, so that a place alone tells file and line.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Source>,
}

#[derive(Debug, Clone)]
struct Source {
    name: Arc<str>,
    digest: Digest,
    /// The place of its first byte.
    base: usize,
    /// The places at which its lines begin.
    lines: Vec<usize>,
}

impl Sources {
    /// Adds a file; returns the place of its first byte.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> usize {
        let base = self.files.last().map_or(0, |file| file.lines.last().map_or(0, |end| end + 1));
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| base + at + 1);
        let mut lines: Vec<usize> = std::iter::once(base).chain(breaks).collect();
        lines.push(base + text.len() + 1); // the end, past every place of this file
        self.files.push(Source { name: name.into(), digest: Digest::of(text.as_bytes()), base, lines });
        base
    }

    /// The digest of all their texts; the files' names do not matter.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.files.iter().flat_map(|file| file.digest.0).collect::<Vec<u8>>())
    }

    /// The file and line, counted from 1, of a place.
    pub fn line(&self, place: usize) -> (Arc<str>, usize) {
        let after = self.files.partition_point(|file| file.base <= place);
        let Some(file) = after.checked_sub(1).map(|last| &self.files[last]) else { return ("".into(), 1) };
        (Arc::clone(&file.name), file.lines.partition_point(|begin| *begin <= place).max(1))
    }

    /// The name of the file that everything began with.
    pub fn main(&self) -> &str {
        self.files.first().map_or("", |file| &file.name)
    }
}

/// A mistake with its file and line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file's name, for people.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: usize,
    /// The mistake.
    pub mistake: Mistake,
}

/// All mistakes of one workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// The name of the workflow's file, for people.
    pub file: String,
    /// The mistakes in the order of the text.
    pub list: Vec<Found>,
}

impl Mistakes {
    /// Orders mistakes by place and drops repetitions (one per matrix point, say).
    pub fn new(sources: &Sources, mut list: Vec<Mistake>) -> Self {
        list.sort_by(|a, b| a.at.start.cmp(&b.at.start).then_with(|| a.message.cmp(&b.message)));
        list.dedup();
        let found = |mistake: Mistake| {
            let (file, line) = sources.line(mistake.at.start);
            Found { file, line, mistake }
        };
        Self { file: sources.main().to_owned(), list: list.into_iter().map(found).collect() }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        write!(f, "{count} {} in `{}`", if count == 1 { "mistake" } else { "mistakes" }, self.file)?;
        for Found { file, line, mistake } in &self.list {
            if mistake.at == (0..0) {
                write!(f, "\n  {}", mistake.message)?; // of the command line, or of the file as a whole
            } else {
                write!(f, "\n  {file}:{line}: {}", mistake.message)?;
            }
            if let Some(hint) = &mistake.hint {
                write!(f, "\n      {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
