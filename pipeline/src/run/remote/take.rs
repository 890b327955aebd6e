//! The thread that takes over results, asks the cluster about the rest, and decides when to stop waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use super::super::node::Output;
use super::super::task::End;
use super::pack::claims;
use super::verdict::{Known, Left, Next, SILENT, Verdict, after, judge};
use super::{Context, Item, Where};
use crate::event::Event;
use crate::executor::result_of_failure;
use crate::records::Provenance;
use crate::remote::cluster::{ClusterError, EndClass, Seen, State};
use crate::remote::exchange::{Alive, BEAT, Done, DoneEnd, Wave, WaveFolder, read_json};
use crate::stage::{FoundTool, StageError, catch_panic, chain};
use crate::store::disk::remove_all;

/// An attempt that left no result.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Lost(String);

/// A compute node whose external program is of another version than that of this machine.
#[derive(Debug, thiserror::Error)]
#[error("`{host}` has `{found}` where this machine has `{here}`")]
struct OtherTool {
    host: String,
    found: String,
    here: String,
}

/// A wave with tasks of this run.
pub(super) struct OpenWave {
    pub(super) wave: Wave,
    folder: WaveFolder,
    pub(super) job: Option<String>,
    /// When this run submitted it or took it over.
    since: Instant,
    /// Tasks of this run without a result, by number.
    pub(super) flights: BTreeMap<u32, Item>,
    /// Tasks that were asked to stop: what became of their element is not known yet.
    stopped: BTreeMap<u32, Stopped>,
    /// News of the elements.
    news: BTreeMap<u32, News>,
}

/// A task that was asked to stop.
#[derive(Clone, Copy)]
struct Stopped {
    /// True if the time of its element was over.
    at_limit: bool,
    /// True if its body had begun.
    begun: bool,
}

/// A task that will not have a result.
struct Over {
    item: Item,
    class: Option<EndClass>,
    host: String,
    attempt: u32,
    /// True if its body had begun, as far as is known.
    begun: bool,
    /// True if it had an element of its own.
    alone: bool,
    text: String,
}

/// News of an element.
struct News {
    seen: Option<(Seen, Instant)>,
    /// First and last answer of the cluster without it, in a row.
    missing: Option<(Instant, Instant)>,
    /// Time stamp of its last sign of life, and when that was seen.
    alive: Option<(SystemTime, Instant)>,
    host: String,
}

impl OpenWave {
    pub(super) fn submitted(wave: Wave, folder: WaveFolder, job: Option<String>, flights: BTreeMap<u32, Item>) -> Self {
        Self { wave, folder, job, since: Instant::now(), flights, stopped: BTreeMap::new(), news: BTreeMap::new() }
    }

    pub(super) fn adopted(wave: Wave, folder: WaveFolder) -> Self {
        let job = folder.job();
        Self::submitted(wave, folder, job, BTreeMap::new())
    }

    /// Elements with tasks of this run that have no result.
    fn elements(&self) -> BTreeSet<u32> {
        self.flights.keys().map(|task| self.wave.element_of(*task)).collect()
    }

    fn news(&mut self, element: u32) -> &mut News {
        self.news.entry(element).or_insert_with(|| News { seen: None, missing: None, alive: None, host: String::new() })
    }

    /// Closes the wave when all of its tasks are settled.
    fn close_if_settled(&self) {
        if self.folder.settled().len() == self.wave.tasks.len() {
            self.folder.close();
        }
    }
}

/// Interval of looking for results: at first, and later.
const LOOK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(1200));
/// Time for which results are looked for often.
const EAGER: Duration = Duration::from_secs(5);
/// Pauses between two questions to the cluster, the shortest and the longest.
const ASK: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// Interval at which signs of life are looked for.
const HEAR: Duration = Duration::from_secs(1);

type Answer = Result<Vec<Seen>, ClusterError>;

pub(super) struct Taker<'env> {
    context: Context<'env>,
    /// To the thread that asks the cluster, which may hang.
    ask: Sender<Vec<String>>,
    answers: Receiver<Answer>,
    /// Names that were asked for and not answered.
    asked: Option<Vec<String>>,
    asked_at: Instant,
    /// When the cluster answered last.
    answered: Instant,
    pause: Duration,
    /// When a result came last, or a wave was submitted.
    moved: Instant,
    num_waves: usize,
    /// When signs of life were looked for last.
    heard: Instant,
    /// What was said of the cluster last.
    said: String,
}

impl<'env> Taker<'env> {
    pub(super) fn new(context: Context<'env>) -> Self {
        let (ask, questions) = channel::<Vec<String>>();
        let (answer, answers) = channel();
        let cluster = Arc::clone(&context.remote.cluster);
        std::thread::spawn(move || {
            while let Ok(names) = questions.recv() {
                if answer.send(cluster.look(&names)).is_err() {
                    return;
                }
            }
        });
        let now = Instant::now();
        let (asked, pause, said) = (None, ASK.0, String::new());
        let (asked_at, answered, moved, heard) = (now, now, now, now);
        Self { context, ask, answers, asked, asked_at, answered, pause, moved, num_waves: 0, heard, said }
    }

    pub(super) fn serve(mut self) {
        while !self.context.is_closing() {
            if self.context.is_detached() {
                self.detach();
            } else {
                let moved = self.take_results();
                let count = self.context.shared.waves.lock().expect("no holder of this lock panics").len();
                if moved || count > self.num_waves {
                    self.moved = Instant::now();
                }
                self.num_waves = count;
                self.hear_elements();
                self.ask_cluster();
                self.give_up_what_is_over();
            }
            std::thread::park_timeout(if self.moved.elapsed() < EAGER { LOOK.0 } else { LOOK.1 });
        }
    }

    /// Takes over the results that are there. Returns true if there were any.
    fn take_results(&self) -> bool {
        let mut found = vec![];
        let mut waves = self.context.shared.waves.lock().expect("no holder of this lock panics");
        for wave in waves.iter_mut() {
            for name in wave.folder.results() {
                let mut numbers = name.split('.').map(str::parse::<u32>);
                let (Some(Ok(task)), Some(Ok(attempt))) = (numbers.next(), numbers.next()) else { continue };
                let is_ours = wave.wave.tasks.get(task as usize).is_some_and(|known| known.attempt == attempt);
                if is_ours && !wave.stopped.contains_key(&task) && wave.flights.contains_key(&task) {
                    found.push((wave.wave.name.clone(), wave.folder.clone(), task, name));
                }
            }
        }
        drop(waves);
        let any = !found.is_empty();
        for (wave, folder, task, name) in found {
            if self.context.is_closing() || self.context.is_detached() {
                break;
            }
            self.take_result(&wave, &folder, task, &name);
        }
        if any {
            self.drop_finished();
        }
        any
    }

    fn drop_finished(&self) {
        let mut waves = self.context.shared.waves.lock().expect("no holder of this lock panics");
        waves.retain(|wave| {
            let finished = wave.flights.is_empty();
            if finished {
                wave.close_if_settled();
            }
            !finished
        });
    }

    /// Takes a task out of its wave.
    fn lift(&self, wave: &str, task: u32) -> Option<Item> {
        let mut waves = self.context.shared.waves.lock().expect("no holder of this lock panics");
        waves.iter_mut().find(|open| open.wave.name == wave)?.flights.remove(&task)
    }

    fn take_result(&self, wave: &str, folder: &WaveFolder, task: u32, name: &str) {
        let Ok(done) = folder.read_result(name) else { return }; // its content is late: the next look finds it
        if let DoneEnd::Stopped { at_limit, begun } = done.end {
            let mut waves = self.context.shared.waves.lock().expect("no holder of this lock panics");
            if let Some(open) = waves.iter_mut().find(|open| open.wave.name == wave) {
                open.stopped.insert(task, Stopped { at_limit, begun });
            }
            return;
        }
        let Some(item) = self.lift(wave, task) else { return };
        self.started(&item, &done.host);
        let out = folder.out(&done.out);
        copy_log(&item, folder, &done.out);
        for line in &done.notes {
            self.context.note(&item.task, line.clone());
        }
        let runner = self.context.runner;
        let secs = done.secs;
        let host = done.host.clone();
        let end = match done.end {
            DoneEnd::Ok { .. } => match catch_panic(|| self.finish(&item, &out, done)) {
                Ok(end) => end,
                Err(error) if is_of_compute_node(&error) => {
                    let text = chain(&error).join(": ");
                    let _ = remove_all(&out); // nobody reads it
                    folder.settle(task);
                    return self.again(item, None, &host, Left::Nothing, &text);
                }
                Err(error) => runner.end_of(&item.task, Err(error)),
            },
            DoneEnd::BadInput { artifact, problem } => match runner.store.usable(artifact, None) {
                Ok(false) => End::Damaged(artifact),
                Ok(true) | Err(_) => {
                    folder.settle(task);
                    let text = format!("an input is not as it should be on `{host}`: {problem}");
                    return self.again(item, None, &host, Left::Nothing, &text);
                }
            },
            DoneEnd::Failed { timed_out: true, .. } => {
                let limit = runner.workflow.graph[item.task.node].limits.time.unwrap_or_default();
                End::Failed(StageError::TimedOut { limit })
            }
            DoneEnd::Failed { chain, hint, transient, .. } => {
                runner.end_of(&item.task, Err(result_of_failure(chain, hint, transient)))
            }
            DoneEnd::SourceChanged { path } => End::Failed(StageError::SourceChanged { path }),
            DoneEnd::Stopped { .. } => return, // it was left above
        };
        folder.settle(task);
        let fingerprint = item.task.manifest.fingerprint();
        if matches!(end, End::Made(..) | End::Found(..)) {
            let _ = fs::remove_dir_all(self.context.exchange.states(fingerprint)); // of no more use
        }
        self.context.end(item, end, secs);
    }

    /// Publishes and records a result.
    fn finish(&self, item: &Item, out: &std::path::Path, done: Done) -> Result<End, StageError> {
        let runner = self.context.runner;
        let DoneEnd::Ok { listing } = &done.end else { unreachable!("only results are finished") };
        let node = &runner.workflow.graph[item.task.node];
        for tool in &node.kind.tools {
            let Some(found) = done.tools.get(tool.name) else { continue };
            let here = runner.machine.toolbox.find(tool).version;
            if *found != here {
                let name =
                    |version: &str| if version == FoundTool::MISSING { format!("no {}", tool.name) } else { version.to_owned() };
                let error = OtherTool { host: done.host.clone(), found: name(found), here: name(&here) };
                let hint = "results depend on it: install the same version on both, or set `limits = { site = \"local\" }` for the stage";
                return Err(StageError::failed(error).with_hint(hint));
            }
        }
        let attempt = item.held.as_ref().expect("a task on the cluster is prepared");
        let mut facts = attempt.facts.lock().expect("no holder of this lock panics");
        facts.extend(done.facts.clone());
        facts.insert("job".to_owned(), done.job.clone().into());
        drop(facts);
        let provenance = Provenance {
            node: runner.workflow.key(node),
            started_ms: done.started_ms,
            secs: done.secs,
            host: done.host.clone(),
            threads: done.threads,
            gpu: done.gpu,
            facts: BTreeMap::new(),
        };
        let output = Output::Sealed(out, listing, self.context.remote.options.verify_all);
        runner.finish(&item.task, attempt, output, item.number, provenance)
    }

    /// A task runs, on a host.
    fn started(&self, item: &Item, host: &str) {
        let mut away = self.context.shared.away.lock().expect("no holder of this lock panics");
        let at = away.entry(item.task.node).or_default();
        let is_new = at.host.is_none();
        at.host = Some(host.to_owned());
        drop(away);
        if is_new {
            let node = self.context.runner.workflow.graph[item.task.node].id.clone();
            self.context.runner.progress.event(&Event::NodeStarted { node, expected_secs: item.expected_secs });
        }
    }

    /// Reads what the elements tell of themselves.
    fn hear_elements(&mut self) {
        if self.heard.elapsed() < HEAR {
            return;
        }
        self.heard = Instant::now();
        let mut waves = self.context.shared.waves.lock().expect("no holder of this lock panics");
        for wave in waves.iter_mut() {
            let elements = wave.elements();
            for (element, changed, path) in wave.folder.alive() {
                let news = wave.news(element);
                if !elements.contains(&element) || news.alive.is_some_and(|(before, _)| before == changed) {
                    continue;
                }
                news.alive = Some((changed, Instant::now()));
                let Ok(alive) = read_json::<Alive>(&path) else { continue }; // its content is late
                news.host.clone_from(&alive.host);
                for (task, progress) in &alive.running {
                    let Some(item) = wave.flights.get(task) else { continue };
                    self.started(item, &alive.host);
                    if progress.total > 0 || progress.done > 0 {
                        let node = self.context.runner.workflow.graph[item.task.node].id.clone();
                        let (done, total) = (progress.done, progress.total);
                        let (unit, note) = (progress.unit.clone(), progress.note.clone());
                        self.context.runner.progress.event(&Event::Tick { node, done, total, unit, note });
                    }
                }
            }
        }
    }

    /// Asks the cluster about what there is no news of, and takes its answer.
    fn ask_cluster(&mut self) {
        if let Ok(answer) = self.answers.try_recv()
            && let Some(names) = self.asked.take()
        {
            let moved = match answer {
                Ok(seen) => self.hear_cluster(&names, seen),
                Err(error) => {
                    let line = format!("{error}; jobs go on, and their results count");
                    self.say_once((0, 0), line);
                    false
                }
            };
            self.pause = if moved { ASK.0 } else { (self.pause * 3 / 2).min(ASK.1) };
        }
        if self.asked.is_some() || self.asked_at.elapsed() < self.pause {
            return;
        }
        let waves = self.context.shared.waves.lock().expect("no holder of this lock panics");
        let is_silent = |wave: &&OpenWave| {
            let fresh = |element: &u32| {
                let alive = wave.news.get(element).and_then(|news| news.alive);
                alive.is_some_and(|(_, at)| at.elapsed() < BEAT * 2)
            };
            wave.since.elapsed() >= ASK.0 / 2 && (!wave.stopped.is_empty() || !wave.elements().iter().all(fresh))
        };
        let names: Vec<String> = waves.iter().filter(is_silent).map(|wave| wave.wave.name.clone()).collect();
        drop(waves);
        if !names.is_empty() {
            self.asked_at = Instant::now();
            self.asked = Some(names.clone());
            let _ = self.ask.send(names); // the thread lives as long as this one
        }
    }

    /// Takes an answer of the cluster. Returns true if something changed.
    fn hear_cluster(&mut self, names: &[String], seen: Vec<Seen>) -> bool {
        let now = Instant::now();
        self.answered = now;
        let mut moved = false;
        let (mut running, mut queued, mut reasons) = (0, 0, BTreeSet::new());
        let mut by_wave: BTreeMap<String, BTreeMap<u32, Seen>> = BTreeMap::new();
        for one in seen {
            by_wave.entry(one.name.clone()).or_default().insert(one.element, one);
        }
        let mut waves = self.context.shared.waves.lock().expect("no holder of this lock panics");
        for wave in waves.iter_mut().filter(|wave| names.contains(&wave.wave.name)) {
            let mut seen = by_wave.remove(&wave.wave.name).unwrap_or_default();
            if let (None, Some(first)) = (&wave.job, seen.values().next()) {
                let _ = wave.folder.set_job(&first.job); // else it is found by its name again
                wave.job = Some(first.job.clone());
            }
            for element in wave.elements() {
                let news = wave.news(element);
                let Some(one) = seen.remove(&element) else {
                    news.missing = Some((news.missing.map_or(now, |(first, _)| first), now));
                    news.seen = None;
                    continue;
                };
                news.missing = None;
                match one.state {
                    State::Queued => {
                        queued += 1;
                        reasons.extend(Some(one.reason.clone()).filter(|reason| !reason.is_empty()));
                    }
                    State::Running => running += 1,
                    State::Ended(_) | State::Unknown => {}
                }
                if !one.host.is_empty() {
                    news.host.clone_from(&one.host);
                }
                let same = news.seen.as_ref().is_some_and(|(before, _)| before.word == one.word);
                moved |= !same;
                let since = news.seen.as_ref().filter(|_| same).map_or(now, |(_, since)| *since);
                news.seen = Some((one, since));
            }
            let job = wave.job.clone().unwrap_or_else(|| wave.wave.name.clone());
            let mut away = self.context.shared.away.lock().expect("no holder of this lock panics");
            for (task, item) in &wave.flights {
                let element = wave.wave.element_of(*task);
                let Some((one, _)) = wave.news.get(&element).and_then(|news| news.seen.as_ref()) else { continue };
                let at = away.entry(item.task.node).or_default();
                at.job = format!("{job}_{element}");
                at.state.clone_from(&one.word);
                at.reason.clone_from(&one.reason);
            }
        }
        drop(waves);
        if running + queued > 0 {
            let reasons: Vec<String> = reasons.into_iter().take(3).collect();
            let why = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
            self.say_once((running, queued), format!("cluster: {running} elements run, {queued} wait{why}"));
        }
        moved
    }

    fn say_once(&mut self, counts: (usize, usize), line: String) {
        if self.said != line {
            self.context.say(counts, line.clone());
            self.said = line;
        }
    }

    /// Decides about tasks whose results will not come any more.
    fn give_up_what_is_over(&self) {
        let delay = self.context.remote.options.result_delay;
        let is_current = self.answered.elapsed() < SILENT;
        let mut over = vec![];
        let mut waves = self.context.shared.waves.lock().expect("no holder of this lock panics");
        for wave in waves.iter_mut() {
            // An intent of which the cluster knows nothing is given more time: another process may have been about to submit it.
            let delay = if wave.job.is_none() { delay * 2 } else { delay };
            for element in wave.elements() {
                let all = wave.wave.tasks_of(element);
                let alone = all.len() == 1;
                let tasks: Vec<u32> = wave.flights.range(all).map(|(task, _)| *task).collect();
                let stopped: Vec<u32> = tasks.iter().copied().filter(|task| wave.stopped.contains_key(task)).collect();
                let news = wave.news(element);
                let known = Known {
                    told: news.seen.as_ref().filter(|_| is_current).map(|(seen, since)| (seen.state, since.elapsed())),
                    missing: news.missing.map(|(first, last)| last.duration_since(first)),
                    alive: news.alive.map(|(_, at)| at.elapsed()),
                };
                let verdict = judge(&known, delay);
                let (host, was_alive) = (news.host.clone(), news.alive.is_some());
                let word = news.seen.as_ref().map(|(seen, _)| format!("{} {}", seen.word, seen.reason)).unwrap_or_default();
                // A task that tells of its own stop needs no wait for files: only the cluster's word for it.
                let class_of_stop = match known.told {
                    Some((State::Ended(class), _)) => Some(Some(class)),
                    _ if verdict != Verdict::Wait => Some(None),
                    _ => None,
                };
                let mut lifted = vec![];
                for task in stopped {
                    let Stopped { at_limit, begun } = wave.stopped[&task];
                    let class = if at_limit { Some(Some(EndClass::TimedOut)) } else { class_of_stop };
                    let Some(class) = class else { continue };
                    wave.stopped.remove(&task);
                    lifted.extend(wave.flights.remove(&task).map(|item| (task, item, class, begun)));
                }
                if let Verdict::Over(class) = verdict {
                    let rest: Vec<u32> = tasks.into_iter().filter(|task| wave.flights.contains_key(task)).collect();
                    for task in rest {
                        // Of an array that the cluster never had, nothing has begun.
                        let begun = wave.job.is_some() || was_alive;
                        lifted.extend(wave.flights.remove(&task).map(|item| (task, item, class, begun)));
                    }
                    if let Some(job) = wave.job.clone().filter(|_| class.is_none()) {
                        let cluster = Arc::clone(&self.context.remote.cluster);
                        // So that it does not begin after all; if it does, its result is not used. The call may hang.
                        std::thread::spawn(move || cluster.cancel(&job, &[element]));
                    }
                }
                for (task, item, class, begun) in lifted {
                    let attempt = wave.wave.tasks[task as usize].attempt;
                    let words = wave.folder.last_words(element).unwrap_or_default();
                    let job = format!("{}_{element}", wave.job.as_deref().unwrap_or(&wave.wave.name));
                    let told =
                        if word.trim().is_empty() { "the cluster does not know it".to_owned() } else { word.trim().to_owned() };
                    let said = if words.is_empty() { String::new() } else { format!("; its last words: {words}") };
                    let at = if host.is_empty() { String::new() } else { format!(" on {host}") };
                    self.context.exchange.give_up(item.task.manifest.fingerprint(), attempt);
                    wave.folder.settle(task);
                    for out in wave.folder.logs_of(task, attempt) {
                        copy_log(&item, &wave.folder, &out);
                    }
                    let text = format!("job {job}{at}: {told}{said}");
                    over.push(Over { item, class, host: host.clone(), attempt, begun, alone, text });
                }
            }
        }
        drop(waves);
        let any = !over.is_empty();
        for Over { item, class, host, attempt, begun, alone, text } in over {
            let state = if !begun {
                Left::NotBegun
            } else if self.context.exchange.has_progress(item.task.manifest.fingerprint(), attempt) {
                Left::NewerState
            } else if alone {
                Left::NothingAlone
            } else {
                Left::Nothing
            };
            self.again(item, class, &host, state, &text);
        }
        if any {
            self.drop_finished();
        }
    }

    /// Submits a task again whose attempt left no result, or lets it fail.
    fn again(&self, mut item: Item, class: Option<EndClass>, host: &str, left: Left, text: &str) {
        if let Some(attempt) = &item.held {
            attempt.reporter.write(text);
        }
        let end = match after(&item.retry, class, host, left, item.class.memory_mib) {
            Next::Again(retry) => {
                let how = if left == Left::NewerState && retry.progress > item.retry.progress {
                    "goes on from its newest state".to_owned()
                } else if retry.more_memory && !item.retry.more_memory {
                    item.retry = retry.clone();
                    format!("again with {} MiB", claims(&item).memory_mib)
                } else {
                    "again".to_owned()
                };
                item.retry = retry;
                self.context.note(&item.task, format!("{text}; {how}"));
                let job = String::new();
                self.context.set_where(item.task.node, Where { job, state: "again".to_owned(), ..Where::default() });
                let _ = self.context.items.send(vec![item]); // the other end is open as long as this one
                return;
            }
            Next::Fail(why, hint) => End::Failed(StageError::failed(Lost(format!("{why}: {text}"))).with_hint(hint)),
        };
        self.context.end(item, end, 0.0);
    }

    /// Leaves everything to the next run, or cancels it.
    fn detach(&self) {
        let for_next_round = self.context.shared.for_next_round.load(Ordering::Relaxed);
        let cancel = self.context.remote.options.cancel && !for_next_round;
        let waves = std::mem::take(&mut *self.context.shared.waves.lock().expect("no holder of this lock panics"));
        let (mut cancelled, mut left) = (0, 0);
        for mut wave in waves {
            let open: Vec<u32> = wave.elements().into_iter().collect();
            let is_cancelled = cancel && self.cancel(&wave, &open);
            *if is_cancelled { &mut cancelled } else { &mut left } += open.len();
            for (task, item) in std::mem::take(&mut wave.flights) {
                if is_cancelled {
                    wave.folder.settle(task); // else the next run takes it over
                }
                self.context.end(item, End::Detached, 0.0);
            }
            if is_cancelled {
                wave.close_if_settled();
            }
        }
        for (count, what) in [(cancelled, "cancelled"), (left, "go on; run again to take over their results")] {
            if count > 0 && !for_next_round {
                let elements = if count == 1 { "element" } else { "elements" };
                self.context.say((0, 0), format!("{count} {elements} of jobs {what}"));
            }
        }
    }

    /// Cancels elements of a wave. Returns false when the cluster does not, or when it is not known whether it has the array.
    fn cancel(&self, wave: &OpenWave, elements: &[u32]) -> bool {
        let Some(job) = &wave.job else { return false };
        let cancelled = self.context.remote.cluster.cancel(job, elements);
        if let Err(error) = &cancelled {
            self.context.say((0, 0), format!("job {job} could not be cancelled: {error}"));
        }
        cancelled.is_ok()
    }
}

/// Adds the log of an attempt to that of its node.
fn copy_log(item: &Item, folder: &WaveFolder, out: &str) {
    let log = fs::read(folder.out(&format!("{out}.log"))).unwrap_or_default();
    if !log.is_empty() {
        let file = fs::File::options().create(true).append(true).open(&item.task.log);
        let _ = file.and_then(|mut file| std::io::Write::write_all(&mut file, &log)); // the log is a courtesy
    }
}

/// True for an error that another compute node may not make.
fn is_of_compute_node(error: &StageError) -> bool {
    let StageError::Failed { source, .. } = error else { return false };
    matches!(source.downcast_ref::<crate::store::StoreError>(), Some(crate::store::StoreError::BadResult { .. }))
}
