//! `[stages.*]`: name, kind, inputs and parameters of each stage.

use std::ops::Range;

use super::axes::show;
use super::term::{Located, Pair, Term};
use crate::limits::{self, Limits};
use crate::mistake::Mistake;

/// A stage of a workflow file.
#[derive(Debug, Clone)]
pub struct StageSpec {
    /// Name in this workflow.
    pub name: Located<String>,
    /// The stage kind.
    pub run: Located<String>,
    /// `inputs.<slot>`.
    pub inputs: Vec<Pair>,
    /// The partitioned stage of which each part gets a node.
    pub each: Option<Located<String>>,
    /// The axes over which it takes everything at once; `*` for every line of the matrix that it does not mention.
    pub gather: Vec<Located<String>>,
    /// Lines of the matrix with the values at which the stage exists; it exists at all values of the others.
    pub only: Vec<(Located<String>, Vec<Located<String>>)>,
    /// How it may run; never part of a fingerprint.
    pub limits: Limits,
    /// Everything else.
    pub params: Vec<Pair>,
}

/// The keys of a stage that are no parameters of its kind.
pub(super) const RESERVED: [(&str, &str); 6] = [
    ("run", "the stage kind"),
    ("inputs", "what it reads: inputs.<slot> = \"<stage>\""),
    ("each", "a partitioned stage: one node for each of its parts"),
    ("gather", "settings and matrix lines over which it takes everything at once; `*`: every line it does not mention"),
    ("only", "values of matrix lines at which the stage exists: only.method = [\"lora\"]"),
    ("limits", "how it may run: time, retries, memory_mib, threads, devices, site"),
];

pub(super) fn read(stages: Vec<Pair>, mistakes: &mut Vec<Mistake>) -> Vec<StageSpec> {
    let mut found = Vec::with_capacity(stages.len());
    for (name, body) in stages {
        if !is_stage_name(&name.value) {
            let text = format!("the name of the stage `{}` should be letters, digits, `_`, `-` and `.`", name.value);
            mistakes.push(Mistake::new(&name.at, text));
        }
        match body.value {
            Term::Table(fields) => found.push(stage(name, fields, mistakes)),
            _ => mistakes.push(Mistake::new(&body.at, format!("`stages.{}` should be a table", name.value))),
        }
    }
    found
}

/// True if ids, targets and references with this name can be read back.
fn is_stage_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn stage(name: Located<String>, fields: Vec<Pair>, mistakes: &mut Vec<Mistake>) -> StageSpec {
    let run = Located { value: String::new(), at: name.at.clone() };
    let (limits, inputs, params) = (Limits::default(), vec![], vec![]);
    let mut stage = StageSpec { name, run, inputs, each: None, gather: vec![], only: vec![], limits, params };
    let text = |term: &Term, at: &Range<usize>| term.as_str().map(|text| Located { value: text.to_owned(), at: at.clone() });
    let is_like = fields.iter().any(|(key, _)| key.value == "like");
    for (key, value) in fields {
        match (key.value.as_str(), value.value) {
            ("run", term) => match text(&term, &value.at) {
                Some(kind) => stage.run = kind,
                None => mistakes.push(Mistake::new(&value.at, "`run` should name a stage kind")),
            },
            ("like", _) => {} // what could not be taken over is reported already
            ("inputs", Term::Table(slots)) => stage.inputs = slots,
            ("inputs", _) => {
                mistakes.push(Mistake::new(&value.at, "`inputs` should be a table: `inputs.<slot> = \"<stage>\"`"));
            }
            ("each", term) => match text(&term, &value.at) {
                Some(each) => stage.each = Some(each),
                None => mistakes.push(Mistake::new(&value.at, "`each` should name a partitioned stage")),
            },
            ("gather", Term::List(items)) => {
                for item in items {
                    match text(&item.value, &item.at) {
                        Some(axis) => stage.gather.push(axis),
                        None => mistakes.push(Mistake::new(&item.at, "`gather` should list names of settings or matrix lines")),
                    }
                }
            }
            ("gather", _) => mistakes.push(Mistake::new(&value.at, "`gather` should be a list of names")),
            ("only", Term::Table(lines)) => stage.only = lines.into_iter().map(|line| only(line, mistakes)).collect(),
            ("only", _) => mistakes.push(Mistake::new(&value.at, "`only` should be a table: `only.method = [\"lora\"]`")),
            ("limits", term) => stage.limits = limits::read(&Located { value: term, at: value.at }, mistakes),
            (_, term) => stage.params.push((key, Located { value: term, at: value.at })),
        }
    }
    if stage.run.value.is_empty() && !is_like {
        let text = format!("`stages.{}` lacks `run = \"<stage kind>\"`", stage.name.value);
        let hint = "a stage without `run` and `like` changes one of an included or used workflow, and there is none of this name";
        mistakes.push(Mistake::new(&stage.name.at, text).with_hint(hint));
    }
    stage
}

/// Reads one line of `only`.
fn only((name, list): Pair, mistakes: &mut Vec<Mistake>) -> (Located<String>, Vec<Located<String>>) {
    let Term::List(items) = list.value else {
        mistakes.push(Mistake::new(&list.at, format!("`only.{}` should be a list of values", name.value)));
        return (name, vec![]);
    };
    let value = |item: Located<Term>| Located { value: show(&item.value.to_json()), at: item.at };
    (name, items.into_iter().map(value).collect())
}
