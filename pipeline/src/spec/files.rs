//! The sections of a workflow file and of the files it includes, merged.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::term::{Located, Pair, Term, document};
use crate::mistake::{Mistake, Sources};

/// Gives the text of a file, or says why it cannot.
pub type Load<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// The sections of a file, or of several files merged.
#[derive(Default, Clone)]
pub(super) struct Sections {
    pub(super) workflow: Vec<Pair>,
    pub(super) uses: Vec<Pair>,
    pub(super) settings: Vec<Pair>,
    pub(super) matrix: Vec<Pair>,
    pub(super) derived: Vec<Pair>,
    pub(super) stages: Vec<Pair>,
    /// Values of settings and lines of the matrix that another file replaced.
    pub(super) former: Vec<(String, Value)>,
}

/// A file whose includes are being read.
struct Open {
    name: String,
    /// The files it includes, the next one last.
    includes: Vec<Located<String>>,
    sections: Sections,
}

/// All files of a workflow.
pub(super) struct Files<'l> {
    load: Load<'l>,
    /// The sections of each file that was read, without those of its includes.
    read: HashMap<String, (Sections, Vec<Located<String>>)>,
    pub(super) sources: Sources,
    pub(super) mistakes: Vec<Mistake>,
    /// True if every file is TOML.
    pub(super) is_toml: bool,
}

impl<'l> Files<'l> {
    /// Starts with one file.
    pub(super) fn new(name: &str, text: &str, load: Load<'l>) -> Self {
        let (read, sources) = (HashMap::new(), Sources::default());
        let mut files = Self { load, read, sources, mistakes: vec![], is_toml: true };
        files.add(name, text);
        files
    }

    /// Reads a file that is not the first; false after a mistake, which is at the place of its name.
    pub(super) fn find(&mut self, name: &Located<String>) -> bool {
        if self.read.contains_key(&name.value) {
            return true;
        }
        match (self.load)(&name.value) {
            Ok(text) => self.add(&name.value, &text),
            Err(error) => {
                self.mistakes.push(Mistake::new(&name.at, format!("cannot include `{}`: {error}", name.value)));
                return false;
            }
        }
        true
    }

    /// Returns the sections of a file that was read, merged with those of all that it includes. What a file says wins over what
    /// its includes say, and a later include over an earlier one: key by key in `[settings]`, `[matrix]` and `[derived]`, stage by
    /// stage in `[stages]`; a stage without `run` and `like` changes parts of the one below it.
    pub(super) fn merged(&mut self, name: &str) -> Sections {
        let mut all = Sections::default();
        let mut seen = HashSet::from([name.to_owned()]);
        let mut open = vec![self.open(name)];
        while let Some(file) = open.last_mut() {
            let Some(include) = file.includes.pop() else {
                let Some(done) = open.pop() else { break };
                all = merge(all, done.sections);
                continue;
            };
            let wanted = Located { value: beside(&file.name, &include.value), at: include.at };
            if let Some(first) = open.iter().position(|file| file.name == wanted.value) {
                let names: Vec<&str> = open[first..].iter().map(|file| file.name.as_str()).collect();
                let text = format!("these files include each other: {} -> {}", names.join(" -> "), wanted.value);
                self.mistakes.push(Mistake::new(&wanted.at, text));
            } else if seen.insert(wanted.value.clone()) && self.find(&wanted) {
                open.push(self.open(&wanted.value));
            }
        }
        all
    }

    fn open(&self, name: &str) -> Open {
        let (sections, includes) = self.read.get(name).cloned().unwrap_or_default();
        Open { name: name.to_owned(), includes, sections }
    }
}

/// Returns a path as it is named from the folder of another file. A name without ending or folder is that of a workflow that
/// comes with the program, and stays as it is.
pub(super) fn beside(file: &str, path: &str) -> String {
    if !path.contains(['/', '.']) {
        return path.to_owned();
    }
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

impl Files<'_> {
    /// Reads the text of a file.
    fn add(&mut self, name: &str, text: &str) {
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
                "use" => &mut sections.uses,
                "settings" => &mut sections.settings,
                "matrix" => &mut sections.matrix,
                "derived" => &mut sections.derived,
                "stages" => &mut sections.stages,
                other => {
                    let known = ["workflow", "use", "settings", "matrix", "derived", "stages"];
                    self.mistakes.push(Mistake::unknown(&key.at, "section", other, known));
                    continue;
                }
            };
            match term.value {
                Term::Table(pairs) => *section = pairs,
                _ => self.mistakes.push(Mistake::new(&term.at, format!("`{}` should be a table", key.value))),
            }
        }
        let named = [("settings", &sections.settings), ("matrix", &sections.matrix), ("derived", &sections.derived)];
        let mut first: HashMap<&str, &str> = HashMap::new();
        for (section, (name, _)) in named.iter().flat_map(|(section, pairs)| pairs.iter().map(move |pair| (*section, pair))) {
            if let Some(first) = first.insert(&name.value, section) {
                let text = format!("`{}` is given in `[{first}]` and in `[{section}]`", name.value);
                self.mistakes.push(Mistake::new(&name.at, text));
            }
        }
        let includes = self.includes(&sections.workflow);
        self.read.insert(name.to_owned(), (sections, includes));
    }

    /// Returns the files to include, the first one last.
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

/// Merges two files; what `over` says wins.
pub(super) fn merge(under: Sections, over: Sections) -> Sections {
    let replacing = over.settings.iter().chain(&over.matrix).chain(&over.derived);
    let replacing: HashSet<String> = replacing.map(|(key, _)| key.value.clone()).collect();
    let replaced = under.settings.iter().chain(&under.matrix).filter(|(key, _)| replacing.contains(&key.value));
    let mut former: Vec<(String, Value)> =
        replaced.flat_map(|(key, term)| values(&term.value).into_iter().map(|value| (key.value.clone(), value))).collect();
    former.extend(under.former.into_iter().chain(over.former));
    // A setting that another file makes a line of the matrix stops being a setting, and so on.
    let without = |mut under: Vec<Pair>, over: &[Pair]| -> Vec<Pair> {
        under.retain(|(key, _)| !replacing.contains(&key.value) || over.iter().any(|(name, _)| name.value == key.value));
        under
    };
    Sections {
        workflow: over.workflow,
        uses: if over.uses.is_empty() { under.uses } else { over.uses },
        former,
        settings: overlay(without(under.settings, &over.settings), over.settings),
        matrix: overlay(without(under.matrix, &over.matrix), over.matrix),
        derived: overlay(without(under.derived, &over.derived), over.derived),
        stages: change(under.stages, over.stages),
    }
}

/// Returns the values of a setting or of a line of the matrix.
fn values(term: &Term) -> Vec<Value> {
    match term {
        Term::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
        Term::Table(_) => {
            let listed = ["default", "values", "choices"].into_iter().filter_map(|key| term.get(key));
            listed.flat_map(|list| values(&list.value)).collect()
        }
        term => vec![term.to_json()],
    }
}

/// Replaces stages, or changes parts of them where a stage has no `run` or `like` of its own.
fn change(mut under: Vec<Pair>, over: Vec<Pair>) -> Vec<Pair> {
    let mut replacing = vec![];
    for (name, body) in over {
        let changes = matches!(body.value, Term::Table(_)) && !is_whole_stage(&body.value);
        match under.iter_mut().find(|(known, _)| known.value == name.value).filter(|_| changes) {
            Some((_, known)) => change_table(known, body, true),
            None => replacing.push((name, body)),
        }
    }
    overlay(under, replacing)
}

/// True if the body of a stage says by itself which kind the stage has.
pub(super) fn is_whole_stage(body: &Term) -> bool {
    body.get("run").is_some() || body.get("like").is_some()
}

/// Changes a table key by key. A table with `by` or `name` describes a whole value, and replaces the one that is there; the
/// body of a stage never does.
pub(super) fn change_table(under: &mut Located<Term>, over: Located<Term>, is_body: bool) {
    let is_whole = over.value.get("by").is_some() || over.value.get("name").is_some() && !is_body;
    match (&mut under.value, over.value) {
        (Term::Table(known), Term::Table(pairs)) if !is_whole => {
            for (key, value) in pairs {
                match known.iter_mut().find(|(name, _)| name.value == key.value) {
                    Some((name, term)) => {
                        name.at = key.at;
                        change_table(term, value, false);
                    }
                    None => known.push((key, value)),
                }
            }
        }
        (_, value) => *under = Located { value, at: over.at },
    }
}

/// Replaces pairs of the same key in their places; the rest follows.
fn overlay(mut under: Vec<Pair>, over: Vec<Pair>) -> Vec<Pair> {
    let mut places: HashMap<String, usize> =
        under.iter().enumerate().map(|(place, (key, _))| (key.value.clone(), place)).collect();
    for pair in over {
        if let Some(place) = places.get(&pair.0.value) {
            under[*place] = pair;
        } else {
            places.insert(pair.0.value.clone(), under.len());
            under.push(pair);
        }
    }
    under
}
