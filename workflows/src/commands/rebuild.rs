//! `sure rebuild`: one rebuild of a table, as a rebuild file says. Timers call it; whether one is due is decided by its history.

mod collect;
mod machine;
mod runs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use pipeline::{Digest, Stop};
use rebuild::alarms::{back, dearer, failures_before, is_known, settle};
use rebuild::event::{Event, Level, compose};
use rebuild::file::RebuildFile;
use rebuild::history::{Baseline, Due, History, HistoryError, HistoryLock, due};
use rebuild::judge::{Judge, Results};
use rebuild::lock::{Difference, LockFile};
use rebuild::record::{Begun, Cell, Ended, FORMAT, Line, Outcome, Told};
use rebuild::site::{Site, write};
use rebuild::tell::{Delivery, Outbox};
use rebuild::time::{HOUR, Utc};
use serde_json::json;

use crate::cli::MachineArgs;
use crate::commands::run::{KEPT, STOPPED, listen_for_signals};
use crate::commands::store::{bytes, collect as collect_garbage};
use crate::console::{duration, say};
use crate::problem::{problem, show};
use crate::settings::Settings;

pub(crate) use machine::{libraries, program, this_machine};
pub(crate) use runs::{Planned, check_runs, lists_path, locked_inputs, plan_runs};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct RebuildArgs {
    /// The rebuild file
    file: PathBuf,
    /// Do nothing unless the history says that a rebuild is due; what timers ask for
    #[arg(long)]
    if_due: bool,
    /// Compute everything in an empty store, and compare with the kept results: the only way to see that a result does not repeat
    #[arg(long)]
    fresh: bool,
    /// Refuse to run when an input is not as in this lock file (see `sure lock`)
    #[arg(long, value_name = "LOCK")]
    locked: Option<PathBuf>,
    /// Only show what would be done
    #[arg(long, conflicts_with_all = ["report_failure", "json"])]
    dry_run: bool,
    /// Tell of a rebuild that was killed before it could tell itself; nothing else
    #[arg(long)]
    report_failure: bool,
    /// Print the record of the rebuild as JSON
    #[arg(long)]
    json: bool,
    /// Print nothing when there is nothing to tell
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Exit code: a mistake in a file.
const MISTAKE: u8 = 2;
/// Exit code: an alarm, or values that are not as in the lock file.
const ALARM: u8 = 3;
/// Exit code: not started.
const NOT_STARTED: u8 = 4;
/// Exit code: another rebuild is going on.
const BUSY: u8 = 5;

/// The time: of the clock, or of the variable `SURE_NOW`, for tests.
pub(crate) fn now() -> Result<Utc> {
    match std::env::var_os("SURE_NOW") {
        Some(text) => {
            text.to_string_lossy().parse().map_err(|why| problem(format!("SURE_NOW: {why}"), "unset it, or set a moment in UTC"))
        }
        None => Ok(Utc(pipeline::run::now_ms().div_euclid(1000))),
    }
}

/// Reads a rebuild file.
pub(crate) fn read_file(path: &Path) -> Result<(RebuildFile, String)> {
    let full = path.canonicalize().with_context(|| format!("cannot read the rebuild file `{}`", path.display()))?;
    let text = fs::read_to_string(&full).with_context(|| format!("cannot read the rebuild file `{}`", path.display()))?;
    let file = rebuild::file::read(&full, &text).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(|mistake| format!("{}: {}", mistake.at, mistake.message)).collect();
        let hints: Vec<String> = mistakes.iter().map(|mistake| mistake.hint.clone()).collect();
        let hint = if hints.len() == 1 { hints[0].clone() } else { hints.join("\n        ") };
        problem(lines.join("\n       "), hint)
    })?;
    Ok((file, text))
}

/// An error of the history with its hint.
pub(crate) fn history_problem(error: HistoryError) -> anyhow::Error {
    match error.hint() {
        Some(hint) => {
            let chain: Vec<String> = anyhow::Chain::new(&error).map(ToString::to_string).collect();
            problem(chain.join(": "), hint)
        }
        None => error.into(),
    }
}

/// Settings of the machine for a rebuild: paths on the command line are those of the current folder, everything else of the file's.
pub(crate) fn enter(file: &RebuildFile, machine: &MachineArgs) -> Result<MachineArgs> {
    let here = std::env::current_dir().context("cannot find the current folder")?;
    let mut machine = machine.clone();
    machine.config = machine.config.map(|path| here.join(path));
    machine.store = machine.store.map(|path| here.join(path));
    let folder = file.path.parent().unwrap_or(Path::new("/"));
    std::env::set_current_dir(folder).with_context(|| format!("cannot enter `{}`", folder.display()))?;
    Ok(machine)
}

/// Refuses a history or a site in the store, where only artifacts are kept, and a site that would publish the folder of the rebuild file.
pub(crate) fn check_places(file: &RebuildFile, settings: &Settings) -> Result<()> {
    let store = resolved(&settings.store);
    let site = file.site.as_ref().map(|site| ("site", &site.folder));
    for (what, folder) in std::iter::once(("history", &file.history)).chain(site) {
        if resolved(folder).starts_with(&store) {
            return Err(problem(
                format!("the {what} `{}` is in the store `{}`", folder.display(), settings.store.display()),
                "give it a folder of its own, next to the rebuild file",
            ));
        }
    }
    match site {
        Some((_, folder)) if file.path.starts_with(resolved(folder)) => Err(problem(
            format!("the site `{}` has the rebuild file in it, and everything next to it would be published", folder.display()),
            "give it a folder of its own: `folder = \"www\"`",
        )),
        _ => Ok(()),
    }
}

/// A path without links and `..`, as far as it is there.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = full.ancestors().find_map(|there| Some((there.canonicalize().ok()?, full.strip_prefix(there).ok()?)));
    found.map_or_else(|| full.clone(), |(there, rest)| there.join(rest))
}

/// Value of an environment variable.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

pub(crate) fn rebuild(args: &RebuildArgs) -> Result<ExitCode> {
    let (file, text) = read_file(&args.file)?;
    let now = now()?;
    if args.if_due && !args.report_failure {
        match due(&file, now).map_err(history_problem)? {
            Due::No(next) if args.dry_run => {
                println!("not due before {next}");
                return Ok(ExitCode::SUCCESS);
            }
            Due::No(_) => return Ok(ExitCode::SUCCESS),
            Due::Yes(_) => {}
        }
    }
    let locked = args.locked.as_deref().map(runs::read_lock).transpose()?;
    let machine = enter(&file, &args.machine)?;
    let planned = plan_runs(&file, &machine)?;
    let settings = Settings::load(&machine, &[])?;
    check_places(&file, &settings)?;
    if args.dry_run {
        return dry_run(&file, &planned);
    }
    let Some(lock) = History::lock(&file.history).map_err(history_problem)? else {
        return busy(&file, now, args.quiet || args.report_failure);
    };
    let mut history = History::read(&file.history).map_err(history_problem)?;
    history.check(&file, now).map_err(history_problem)?;
    if args.report_failure {
        return report_failure(&file, &mut history, &lock, now);
    }
    let every = file.fresh_every as usize;
    let since_fresh = history.log.ended().rev().filter(|ended| ended.outcome.is_end()).take_while(|ended| !ended.fresh).count();
    let fresh = args.fresh || (every > 0 && history.log.ended().next().is_some() && since_fresh + 1 >= every);
    let mut one = Rebuild {
        begun: Instant::now(),
        clock: now,
        file: &file,
        machine,
        settings,
        locked,
        fresh,
        quiet: args.quiet || args.json,
        stop: Stop::default(),
    };
    listen_for_signals(&one.stop, KEPT)?;
    let ended = one.go(&text, &planned, &mut history, &lock)?;
    if args.json {
        println!("{}", serde_json::to_string(&Line::Ended(Box::new(ended.clone())))?);
    }
    Ok(ExitCode::from(ended.exit_code))
}

/// Shows what a rebuild would do.
fn dry_run(file: &RebuildFile, planned: &[Planned]) -> Result<ExitCode> {
    let missing = check_runs(planned)?;
    let history = History::read(&file.history).map_err(history_problem)?;
    history.check_owner(file).map_err(history_problem)?;
    let last = history.log.ended().next_back();
    println!("rebuild `{}`, every {} (UTC)", file.name, file.every);
    for planned in planned {
        println!("  sure run {}", planned.text);
    }
    println!("history: {}", file.history.display());
    match last {
        Some(last) => println!("last rebuild: {}, {}", last.begun, last.outcome.title()),
        None => println!("no rebuild has ended yet"),
    }
    for text in missing.values() {
        println!("it would not start: {text}");
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NOT_STARTED) })
}

/// Another rebuild is going on. One that goes on for longer than it may is told, once.
fn busy(file: &RebuildFile, now: Utc, quiet: bool) -> Result<ExitCode> {
    let history = History::read(&file.history).map_err(history_problem)?;
    if let Some(begun) = history.log.killed().into_iter().next_back() {
        if !quiet {
            say!("rebuild {} is going on since {}", begun.id, begun.at);
        }
        let marker = file.history.join("held");
        let is_told = fs::read_to_string(&marker).is_ok_and(|id| id == begun.id);
        if now.0 - begun.at.0 > file.time_limit.as_secs() as i64 + HOUR && !is_told {
            let hours = (now.0 - begun.at.0) / HOUR;
            let title = format!(
                "rebuild {} goes on for {hours} h, longer than its limit of {} h",
                begun.id,
                file.time_limit.as_secs() / 3_600
            );
            let event = plain_event(file, &begun.id, now, BUSY, title);
            fs::write(&marker, &begun.id).with_context(|| format!("cannot write `{}`", marker.display()))?;
            say!("alarm: {}", event.title);
            let outbox = Outbox::new(&file.history, &file.tell, &variable);
            outbox.post(&Event { rebuild: format!("{}-held", begun.id), ..event }).map_err(history_problem)?;
            report_kept(&outbox.send_all());
        }
    }
    Ok(ExitCode::from(BUSY))
}

fn plain_event(file: &RebuildFile, id: &str, at: Utc, exit_code: u8, title: String) -> Event {
    Event {
        format: FORMAT,
        name: file.name.clone(),
        rebuild: id.to_owned(),
        at,
        level: Level::Failed,
        text: title.clone(),
        title,
        cells: vec![],
        link: None,
        exit_code,
    }
}

/// Tells of rebuilds that were killed, each once.
fn report_failure(file: &RebuildFile, history: &mut History, lock: &HistoryLock, now: Utc) -> Result<ExitCode> {
    let outbox = Outbox::new(&file.history, &file.tell, &variable);
    let killed: Vec<Begun> = untold(history).into_iter().cloned().collect();
    for begun in &killed {
        let title = format!("the rebuild that began at {} did not end: it was killed, or the machine went down", begun.at);
        say!("failed: {title}");
        outbox.post(&plain_event(file, &begun.id, now, 1, title)).map_err(history_problem)?;
        history.append(lock, told_line(&begun.id, now, &Delivery::default())).map_err(history_problem)?;
    }
    report_kept(&outbox.send_all());
    Ok(if killed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Rebuilds that were killed and of which nobody was told.
fn untold(history: &History) -> Vec<&Begun> {
    let told = |id: &str| history.log.lines.iter().any(|line| matches!(line, Line::Told(told) if told.id == id));
    history.log.killed().into_iter().filter(|begun| !told(&begun.id)).collect()
}

fn told_line(id: &str, at: Utc, delivery: &Delivery) -> Line {
    let of = |channels: Vec<(&String, &'static str)>| {
        channels.into_iter().filter(|(of, _)| *of == id).map(|(_, channel)| channel.to_owned()).collect::<Vec<_>>()
    };
    let sent = of(delivery.sent.iter().map(|(id, channel)| (id, *channel)).collect());
    let kept = of(delivery.kept.iter().map(|(id, channel, _)| (id, *channel)).collect());
    Line::Told(Told { format: FORMAT, id: id.to_owned(), at, sent, kept })
}

fn report_kept(delivery: &Delivery) {
    for (id, channel, why) in &delivery.kept {
        say!("warning: the message of rebuild {id} waits for `{channel}`: {why}");
    }
}

/// One rebuild.
struct Rebuild<'a> {
    begun: Instant,
    clock: Utc,
    file: &'a RebuildFile,
    machine: MachineArgs,
    settings: Settings,
    locked: Option<(LockFile, rebuild::lock::FileLists)>,
    fresh: bool,
    quiet: bool,
    stop: Stop,
}

/// End of the runs of a rebuild.
struct Finish {
    outcome: Outcome,
    reason: Option<String>,
}

impl Finish {
    fn not_started(reason: String) -> Self {
        Self { outcome: Outcome::NotStarted, reason: Some(reason) }
    }
}

impl Rebuild<'_> {
    /// The time now, by the clock that the rebuild began with.
    fn now(&self) -> Utc {
        Utc(self.clock.0 + self.begun.elapsed().as_secs() as i64)
    }

    fn go(&mut self, text: &str, planned: &[Planned], history: &mut History, lock: &HistoryLock) -> Result<Ended> {
        let id = format!(
            "{}-{}",
            self.clock,
            &Digest::of(format!("{:?} {}", Instant::now(), std::process::id()).as_bytes()).to_string()[..4]
        );
        let outbox = Outbox::new(&self.file.history, &self.file.tell, &variable);
        let mut notices = vec![];
        if history.log.torn > 0 {
            notices.push("the last line of the record was torn by a kill or a full disk, and was cut off".to_owned());
        }
        notices.extend(
            untold(history).iter().map(|begun| {
                format!("the rebuild that began at {} did not end: it was killed, or the machine went down", begun.at)
            }),
        );
        notices.extend(outbox.sort_out(&|id| {
            history.log.find(id).is_some()
                || history.log.lines.iter().any(|line| matches!(line, Line::Told(told) if told.id == *id))
                || id.ends_with("-held")
        }));
        let (name, file) = (self.file.name.clone(), self.file.path.display().to_string());
        let begun = Begun { format: FORMAT, id: id.clone(), name, file, at: self.clock };
        history.append(lock, Line::Begun(begun)).map_err(history_problem)?;
        let _ = fs::remove_file(self.file.history.join("held")); // of an earlier rebuild

        let mut ended = Ended {
            format: FORMAT,
            id: id.clone(),
            begun: self.clock,
            at: self.clock,
            outcome: Outcome::Done,
            exit_code: 0,
            reason: None,
            fresh: self.fresh,
            file: Digest::of(text.as_bytes()).to_string(),
            workflows: BTreeMap::new(),
            program: program(&self.settings),
            machine: this_machine(&self.settings),
            sources: BTreeMap::new(),
            runs: vec![],
            detail: None,
            cells: BTreeMap::new(),
            open: BTreeMap::new(),
            recovered: vec![],
            unconfirmed: vec![],
            failures: 0,
            differs: vec![],
            notices,
        };
        let mut mistake = false;
        let finish = match self.check_disk().and_then(|()| self.check_inputs(planned, &mut ended)) {
            Ok(None) => self.compute(planned, history, lock, &mut ended)?,
            Ok(Some(reason)) => Finish::not_started(reason),
            Err(error) => {
                let not_enough = error.downcast_ref::<NotEnough>().map(ToString::to_string);
                mistake = not_enough.is_none();
                let reason = not_enough.unwrap_or_else(|| one_line(&error));
                Finish::not_started(reason)
            }
        };
        (ended.outcome, ended.reason, ended.at) = (finish.outcome, finish.reason, self.now());
        let done = match ended.outcome {
            Outcome::Done if !ended.differs.is_empty() => ALARM,
            Outcome::Done => 0,
            Outcome::Partial => 1,
            Outcome::NotStarted if mistake => MISTAKE,
            Outcome::NotStarted => NOT_STARTED,
            Outcome::Stopped => STOPPED,
        };
        settle(&mut ended, history, done);
        ended.notices.extend(back(&ended, history));
        ended.notices.extend(dearer(&ended, history));
        self.close(history, lock, &outbox, &ended)?;
        Ok(ended)
    }

    /// Records the end, writes the site, tells, pings, collects.
    fn close(&mut self, history: &mut History, lock: &HistoryLock, outbox: &Outbox<'_>, ended: &Ended) -> Result<()> {
        let find = |rebuild: &str, key: &str| -> Option<Cell> { history.log.find(rebuild)?.cells.get(key).cloned() };
        let event = compose(ended, failures_before(history, &ended.id), self.file, &find);
        if let Some(event) = &event {
            outbox.post(event).map_err(history_problem)?;
        }
        history.append(lock, Line::Ended(Box::new(ended.clone()))).map_err(history_problem)?;
        if let Some(error) = write_site(self.file, history).err() {
            say!("warning: the site was not written");
            show(&error);
        }
        match &event {
            Some(event) => say!("{}: {}", event.level.title(), event.text),
            None if self.quiet => {}
            None => match &ended.reason {
                Some(reason) => say!("{}: {reason}", ended.outcome.title()),
                None => say!("{}", rebuild::event::summary(ended)),
            },
        }
        let delivery = outbox.send_all();
        report_kept(&delivery);
        if event.is_some() {
            history.append(lock, told_line(&ended.id, self.now(), &delivery)).map_err(history_problem)?;
        }
        if ended.outcome.is_end()
            && let Err(why) = outbox.ping()
        {
            say!("warning: the sign of life did not arrive: {why}");
        }
        if ended.outcome.is_end() {
            history.collect(lock).map_err(history_problem)?;
            if let Some(most) = self.file.store_at_most {
                let freed = collect_garbage(&self.machine, 3, Some(most))?;
                if freed.count > 0 && !self.quiet {
                    say!("removed {} artifacts from the store, {}", freed.count, bytes(freed.bytes));
                }
            }
        }
        Ok(())
    }

    /// True if everything is computed on this machine: results of others would prove nothing in a rebuild that shows that results
    /// repeat.
    fn offline(&self) -> bool {
        self.fresh || self.locked.is_some()
    }

    /// Makes room when there is too little, and fails when that was not enough.
    fn check_disk(&self) -> Result<()> {
        let Some(wanted) = self.file.free_at_least else { return Ok(()) };
        let free = || {
            let place = self.settings.store.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
            let found =
                rustix::fs::statvfs(place).with_context(|| format!("cannot ask how much room `{}` has", place.display()))?;
            Ok::<u64, anyhow::Error>(found.f_bavail * found.f_frsize)
        };
        if free()? >= wanted {
            return Ok(());
        }
        if self.settings.store.is_dir() {
            collect_garbage(&self.machine, 3, None)?;
        }
        let left = free()?;
        if left >= wanted { Ok(()) } else { Err(NotEnough { left, wanted }.into()) }
    }

    /// Checks places and, with a lock file, what is in them. Returns the reason not to start.
    fn check_inputs(&self, planned: &[Planned], ended: &mut Ended) -> Result<Option<String>> {
        let missing = check_runs(planned)?;
        if !missing.is_empty() {
            let describe = |(place, text): (String, String)| match &self.locked {
                Some((lock, _)) => lock.describe(&place, &text),
                None => text,
            };
            return Ok(Some(missing.into_iter().map(describe).collect::<Vec<_>>().join("; ")));
        }
        let Some((lock, lists)) = &self.locked else { return Ok(None) };
        let inputs = locked_inputs(planned)?;
        let runs: Vec<String> = planned.iter().map(|planned| planned.text.clone()).collect();
        let refused = lock.refusals(&runs, &inputs.workflows, &inputs.sources, [lists, &inputs.lists]);
        if !refused.is_empty() {
            return Ok(Some(format!("not as in the lock file: {}", refused.join("; "))));
        }
        let warnings = lock.warnings(&ended.program, &libraries(), &ended.machine.key());
        for warning in &warnings {
            say!("warning: {warning}");
        }
        ended.notices.extend(warnings);
        Ok(None)
    }

    /// Runs, collects, judges, confirms.
    fn compute(&self, planned: &[Planned], history: &mut History, lock: &HistoryLock, ended: &mut Ended) -> Result<Finish> {
        let deadline = self.begun + self.file.time_limit;
        let stop = self.stop.until(deadline);
        let scratch = self.fresh.then(|| runs::FreshStore::new(&self.settings.store)).transpose()?;
        let mut machine = self.machine.clone();
        if let Some(scratch) = &scratch {
            machine.store = Some(scratch.folder.clone());
        }
        let mut results = Results { id: ended.id.clone(), ..Results::default() };
        let mut reason = None;
        for planned in planned {
            let (keep_going, fresh, offline) = (self.file.keep_going, self.fresh, self.offline());
            let goal = runs::Goal { planned, keep_going, fresh, offline, quiet: self.quiet };
            let outcome = runs::run(&goal, &machine, &stop, history, &mut results, &mut ended.workflows);
            let outcome = outcome.unwrap_or_else(|error| {
                if !self.quiet {
                    show(&error);
                }
                runs::not_run(planned, &error, history, &mut results)
            });
            if outcome.outcome == "not started" && reason.is_none() {
                reason = Some(format!(
                    "`sure run {}`: {}",
                    planned.text,
                    outcome.failed.first().map_or("", |failure| &failure.message)
                ));
            }
            if let Some(count) = outcome.nodes.get(runs::OTHER_BYTES) {
                let nodes = rebuild::event::count(*count, "node");
                ended.notices.push(format!(
                    "`sure run {}`: {nodes} gave other bytes than before; the earlier result is kept",
                    planned.text
                ));
            }
            ended.runs.push(outcome);
        }
        ended.sources = results.sources.clone();
        let stopped = self.stop.requested();
        let judge = Judge::new(history, &self.file.rule, &results);
        let mut judged = judge.judge();
        ended.notices.append(&mut judged.notices);
        ended.unconfirmed =
            judged.unconfirmed.iter().filter(|key| !is_known(history, key, &judged.cells[*key])).cloned().collect();
        for key in &judged.to_confirm {
            let Some(cell) = judged.cells.get_mut(key).filter(|cell| !is_known(history, key, cell)) else { continue };
            if stop.requested() || self.file.confirm_seeds == 0 {
                cell.alarm = self.file.confirm_seeds == 0;
                continue;
            }
            let new = runs::confirm(planned, (key, cell), (self.file.confirm_seeds, self.offline()), &machine, &stop, history);
            let new = new.unwrap_or_else(|error| {
                show(&error);
                BTreeMap::new()
            });
            judge.confirm(cell, key, &new);
        }
        if self.fresh {
            ended.notices.extend(repeats(&judged.cells, history));
        }
        ended.detail = Some(history.keep(&serde_json::to_vec(&judged.detail)?).map_err(history_problem)?);
        ended.cells = judged.cells;
        if !self.fresh {
            let mut baselines = history.baselines.clone();
            for (key, why) in judged.new_baselines {
                let baseline = Baseline { rebuild: ended.id.clone(), since: self.now(), by: "sure".to_owned(), why };
                baselines.insert(key, baseline);
            }
            if baselines != history.baselines {
                history.set_baselines(lock, baselines).map_err(history_problem)?;
            }
        }
        if let Some((lock, _)) = &self.locked {
            for Difference { text, is_certain } in lock.differences(ended) {
                say!("warning: {text}");
                if is_certain { ended.differs.push(text) } else { ended.notices.push(text) }
            }
        }
        drop(scratch);
        let failed = ended.cells.values().filter(|cell| cell.failed.is_some()).count();
        let is_done = ended.runs.iter().all(|run| run.outcome == "done") && failed == 0;
        Ok(match () {
            () if stopped => Finish { outcome: Outcome::Stopped, reason: Some("stopped by a signal".to_owned()) },
            () if is_done => Finish { outcome: Outcome::Done, reason: None },
            () => {
                let over = Instant::now() >= deadline;
                let text = match (over, failed) {
                    (true, _) => format!("the time limit of {} is over", duration(self.file.time_limit.as_secs_f64())),
                    (false, 0) => "a run failed".to_owned(),
                    (false, 1) => "1 cell failed".to_owned(),
                    (false, failed) => format!("{failed} cells failed"),
                };
                Finish { outcome: Outcome::Partial, reason: Some(reason.unwrap_or(text)) }
            }
        })
    }
}

/// Cells that gave other bytes from an empty store although the same went in.
fn repeats(cells: &BTreeMap<String, Cell>, history: &History) -> Option<String> {
    let kinds = ["not repeatable", "hardware", "code without a version", "unexplained"];
    let differs = |(key, cell): &(&String, &Cell)| {
        let last = history.log.results(key).rev().find(|(ended, _)| !ended.fresh);
        last.is_some_and(|(_, last)| last.evidence != cell.evidence)
            && cell.causes.iter().any(|cause| kinds.contains(&cause.kind.as_str()))
    };
    let found: Vec<(&String, &Cell)> = cells.iter().filter(differs).collect();
    let (_, first) = found.first()?;
    let causes: Vec<String> = first.causes.iter().map(rebuild::record::NamedCause::print).collect();
    Some(format!(
        "from an empty store {} of {} cells gave other answers, {} for example: {}",
        found.len(),
        cells.len(),
        first.title(),
        causes.join("; ")
    ))
}

/// Writes the site, where the file names one.
pub(crate) fn write_site(file: &RebuildFile, history: &History) -> Result<usize> {
    let Some(place) = &file.site else { return Ok(0) };
    write_site_to(file, history, &place.folder)
}

/// Writes the site into a folder.
pub(crate) fn write_site_to(file: &RebuildFile, history: &History, folder: &Path) -> Result<usize> {
    let url = file.site.as_ref().map_or("", |site| &site.url);
    let site = Site { name: &file.name, every: file.every, url, history };
    write(&site, folder).map_err(history_problem)
}

/// Too little room on the disk.
#[derive(Debug)]
struct NotEnough {
    left: u64,
    wanted: u64,
}

impl std::fmt::Display for NotEnough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "only {} are free where the store is, {} are wanted, and nothing more can be removed",
            bytes(self.left),
            bytes(self.wanted)
        )
    }
}

impl std::error::Error for NotEnough {}

/// An error with its causes in one line.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Verdict of a cell as JSON, for `sure history --json`.
pub(crate) fn cell_json(key: &str, ended: &Ended, cell: &Cell) -> serde_json::Value {
    json!({"cell": key, "rebuild": ended.id, "begun": ended.begun, "result": cell})
}
