//! Stage `score.synthesis`.

use std::collections::BTreeMap;

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Common, Detail, Draft, Miss, Scorer, SpeakerDetail, evidence_of, pooled, shares, worst};
use crate::edit::Edits;
use crate::evidence::Ratio;
use crate::metric::Metric;
use crate::predictions::{Sound, Synthesised};
use crate::significance::Resampling;
use crate::text::Unit;

/// Scores synthesised speech: words that a recogniser hears, likeness of the voice, distances from recordings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreSynthesis {
    /// Metric that methods are compared by. Default `speaker_similarity`: words stay right in adaptation, the voice is what it changes.
    #[serde(default = "similarity")]
    pub metric: Metric,
    /// Confidence intervals.
    #[serde(default)]
    pub interval: Resampling,
    /// Benchmark task, for a table of several tasks.
    #[serde(default)]
    pub task: Option<String>,
    /// Corpus, for a table where the matrix does not name it.
    #[serde(default)]
    pub corpus: Option<String>,
}

fn similarity() -> Metric {
    Metric::SpeakerSimilarity
}

/// Measure of the distance from a recording.
type Measure = fn(&Sound) -> Option<f64>;

/// Metrics that methods can be compared by.
const PRIMARY: [Metric; 5] = [Metric::SpeakerSimilarity, Metric::SpeakerAccuracy, Metric::Mcd, Metric::Wer, Metric::Cer];

impl Stage for ScoreSynthesis {
    const KIND: &'static str = "score.synthesis";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "words, voice and sound of synthesised speech, against recordings";

    fn slots() -> Vec<Slot> {
        super::slots("a tts.evaluate node, or its predictions.parquet")
    }
    fn outputs(&self) -> Vec<String> {
        super::outputs()
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = self.interval.check();
        if !PRIMARY.contains(&self.metric) {
            let names = PRIMARY.map(Metric::name).join(", ");
            mistakes.push(("metric", format!("expected one of {names}, found {}", self.metric.name())));
        }
        mistakes
    }
}

impl Scorer for ScoreSynthesis {
    type Row = Synthesised;

    fn common(&self) -> Common {
        Common { interval: self.interval, task: self.task.clone(), corpus: self.corpus.clone() }
    }

    fn draft(&self, rows: &[Synthesised], _: &Job) -> Result<Draft, StageError> {
        Ok(draft(self.metric, rows))
    }
}

fn draft(primary: Metric, rows: &[Synthesised]) -> Draft {
    let mut notes = Vec::new();
    let mut evidence = evidence_of(rows, &mut notes);
    evidence.num_samples = None; // at a rate that is not known here
    let mut edits = Vec::new();
    let mut words: Vec<Edits> = Vec::new();
    for unit in [Unit::Word, Unit::Character] {
        let counts: Vec<Edits> = rows.iter().map(|row| unit.count(&row.text.reference, &row.text.hypothesis)).collect();
        evidence.ratios.insert(unit.metric(), shares(&counts));
        edits.push((unit, pooled(&counts)));
        if unit == Unit::Word {
            words = counts;
        }
    }
    let once = |part: f64| Ratio { part, whole: 1.0 };
    let similarities = rows.iter().map(|row| once(row.voice.similarity)).collect();
    evidence.ratios.insert(Metric::SpeakerSimilarity, similarities);
    let right = rows.iter().map(|row| once(f64::from(u8::from(is_right(row))))).collect();
    evidence.ratios.insert(Metric::SpeakerAccuracy, right);
    let sounds: Vec<&Sound> = rows.iter().filter_map(|row| row.sound.as_ref()).collect();
    if sounds.len() == rows.len() {
        let columns: [(Metric, Measure); 6] = [
            (Metric::Mcd, |sound| Some(sound.mcd)),
            (Metric::F0Rmse, |sound| sound.squared_cents),
            (Metric::GrossPitchError, |sound| sound.gross_pitch_error),
            (Metric::VoicingError, |sound| Some(sound.voicing_error)),
            (Metric::DurationError, |sound| Some(sound.duration_error.abs())),
            (Metric::VarianceRatio, |sound| sound.variance_ratio),
        ];
        for (metric, of) in columns {
            let shares: Vec<Ratio> = sounds.iter().map(|sound| of(sound).map_or_else(Ratio::default, once)).collect();
            let lacking = shares.iter().filter(|share| share.whole == 0.0).count();
            if metric == Metric::F0Rmse && lacking > 0 {
                notes.push(format!("{lacking} of {} utterances share no voiced frame with their recording", rows.len()));
            }
            evidence.ratios.insert(metric, shares);
        }
    } else {
        notes.push("no recordings of these texts: words and voice alone are scored".to_owned());
    }
    let miss = |(row, edits): (&Synthesised, &Edits)| Miss {
        id: row.text.id.clone(),
        reference: row.text.reference.clone(),
        hypothesis: row.text.hypothesis.clone(),
        errors: edits.errors(),
    };
    let detail = Detail::Synthesis { edits, speakers: speakers(rows), worst: worst(rows.iter().zip(&words).map(miss).collect()) };
    Draft { primary, evidence, chance: BTreeMap::new(), notes, detail, confusion: None }
}

fn is_right(row: &Synthesised) -> bool {
    row.text.speaker.as_ref() == Some(&row.voice.nearest)
}

/// Scores of each speaker, in order of the name.
pub(crate) fn speakers(rows: &[Synthesised]) -> Vec<SpeakerDetail> {
    let mut speakers: BTreeMap<&str, Vec<&Synthesised>> = BTreeMap::new();
    for row in rows {
        speakers.entry(row.text.speaker.as_deref().unwrap_or_default()).or_default().push(row);
    }
    let mean = |own: &[&Synthesised], of: &dyn Fn(&Synthesised) -> Option<f64>| {
        let values: Vec<f64> = own.iter().filter_map(|row| of(row)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let detail = |(name, own): (&str, Vec<&Synthesised>)| {
        let words: Vec<Edits> = own.iter().map(|row| Unit::Word.count(&row.text.reference, &row.text.hypothesis)).collect();
        SpeakerDetail {
            name: name.to_owned(),
            utterances: own.len() as u64,
            wer: Some(pooled(&words).rate()).filter(|rate| rate.is_finite()),
            similarity: mean(&own, &|row| Some(row.voice.similarity)).unwrap_or(0.0),
            accuracy: mean(&own, &|row| Some(f64::from(u8::from(is_right(row))))).unwrap_or(0.0),
            mcd: mean(&own, &|row| row.sound.map(|sound| sound.mcd)),
            duration_bias: mean(&own, &|row| row.sound.map(|sound| sound.duration_error)),
        }
    };
    speakers.into_iter().map(detail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictions::{Transcription, Voice};

    fn row(id: &str, speaker: &str, heard: &str, nearest: &str, similarity: f64, mcd: f64) -> Synthesised {
        Synthesised {
            text: Transcription {
                id: id.to_owned(),
                speaker: Some(speaker.to_owned()),
                reference: "one two".to_owned(),
                hypothesis: heard.to_owned(),
                num_samples: 8_000,
                loss: 0.5,
            },
            voice: Voice { similarity, nearest: nearest.to_owned() },
            sound: Some(Sound {
                mcd,
                squared_cents: Some(mcd * mcd),
                gross_pitch_error: Some(0.0),
                voicing_error: 0.25,
                duration_error: -0.1 * mcd,
                variance_ratio: None,
            }),
        }
    }

    #[test]
    fn each_metric_is_that_of_its_rows() {
        let rows = [row("a", "ann", "one two", "ann", 0.8, 3.0), row("b", "bob", "one", "ann", 0.4, 4.0)];
        let draft = draft(Metric::SpeakerSimilarity, &rows);
        let values = draft.evidence.values();
        let close = |metric: Metric, expected: f64| assert!((values[&metric] - expected).abs() < 1e-12, "{metric}: {values:?}");
        close(Metric::Wer, 0.25);
        close(Metric::SpeakerSimilarity, 0.6);
        close(Metric::SpeakerAccuracy, 0.5);
        close(Metric::Mcd, 3.5);
        // The root of the mean square, not the mean of roots.
        close(Metric::F0Rmse, 12.5_f64.sqrt());
        close(Metric::DurationError, 0.35);
        assert!(values[&Metric::VarianceRatio].is_nan());
        let Detail::Synthesis { speakers, worst, .. } = &draft.detail else { panic!("{:?}", draft.detail) };
        assert_eq!((speakers[1].name.as_str(), speakers[1].wer, speakers[1].accuracy), ("bob", Some(0.5), 0.0));
        assert_eq!((speakers[0].duration_bias, worst.len()), (Some(-0.1 * 3.0), 1));
    }

    #[test]
    fn texts_without_recordings_have_words_and_voice_alone() {
        let rows = [Synthesised { sound: None, ..row("a", "ann", "one two", "ann", 0.8, 3.0) }];
        let draft = draft(Metric::Wer, &rows);
        assert!(!draft.evidence.metrics().contains(&Metric::Mcd) && draft.notes.len() == 1);
    }

    #[test]
    fn what_is_no_metric_of_speech_is_refused() {
        let stage: ScoreSynthesis = serde_json::from_str(r#"{"metric": "eer"}"#).unwrap();
        assert_eq!(stage.check()[0].0, "metric");
        assert_eq!(serde_json::from_str::<ScoreSynthesis>("{}").unwrap().check(), []);
    }
}
