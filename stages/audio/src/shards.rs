//! The stage `audio.shards`: decodes one part of a manifest into Parquet shards.
//!
//! ```text
//! train.parquet dev.parquet test.parquet     always all three, see `schema`; rows sorted by id
//! train.clips dev.clips test.clips           where each clip lies in them, see `clips`
//! rejects.parquet                            id, path, reason, offset: recordings that gave no row
//! report.json                                counts, lengths and labels, see `report`
//! ```
//!
//! Every file is read whole once, and its hash compared with the manifest's: a recording that was edited while the run used it
//! fails the node instead of ending up under the wrong fingerprint.

mod recordings;

use std::path::{Path, PathBuf};
use std::time::Instant;

use datasets::Split;
use datasets::shard::RowInfo;
use pipeline::{Job, Slot, Stage, StageError, Tool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clips;
use crate::manifest::{self, Entry, Origin};
use crate::recording::{Format, Prepared};
use crate::report::{Left, Report};
use crate::schema::{Column, Row, ShardWriter, write_table};
use crate::wav::SAMPLE_RATES;
use recordings::{Recordings, Reject};

/// Decodes the recordings of a manifest's part, resamples them to mono clips of 16 bits and writes Parquet shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shards {
    /// The rate of the shards, in Hz. Speech encoders want 16000.
    pub sample_rate: u32,
    /// The largest share of recordings that may turn out broken, 0 to 1; more of them fail the node.
    pub max_reject_share: f64,
    /// Format of the clips: `wav`, the fastest to read, or `flac`, about 0.6 of the size. Recordings that are so already
    /// keep their bytes.
    #[serde(default, skip_serializing_if = "Format::is_default")]
    pub format: Format,
    /// Shorter utterances are left out (and listed among the rejects, without counting as broken), in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_duration_secs: Option<f64>,
    /// Longer utterances are left out (and listed among the rejects, without counting as broken), in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration_secs: Option<f64>,
}

impl Stage for Shards {
    const KIND: &'static str = "audio.shards";
    const VERSION: u32 = 7;
    const ABOUT: &'static str = "decodes and resamples recordings into Parquet shards, one node per part of the manifest";

    fn slots() -> Vec<Slot> {
        vec![Slot::one("manifest", "a part of a corpus.manifest: the folder parts/000NN"), Slot::one("labels", "its labels.json")]
    }

    fn outputs(&self) -> Vec<String> {
        clips::shard_files().chain(["rejects.parquet", "report.json"].map(str::to_owned)).collect()
    }
    fn tools() -> Vec<Tool> {
        vec![Tool { name: FFMPEG, version_argument: "-version" }]
    }

    fn check(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if !SAMPLE_RATES.contains(&self.sample_rate) {
            let (least, most) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
            mistakes.push(("sample_rate", format!("expected {least} to {most} Hz, found {}", self.sample_rate)));
        }
        if !(0.0..=1.0).contains(&self.max_reject_share) {
            mistakes.push(("max_reject_share", format!("expected a share of 0 to 1, found {}", self.max_reject_share)));
        }
        for (name, limit) in [("min_duration_secs", self.min_duration_secs), ("max_duration_secs", self.max_duration_secs)] {
            if let Some(found) = limit.filter(|secs| !(secs.is_finite() && *secs > 0.0)) {
                mistakes.push((name, format!("expected a number of seconds above 0, found {found}")));
            }
        }
        if let (Some(min), Some(max)) = (self.min_duration_secs, self.max_duration_secs)
            && min > max
        {
            mistakes.push(("min_duration_secs", format!("{min} is more than max_duration_secs, {max}")));
        }
        mistakes
    }
}

/// A part of a corpus that gives no shard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardsError {
    /// This machine could not decode a recording that may be sound.
    #[error("`{path}`: {reason}")]
    Machine {
        /// The recording.
        path: String,
        /// The reason.
        reason: String,
    },
    /// More recordings are broken than allowed.
    #[error("{rejected} of {total} recordings are broken, more than the allowed share of {allowed}; {first}")]
    TooManyRejects {
        /// How many are broken.
        rejected: u64,
        /// Of how many.
        total: u64,
        /// The parameter `max_reject_share`.
        allowed: f64,
        /// The first few, with reasons.
        first: String,
    },
}

/// Program that decodes what nothing here decodes.
const FFMPEG: &str = "ffmpeg";
/// The unit of this stage's progress.
pub const AUDIO_UNIT: &str = "s of audio";
/// How many files are decoded between two looks at progress and at [`Job::stop`], per thread.
const FILES_PER_BATCH: usize = 32;
/// A batch ends early once its files have this many bytes, so that memory stays bounded.
const BYTES_PER_BATCH: u64 = 64 << 20;

/// The body of the stage.
///
/// Errors: too many broken recordings; a recording that is not the one the manifest was made from; files that cannot be
/// written. Broken recordings within the allowed share are rows of `rejects.parquet`.
pub fn run(params: &Shards, job: &Job) -> Result<(), StageError> {
    let part = job.inputs.one("manifest");
    let entries = manifest::read_entries(part)?;
    let labels = manifest::read_labels(job.inputs.one("labels"))?;
    let origin = manifest::read_origin(part)?;
    let source = Recordings::new(job, &origin, &labels, params)?;

    let mut report = Report::new(entries.len() as u64, params.sample_rate);
    let mut shards =
        Split::ALL.iter().map(|&split| Part::create(job, split, &labels, params, &origin)).collect::<Result<Vec<_>, _>>()?;
    let (mut flagged, mut by_ffmpeg) = (Vec::new(), 0_u64);
    let (mut rejects, mut done, started) = (Vec::new(), Done::of(&entries), Instant::now());
    for batch in batches(&entries, job.threads.max(1)) {
        if job.stop.requested() {
            return Err(StageError::Stopped);
        }
        for (entry, decoded) in batch.iter().zip(source.decode(batch)?) {
            match decoded {
                Err(reject) => rejects.push((entry, reject)),
                Ok((clip, label)) => {
                    report.count(entry, &clip);
                    if let Some(flag) = clip.flags.first() {
                        flagged.push(format!("{}: {}", entry.path, flag.text()));
                    }
                    by_ffmpeg += u64::from(clip.by_ffmpeg);
                    shards[entry.split as usize].push(row(entry, clip, label, params))?;
                }
            }
        }
        done.tell(batch, report.samples(), params.sample_rate, job);
    }
    for shard in shards {
        shard.finish()?;
    }
    report.leave(rejects.iter().map(|(entry, reject)| Left { path: &entry.path, reason: &reject.reason, broken: reject.broken }));
    check_share(params, &report, &rejects)?;
    write_rejects(&job.out.join("rejects.parquet"), &rejects)?;
    manifest::write_json(&job.out.join("report.json"), &report)?;
    tell(job, params, &report, &rejects, started.elapsed().as_secs_f64());
    tell_oddities(job, &flagged, by_ffmpeg);
    Ok(())
}

/// Cuts the list into stretches of bounded number and size.
fn batches(entries: &[Entry], threads: usize) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += entry.size;
            first || bytes <= BYTES_PER_BATCH
        };
        let len = rest.iter().take(FILES_PER_BATCH * threads).take_while(fits).count();
        let (batch, after) = rest.split_at(len);
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

/// The shard of one split, and what its side index will say.
struct Part {
    path: PathBuf,
    writer: ShardWriter,
    rows: Vec<(u64, u64)>,
}

impl Part {
    fn create(job: &Job, split: Split, labels: &[String], params: &Shards, origin: &Origin) -> Result<Self, StageError> {
        let path = job.out.join(format!("{split}.parquet"));
        let Origin { corpus, protocol, licence, .. } = origin;
        let origin = json!({"corpus": corpus, "protocol": protocol, "licence": licence, "split": split.name()}).to_string();
        let writer = ShardWriter::create_of(&path, labels, params.sample_rate, Some(origin))?;
        Ok(Self { path, writer, rows: Vec::new() })
    }

    fn push(&mut self, row: Row) -> Result<(), StageError> {
        self.rows.push((clips::hash_of(&row.info.id), row.info.num_samples as u64));
        self.writer.push(row)
    }

    fn finish(self) -> Result<(), StageError> {
        let places = self.writer.finish()?;
        clips::write(&self.path, &places, &self.rows)
    }
}

/// How far it has come, in seconds of audio. How many there are in all is only known at the end; until then it follows from how
/// many bytes are done.
struct Done {
    bytes: u64,
    total_bytes: u64,
    files: usize,
    total_files: usize,
}

impl Done {
    fn of(entries: &[Entry]) -> Self {
        Self { bytes: 0, total_bytes: entries.iter().map(|entry| entry.size).sum(), files: 0, total_files: entries.len() }
    }

    fn tell(&mut self, batch: &[Entry], num_samples: u64, sample_rate: u32, job: &Job) {
        self.bytes += batch.iter().map(|entry| entry.size).sum::<u64>();
        self.files += batch.len();
        let secs = num_samples as f64 / f64::from(sample_rate);
        let total = secs * self.total_bytes.max(1) as f64 / self.bytes.max(1) as f64;
        job.progress.tick(
            secs as u64,
            (total as u64).max(secs as u64),
            AUDIO_UNIT,
            &format!("{} of {} files", self.files, self.total_files),
        );
    }
}

fn row(entry: &Entry, clip: Prepared, class: Option<u32>, params: &Shards) -> Row {
    let mut annotation = entry.annotation.clone();
    annotation.flags.extend(clip.flags.iter().map(|flag| flag.text().to_owned()));
    Row {
        bytes: clip.bytes,
        path: format!("{}.{}", entry.id, params.format.extension()),
        split: entry.split,
        info: RowInfo {
            id: entry.id.clone(),
            num_samples: clip.num_samples as usize,
            sample_rate: params.sample_rate,
            class,
            annotation,
        },
        source_path: entry.shown_path(),
        source_sample_rate: clip.source.sample_rate,
        source_channels: clip.source.num_channels,
    }
}

fn check_share(params: &Shards, report: &Report, rejects: &[(&Entry, Reject)]) -> Result<(), StageError> {
    let (rejected, total, allowed) = (report.rejected, report.utterances, params.max_reject_share);
    if rejected as f64 <= allowed * total as f64 {
        return Ok(());
    }
    let broken = rejects.iter().filter(|(_, reject)| reject.broken).take(3);
    let first = broken.map(|(entry, reject)| format!("`{}`: {}", entry.path, reject.reason)).collect::<Vec<_>>().join("; ");
    let error = ShardsError::TooManyRejects { rejected, total, allowed, first };
    Err(StageError::failed(error).with_hint("repair or remove these files, or raise `max_reject_share`"))
}

fn write_rejects(path: &Path, rejects: &[(&Entry, Reject)]) -> Result<(), StageError> {
    let ids = rejects.iter().map(|(entry, _)| entry.id.as_str()).collect();
    let shown: Vec<String> = rejects.iter().map(|(entry, _)| entry.shown_path()).collect();
    let paths = shown.iter().map(String::as_str).collect();
    let reasons = rejects.iter().map(|(_, reject)| reject.reason.as_str()).collect();
    let offsets = rejects.iter().map(|(_, reject)| reject.offset).collect();
    let broken = rejects.iter().map(|(_, reject)| if reject.broken { "broken" } else { "filtered" }).collect();
    let columns = [("id", ids), ("path", paths), ("reason", reasons), ("kind", broken)];
    let mut columns: Vec<_> = columns.into_iter().map(|(name, values)| (name, Column::Text(values))).collect();
    columns.push(("offset", Column::Number(offsets)));
    write_table(path, columns)
}

/// Facts for the run's record, and a line when something was left out.
fn tell(job: &Job, params: &Shards, report: &Report, rejects: &[(&Entry, Reject)], elapsed_secs: f64) {
    let audio_secs = report.samples() as f64 / f64::from(params.sample_rate);
    job.progress.fact("audio_secs", audio_secs.into());
    job.progress.fact("audio_secs_per_sec", (audio_secs / elapsed_secs.max(1e-9)).into());
    job.progress.fact("rejected", report.rejected.into());
    if let Some((entry, reject)) = rejects.first() {
        let left_out = match rejects.len() {
            1 => "1 utterance".to_owned(),
            count => format!("{count} utterances"),
        };
        job.progress.note(&format!("{left_out} left out, see rejects.parquet; the first: {}: {}", entry.path, reject.reason));
    }
}

/// Warns of recordings that gave a clip with a flag, and records how many ffmpeg decoded.
fn tell_oddities(job: &Job, flagged: &[String], by_ffmpeg: u64) {
    if by_ffmpeg > 0 {
        job.progress.fact("decoded_by_ffmpeg", by_ffmpeg.into());
    }
    if let Some(first) = flagged.first() {
        let recordings =
            if flagged.len() == 1 { "1 recording is odd".to_owned() } else { format!("{} recordings are odd", flagged.len()) };
        job.progress.note(&format!("{recordings}, see the column `flags`; the first: {first}"));
    }
}

#[cfg(test)]
mod tests;
