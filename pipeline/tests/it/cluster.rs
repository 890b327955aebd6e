//! Nodes on a cluster: one of processes of this machine, which fails as it is told to; and Slurm's programs as scripts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline::Places;
use pipeline::event::Event;
use pipeline::remote::cluster::{ArrayJob, Class, Cluster, ClusterError, ClusterLimits, EndClass, Seen, State, SubmitError};
use pipeline::remote::slurm::Slurm;
use pipeline::remote::{Options, Remote};
use pipeline::store::{share_objects, store_id};

use crate::harness::{Ended, Harness, toy};

/// A cluster whose elements are processes of this machine.
#[derive(Debug, Default)]
struct Here {
    state: Mutex<Jobs>,
}

#[derive(Debug, Default)]
struct Jobs {
    /// What happens to the next submissions.
    faults: Vec<Fault>,
    submitted: u32,
    /// By name of the array and number of the element.
    elements: BTreeMap<(String, u32), Element>,
    looks: u32,
    max_array: u32,
    /// It does not cancel anything.
    cannot_cancel: bool,
}

#[derive(Debug)]
struct Element {
    job: String,
    child: Option<Child>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The array is submitted, and the answer lost.
    LostReply,
    /// The array is not submitted, and no answer comes.
    Swallowed,
    /// More elements than these are too many.
    AtMost(u32),
    /// The array is submitted, and its elements are never heard of.
    Vanished,
    /// The array is submitted, and its elements do not begin.
    Held,
    /// Nothing goes wrong.
    None,
}

impl Cluster for Here {
    fn submit(&self, job: &ArrayJob<'_>) -> Result<String, SubmitError> {
        let mut state = self.state.lock().unwrap();
        let fault = if state.faults.is_empty() { Fault::None } else { state.faults.remove(0) };
        match fault {
            Fault::Swallowed => return Err(SubmitError::Unclear("timed out".to_owned())),
            Fault::AtMost(most) if job.elements > most => {
                state.faults.insert(0, fault);
                return Err(SubmitError::TooMany("a limit".to_owned()));
            }
            _ => {}
        }
        state.submitted += 1;
        let id = (1000 + state.submitted).to_string();
        for element in 0..job.elements {
            let child = (!matches!(fault, Fault::Vanished | Fault::Held)).then(|| {
                Command::new("sh")
                    .arg(job.script)
                    .env("SLURM_ARRAY_TASK_ID", element.to_string())
                    .env("SLURMD_NODENAME", "n1")
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            });
            if fault != Fault::Vanished {
                state.elements.insert((job.name.to_owned(), element), Element { job: id.clone(), child });
            }
        }
        if fault == Fault::LostReply { Err(SubmitError::Unclear("lost".to_owned())) } else { Ok(id) }
    }

    fn look(&self, names: &[String]) -> Result<Vec<Seen>, ClusterError> {
        let mut state = self.state.lock().unwrap();
        state.looks += 1;
        let mut seen = vec![];
        for ((name, element), Element { job, child }) in &mut state.elements {
            let ended = child.as_mut().and_then(|child| child.try_wait().unwrap());
            let (state, word) = match ended {
                None => (State::Running, "RUNNING"),
                Some(status) if status.success() => (State::Ended(EndClass::Completed), "COMPLETED"),
                Some(_) => (State::Ended(EndClass::Failed), "FAILED"),
            };
            let (reason, host) = (String::new(), "n1".to_owned());
            let (job, word) = (job.clone(), word.to_owned());
            seen.push(Seen { name: name.clone(), job, element: *element, state, word, reason, host });
        }
        seen.retain(|one| names.contains(&one.name));
        Ok(seen)
    }

    fn cancel(&self, job: &str, elements: &[u32]) -> Result<(), ClusterError> {
        let mut state = self.state.lock().unwrap();
        if state.cannot_cancel {
            let (command, problem) = ("scancel".to_owned(), "did not answer within 60 s".to_owned());
            return Err(ClusterError { command, problem });
        }
        for ((_, number), element) in &mut state.elements {
            if element.job == job && elements.contains(number) {
                let _ = element.child.as_mut().map(Child::kill);
            }
        }
        Ok(())
    }

    fn limits(&self) -> Result<ClusterLimits, ClusterError> {
        let max_array = self.state.lock().unwrap().max_array;
        Ok(ClusterLimits { max_array: if max_array == 0 { 1000 } else { max_array }, min_job_age_secs: 60 })
    }

    fn check(&self, _: Class) -> Result<(), ClusterError> {
        Ok(())
    }

    fn version(&self) -> Result<String, ClusterError> {
        Ok("here 1".to_owned())
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        for element in self.state.get_mut().unwrap().elements.values_mut() {
            if let Some(child) = &mut element.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// A harness whose nodes run on a cluster.
fn on(cluster: &Arc<Here>, harness: &mut Harness) {
    let (store, folder) = (harness.path("store"), harness.path("shared"));
    let id = store_id(&store).unwrap();
    share_objects(&store, &folder.join(id).join("objects")).unwrap();
    let options = Options {
        folder,
        program: toy(),
        arguments: vec!["node".to_owned()],
        cpus: 1,
        gpu: false,
        memory_mib: 100,
        places: Places::default(),
        max_running: None,
        max_array: None,
        max_tasks: Some(2),
        result_delay: Duration::from_millis(500),
        verify_all: true,
        cancel: false,
    };
    harness.remote = Some(Remote { cluster: Arc::clone(cluster) as Arc<dyn Cluster>, options });
}

fn cluster_lines(ended: &Ended) -> Vec<String> {
    let line = |event: &Event| if let Event::Cluster { line, .. } = event { Some(line.clone()) } else { None };
    ended.events.iter().filter_map(line).collect()
}

/// Texts, and one that joins them.
fn texts(count: usize) -> String {
    let values: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    format!(
        "[workflow]\nname = \"texts\"\n[matrix]\nshard = [{}]\n[stages.text]\nrun = \"toy.text\"\ntext = \"text {{shard}}\"\n\
         [stages.all]\nrun = \"toy.join\"\ngather = [\"shard\"]\ninputs.texts = \"text/text.txt\"\n",
        values.join(", ")
    )
}

/// Runs the same on this machine and on a cluster with faults, and compares.
#[track_caller]
fn check(faults: &[Fault], max_array: u32) -> (Ended, Arc<Here>) {
    let mut local = Harness::new();
    let expected = local.run(&texts(7)).artifacts;
    let cluster = Arc::new(Here::default());
    *cluster.state.lock().unwrap() = Jobs { faults: faults.to_vec(), max_array, ..Jobs::default() };
    let mut harness = Harness::new();
    on(&cluster, &mut harness);
    let ended = harness.run(&texts(7));
    assert!(ended.summary.complete, "{:?}", ended.summary.steps);
    assert_eq!(ended.artifacts, expected);
    assert_eq!(harness.ledger().len(), 8, "every body ran once");
    assert_eq!(harness.run(&texts(7)).ran(), "");
    (ended, cluster)
}

#[test]
fn nodes_on_a_cluster_give_what_they_give_here() {
    let (ended, cluster) = check(&[], 0);
    let state = cluster.state.lock().unwrap();
    assert_eq!((state.submitted, state.elements.len()), (2, 4 + 1), "two tasks in an element");
    let started = ended.events.iter().filter(|event| matches!(event, Event::NodeStarted { .. })).count();
    assert_eq!(started, 8);
}

#[test]
fn a_stage_that_turns_out_to_be_short_stays_here() {
    let text = "[workflow]\nname = \"scores\"\n[matrix]\nshard = [1, 120]\n\
                [stages.text]\nrun = \"toy.text\"\ntext = \"text\"\nlimits = { site = \"local\" }\n\
                [stages.train]\nrun = \"toy.steps\"\nsteps = \"{shard}\"\nmillis = 50\ninputs.texts = \"text/text.txt\"\n\
                [stages.score]\nrun = \"toy.join\"\ninputs.texts = \"train/text.txt\"\n";
    let cluster = Arc::new(Here::default());
    let mut harness = Harness::new();
    on(&cluster, &mut harness);
    let ended = harness.run(text);
    assert!(ended.summary.complete, "{:?}", ended.summary.steps);
    assert_eq!(cluster.state.lock().unwrap().submitted, 2, "both trainings, and the first score");
}

#[test]
fn a_node_with_a_gpu_goes_to_the_cluster_however_short_it_was() {
    let text = |text: &str| {
        format!(
            "[workflow]\nname = \"far\"\n[stages.text]\nrun = \"toy.text\"\ntext = \"{text}\"\nlimits = {{ site = \"local\" }}\n\
             [stages.far]\nrun = \"toy.far\"\nact = \"write\"\ninputs.texts = \"text/text.txt\"\n"
        )
    };
    for (gpu, submitted) in [(false, 1), (true, 2)] {
        let cluster = Arc::new(Here::default());
        let mut harness = Harness::new();
        on(&cluster, &mut harness);
        harness.remote.as_mut().unwrap().options.gpu = gpu;
        assert!(harness.run(&text("one")).summary.complete);
        assert!(harness.run(&text("two")).summary.complete);
        assert_eq!(cluster.state.lock().unwrap().submitted, submitted);
    }
}

#[test]
fn arrays_stay_within_the_limits_of_the_cluster() {
    assert_eq!(check(&[], 3).1.state.lock().unwrap().submitted, 2 + 1);
    assert_eq!(check(&[Fault::AtMost(2)], 0).1.state.lock().unwrap().submitted, 2 + 1, "it refuses three elements and takes two");
}

#[test]
fn an_array_whose_reply_was_lost_is_found_by_its_name() {
    let (ended, cluster) = check(&[Fault::LostReply], 0);
    assert!(cluster_lines(&ended)[0].contains("no clear answer"), "{:?}", cluster_lines(&ended));
    assert_eq!(cluster.state.lock().unwrap().submitted, 2);
}

#[test]
fn an_intent_that_never_reached_the_cluster_is_submitted_anew() {
    let (_, cluster) = check(&[Fault::Swallowed], 0);
    assert!(cluster.state.lock().unwrap().looks >= 1);
}

#[test]
fn elements_that_vanish_run_again() {
    let (ended, cluster) = check(&[Fault::Vanished], 0);
    assert!(cluster.state.lock().unwrap().submitted >= 3);
    let notes: Vec<&Event> =
        ended.events.iter().filter(|event| matches!(event, Event::Note { line, .. } if line.ends_with("; again"))).collect();
    assert_eq!(notes.len(), 7, "{notes:?}");
}

#[test]
fn a_run_that_is_stopped_leaves_its_jobs_to_the_next_one() {
    let text = "[workflow]\nname = \"steps\"\n[stages.text]\nrun = \"toy.text\"\ntext = \"text\"\nlimits = { site = \"local\" }\n\
                [stages.steps]\nrun = \"toy.steps\"\nsteps = 100\nmillis = 50\ninputs.texts = \"text/text.txt\"\n";
    let cluster = Arc::new(Here::default());
    let mut harness = Harness::new();
    on(&cluster, &mut harness);
    let stop = harness.stop.clone();
    let ended = harness.run_with(text, move |event| {
        if matches!(event, Event::NodeStarted { node, .. } if node == "steps") {
            stop.request();
        }
    });
    assert!(ended.summary.stopped, "{:?}", ended.summary.steps);
    assert_eq!(cluster_lines(&ended).last().unwrap(), "1 element of jobs go on; run again to take over their results");
    harness.stop = pipeline::Stop::default();
    let ended = harness.run(text);
    assert_eq!(cluster_lines(&ended)[0], "1 task is under way since an earlier run: taken over");
    assert_eq!(ended.ran(), "steps");
    assert_eq!(harness.ledger(), ["steps", "text text"]);
    assert_eq!(cluster.state.lock().unwrap().submitted, 1);
}

/// Runs the first element of the only wave once more, as a cluster does that gives a job a second time or very late.
#[track_caller]
fn run_first_element(harness: &Harness) {
    let shared = harness.path("shared");
    let store = fs::read_dir(&shared).unwrap().next().unwrap().unwrap().path();
    let waves: Vec<PathBuf> = fs::read_dir(store.join("waves")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let first = waves.iter().min().unwrap();
    let begun = std::time::Instant::now();
    let mut script = Command::new("sh");
    script.arg(first.join("script")).env("SLURM_ARRAY_TASK_ID", "0").env("SLURMD_NODENAME", "n2");
    assert!(script.status().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(60), "it waits for nothing");
}

#[test]
fn an_element_does_not_begin_what_nobody_waits_for() {
    let cluster = Arc::new(Here::default());
    cluster.state.lock().unwrap().faults = vec![Fault::Vanished];
    let mut harness = Harness::new();
    on(&cluster, &mut harness);
    assert!(harness.run(&texts(7)).summary.complete);
    run_first_element(&harness);
    assert_eq!(harness.ledger().len(), 8, "its wave is closed");
}

/// A run that is stopped while its only task on the cluster is queued.
fn stopped_while_queued(cluster: &Arc<Here>, harness: &mut Harness, text: &str) -> Ended {
    cluster.state.lock().unwrap().faults = vec![Fault::Held];
    let (stop, jobs) = (harness.stop.clone(), Arc::clone(cluster));
    std::thread::spawn(move || {
        while jobs.state.lock().unwrap().submitted == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        stop.request();
    });
    let ended = harness.run(text);
    harness.stop = pipeline::Stop::default();
    ended
}

const ONE: &str = "[workflow]\nname = \"one\"\n[stages.text]\nrun = \"toy.text\"\ntext = \"text\"\n";

#[test]
fn jobs_that_are_cancelled_are_submitted_anew_and_those_that_cannot_be_are_taken_over() {
    for keeps_jobs in [false, true] {
        let cluster = Arc::new(Here::default());
        cluster.state.lock().unwrap().cannot_cancel = keeps_jobs;
        let mut harness = Harness::new();
        on(&cluster, &mut harness);
        harness.remote.as_mut().unwrap().options.cancel = true;
        let lines = cluster_lines(&stopped_while_queued(&cluster, &mut harness, ONE));
        if keeps_jobs {
            let expected = [
                "job 1001 could not be cancelled: `scancel` did not answer within 60 s",
                "1 element of jobs go on; run again to take over their results",
            ];
            assert_eq!(lines, expected);
            run_first_element(&harness);
        } else {
            assert_eq!(lines, ["1 element of jobs cancelled"]);
        }
        let ended = harness.run(ONE);
        assert!(ended.summary.complete);
        assert_eq!(cluster_lines(&ended).len(), usize::from(keeps_jobs), "{:?}", cluster_lines(&ended));
        assert_eq!(cluster.state.lock().unwrap().submitted, if keeps_jobs { 1 } else { 2 });
        assert_eq!(harness.ledger().len(), 1);
    }
}

/// Slurm whose programs are scripts.
fn scripts(folder: &Path, programs: &[(&str, &str)]) -> Slurm {
    for (name, script) in programs {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let environment = vec![("PATH".into(), folder.into())]; // not Slurm's own, if it is installed
    Slurm { partition: Some("work".to_owned()), environment, ..Slurm::default() }
}

#[test]
fn the_programs_of_slurm_are_called_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let slurm = scripts(
        folder.path(),
        &[
            ("sbatch", &format!("echo \"$@\" >> {0}; /usr/bin/env >> {0}; echo 77", said.display())),
            ("squeue", "echo '77|0|sure-a|PENDING|Priority|'"),
            ("scancel", &format!("echo \"$@\" >> {}", said.display())),
            ("scontrol", "printf 'MaxArraySize            = 1001\\nMinJobAge               = 300 sec\\n'"),
        ],
    );
    let class = Class { threads: 1, gpu: false, memory_mib: 100 };
    let (script, logs) = (PathBuf::from("script"), PathBuf::from("log"));
    let exclude = ["n1".to_owned(), "n2".to_owned()];
    let job = ArrayJob { name: "sure-a", elements: 3, class, exclude: &exclude, max_running: None, script: &script, logs: &logs };
    assert_eq!(slurm.submit(&job).unwrap(), "77");
    slurm.cancel("77", &[0, 2]).unwrap();
    let said = fs::read_to_string(said).unwrap();
    assert!(said.contains("--partition=work --exclude=n1,n2 script\n"), "{said}");
    assert!(said.contains("PATH=") && !said.contains("HOME="), "only the environment that it is given: {said}");
    assert!(said.ends_with("77_[0,2]\n"), "{said}");
    assert_eq!(slurm.limits().unwrap(), ClusterLimits { max_array: 1001, min_job_age_secs: 300 });
    assert_eq!(slurm.look(&["sure-a".to_owned()]).unwrap()[0].reason, "Priority");
}

#[test]
fn a_cluster_that_is_not_there_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let slurm = scripts(folder.path(), &[("squeue", "echo 'slurm_load_jobs error: Unable to contact' >&2; exit 1")]);
    let error = slurm.look(&["a".to_owned()]).unwrap_err().to_string();
    assert_eq!(error, "`squeue` failed with exit code 1: slurm_load_jobs error: Unable to contact");
    assert!(slurm.version().unwrap_err().to_string().starts_with("`sbatch` does not start"));
}
