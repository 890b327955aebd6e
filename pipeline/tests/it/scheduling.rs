//! Order in which nodes start, and their resources.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use petgraph::graph::NodeIndex;
use pipeline::graph::Workflow;
use pipeline::schedule::{Grant, Pool, Pools, Schedule, Wait, expected_secs};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::{Harness, slow};

/// `wide` takes all slots, `one` to `three` take one each, `far` and `near` want a device.
const MIXED: &str = "[workflow]\nname = \"mixed\"\n\
    [stages.one]\nrun = \"toy.text\"\ntext = \"1\"\n[stages.two]\nrun = \"toy.text\"\ntext = \"2\"\n\
    [stages.three]\nrun = \"toy.text\"\ntext = \"3\"\n\
    [stages.wide]\nrun = \"toy.steps\"\nsteps = 1\nmillis = 1\ninputs.texts = \"one\"\n\
    [stages.far]\nrun = \"toy.far\"\nact = \"write\"\ninputs.texts = \"one\"\n\
    [stages.near]\nrun = \"toy.far\"\nact = \"write\"\ntext = \"x\"\ninputs.texts = \"one\"\n\
    [stages.end]\nrun = \"toy.join\"\ninputs.texts = [\"wide\", \"two\", \"three\", \"far\", \"near\"]\n";

/// Devices of the gpu pool that a node was given.
fn gpus(grant: &Grant) -> impl Iterator<Item = u32> {
    std::iter::once(grant.gpu).chain(grant.others.iter().copied()).flatten()
}

/// Makes everything ready that can be, then starts what fits.
fn start(schedule: &mut Schedule<'_>, workflow: &Workflow) -> Vec<String> {
    while let Some(node) = schedule.next_ready() {
        schedule.queue(node);
    }
    let mut started = vec![];
    while let Some((node, grant)) = schedule.next_start() {
        let gpus = gpus(&grant).fold(String::new(), |text, gpu| format!("{text} gpu{gpu}"));
        started.push(format!("{} x{}{gpus}", workflow.graph[node].id, grant.threads));
    }
    started.sort();
    started
}

fn end(schedule: &mut Schedule<'_>, workflow: &Workflow, id: &str) {
    schedule.done(workflow.find(id)[0]);
}

/// Durations that make `wide` more urgent than what else is ready with it.
fn schedule(workflow: &Workflow, pools: Pools) -> Schedule<'_> {
    let secs = |id: &str| match id {
        "one" => 9.0,
        "wide" => 5.0,
        "far" | "near" => 3.0,
        _ => 1.0,
    };
    Schedule::new(workflow, pools, |node| Some(secs(&workflow.graph[node].id)))
}

#[test]
fn longest_remaining_path_starts_first_and_keeps_no_slot_idle() {
    let workflow = Harness::new().workflow(MIXED);
    let mut schedule = schedule(&workflow, Pools { cpu: 2, ..Pools::default() });
    assert_eq!(start(&mut schedule, &workflow), ["one x1", "two x1"]);
    end(&mut schedule, &workflow, "one");
    assert_eq!(start(&mut schedule, &workflow), ["three x1"], "`wide` has to wait for `two` anyway");
    end(&mut schedule, &workflow, "two");
    assert_eq!(start(&mut schedule, &workflow), [""; 0]);
    end(&mut schedule, &workflow, "three");
    assert_eq!(start(&mut schedule, &workflow), ["wide x2"]);
    end(&mut schedule, &workflow, "wide");
    assert_eq!(start(&mut schedule, &workflow).len(), 1, "without a device, `far` takes all slots");
}

#[test]
fn wide_node_lets_as_many_others_by_as_there_are_slots() {
    let workflow = apart(&[
        ("long", "toy.join", ""),
        ("wide", "toy.steps", ""),
        ("a", "toy.join", ""),
        ("b", "toy.join", ""),
        ("c", "toy.join", ""),
    ]);
    let mut schedule = queued(&workflow, Pools { cpu: 2, ..Pools::default() });
    assert_eq!(start(&mut schedule, &workflow), ["a x1", "long x1"]);
    end(&mut schedule, &workflow, "a");
    assert_eq!(start(&mut schedule, &workflow), ["b x1"]);
    end(&mut schedule, &workflow, "b");
    assert_eq!(start(&mut schedule, &workflow), [""; 0], "not again, or `wide` might wait for ever");
    end(&mut schedule, &workflow, "long");
    assert_eq!(start(&mut schedule, &workflow), ["wide x2"]);
    end(&mut schedule, &workflow, "wide");
    assert_eq!(start(&mut schedule, &workflow), ["c x1"]);
}

#[test]
fn devices_are_given_out_one_by_one_and_spare_the_cpu_pool() {
    let workflow = Harness::new().workflow(MIXED);
    let mut schedule = schedule(&workflow, Pools { cpu: 4, gpus: vec![3, 7], memory_mib: None });
    assert_eq!(start(&mut schedule, &workflow), ["one x1", "three x1", "two x1"]);
    end(&mut schedule, &workflow, "one");
    let started = start(&mut schedule, &workflow);
    assert_eq!(started.len(), 2, "{started:?}");
    let devices: Vec<&str> = started.iter().filter_map(|line| line.split_once(" x1 ").map(|(_, gpu)| gpu)).collect();
    assert!(devices.contains(&"gpu3") && devices.contains(&"gpu7"), "{started:?}");
    for id in ["two", "three", "far", "near"] {
        end(&mut schedule, &workflow, id);
    }
    assert_eq!(start(&mut schedule, &workflow), ["wide x4"]);
    assert_eq!(schedule.running(), 1);
}

#[test]
fn nodes_share_a_device_that_is_named_twice() {
    let workflow = Harness::new().workflow(MIXED);
    let mut schedule = schedule(&workflow, Pools { cpu: 4, gpus: vec![3, 3, 7], memory_mib: None });
    start(&mut schedule, &workflow);
    end(&mut schedule, &workflow, "one");
    let mut started = start(&mut schedule, &workflow);
    let devices = |started: &[String]| -> Vec<String> {
        started.iter().filter_map(|line| line.split_once(" x1 ").map(|(_, gpu)| gpu.to_owned())).collect()
    };
    let mut first = devices(&started);
    first.sort_unstable();
    assert_eq!(first, ["gpu3", "gpu7"], "the idlest first");
    for id in ["two", "three", "far", "near"] {
        end(&mut schedule, &workflow, id);
    }
    started = start(&mut schedule, &workflow);
    assert_eq!(started, ["wide x4"]);
}

#[test]
fn a_node_gets_several_devices_or_as_many_times_the_threads() {
    let two = "devices = 2";
    let workflow = apart(&[("a", "toy.far", ""), ("b", "toy.far", two), ("c", "toy.far", ""), ("d", "toy.far", "devices = 9")]);
    let mut schedule = queued(&workflow, Pools { cpu: 8, gpus: vec![3, 3, 7], memory_mib: None });
    assert_eq!(start(&mut schedule, &workflow), ["a x1 gpu3", "b x2 gpu7 gpu3"], "the idlest first");
    let waits = schedule.waits(workflow.find("d")[0]).map(|wait| wait.map(|node| workflow.graph[node].id.clone()));
    let holders = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(waits, Some(Wait::Slot { pool: Pool::Gpu, wanted: 3, free: 0, holders }));
    end(&mut schedule, &workflow, "b");
    assert_eq!(start(&mut schedule, &workflow), ["c x1 gpu7"]);
    end(&mut schedule, &workflow, "c");
    assert_eq!(start(&mut schedule, &workflow), [""; 0], "two devices are free, and `d` gets all there are");
    end(&mut schedule, &workflow, "a");
    assert_eq!(start(&mut schedule, &workflow), ["d x3 gpu3 gpu7 gpu3"]);

    let workflow = apart(&[("a", "toy.far", "threads = 2, devices = 3"), ("b", "toy.far", "threads = 5, devices = 2")]);
    let mut schedule = queued(&workflow, Pools { cpu: 8, ..Pools::default() });
    assert_eq!(start(&mut schedule, &workflow), ["a x6"]);
    let processes = |schedule: &Schedule<'_>| schedule.running_nodes().map(|(_, grant)| grant.others.clone()).collect::<Vec<_>>();
    assert_eq!(processes(&schedule), [vec![None, None]]);
    end(&mut schedule, &workflow, "a");
    assert_eq!(start(&mut schedule, &workflow), ["b x8"], "not more than there are");
    assert_eq!(processes(&schedule), [vec![None]]);
}

#[test]
fn failure_blocks_what_depends_on_it_and_nothing_else() {
    let workflow = Harness::new().workflow(MIXED);
    let mut schedule = schedule(&workflow, Pools { cpu: 8, ..Pools::default() });
    start(&mut schedule, &workflow);
    let one = workflow.find("one")[0];
    schedule.failed(one);
    end(&mut schedule, &workflow, "two");
    end(&mut schedule, &workflow, "three");
    assert_eq!(start(&mut schedule, &workflow), [""; 0]);
    let mut left: Vec<(&str, bool)> =
        schedule.left_over().iter().map(|(node, by)| (workflow.graph[*node].id.as_str(), *by == Some(one))).collect();
    left.sort_unstable();
    assert_eq!(left, [("end", true), ("far", true), ("near", true), ("wide", true)]);
}

/// Independent stages, each with limits of its own.
fn apart(stages: &[(&str, &str, &str)]) -> Workflow {
    let mut text = "[workflow]\nname = \"apart\"\n".to_owned();
    for (name, run, limits) in stages {
        let params = match *run {
            "toy.far" => "act = \"write\"\ninputs.texts = \"root\"",
            "toy.steps" => "steps = 1\nmillis = 1\ninputs.texts = \"root\"",
            _ => "inputs.texts = \"root\"",
        };
        let _ = writeln!(text, "[stages.{name}]\nrun = \"{run}\"\n{params}\nlimits = {{ {limits} }}");
    }
    Harness::new().workflow(&(text + "[stages.root]\nrun = \"toy.text\"\ntext = \"x\"\n"))
}

/// All stages of [`apart`] queued; those named first are more urgent.
fn queued(workflow: &Workflow, pools: Pools) -> Schedule<'_> {
    let secs = |node: NodeIndex| 1000.0 - workflow.order.iter().position(|other| *other == node).unwrap() as f64;
    let mut schedule = Schedule::new(workflow, pools, |node| Some(secs(node)));
    assert_eq!(start(&mut schedule, workflow).len(), 1);
    end(&mut schedule, workflow, "root");
    schedule
}

#[test]
fn memory_is_counted_and_who_claims_more_than_there_is_runs_alone() {
    let workflow = apart(&[
        ("a", "toy.join", "memory_mib = 600"),
        ("b", "toy.join", "memory_mib = 500"),
        ("c", "toy.join", "memory_mib = 300"),
        ("huge", "toy.join", "memory_mib = 5000"),
        ("free", "toy.join", "threads = 3"),
    ]);
    let mut schedule = queued(&workflow, Pools { cpu: 4, gpus: vec![], memory_mib: Some(1000) });
    assert_eq!(start(&mut schedule, &workflow), ["a x1", "free x3"], "`c` would fit, but `b` waits for the memory");
    end(&mut schedule, &workflow, "a");
    assert_eq!(start(&mut schedule, &workflow), ["b x1"], "`c` wants a thread, too");
    end(&mut schedule, &workflow, "free");
    assert_eq!(start(&mut schedule, &workflow), ["c x1"]);
    end(&mut schedule, &workflow, "b");
    assert_eq!(start(&mut schedule, &workflow), [""; 0]);
    end(&mut schedule, &workflow, "c");
    assert_eq!(start(&mut schedule, &workflow), ["huge x1"]);
    assert_eq!(schedule.running_nodes().next().unwrap().1.memory_mib, 1000);
}

#[test]
fn who_waits_for_a_device_keeps_no_thread_idle_and_who_waits_for_threads_is_overtaken_once_per_device() {
    let workflow = apart(&[
        ("first", "toy.far", ""),
        ("second", "toy.far", ""),
        ("narrow", "toy.join", ""),
        ("wide", "toy.steps", ""),
        ("third", "toy.far", ""),
        ("fourth", "toy.far", ""),
    ]);
    let mut schedule = queued(&workflow, Pools { cpu: 3, gpus: vec![5], memory_mib: None });
    assert_eq!(start(&mut schedule, &workflow), ["first x1 gpu5", "narrow x1"]);
    end(&mut schedule, &workflow, "first");
    assert_eq!(start(&mut schedule, &workflow), ["second x1 gpu5"]);
    end(&mut schedule, &workflow, "second");
    assert_eq!(start(&mut schedule, &workflow), ["third x1 gpu5"], "before `wide`, which has to wait for `narrow` anyway");
    end(&mut schedule, &workflow, "third");
    assert_eq!(start(&mut schedule, &workflow), [""; 0], "not again, or `wide` might wait for ever");
    end(&mut schedule, &workflow, "narrow");
    assert_eq!(start(&mut schedule, &workflow), ["wide x3"]);
    end(&mut schedule, &workflow, "wide");
    assert_eq!(start(&mut schedule, &workflow), ["fourth x1 gpu5"]);
}

#[test]
fn a_waiting_node_says_for_what() {
    let workflow = Harness::new().workflow(MIXED);
    let mut schedule = schedule(&workflow, Pools { cpu: 3, gpus: vec![0], memory_mib: None });
    let id = |node: NodeIndex| workflow.graph[node].id.clone();
    let node = |id: &str| workflow.find(id)[0];
    let wait = |schedule: &Schedule<'_>, of: &str| schedule.waits(node(of)).map(|wait| wait.map(id));
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(start(&mut schedule, &workflow), ["one x1", "three x1", "two x1"]);
    assert_eq!(wait(&schedule, "one"), None, "it runs");
    assert_eq!(wait(&schedule, "far"), Some(Wait::For { nodes: texts(&["one"]) }));
    end(&mut schedule, &workflow, "one");
    assert_eq!(start(&mut schedule, &workflow).len(), 1, "`far` or `near` has the device and the last thread");
    let mut holders = texts(&["two", "three"]);
    let (feeds, other) = if wait(&schedule, "far").is_none() { ("far", "near") } else { ("near", "far") };
    holders.push(feeds.to_owned());
    holders.sort_by_key(|id| node(id));
    assert_eq!(wait(&schedule, "wide"), Some(Wait::Slot { pool: Pool::Cpu, wanted: 3, free: 0, holders }));
    let holders = texts(&[feeds]);
    assert_eq!(wait(&schedule, other), Some(Wait::Slot { pool: Pool::Gpu, wanted: 1, free: 0, holders }));
    end(&mut schedule, &workflow, feeds);
    assert_eq!(start(&mut schedule, &workflow), [""; 0]);
    assert_eq!(wait(&schedule, other), Some(Wait::Behind { node: "wide".into() }), "it was overtaken once");
    schedule.failed(node("two"));
    assert_eq!(wait(&schedule, "end"), None, "it will never run");
}

#[test]
fn resting_node_holds_nothing() {
    let workflow = apart(&[("a", "toy.steps", ""), ("b", "toy.steps", "")]);
    let mut schedule = queued(&workflow, Pools { cpu: 2, ..Pools::default() });
    assert_eq!(start(&mut schedule, &workflow), ["a x2"]);
    let a = workflow.find("a")[0];
    schedule.rest(a);
    assert_eq!((schedule.resting(), schedule.waits(a)), (1, Some(Wait::Retry)));
    assert_eq!(start(&mut schedule, &workflow), ["b x2"]);
    schedule.queue(a);
    assert_eq!((schedule.resting(), schedule.queued()), (0, 1));
    end(&mut schedule, &workflow, "b");
    assert_eq!(start(&mut schedule, &workflow), ["a x2"]);
}

#[test]
fn a_run_takes_at_least_its_longest_path_and_the_share_of_its_work() {
    let workflow = apart(&[("a", "toy.join", ""), ("b", "toy.join", ""), ("c", "toy.join", ""), ("d", "toy.join", "")]);
    let pools = |cpu| Pools { cpu, ..Pools::default() };
    let secs = |pools: &Pools| expected_secs(&workflow, pools, |_| Some(2.0));
    assert!((secs(&pools(2)) - 5.0).abs() < 1e-9, "ten seconds of work in two slots");
    assert!((secs(&pools(8)) - 4.0).abs() < 1e-9, "the root, then one more");
    assert!(expected_secs(&workflow, &pools(2), |_| None).abs() < 1e-9);
}

/// A stage with random claims: whether it feeds a device, threads, memory, and which earlier ones it reads.
type Claimant = (bool, u32, u32, Vec<usize>);

fn toml(claimants: &[Claimant]) -> String {
    let mut text = "[workflow]\nname = \"random\"\n[stages.s0]\nrun = \"toy.text\"\ntext = \"x\"\n".to_owned();
    for (number, (far, threads, memory, inputs)) in claimants.iter().enumerate() {
        let run = if *far { "toy.far\"\nact = \"write" } else { "toy.join" };
        let inputs: Vec<String> = inputs.iter().map(|input| format!("\"s{}\"", input % (number + 1))).collect();
        let threads = if *threads == 0 { String::new() } else { format!("threads = {threads}, ") };
        let devices = if *far && memory % 4 > 0 { format!("devices = {}, ", memory % 4) } else { String::new() };
        let _ = writeln!(
            text,
            "[stages.s{}]\nrun = \"{run}\"\ninputs.texts = [{}]\nlimits = {{ {threads}{devices}memory_mib = {} }}",
            number + 1,
            inputs.join(", "),
            memory * 100 + 1
        );
    }
    text
}

/// Nothing is given out twice or beyond the pools.
fn check_sums(held: &BTreeMap<NodeIndex, Grant>, pools: &Pools) -> Result<(), TestCaseError> {
    let threads: usize = held.values().map(|grant| grant.threads).sum();
    let memory: u64 = held.values().map(|grant| grant.memory_mib).sum();
    let mut devices: Vec<u32> = held.values().flat_map(gpus).collect();
    let num_devices = devices.len();
    devices.sort_unstable();
    devices.dedup();
    prop_assert!(threads <= pools.cpu && pools.memory_mib.is_none_or(|size| memory <= size), "{held:?}");
    prop_assert!(devices.len() == num_devices && devices.iter().all(|device| pools.gpus.contains(device)), "{held:?}");
    for grant in held.values() {
        let lent: Vec<_> = std::iter::from_fn(|| grant.spare.borrow()).collect();
        prop_assert_eq!(lent.len(), pools.cpu - threads, "threads that nobody holds, and no others, can be borrowed");
    }
    Ok(())
}

/// Goes through a schedule in a random order of events.
fn go_through(workflow: &Workflow, pools: &Pools, choices: &[u16]) -> Result<(), TestCaseError> {
    let mut schedule = Schedule::new(workflow, pools.clone(), |_| None);
    let mut held: BTreeMap<NodeIndex, Grant> = BTreeMap::new();
    let mut resting = vec![];
    let mut choices = choices.iter().cycle().map(|choice| usize::from(*choice));
    let mut fates = 0;
    loop {
        while let Some(node) = schedule.next_ready() {
            schedule.queue(node);
        }
        while let Some((node, grant)) = schedule.next_start() {
            prop_assert!(held.insert(node, grant).is_none());
            check_sums(&held, pools)?;
        }
        prop_assert_eq!(schedule.running(), held.len());
        for node in schedule.next_in_line(usize::MAX) {
            prop_assert!(schedule.waits(node).is_some(), "a node that could start does not");
        }
        let Some(node) = held.keys().nth(choices.next().unwrap() % held.len().max(1)).copied() else {
            let Some(node) = resting.pop() else { break };
            schedule.queue(node);
            continue;
        };
        held.remove(&node);
        fates += 1;
        match choices.next().unwrap() % 16 {
            0 => schedule.failed(node),
            1 if fates < 10_000 => {
                schedule.rest(node);
                resting.push(node);
            }
            _ => schedule.done(node),
        }
    }
    prop_assert_eq!((schedule.queued(), schedule.resting()), (0, 0));
    prop_assert!(schedule.left_over().iter().all(|(_, by)| by.is_some()), "what is left is blocked by a failure");
    Ok(())
}

#[test]
fn random_claims_never_exceed_the_pools_and_all_ends() {
    let claimant = (any::<bool>(), 0..9_u32, 0..30_u32, vec(any::<usize>(), 1..3));
    let pools = (1..7_usize, 0..4_u32, proptest::option::of(1..2000_u64));
    let cases = if slow() { 10_000 } else { 100 };
    let case = (vec(claimant, 50..150), pools, vec(any::<u16>(), 1..200));
    proptest!(ProptestConfig::with_cases(cases), |((claimants, (cpu, gpus, memory_mib), choices) in case)| {
        let workflow = Harness::new().workflow(&toml(&claimants));
        let pools = Pools { cpu, gpus: (0..gpus).map(|gpu| gpu * 3).collect(), memory_mib };
        go_through(&workflow, &pools, &choices)?;
    });
}
