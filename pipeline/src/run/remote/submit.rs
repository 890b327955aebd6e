//! The thread that prepares tasks, takes over those that are under way, and submits the rest as arrays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::super::node::store_trouble;
use super::super::now_ms;
use super::super::task::End;
use super::index::Index;
use super::pack::{Array, MOST, claims, pack};
use super::take::OpenWave;
use super::{Context, Item, Where};
use crate::Places;
use crate::protocol::{Request, Site};
use crate::remote::cluster::{ArrayJob, SubmitError};
use crate::remote::exchange::{ElementRequest, FORMAT, SCRIPT, TaskRequest, Wave, WaveTask};
use crate::stage::{StageError, Tools, catch_panic};

/// A task that was not submitted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotSubmitted(String);

/// How often the thread looks again for locks that other runs hold.
const POLL: Duration = Duration::from_millis(500);

/// Elements of an array while the cluster's own limit is not known: that of Slurm when nobody sets it.
const USUAL_ARRAY: usize = 1000;

/// Pauses after the cluster has taken no job at all, the first and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

pub(super) struct Submitter<'env> {
    context: Context<'env>,
    index: Index,
    /// Tasks that are not submitted.
    waiting: Vec<Item>,
    /// Most elements of an array.
    max_array: Option<usize>,
    /// Most elements that the cluster takes at once, when it refused more.
    cap: Option<usize>,
    /// Nothing is submitted before.
    not_before: Instant,
    pause: Duration,
    /// Copy of this program.
    program: Option<PathBuf>,
    submitted: u32,
}

impl<'env> Submitter<'env> {
    pub(super) fn new(context: Context<'env>) -> Self {
        Self {
            context,
            index: Index::default(),
            waiting: vec![],
            max_array: None,
            cap: None,
            not_before: Instant::now(),
            pause: PAUSE.0,
            program: None,
            submitted: 0,
        }
    }

    pub(super) fn serve(mut self, incoming: &Receiver<Vec<Item>>) {
        loop {
            match incoming.recv_timeout(POLL) {
                Ok(items) => self.waiting.extend(items),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(items) = incoming.try_recv() {
                self.waiting.extend(items);
            }
            if self.context.is_closing() {
                return;
            }
            if self.context.is_detached() {
                for item in std::mem::take(&mut self.waiting) {
                    self.context.end(item, End::Detached, 0.0);
                }
            } else if !self.waiting.is_empty() {
                self.submit_what_waits();
            }
        }
    }

    fn submit_what_waits(&mut self) {
        let items = std::mem::take(&mut self.waiting);
        let ready: Vec<Item> = items.into_iter().filter_map(|item| self.prepare(item)).collect();
        if ready.is_empty() {
            return;
        }
        let Context { runner, exchange, store, .. } = &self.context;
        self.index.refresh(exchange, store, |made| matches!(runner.store.lookup(made), Ok(Some(_))));
        let (short, new): (Vec<Item>, Vec<Item>) = self.take_over(ready).into_iter().partition(|item| item.is_short);
        for item in short {
            self.context.end(item, End::Here, 0.0);
        }
        if new.is_empty() {
            return;
        }
        if Instant::now() < self.not_before {
            return self.waiting.extend(new);
        }
        let most = self.max_array();
        let max_tasks = self.context.remote.options.max_tasks.map_or(MOST, |most| most.max(1) as usize);
        let mut arrays = pack(new, most, max_tasks).into_iter();
        while let Some(array) = arrays.next() {
            let goes_on = self.submit(array);
            if !goes_on || self.context.is_detached() {
                self.waiting.extend(arrays.flat_map(|array| array.elements).flatten());
                return;
            }
        }
    }

    fn max_array(&mut self) -> usize {
        if self.max_array.is_none() {
            self.max_array = self.context.remote.cluster.limits().ok().map(|limits| limits.max_array as usize);
        }
        let most = self.max_array.unwrap_or(USUAL_ARRAY);
        let options = &self.context.remote.options;
        most.min(options.max_array.map_or(usize::MAX, |most| most as usize)).min(self.cap.unwrap_or(usize::MAX)).max(1)
    }

    /// Locks the fingerprint of a task and checks its inputs. Returns none for a task that has ended, or that another run makes.
    fn prepare(&mut self, mut item: Item) -> Option<Item> {
        if item.held.is_some() {
            return Some(item);
        }
        let runner = self.context.runner;
        let begun = catch_panic(|| {
            let lock = runner.store.try_lock(item.task.manifest.fingerprint()).map_err(store_trouble)?;
            lock.map(|lock| runner.begin(&item.task, item.number, lock)).transpose()
        });
        match begun {
            Ok(None) => {
                self.waiting.push(item); // another run makes it
                None
            }
            Ok(Some(Ok(attempt))) => {
                item.held = Some(attempt);
                Some(item)
            }
            Ok(Some(Err(end))) => {
                self.context.end(item, end, 0.0);
                None
            }
            Err(error) => {
                let end = runner.end_of(&item.task, Err(error));
                self.context.end(item, end, 0.0);
                None
            }
        }
    }

    /// Takes over what is under way in the exchange folder. Returns the rest.
    fn take_over(&self, items: Vec<Item>) -> Vec<Item> {
        let exchange = &self.context.exchange;
        let mut found: BTreeMap<String, Vec<(u32, Item)>> = BTreeMap::new();
        let mut rest = vec![];
        for item in items {
            match self
                .index
                .under_way(item.task.manifest.fingerprint(), exchange)
                .filter(|_| item.retry == super::Retry::default())
            {
                Some((wave, task)) => found.entry(wave).or_default().push((task, item)),
                None => rest.push(item),
            }
        }
        let mut taken = 0;
        for (name, items) in found {
            let mut waves = self.context.shared.waves.lock().expect("no holder of this lock panics");
            let at = waves.iter().position(|wave| wave.wave.name == name).or_else(|| {
                let wave = exchange.read_wave(&name)?;
                waves.push(OpenWave::adopted(wave, exchange.folder_of(&name)));
                Some(waves.len() - 1)
            });
            let Some(at) = at else {
                rest.extend(items.into_iter().map(|(_, item)| item)); // it was closed just now
                continue;
            };
            taken += items.len();
            for (_, item) in &items {
                self.context.set_where(item.task.node, Where { job: name.clone(), ..Where::default() });
            }
            waves[at].flights.extend(items);
        }
        if taken > 0 {
            let tasks = if taken == 1 { "1 task is".to_owned() } else { format!("{taken} tasks are") };
            self.context.say((0, 0), format!("{tasks} under way since an earlier run: taken over"));
        }
        rest
    }

    /// Submits one array. Returns false when the cluster takes no more at the moment.
    fn submit(&mut self, array: Array) -> bool {
        let count = array.elements.len();
        let (wave, requests, flights) = match self.intent(array) {
            Ok(intent) => intent,
            Err((items, error)) => {
                self.fail(items, &error);
                return true;
            }
        };
        let written = self.write(&wave, &requests);
        let (folder, script) = match written {
            Ok(written) => written,
            Err(error) => {
                let path = self.context.exchange.waves();
                let error = StageError::io("write", path)(error);
                self.fail(flights.into_values().collect(), &error);
                return true;
            }
        };
        let options = &self.context.remote.options;
        let job = ArrayJob {
            name: &wave.name,
            elements: count as u32,
            class: wave.class,
            exclude: &wave.exclude,
            max_running: options.max_running,
            script: &script,
            logs: &folder.0.join("log"),
        };
        let submitted = self.context.remote.cluster.submit(&job);
        let items = |flights: BTreeMap<u32, Item>| flights.into_values().collect::<Vec<Item>>();
        match submitted {
            Ok(id) => {
                let _ = folder.set_job(&id); // without it the array is found by its name
                self.pause = PAUSE.0;
                self.cap = self.cap.map(|cap| cap.saturating_mul(2));
                self.open(OpenWave::submitted(wave, folder, Some(id), flights));
                true
            }
            Err(SubmitError::Unclear(said)) => {
                let line =
                    format!("the cluster gave no clear answer to `{}`: {said}; it is asked whether it has the job", wave.name);
                self.context.say((0, 0), line);
                self.open(OpenWave::submitted(wave, folder, None, flights));
                self.rest();
                false
            }
            Err(SubmitError::TooMany(said)) => {
                folder.discard();
                self.waiting.extend(items(flights));
                self.cap = Some((count / 2).max(1));
                if count > 1 {
                    return self.again_with_less();
                }
                self.context.say((0, 0), format!("the cluster takes no more jobs for now: {said}"));
                self.rest();
                false
            }
            Err(SubmitError::Refused(said)) => {
                folder.discard();
                let mut items = items(flights);
                if items.iter().any(|item| !item.retry.exclude.is_empty()) {
                    // Perhaps no host is left.
                    for item in &mut items {
                        item.retry.exclude.clear();
                    }
                    self.waiting.extend(items);
                    return true;
                }
                let hint = "`sure doctor` checks what `[executor.slurm]` in sure.toml says";
                let refused = NotSubmitted(format!("the cluster does not take its job: {said}"));
                self.fail(items, &StageError::failed(refused).with_hint(hint));
                true
            }
        }
    }

    /// The rest waits for the next turn, which comes at once, with smaller arrays.
    fn again_with_less(&mut self) -> bool {
        let _ = self.context.items.send(vec![]); // wakes this thread
        false
    }

    fn rest(&mut self) {
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    fn open(&mut self, wave: OpenWave) {
        self.index.add(&wave.wave, &BTreeSet::new());
        for item in wave.flights.values() {
            let job = wave.job.clone().unwrap_or_else(|| wave.wave.name.clone());
            self.context.set_where(item.task.node, Where { job, state: "SUBMITTED".to_owned(), ..Where::default() });
        }
        self.context.shared.waves.lock().expect("no holder of this lock panics").push(wave);
    }

    fn fail(&self, items: Vec<Item>, error: &StageError) {
        for item in items {
            let chain = crate::stage::chain(error);
            let again = StageError::failed(NotSubmitted(chain.join(": ")));
            let again = match error.hint() {
                Some(hint) => again.with_hint(hint),
                None => again,
            };
            self.context.end(item, End::Failed(again), 0.0);
        }
    }

    fn write(
        &mut self,
        wave: &Wave,
        requests: &[ElementRequest],
    ) -> std::io::Result<(crate::remote::exchange::WaveFolder, PathBuf)> {
        let Context { exchange, remote, .. } = &self.context;
        if self.program.is_none() {
            let swept = exchange.clone();
            std::thread::spawn(move || swept.sweep()); // it only takes room: nobody waits for it
            self.program = Some(exchange.keep_program(&remote.options.program)?);
        }
        let program = self.program.as_ref().expect("it was set just now").display().to_string();
        let command: Vec<String> = std::iter::once(program).chain(remote.options.arguments.iter().cloned()).collect();
        let folder = exchange.begin_wave(wave, requests, &command)?;
        let script = folder.0.join(SCRIPT);
        Ok((folder, script))
    }

    /// Returns the intent of an array: the wave, the requests of its elements, and the tasks by number.
    #[expect(clippy::type_complexity, reason = "three parts of one thing, and what cannot be asked for")]
    fn intent(&mut self, array: Array) -> Result<(Wave, Vec<ElementRequest>, BTreeMap<u32, Item>), (Vec<Item>, StageError)> {
        self.submitted += 1;
        let Array { class, exclude, isolate, elements } = array;
        let (mut tasks, mut firsts, mut requests, mut flights) = (vec![], vec![], vec![], BTreeMap::new());
        let mut broken = None;
        for element in elements {
            firsts.push(tasks.len() as u32);
            let mut asked = vec![];
            for item in element {
                let number = tasks.len() as u32;
                let fingerprint = item.task.manifest.fingerprint();
                let states = self.context.exchange.last_state(fingerprint);
                let attempt = 1 + self.index.last_attempt(fingerprint).max(states);
                match self.request(&item, number, attempt) {
                    Ok(request) => asked.push(request),
                    Err(error) => broken = broken.or(Some(error)),
                }
                let node = self.context.runner.workflow.graph[item.task.node].id.clone();
                tasks.push(WaveTask { node, fingerprint, attempt, forced: item.task.forced });
                flights.insert(number, item);
            }
            requests.push(ElementRequest {
                format: FORMAT,
                class,
                isolate: isolate || self.context.runner.machine.own_worker.is_some(),
                grace_secs: self.context.timeouts.grace.as_secs_f64(),
                delay_secs: self.context.remote.options.result_delay.as_secs_f64(),
                tasks: asked,
            });
        }
        if let Some(error) = broken {
            return Err((flights.into_values().collect(), error));
        }
        let created_ms = now_ms();
        let name = format!("sure-{created_ms:x}-{:x}-{}", std::process::id(), self.submitted);
        let (store, exclude) = (self.context.store.clone(), exclude.into_iter().collect());
        let wave = Wave { format: FORMAT, store, name, created_ms, class, exclude, elements: firsts, tasks };
        Ok((wave, requests, flights))
    }

    fn request(&self, item: &Item, number: u32, attempt: u32) -> Result<TaskRequest, StageError> {
        let Context { runner, remote, exchange, .. } = &self.context;
        let task = &item.task;
        let node = &runner.workflow.graph[task.node];
        let fingerprint = task.manifest.fingerprint();
        let state = exchange.states(fingerprint);
        exchange
            .begin_state(fingerprint, attempt, &runner.store.resume_path(fingerprint))
            .map_err(StageError::io("write", &state))?;
        let mut inputs = vec![];
        for (artifact, part) in task.inputs.artifacts() {
            let digest = runner.store.part_digest(artifact, part.as_deref()).map_err(store_trouble)?;
            inputs.push((artifact, part, digest));
        }
        let mut places = runner.machine.places.0.clone();
        places.extend(remote.options.places.0.clone());
        let site = Site {
            objects: exchange.objects(),
            places: Places(places),
            tools: Tools::default(),
            out: PathBuf::new(),
            resume: state.join(attempt.to_string()),
            threads: claims(item).threads,
            gpu: None,
            others: vec![],
        };
        let environment = node.placed.environment().into_iter().map(|(name, value)| (name.to_owned(), value));
        let request = Request {
            format: crate::protocol::FORMAT,
            kind: node.kind.name.to_owned(),
            version: node.kind.version,
            environment: environment.collect(),
            params: node.placed.params().clone(),
            inputs: task.inputs.clone(),
            sources: BTreeMap::new(),
            partition: node.partition,
            site,
        };
        let limit_secs = node.limits.time.map(|limit| limit.as_secs_f64());
        Ok(TaskRequest { task: number, attempt, fingerprint, limit_secs, inputs, request })
    }
}
