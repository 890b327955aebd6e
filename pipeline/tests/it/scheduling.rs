//! Who starts next, with what.

use pipeline::graph::Workflow;
use pipeline::schedule::{Pools, Schedule};

use crate::house::House;

/// `wide` takes all slots, `one` to `three` take one each, `far` and `near` want a device.
const MIXED: &str = "[workflow]\nname = \"mixed\"\n\
    [stages.one]\nrun = \"toy.text\"\ntext = \"1\"\n[stages.two]\nrun = \"toy.text\"\ntext = \"2\"\n\
    [stages.three]\nrun = \"toy.text\"\ntext = \"3\"\n\
    [stages.wide]\nrun = \"toy.steps\"\nsteps = 1\nmillis = 1\ninputs.texts = \"one\"\n\
    [stages.far]\nrun = \"toy.far\"\nact = \"write\"\ninputs.texts = \"one\"\n\
    [stages.near]\nrun = \"toy.far\"\nact = \"write\"\ntext = \"x\"\ninputs.texts = \"one\"\n\
    [stages.end]\nrun = \"toy.join\"\ninputs.texts = [\"wide\", \"two\", \"three\", \"far\", \"near\"]\n";

/// Makes everything ready that can be, then starts what fits.
fn start(schedule: &mut Schedule<'_>, workflow: &Workflow) -> Vec<String> {
    while let Some(node) = schedule.next_ready() {
        schedule.queue(node);
    }
    let mut started = vec![];
    while let Some((node, grant)) = schedule.next_start() {
        let gpu = grant.gpu.map_or(String::new(), |gpu| format!(" gpu{gpu}"));
        started.push(format!("{} x{}{gpu}", workflow.graph[node].id, grant.threads));
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
fn longest_remaining_path_starts_first_and_a_wide_node_is_not_starved() {
    let workflow = House::new().workflow(MIXED);
    let mut schedule = schedule(&workflow, Pools { cpu: 2, gpus: vec![] });
    assert_eq!(start(&mut schedule, &workflow), ["one x1", "two x1"]);
    end(&mut schedule, &workflow, "one");
    assert_eq!(start(&mut schedule, &workflow), [""; 0], "`three` would fit, but `wide` waits for both slots");
    end(&mut schedule, &workflow, "two");
    assert_eq!(start(&mut schedule, &workflow), ["wide x2"]);
    end(&mut schedule, &workflow, "wide");
    assert_eq!(start(&mut schedule, &workflow).len(), 1, "without a device, `far` takes all slots");
}

#[test]
fn devices_are_given_out_one_by_one_and_spare_the_cpu_pool() {
    let workflow = House::new().workflow(MIXED);
    let mut schedule = schedule(&workflow, Pools { cpu: 4, gpus: vec![3, 7] });
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
fn failure_blocks_what_depends_on_it_and_nothing_else() {
    let workflow = House::new().workflow(MIXED);
    let mut schedule = schedule(&workflow, Pools { cpu: 8, gpus: vec![] });
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
