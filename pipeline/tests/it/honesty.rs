//! Over random workflows and changes of them: the plan is honest, and results are those of a fresh build.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use pipeline::plan::{Reason, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::{Harness, slow, word};
use pipeline::records::ResultId;

/// A small workflow over four books. Few values, so that equal bytes and equal fingerprints are common.
#[derive(Debug, Clone)]
struct Model {
    books: Vec<u8>,
    partitions: u32,
    min_length: usize,
    texts: Vec<u8>,
    joins: Vec<Join>,
}

#[derive(Debug, Clone)]
struct Join {
    /// Which earlier stages it reads; taken modulo their number.
    inputs: Vec<usize>,
    /// True if it reads one file of each, false for everything.
    part: bool,
    keep: usize,
    suffix: u8,
}

impl Model {
    fn toml(&self) -> String {
        let mut text = format!(
            "[workflow]\nname = \"model\"\n[stages.list]\nrun = \"toy.list\"\npartitions = {}\n\
             [stages.count]\nrun = \"toy.count\"\neach = \"list\"\ninputs.books = \"list\"\nmin_length = {}\n\
             [stages.sum]\nrun = \"toy.join\"\ninputs.texts = \"count/count.txt\"\n",
            self.partitions, self.min_length
        );
        let mut earlier = vec!["sum".to_owned()];
        for (number, value) in self.texts.iter().enumerate() {
            let _ = write!(text, "[stages.t{number}]\nrun = \"toy.text\"\ntext = \"{}\"\n", "ab".repeat(usize::from(*value)));
            earlier.push(format!("t{number}"));
        }
        for (number, join) in self.joins.iter().enumerate() {
            let part = if join.part { "/text.txt" } else { "" };
            let inputs: Vec<String> =
                join.inputs.iter().map(|input| format!("\"{}{part}\"", earlier[input % earlier.len()])).collect();
            let _ = write!(
                text,
                "[stages.j{number}]\nrun = \"toy.join\"\ninputs.texts = [{}]\nkeep = {}\nsuffix = \"{}\"\n",
                inputs.join(", "),
                join.keep,
                join.suffix
            );
            earlier.push(format!("j{number}"));
        }
        text
    }

    fn furnish(&self, harness: &Harness) {
        for (number, value) in self.books.iter().enumerate() {
            let path = harness.path("books").join(format!("book{number}.txt"));
            let text = "word ".repeat(usize::from(*value));
            match value {
                0 => _ = std::fs::remove_file(&path),
                _ if std::fs::read_to_string(&path).is_ok_and(|old| old == text) => {}
                _ => std::fs::write(&path, text).unwrap(),
            }
        }
    }
}

fn join() -> impl Strategy<Value = Join> {
    (vec(0..9_usize, 1..4), any::<bool>(), 0..4_usize, 0..2_u8).prop_map(|(inputs, part, keep, suffix)| Join {
        inputs,
        part,
        keep,
        suffix,
    })
}

fn model() -> impl Strategy<Value = Model> {
    (vec(0..3_u8, 4), 1..4_u32, 1..3_usize, vec(0..3_u8, 1..3), vec(join(), 1..5))
        .prop_map(|(books, partitions, min_length, texts, joins)| Model { books, partitions, min_length, texts, joins })
}

/// One change of a model.
#[derive(Debug, Clone)]
enum Change {
    Book(usize, u8),
    Partitions(u32),
    MinLength(usize),
    Text(usize, u8),
    Join(usize, Join),
    Drop,
    Force(usize),
    Lose(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..4_usize, 0..3_u8).prop_map(|(book, value)| Change::Book(book, value)),
        (1..4_u32).prop_map(Change::Partitions),
        (1..6_usize).prop_map(Change::MinLength),
        (0..3_usize, 0..3_u8).prop_map(|(text, value)| Change::Text(text, value)),
        (0..5_usize, join()).prop_map(|(place, join)| Change::Join(place, join)),
        Just(Change::Drop),
        (0..9_usize).prop_map(Change::Force),
        (0..9_usize).prop_map(Change::Lose),
    ]
}

impl Model {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Book(book, value) => self.books[*book] = *value,
            Change::Partitions(count) => self.partitions = *count,
            Change::MinLength(length) => self.min_length = *length,
            Change::Text(text, value) => {
                let place = text % self.texts.len();
                self.texts[place] = *value;
            }
            Change::Join(place, join) if *place < self.joins.len() => self.joins[*place] = join.clone(),
            Change::Join(_, join) => self.joins.push(join.clone()),
            Change::Drop => _ = self.joins.pop(),
            Change::Force(_) | Change::Lose(_) => {}
        }
    }
}

type Results = BTreeSet<ResultId>;

/// Plans, runs and compares; what was made comes back.
/// `seen`: every trace so far.
fn step(harness: &mut Harness, seen: &mut Results, model: &Model, change: Option<&Change>) -> BTreeMap<String, pipeline::Digest> {
    let workflow = harness.workflow(&model.toml());
    model.furnish(harness);
    harness.options.forced.clear();
    // Not the list: sources are brought up to date while planning, and the artifact of another node may be lost with it.
    let nodes: Vec<_> = workflow.order.iter().copied().filter(|node| workflow.graph[*node].id != "list").collect();
    if let Some(Change::Force(number)) = change {
        harness.options.forced.insert(nodes[number % nodes.len()]);
    }
    if let Some(Change::Lose(number)) = change {
        let key = workflow.key(&workflow.graph[nodes[number % nodes.len()]]);
        if let Some((latest, _)) = harness.store().latest(&key).unwrap() {
            let result = harness.store().result(latest).unwrap().unwrap();
            let path = harness.store().path(result.artifact);
            harness.unlock();
            let _ = std::fs::remove_dir_all(path);
        }
    }
    let (plan, _) = harness.survey(&workflow);
    let ended = harness.run_workflow(&workflow, None).unwrap();
    assert!(ended.summary.complete);

    let ran: BTreeSet<String> = ended.nodes("ran").into_iter().collect();
    let mut fingerprint = |id: &str| harness.store().latest(&format!("model:{id}")).unwrap().unwrap().0;
    let made: Vec<_> = ran.iter().map(|id| fingerprint(id)).collect();
    for (node, verdict) in &plan.verdicts {
        let id = &workflow.graph[*node].id;
        let honest = match verdict {
            Verdict::Reuse { .. } => !ran.contains(id),
            // Another brought the lost artifact back, because its own has the same bytes.
            Verdict::Run(Reason::Gone) if ran.iter().any(|other| ended.artifacts[other] == ended.artifacts[id]) => true,
            Verdict::Run(_) => ran.contains(id) || made.contains(&fingerprint(id)), // another made the same
            Verdict::RunIf(_) => true,
            Verdict::Blocked { .. } => false,
        };
        assert!(honest, "{id}: planned {}, ran {ran:?}\n{}", word(verdict), model.toml());
    }
    // Neither fewer nor more than needed: what ran is what was never made before, each once.
    if !matches!(change, Some(Change::Force(_) | Change::Lose(_))) {
        let ids: Vec<String> = nodes.iter().map(|node| workflow.graph[*node].id.clone()).collect();
        let all: BTreeSet<_> = ids.iter().map(|id| fingerprint(id)).collect();
        let needed: BTreeSet<_> = all.iter().copied().filter(|trace| !seen.contains(trace)).collect();
        assert_eq!(made.iter().copied().collect::<BTreeSet<_>>(), needed, "ran {ran:?}\n{}", model.toml());
        assert_eq!(made.len(), needed.len(), "something ran twice: {ran:?}\n{}", model.toml());
    }
    seen.extend(workflow.order.iter().map(|node| fingerprint(&workflow.graph[*node].id)));
    ended.artifacts
}

#[test]
fn plans_are_honest_and_results_are_those_of_a_fresh_build() {
    let cases = if slow() { 400 } else { 12 };
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() };
    proptest!(config, |(start in model(), changes in vec(change(), 1..5))| {
        let (mut harness, mut model) = (Harness::new(), start);
        let mut seen = Results::new();
        let mut made = step(&mut harness, &mut seen, &model, None);
        for change in &changes {
            model.apply(change);
            made = step(&mut harness, &mut seen, &model, Some(change));
        }
        let again = step(&mut harness, &mut seen, &model, None);
        prop_assert!(!harness.ledger().is_empty());
        let mut fresh = Harness::new();
        prop_assert_eq!(&made, &step(&mut fresh, &mut Results::new(), &model, None));
        prop_assert_eq!(&made, &again);
    });
}
