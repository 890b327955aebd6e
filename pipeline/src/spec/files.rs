//! The sections of a workflow file and of the files it includes, merged.

use std::collections::{HashMap, HashSet};

use super::term::{Located, Pair, Term, document};
use crate::mistake::{Mistake, Sources};

/// Gives the text of a file, or says why it cannot.
pub type Load<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// What a file says, section by section.
#[derive(Default)]
pub(super) struct Sections {
    pub(super) workflow: Vec<Pair>,
    pub(super) settings: Vec<Pair>,
    pub(super) matrix: Vec<Pair>,
    pub(super) stages: Vec<Pair>,
}

/// A file whose includes are being read.
struct Open {
    name: String,
    /// The files it includes, the next one last.
    includes: Vec<Located<String>>,
    sections: Sections,
}

/// What reading all files gave.
pub(super) struct Files {
    pub(super) sections: Sections,
    pub(super) sources: Sources,
    pub(super) mistakes: Vec<Mistake>,
    /// Whether every file is TOML.
    pub(super) is_toml: bool,
}

/// Reads a file and all that it includes. What a file says wins over what its includes say, and a later include over an
/// earlier one: key by key in `[settings]` and `[matrix]`, stage by stage in `[stages]`.
pub(super) fn read(name: &str, text: &str, load: Load<'_>) -> Files {
    let mut files = Files { sections: Sections::default(), sources: Sources::default(), mistakes: vec![], is_toml: true };
    let mut seen = HashSet::from([name.to_owned()]);
    let mut open = vec![files.open(name, text)];
    while let Some(file) = open.last_mut() {
        let Some(include) = file.includes.pop() else {
            let Some(done) = open.pop() else { break };
            files.sections = merge(std::mem::take(&mut files.sections), done.sections);
            continue;
        };
        let wanted = beside(&file.name, &include.value);
        if let Some(first) = open.iter().position(|file| file.name == wanted) {
            let names: Vec<&str> = open[first..].iter().map(|file| file.name.as_str()).collect();
            let text = format!("these files include each other: {} -> {wanted}", names.join(" -> "));
            files.mistakes.push(Mistake::new(&include.at, text));
        } else if seen.insert(wanted.clone()) {
            match load(&wanted) {
                Ok(text) => open.push(files.open(&wanted, &text)),
                Err(error) => files.mistakes.push(Mistake::new(&include.at, format!("cannot include `{wanted}`: {error}"))),
            }
        }
    }
    files
}

/// A path as it is named from beside another file.
fn beside(file: &str, path: &str) -> String {
    let folder = if path.starts_with('/') { "" } else { file.rsplit_once('/').map_or("", |(folder, _)| folder) };
    let mut pieces: Vec<&str> = if folder.is_empty() { vec![] } else { folder.split('/').collect() };
    for piece in path.split('/') {
        match piece {
            "." => {}
            ".." if pieces.last().is_some_and(|last| !matches!(*last, "" | "." | "..")) => _ = pieces.pop(),
            piece => pieces.push(piece),
        }
    }
    pieces.join("/")
}

impl Files {
    fn open(&mut self, name: &str, text: &str) -> Open {
        let base = self.sources.add(name, text);
        let mut sections = Sections::default();
        let top = document(text, base).unwrap_or_else(|mistakes| {
            self.is_toml = false;
            self.mistakes.extend(mistakes);
            vec![]
        });
        for (key, term) in top {
            let section = match key.value.as_str() {
                "workflow" => &mut sections.workflow,
                "settings" => &mut sections.settings,
                "matrix" => &mut sections.matrix,
                "stages" => &mut sections.stages,
                other => {
                    let known = ["workflow", "settings", "matrix", "stages"];
                    self.mistakes.push(Mistake::unknown(&key.at, "section", other, known));
                    continue;
                }
            };
            match term.value {
                Term::Table(pairs) => *section = pairs,
                _ => self.mistakes.push(Mistake::new(&term.at, format!("`{}` should be a table", key.value))),
            }
        }
        let lines: HashSet<&str> = sections.settings.iter().map(|(name, _)| name.value.as_str()).collect();
        for (name, _) in sections.matrix.iter().filter(|(name, _)| lines.contains(name.value.as_str())) {
            self.mistakes.push(Mistake::new(&name.at, format!("`{}` is given in `[settings]` and in `[matrix]`", name.value)));
        }
        Open { name: name.to_owned(), includes: self.includes(&sections.workflow), sections }
    }

    /// The files to include, the first one last.
    fn includes(&mut self, head: &[Pair]) -> Vec<Located<String>> {
        let known = ["name", "about", "include"];
        for (key, _) in head.iter().filter(|(key, _)| !known.contains(&key.value.as_str())) {
            self.mistakes.push(Mistake::unknown(&key.at, "key of `[workflow]`", &key.value, known));
        }
        let Some((_, term)) = head.iter().find(|(key, _)| key.value == "include") else { return vec![] };
        let Term::List(items) = &term.value else {
            self.mistakes.push(Mistake::new(&term.at, "`include` should be a list of file names"));
            return vec![];
        };
        let mut names = vec![];
        for item in items.iter().rev() {
            match item.value.as_str() {
                Some(name) => names.push(Located { value: name.to_owned(), at: item.at.clone() }),
                None => self.mistakes.push(Mistake::new(&item.at, "`include` should list file names")),
            }
        }
        names
    }
}

/// Lays what `over` says above `under`.
fn merge(under: Sections, over: Sections) -> Sections {
    let named = |pairs: &[Pair]| pairs.iter().map(|(key, _)| key.value.clone()).collect::<HashSet<_>>();
    let (settings, matrix) = (named(&over.settings), named(&over.matrix));
    // A setting that another file makes a line of the matrix stops being a setting, and the other way round.
    let without = |pairs: Vec<Pair>, names: &HashSet<String>| -> Vec<Pair> {
        pairs.into_iter().filter(|(key, _)| !names.contains(&key.value)).collect()
    };
    Sections {
        workflow: over.workflow,
        settings: overlay(without(under.settings, &matrix), over.settings),
        matrix: overlay(without(under.matrix, &settings), over.matrix),
        stages: overlay(under.stages, over.stages),
    }
}

/// Replaces what is there already in its place; the rest follows.
fn overlay(mut under: Vec<Pair>, over: Vec<Pair>) -> Vec<Pair> {
    let mut places: HashMap<String, usize> =
        under.iter().enumerate().map(|(place, (key, _))| (key.value.clone(), place)).collect();
    for pair in over {
        match places.get(&pair.0.value) {
            Some(place) => under[*place] = pair,
            None => {
                places.insert(pair.0.value.clone(), under.len());
                under.push(pair);
            }
        }
    }
    under
}
