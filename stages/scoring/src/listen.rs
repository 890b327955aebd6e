//! Stage `report.listen`: a page to listen to voices side by side.
//!
//! ```text
//! index.html       a row per text, a column per voice; works from a file address
//! clips/           the audio, as it is in the shards
//! pictures/        mel spectrograms with pitch
//! ```

mod picture;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use pipeline::{Input, Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alignment;
use crate::edit::Step;
use crate::metric::Metric;
use crate::picture::Picture;
use crate::predictions::{self, Synthesised};
use crate::report::ANCHOR;
use crate::score::{self, SpeakerDetail, write};
use crate::template;
use crate::text::Unit;
use picture::{MEL_RANGE, PITCH_RANGE};
use read::{Alignment, Clips, Features};

/// Makes a page to listen to voices side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportListen {
    /// Title of the page.
    pub title: String,
    /// Axis of the matrix whose values are the columns; without it, those of the axis `anchor`. Default `method`. Of several seeds the first is
    /// heard, unless this is `seed`.
    #[serde(default = "method")]
    pub axis: String,
    /// Columns of the inputs of each slot that have no value of the axis, in their order: recordings, say, that all methods share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Texts of each speaker. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1))]
    pub texts: u32,
    /// Alignments of the training that are shown. Default 6.
    #[serde(default = "six")]
    pub alignments: u32,
}

fn method() -> String {
    "method".to_owned()
}
fn two() -> u32 {
    2
}
fn six() -> u32 {
    6
}

/// Axis of the repetitions of a training.
const SEED: &str = "seed";

/// Columns that come first, in this order.
const FIRST: [&str; 5] = ["real", "copy", "vocoded", "twin", "zero"];

impl Stage for ReportListen {
    const KIND: &'static str = "report.listen";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "a page to listen to voices side by side, with spectrograms and what a recogniser heard";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::many("clips", "shards of audio whose test set is heard: tts.synthesise, vocoder.copy, audio.join"),
            Slot::many("features", "their features.pitch nodes"),
            Slot::many("judged", "their tts.evaluate nodes"),
            Slot::optional("alignment", "the alignment.parquet of a tts.train or tts.align node"),
        ]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["index.html".to_owned()]
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        if self.texts > 0 { Vec::new() } else { vec![("texts", "expected 1 or more, found 0".to_owned())] }
    }
}

/// Inputs that no page can be made of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Two nodes of one slot in the same column.
    #[error("two inputs of `{slot}` have the value `{value}` of the axis `{axis}`: `{first}` and `{second}`")]
    Twice {
        /// The slot.
        slot: &'static str,
        /// The axis.
        axis: String,
        /// Value of the axis.
        value: String,
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// An input without a column.
    #[error("`{path}` of `{slot}` has no value of the axis `{axis}`, and `others` has no name for it")]
    NoColumn {
        /// The slot.
        slot: &'static str,
        /// The axis.
        axis: String,
        /// The input.
        path: PathBuf,
    },
    /// No clip to listen to.
    #[error("no clip to listen to: the test sets of all inputs are empty")]
    Nothing,
}

#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    range: [f64; 2],
    pitch: [f64; 2],
    voices: Vec<&'a str>,
    rows: Vec<Row>,
    speakers: Grid,
    alignments: Vec<Shown>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    text: String,
    speaker: String,
    cells: Vec<Option<Cell>>,
}

#[derive(Serialize)]
struct Cell {
    /// File in `clips/`.
    clip: String,
    /// File in `pictures/`.
    picture: Option<String>,
    alignment: Vec<Shown>,
    heard: Vec<HeardStep>,
    note: String,
}

#[derive(Serialize)]
struct HeardStep {
    kind: &'static str,
    reference: String,
    hypothesis: String,
}

#[derive(Serialize)]
struct Shown {
    #[serde(serialize_with = "template::svg")]
    svg: Picture,
    caption: String,
}

#[derive(Serialize)]
struct Grid {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// A column of the page.
struct Column {
    name: String,
    clips: Clips,
    features: Option<Features>,
    judged: Vec<Synthesised>,
}

/// Body of the stage.
///
/// Errors: inputs that cannot be read, [`ListenError`]; files that cannot be written.
pub fn run(params: &ReportListen, job: &Job) -> Result<(), StageError> {
    let columns = columns(params, job)?;
    let mut seeds = seeds(params, job, "clips");
    if let Some(first) = seeds.next().filter(|first| seeds.any(|seed| seed != *first)) {
        job.progress.note(&format!("of several seeds, {first} is heard"));
    }
    for folder in ["clips", "pictures"] {
        let path = job.out.join(folder);
        fs::create_dir_all(&path).map_err(StageError::io("create", &path))?;
    }
    let mut rows = Vec::new();
    for (number, (id, text, speaker)) in texts(params, &columns).into_iter().enumerate() {
        let mut cells = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            cells.push(cell(column, &id, &format!("{:02}-{:02}-{}", number + 1, at + 1, plain(&column.name)), job)?);
        }
        rows.push(Row { id, text, speaker, cells });
    }
    if rows.is_empty() {
        return Err(StageError::failed(ListenError::Nothing));
    }
    let alignments = match job.inputs.optional("alignment") {
        Some(path) => training_alignments(params, &Alignment::read(path).map_err(StageError::failed)?),
        None => Vec::new(),
    };
    let page = Page {
        title: &params.title,
        range: MEL_RANGE,
        pitch: PITCH_RANGE,
        voices: columns.iter().map(|column| column.name.as_str()).collect(),
        rows,
        speakers: speakers(&columns),
        alignments,
    };
    write(&job.out.join("index.html"), template::render(include_str!("listen.html"), &page).as_bytes())
}

/// Seeds of the inputs of a slot, in order, where they make no columns.
fn seeds<'a>(params: &ReportListen, job: &'a Job, slot: &str) -> impl Iterator<Item = &'a String> {
    let repeats = params.axis != SEED;
    job.inputs.many(slot).iter().filter_map(|input| input.point.get(SEED)).filter(move |_| repeats)
}

/// Inputs of a slot with their columns, in order. Of several seeds the first is heard.
fn by_value<'a>(params: &ReportListen, job: &'a Job, slot: &'static str) -> Result<Vec<(String, &'a Input)>, StageError> {
    let mut others = params.others.iter();
    let column = |input: &'a Input| {
        let value = input.point.get(&params.axis).or_else(|| input.point.get(ANCHOR)).or_else(|| others.next());
        let value = value.cloned().ok_or_else(|| {
            let (axis, path) = (params.axis.clone(), input.path.clone());
            StageError::failed(ListenError::NoColumn { slot, axis, path })
        })?;
        Ok((value, input))
    };
    let (inputs, first) = (job.inputs.many(slot), seeds(params, job, slot).next());
    let is_heard = |input: &&Input| first.is_none() || input.point.get(SEED).is_none_or(|seed| Some(seed) == first);
    inputs.iter().filter(is_heard).map(column).collect()
}

/// The same where a column has one input.
fn one_by_value<'a>(params: &ReportListen, job: &'a Job, slot: &'static str) -> Result<Vec<(String, &'a Input)>, StageError> {
    let found = by_value(params, job, slot)?;
    for (at, (value, input)) in found.iter().enumerate() {
        if let Some((_, before)) = found[..at].iter().find(|(other, _)| other == value) {
            let (first, second) = (before.path.clone(), input.path.clone());
            let error = ListenError::Twice { slot, axis: params.axis.clone(), value: value.clone(), first, second };
            return Err(StageError::failed(error).with_hint("choose another `axis`, or gather fewer points"));
        }
    }
    Ok(found)
}

/// Columns: recordings and anchors first, then the order of the inputs.
fn columns(params: &ReportListen, job: &Job) -> Result<Vec<Column>, StageError> {
    let mut clips = one_by_value(params, job, "clips")?;
    let (features, judged) = (one_by_value(params, job, "features")?, by_value(params, job, "judged")?);
    clips.sort_by_key(|(name, _)| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len())); // stable
    let column = |(name, input): (String, &Input)| {
        // Judgements of several sets of speakers belong to one column.
        let mut rows = Vec::new();
        for (_, input) in judged.iter().filter(|(other, _)| *other == name) {
            let path = score::within(&input.path, predictions::FILE_NAME);
            rows.extend(predictions::read::<Synthesised>(&path).map_err(StageError::failed)?);
        }
        let own = features.iter().find(|(other, _)| *other == name);
        let features = own.map(|(_, input)| Features::open(&input.path)).transpose().map_err(StageError::failed)?;
        let clips = Clips::open(&input.path).map_err(StageError::failed)?;
        Ok(Column { name, clips, features, judged: rows })
    };
    clips.into_iter().map(column).collect()
}

/// Id, text and speaker of the rows: of each speaker the texts that most columns have, in order of id.
fn texts(params: &ReportListen, columns: &[Column]) -> Vec<(String, String, String)> {
    let mut counts: BTreeMap<(&str, &str), (usize, &str)> = BTreeMap::new(); // (speaker, id) -> columns, text
    for column in columns {
        for row in &column.clips.rows {
            let speaker = row.annotation.speaker.as_deref().unwrap_or_default();
            let text = row.annotation.transcript.as_deref().or(row.annotation.label.as_deref()).unwrap_or_default();
            counts.entry((speaker, &row.id)).or_insert((0, text)).0 += 1;
        }
    }
    let speakers: BTreeSet<&str> = counts.keys().map(|(speaker, _)| *speaker).collect();
    let mut chosen = Vec::new();
    for speaker in speakers {
        let own = counts.iter().filter(|((other, _), _)| *other == speaker);
        let most = own.clone().map(|(_, (count, _))| *count).max().unwrap_or(0);
        let best = own.filter(|(_, (count, _))| *count == most).take(params.texts as usize);
        chosen.extend(best.map(|((speaker, id), (_, text))| ((*id).to_owned(), (*text).to_owned(), (*speaker).to_owned())));
    }
    chosen
}

/// Cell of a column; none where the column has no such clip. `name` is that of its files.
fn cell(column: &Column, id: &str, name: &str, job: &Job) -> Result<Option<Cell>, StageError> {
    let Some((bytes, kind)) = column.clips.audio(id).map_err(StageError::failed)? else { return Ok(None) };
    let clip = format!("{name}.{kind}");
    write(&job.out.join("clips").join(&clip), &bytes)?;
    let picture = match column.features.as_ref().map(|features| features.load(id)).transpose().map_err(StageError::failed)? {
        Some(Some(frames)) => {
            let file = format!("{name}.png");
            write(&job.out.join("pictures").join(&file), &picture::spectrogram(&frames))?;
            Some(file)
        }
        _ => None,
    };
    let durations = column.clips.durations.get(id);
    let alignment = durations.map(|(symbols, durations)| Shown {
        svg: picture::alignment(&format!("Alignment of {id}"), symbols, durations),
        caption: String::new(),
    });
    let judged = column.judged.iter().find(|row| row.text.id == id);
    let heard = judged.map_or_else(Vec::new, |row| {
        alignment::cells(Unit::Word, &row.text.reference, &row.text.hypothesis).into_iter().map(step).collect()
    });
    Ok(Some(Cell {
        clip,
        picture,
        alignment: alignment.into_iter().collect(),
        heard,
        note: judged.map(note).unwrap_or_default(),
    }))
}

fn step(cell: alignment::Cell) -> HeardStep {
    let kind = if cell.step == Step::Match { "match" } else { "error" };
    HeardStep { kind, reference: cell.reference, hypothesis: cell.hypothesis }
}

/// `similarity 0.951, MCD 3.20 dB`.
fn note(row: &Synthesised) -> String {
    let distance = row.sound.map_or_else(String::new, |sound| format!(", MCD {} dB", Metric::Mcd.print(sound.mcd)));
    let is_right = row.text.speaker.as_ref() == Some(&row.voice.nearest);
    let nearest = if is_right { String::new() } else { format!("; nearest to {}", row.voice.nearest) };
    format!("similarity {}{distance}{nearest}", Metric::SpeakerSimilarity.print(row.voice.similarity))
}

/// Scores of each speaker in each column.
fn speakers(columns: &[Column]) -> Grid {
    let print = |metric: Metric, value: Option<f64>| metric.print(value.unwrap_or(f64::NAN));
    let mut rows = Vec::new();
    for column in columns.iter().filter(|column| !column.judged.is_empty()) {
        for SpeakerDetail { name, utterances, wer, similarity, accuracy, mcd, duration_bias } in score::speakers(&column.judged) {
            let mut row = vec![column.name.clone(), name, utterances.to_string(), print(Metric::Wer, wer)];
            row.extend([print(Metric::SpeakerSimilarity, Some(similarity)), print(Metric::SpeakerAccuracy, Some(accuracy))]);
            row.extend([print(Metric::Mcd, mcd), print(Metric::DurationError, duration_bias)]);
            rows.push(row);
        }
    }
    let head =
        ["voice", "speaker", "utterances", "WER (%)", "similarity", "accuracy (%)", "MCD (dB)", "mean error of length (%)"];
    Grid { head: head.to_vec(), rows }
}

/// The worst alignments of a training.
fn training_alignments(params: &ReportListen, all: &[Alignment]) -> Vec<Shown> {
    let mut all: Vec<&Alignment> = all.iter().collect();
    all.sort_by(|a, b| a.quality.total_cmp(&b.quality).then_with(|| a.id.cmp(&b.id)));
    let shown = |one: &&Alignment| Shown {
        svg: picture::alignment(&format!("Alignment of {}", one.id), &one.symbols, &one.durations),
        caption: format!("{}, {}: mean log probability of a frame {:.2}", one.id, one.speaker, one.quality),
    };
    all.iter().take(params.alignments as usize).map(shown).collect()
}

/// Name of a file: other characters than letters, digits, `-` and `_` become `_`.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
