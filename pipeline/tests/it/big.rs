//! Graphs that are large or deep.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;

use pipeline::graph::{Node, Point, Settings, Workflow, build};
use pipeline::manifest::Manifest;
use pipeline::plan::{History, Plan, Question, Results, plan};
use pipeline::registry::Registry;
use pipeline::schedule::{Pools, Schedule};
use pipeline::spec::parse;
use pipeline::{Digest, Tools};

use crate::harness::slow;
use crate::stages;

/// A history with no results, or with all; counts the questions.
struct Dream {
    everything: bool,
    questions: Cell<usize>,
}

impl Dream {
    fn new(everything: bool) -> Self {
        Self { everything, questions: Cell::new(0) }
    }
}

impl Results for Dream {
    type Error = Infallible;
    fn lookup(&self, fingerprints: &[Digest]) -> Result<Vec<Option<Digest>>, Infallible> {
        self.questions.set(self.questions.get() + 1);
        Ok(fingerprints.iter().map(|fingerprint| self.everything.then_some(*fingerprint)).collect())
    }
    fn part_digest(&self, artifact: Digest, _: Option<&str>) -> Result<Option<Digest>, Infallible> {
        Ok(Some(artifact))
    }
}

impl History for Dream {
    fn knows_recipe(&self, _: Digest, _: Option<u32>) -> Result<bool, Infallible> {
        Ok(false)
    }
    fn last_manifest(&self, _: &str) -> Result<Option<Manifest>, Infallible> {
        Ok(None)
    }
}

fn registry() -> Registry {
    stages::registry(std::path::Path::new("toy"))
}

/// A chain whose stages stand in the file against their order, which is the worst for whoever goes through it.
fn chain(length: usize, first: &str) -> String {
    let stage = |place: usize| {
        let input = if place == 0 { first.to_owned() } else { format!("s{}", place - 1) };
        format!("[stages.s{place}]\nrun = \"toy.join\"\ninputs.texts = \"{input}\"\n")
    };
    let stages: String = (0..length).rev().map(stage).collect();
    format!(
        "[workflow]\nname = \"deep\"\n[settings]\nword = \"x\"\n{stages}[stages.text]\nrun = \"toy.text\"\ntext = \"{{word}}\"\n"
    )
}

fn plan_with(workflow: &Workflow, history: &Dream) -> Plan {
    let (sources, none) = (HashMap::new(), HashSet::new());
    let question = Question { workflow, sources: &sources, failed: &none, forced: &none, tools: &|_| Tools::default() };
    let Ok(plan) = plan(&question, history);
    plan
}

/// Plans it, then goes through the schedule as a run does.
fn go_through(workflow: &Workflow) {
    let counts = |everything| plan_with(workflow, &Dream::new(everything)).counts();
    let all = workflow.order.len();
    assert_eq!((counts(true), counts(false)), ((all, 0, 0), (0, all, 0)));
    schedule_all(workflow);
}

fn schedule_all(workflow: &Workflow) {
    let mut schedule = Schedule::new(workflow, Pools { cpu: 4, ..Pools::default() }, |_| None);
    let mut running = std::collections::VecDeque::new();
    let mut done = 0;
    loop {
        while let Some(node) = schedule.next_ready() {
            schedule.queue(node);
        }
        while let Some((node, _)) = schedule.next_start() {
            running.push_back(node);
        }
        let Some(node) = running.pop_front() else { break };
        schedule.done(node);
        done += 1;
    }
    assert_eq!(done, workflow.order.len());
    assert!(schedule.left_over().is_empty());
}

/// In a thread with little stack, so that recursion over the graph cannot hide.
fn with_little_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(256 << 10).spawn(test).unwrap().join().unwrap();
}

#[test]
fn a_chain_of_100_000_stages_is_no_problem() {
    with_little_stack(|| {
        let spec = parse("deep.toml", &chain(100_000, "text")).unwrap();
        let workflow = build(&spec, &registry(), &Settings::new(), &["s99999".to_owned()]).unwrap();
        assert_eq!(workflow.order.len(), 100_001);
        go_through(&workflow);
    });
}

#[test]
fn a_chain_of_a_million_stages_is_scheduled() {
    let length = if slow() { 1_000_000 } else { 200_000 };
    let mut workflow = build(&parse("deep.toml", &chain(1, "text")).unwrap(), &registry(), &Settings::new(), &[]).unwrap();
    let last = *workflow.order.last().unwrap();
    for place in workflow.order.len()..length {
        let model = &workflow.graph[last];
        let node = Node {
            id: format!("s{place}"),
            stage: Arc::clone(&model.stage),
            kind: Arc::clone(&model.kind),
            point: Point::default(),
            partition: None,
            placed: Arc::clone(&model.placed),
            inputs: vec![],
            limits: model.limits,
        };
        let node = workflow.graph.add_node(node);
        workflow.graph.add_edge(*workflow.order.last().unwrap(), node, ());
        workflow.order.push(node);
    }
    with_little_stack(move || schedule_all(&workflow));
}

#[test]
fn a_cycle_of_20_000_stages_is_shown() {
    with_little_stack(|| {
        let spec = parse("deep.toml", &chain(20_000, "s19999")).unwrap();
        let mistakes = build(&spec, &registry(), &Settings::new(), &[]).unwrap_err();
        assert_eq!(mistakes.list.len(), 1);
        let path = &mistakes.list[0].mistake.message;
        assert!(path.starts_with("these stages wait for each other: s19999") && path.ends_with("-> s19999"), "{}", &path[..90]);
        assert_eq!(path.matches(" -> ").count(), 20_000);
    });
}

#[test]
fn a_wide_graph_is_built_and_scheduled_in_linear_time() {
    let text = "[workflow]\nname = \"wide\"\n[stages.list]\nrun = \"toy.list\"\npartitions = 20000\n\
                [stages.count]\nrun = \"toy.count\"\neach = \"list\"\ninputs.books = \"list\"\nmin_length = 1\n\
                [stages.again]\nrun = \"toy.join\"\neach = \"list\"\ninputs.texts = [\"count\", \"list/names.txt\"]\n\
                [stages.sum]\nrun = \"toy.join\"\ninputs.texts = \"again\"\n";
    let workflow = build(&parse("wide.toml", text).unwrap(), &registry(), &Settings::new(), &[]).unwrap();
    assert_eq!(workflow.order.len(), 40_002);
    go_through(&workflow);
}

/// As many shards as asked for, each copied twice, and one node for all of them.
fn shards(count: usize) -> String {
    let values: Vec<String> = (0..count).map(|shard| shard.to_string()).collect();
    format!(
        "[workflow]\nname = \"shards\"\n[matrix]\nshard = [{}]\n[stages.text]\nrun = \"toy.text\"\ntext = \"text {{shard}}\"\n\
         [stages.copy]\nrun = \"toy.join\"\ninputs.texts = \"text/text.txt\"\n\
         [stages.again]\nrun = \"toy.join\"\ninputs.texts = \"copy\"\n\
         [stages.all]\nrun = \"toy.join\"\ngather = [\"shard\"]\ninputs.texts = \"again\"\n",
        values.join(", ")
    )
}

#[test]
fn results_of_many_nodes_are_looked_up_with_one_question() {
    let workflow = build(&parse("shards.toml", &shards(2_000)).unwrap(), &registry(), &Settings::new(), &[]).unwrap();
    let history = Dream::new(true);
    assert!(plan_with(&workflow, &history).is_done());
    assert_eq!(history.questions.get(), 2 + 2 + 2 + 1, "three levels of 2,000 nodes in two questions each, one of one node");
}

#[test]
fn a_target_makes_no_more_nodes_than_it_needs() {
    let spec = parse("shards.toml", &shards(30_000)).unwrap();
    let of = |target: &str| build(&spec, &registry(), &Settings::new(), &[target.to_owned()]).unwrap();
    assert_eq!(of("again[shard=29999]").graph.node_count(), 3);
    assert_eq!(of("copy[shard=123*]").graph.node_count(), 2 * 111);
    assert_eq!(of("all").order.len(), 90_001);
}

#[test]
fn points_parameters_and_slots_are_shared_by_nodes() {
    let workflow = build(&parse("shards.toml", &shards(3)).unwrap(), &registry(), &Settings::new(), &[]).unwrap();
    let node = |id: &str| &workflow.graph[workflow.find(id)[0]];
    let (copy, again) = (node("copy[shard=1]"), node("again[shard=2]"));
    assert!(std::sync::Arc::ptr_eq(&copy.placed, &node("copy[shard=2]").placed));
    assert!(std::sync::Arc::ptr_eq(&again.inputs[0].slot, &node("again[shard=0]").inputs[0].slot));
    assert_eq!(node("all").inputs[1].point.to_map(), [("shard".to_owned(), "1".to_owned())].into());
}

#[test]
fn a_long_chain_of_each_is_no_problem() {
    with_little_stack(|| {
        let stage = |place: usize| {
            let before = if place == 0 { "list".to_owned() } else { format!("s{}", place - 1) };
            format!("[stages.s{place}]\nrun = \"toy.join\"\neach = \"{before}\"\ninputs.texts = \"{before}\"\n")
        };
        let stages: String = (0..20_000).rev().map(stage).collect();
        let text = format!("[workflow]\nname = \"each\"\n{stages}[stages.list]\nrun = \"toy.list\"\npartitions = 2\n");
        let workflow = build(&parse("each.toml", &text).unwrap(), &registry(), &Settings::new(), &[]).unwrap();
        assert_eq!(workflow.order.len(), 40_001);
    });
}
