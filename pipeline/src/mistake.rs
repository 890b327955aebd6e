//! Mistakes in a workflow file: collected, placed and shown together.

use std::fmt;
use std::ops::Range;

/// One mistake, with its place and the nearest right name where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong: names the thing, what was expected and what was found.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Bytes of the file it stands at.
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
    let near = known.iter().map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate)).min();
    match near {
        None => "there are none".to_owned(),
        Some((distance, candidate)) if distance <= 1 + candidate.len() / 4 => format!("did you mean `{candidate}`?"),
        _ => format!("there is {}", join(&known)),
    }
}

fn join(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// All mistakes of one workflow file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// The file's name, for people.
    pub file: String,
    /// The mistakes with their lines, counted from 1, in the order of the file.
    pub list: Vec<(usize, Mistake)>,
}

impl Mistakes {
    /// Orders mistakes by place and drops repetitions (one per matrix point, say).
    pub fn new(file: &str, text: &str, mut list: Vec<Mistake>) -> Self {
        list.sort_by(|a, b| a.at.start.cmp(&b.at.start).then_with(|| a.message.cmp(&b.message)));
        list.dedup();
        let line = |mistake: &Mistake| 1 + text.as_bytes().iter().take(mistake.at.start).filter(|byte| **byte == b'\n').count();
        Self { file: file.to_owned(), list: list.into_iter().map(|mistake| (line(&mistake), mistake)).collect() }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        write!(f, "{count} {} in `{}`", if count == 1 { "mistake" } else { "mistakes" }, self.file)?;
        for (line, mistake) in &self.list {
            write!(f, "\n  {}:{line}: {}", self.file, mistake.message)?;
            if let Some(hint) = &mistake.hint {
                write!(f, "\n      {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
