//! Speed and memory of a training: shown while it runs, recorded as facts about the run, and no part of its artifact.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::time::{Duration, Instant};

use pipeline::Job;
use tch::Device;

use super::history::{Evaluation, Update, write_evaluation};
use crate::device;
use crate::tensorboard::EventWriter;

/// Folder beside the state of a training that TensorBoard may watch meanwhile.
pub(crate) const LIVE: &str = "events";

/// Measures a training as it runs.
#[derive(Debug)]
pub(crate) struct Throughput {
    events: Option<EventWriter<BufWriter<File>>>,
    flushed: Instant,
    device: Device,
    /// When the step under way began.
    step_began: Instant,
    step: Spent,
    /// Steps, and what all of them took.
    steps: u64,
    total: Spent,
}

#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    time: Duration,
    /// For data, of that time.
    waited: Duration,
    /// Of audio, padding not counted.
    audio_secs: f64,
}

const FLUSH_EVERY: Duration = Duration::from_secs(2);

impl Throughput {
    /// Starts to measure. `step` is the first one that will be seen.
    pub(crate) fn start(job: &Job, device: Device, step: u64) -> Self {
        let events = open(&job.resume.join(LIVE), step).inspect_err(|error| {
            job.progress.note(&format!("no events for TensorBoard while training: {error}"));
        });
        let now = Instant::now();
        let (step, total) = (Spent::default(), Spent::default());
        Self { events: events.ok(), flushed: now, device, step_began: now, step, steps: 0, total }
    }

    /// Begins a step.
    pub(crate) fn begin_step(&mut self) {
        self.step_began = Instant::now();
        self.step = Spent::default();
    }

    /// Waits for what `next` gives.
    pub(crate) fn wait<T>(&mut self, next: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let got = next();
        self.step.waited += start.elapsed();
        got
    }

    /// Adds the audio of a batch to the step.
    pub(crate) fn add_audio(&mut self, secs: f64) {
        self.step.audio_secs += secs;
    }

    /// Ends the step.
    pub(crate) fn end_step(&mut self) {
        self.step.time = self.step_began.elapsed();
        self.steps += 1;
        self.total.time += self.step.time;
        self.total.waited += self.step.waited;
        self.total.audio_secs += self.step.audio_secs;
    }

    /// Shows an update: its numbers, and those of the step just ended.
    pub(crate) fn show_update(&mut self, step: u64, update: &Update) {
        let Some(events) = &mut self.events else { return };
        let Spent { time, waited, audio_secs } = self.step;
        let mut values = update.scalars().to_vec();
        values.push(("speed/audio_secs_per_sec", (audio_secs / time.as_secs_f64().max(1e-9)) as f32));
        values.push(("speed/step_ms", (1e3 * time.as_secs_f64()) as f32));
        values.push(("speed/data_wait_ms", (1e3 * waited.as_secs_f64()) as f32));
        let due = self.flushed.elapsed() >= FLUSH_EVERY;
        if due && let Some(used) = device::memory_used(self.device) {
            values.push(("memory/gib", (used as f64 / f64::from(1 << 30)) as f32));
        }
        let written = events.scalars(step, &values).and_then(|()| if due { events.flush() } else { Ok(()) });
        if due {
            self.flushed = Instant::now();
        }
        self.keep_if(&written);
    }

    /// Shows an evaluation.
    pub(crate) fn show_evaluation(&mut self, evaluation: &Evaluation) {
        let Some(events) = &mut self.events else { return };
        let written = write_evaluation(events, evaluation).and_then(|()| events.flush());
        self.keep_if(&written);
    }

    /// A full disk ends the picture, not the training.
    fn keep_if(&mut self, written: &io::Result<()>) {
        if written.is_err() {
            self.events = None;
        }
    }

    /// Records the speed of all steps since the training began or resumed, and reports it in a line.
    pub(crate) fn report(&self, job: &Job) {
        let Spent { time, waited, audio_secs } = self.total;
        let secs = time.as_secs_f64();
        if self.steps == 0 || secs <= 0.0 {
            return;
        }
        let round = |value: f64| (value * 1e3).round() / 1e3;
        for (name, value) in [
            ("step_ms", 1e3 * secs / self.steps as f64),
            ("data_wait_ms_per_step", 1e3 * waited.as_secs_f64() / self.steps as f64),
            ("audio_secs_per_sec", audio_secs / secs),
        ] {
            job.progress.fact(name, round(value).into());
        }
        job.progress.fact("steps", self.steps.into());
        let peak_gib = device::peak_memory(self.device).map(|bytes| bytes as f64 / f64::from(1 << 30));
        if let Some(gib) = peak_gib {
            job.progress.fact("peak_memory_gib", round(gib).into());
        }
        job.progress.note(&sentence(self.steps, self.total, peak_gib));
    }
}

/// `160 steps of 92 ms, 0.3 % of it waiting for data; 158 s of audio a second; at most 0.85 GiB`
fn sentence(steps: u64, total: Spent, peak_gib: Option<f64>) -> String {
    let secs = total.time.as_secs_f64();
    let step = secs / steps as f64;
    let step = if step < 1.0 { format!("{:.0} ms", 1e3 * step) } else { format!("{step:.2} s") };
    let (waited, speed) = (100.0 * total.waited.as_secs_f64() / secs, total.audio_secs / secs);
    let memory = peak_gib.map_or_else(String::new, |gib| format!("; at most {gib:.2} GiB"));
    format!("{steps} steps of {step}, {waited:.1} % of it waiting for data; {speed:.0} s of audio a second{memory}")
}

/// A file of its own for every start, as TensorBoard wants it.
fn open(folder: &Path, step: u64) -> io::Result<EventWriter<BufWriter<File>>> {
    std::fs::create_dir_all(folder)?;
    EventWriter::new(BufWriter::new(File::create(folder.join(format!("events.out.tfevents.{step}.sure")))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_training_reports_its_speed_in_a_line() {
        let spent = |secs, waited, audio_secs| Spent {
            time: Duration::from_secs_f64(secs),
            waited: Duration::from_secs_f64(waited),
            audio_secs,
        };
        let line = sentence(160, spent(14.72, 0.046, 2330.0), Some(0.8512));
        assert_eq!(line, "160 steps of 92 ms, 0.3 % of it waiting for data; 158 s of audio a second; at most 0.85 GiB");
        let line = sentence(2, spent(5.0, 0.0, 40.0), None);
        assert_eq!(line, "2 steps of 2.50 s, 0.0 % of it waiting for data; 8 s of audio a second");
    }
}
