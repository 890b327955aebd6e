//! One training on two devices, which are processes on the CPU, through the program.

use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::Project;

use crate::survival::{children, kill};

/// The tiny workflow with two micro batches per update.
fn project(devices: usize, steps: u32) -> Project {
    let project = Project::new();
    project.write("sure.toml", "[corpora]\nspeech_commands = \"corpus\"\n[pools]\ncpu = 2\n");
    project.replace("tiny.toml", "accumulation = 1\n", "accumulation = 2\nthreads = 1\n");
    project.replace("tiny.toml", "batch_secs = 8.0\nmax_steps = 24", &format!("batch_secs = 4.0\nmax_steps = {steps}"));
    limit(&project, devices);
    project
}

fn limit(project: &Project, devices: usize) {
    if devices > 1 {
        project.replace(
            "tiny.toml",
            "run = \"peft.train\"\n",
            &format!("run = \"peft.train\"\nlimits = {{ devices = {devices} }}\n"),
        );
    }
}

/// Digest of the trained model of each method.
fn models(project: &Project) -> Vec<String> {
    let path = |method: &str| project.sure(&["path", &format!("./tiny.toml:train[method={method}]")]).out;
    ["finetune", "lora"].map(|method| path(method).trim().rsplit('/').next().unwrap().to_owned()).into()
}

/// Waits until a training runs on two devices. Returns the process of the training, and that of the other device.
fn two_devices(run: &Child) -> (u32, u32) {
    for _ in 0..3000 {
        let workers = children(run.id());
        if let Some((worker, others)) = workers.iter().map(|pid| (*pid, children(*pid))).find(|(_, others)| !others.is_empty()) {
            return (worker, others[0]);
        }
        sleep(Duration::from_millis(20));
    }
    panic!("no training on two devices within a minute");
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

#[test]
fn two_devices_leave_the_model_of_one_and_are_on_record() {
    let (one, two) = (project(1, 24), project(2, 24));
    for project in [&one, &two] {
        let answer = project.sure(&["run", "./tiny.toml"]);
        assert!(answer.ok, "{}", answer.err);
    }
    assert_eq!(models(&two), models(&one));
    assert_eq!(two.table(), one.table());
    limit(&one, 2);
    assert_eq!(one.planned("run"), [""; 0], "the number of devices is no part of a fingerprint");
    for (project, on_record) in [(&one, false), (&two, true)] {
        let log = std::fs::read_to_string(project.path(".sure/records.log")).unwrap();
        assert_eq!(log.contains(r#""device":"cpu, cpu","devices":[null,null]"#), on_record);
    }
}

#[test]
fn a_device_that_dies_fails_its_node_and_the_next_run_ends_with_the_same_bytes() {
    let (one, two) = (project(1, 400), project(2, 400));
    let method = "./tiny.toml:train[method=finetune]";
    assert!(one.sure(&["run", method]).ok);

    let run = two.start_piped(&["run", method]);
    let (worker, other) = two_devices(&run);
    sleep(Duration::from_secs(1)); // some updates
    kill(other);
    let answer = tests::Answer::from(run.wait_with_output().unwrap());
    assert!(!answer.ok && answer.err.contains("device 2 of 2 (cpu) of this training ended early: signal: 9"), "{}", answer.err);
    assert!(!is_alive(worker) && !is_alive(other));

    let mut run = two.start(&["run", method]);
    let (worker, other) = two_devices(&run);
    kill_process(Pid::from_child(&run), Signal::INT).unwrap(); // Ctrl-C
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(!is_alive(worker) && !is_alive(other));

    assert!(two.sure(&["run", method]).ok);
    let path = |project: &Project| project.sure(&["path", method]).out.trim().rsplit('/').next().unwrap().to_owned();
    assert_eq!(path(&two), path(&one));
}
