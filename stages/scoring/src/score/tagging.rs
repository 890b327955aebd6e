//! Stage `score.tagging`.

use std::collections::BTreeMap;

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Common, Detail, Draft, LabelScore, Mistake, ScoreError, Scorer, evidence_of, read_json, within};
use crate::evidence::Ratio;
use crate::metric::Metric;
use crate::predictions::Tagged;
use crate::significance::Resampling;
use crate::tagging::Tags;

/// Scores answers of any number of labels: mean average precision, F1, and the share of utterances with exactly the right labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreTagging {
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

impl Stage for ScoreTagging {
    const KIND: &'static str = "score.tagging";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "mean average precision and F1 of labels, of which an utterance has any number";

    fn slots() -> Vec<Slot> {
        super::slots_with_labels("labels.json: the labels in order, as a JSON list of strings")
    }
    fn outputs(&self) -> Vec<String> {
        super::outputs()
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        self.interval.check()
    }
}

impl Scorer for ScoreTagging {
    type Row = Tagged;

    fn common(&self) -> Common {
        Common { interval: self.interval, task: self.task.clone(), corpus: self.corpus.clone() }
    }

    fn draft(&self, rows: &[Tagged], job: &Job) -> Result<Draft, StageError> {
        let labels: Vec<String> = read_json(&within(job.inputs.one("labels"), "labels.json"), "a list of labels")?;
        draft(labels, rows).map_err(|error| {
            StageError::failed(error).with_hint("the model was evaluated with another list of labels than the one given here")
        })
    }
}

fn draft(labels: Vec<String>, rows: &[Tagged]) -> Result<Draft, ScoreError> {
    let tags = Tags {
        count: labels.len(),
        labels: rows.iter().map(|row| indices(&labels, row, &row.labels)).collect::<Result<_, _>>()?,
        predictions: rows.iter().map(|row| indices(&labels, row, &row.predictions)).collect::<Result<_, _>>()?,
        scores: rows.iter().map(|row| row.scores.clone()).collect(),
    };
    if let Some(row) = rows.iter().find(|row| row.scores.len() != labels.len()) {
        let text = format!("{} probabilities", row.scores.len());
        return Err(ScoreError::Label { id: row.id.clone(), found: row.scores.len() as i64, text, classes: labels.len() });
    }
    let mut notes = Vec::new();
    let mut evidence = evidence_of(rows, &mut notes);
    let exact = |row: &Tagged| Ratio { part: f64::from(u8::from(row.labels == row.predictions)), whole: 1.0 };
    evidence.ratios.insert(Metric::Accuracy, rows.iter().map(exact).collect());
    let (once, ranked) = (vec![1; rows.len()], tags.ranked());
    let of_label = |(at, (name, score)): (usize, (&String, crate::classification::ClassScore))| LabelScore {
        name: name.clone(),
        score,
        average_precision: ranked.average_precision(at, &once),
    };
    let scores: Vec<LabelScore> = labels.iter().zip(tags.counts(&once).classes()).enumerate().map(of_label).collect();
    let absent: Vec<&str> = scores.iter().filter(|label| label.score.support == 0).map(|label| label.name.as_str()).collect();
    if !absent.is_empty() {
        notes.push(format!("no utterance has {}: the mean average precision is that of the other labels", absent.join(", ")));
    }
    if rows.iter().all(|row| row.predictions.is_empty()) {
        notes.push("the model answers no label to every utterance".to_owned());
    }
    let mistakes = rows.iter().filter(|row| row.labels != row.predictions).map(|row| Mistake {
        id: row.id.clone(),
        label: named(&row.labels),
        prediction: named(&row.predictions),
        loss: Some(row.loss).filter(|loss| loss.is_finite()),
    });
    let detail = Detail::Tagging { labels: scores, mistakes: mistakes.collect() };
    let chance = chance(&tags);
    evidence.tags = Some(tags);
    Ok(Draft { primary: Metric::MeanAveragePrecision, evidence, chance, notes, detail, confusion: None })
}

/// Labels for people; `none` where there are none.
fn named(labels: &[String]) -> String {
    if labels.is_empty() { "none".to_owned() } else { labels.join(", ") }
}

fn indices(labels: &[String], row: &Tagged, names: &[String]) -> Result<Vec<u32>, ScoreError> {
    let index = |name: &String| {
        let found = labels.iter().position(|label| label == name).map(|at| at as u32);
        found.ok_or_else(|| ScoreError::Label { id: row.id.clone(), found: -1, text: name.clone(), classes: labels.len() })
    };
    names.iter().map(index).collect()
}

/// Metrics of a model that gives every utterance the same probabilities: the precision of each label is its frequency.
fn chance(tags: &Tags) -> BTreeMap<Metric, f64> {
    let alike = Tags { scores: vec![vec![0.0; tags.count]; tags.labels.len()], ..tags.clone() };
    let values = alike.ranked().values(&vec![1; tags.labels.len()]);
    values.into_iter().filter(|(metric, value)| *metric == Metric::MeanAveragePrecision && value.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, labels: &[&str], predictions: &[&str], scores: [f32; 2]) -> Tagged {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Tagged {
            id: id.to_owned(),
            speaker: None,
            labels: names(labels),
            predictions: names(predictions),
            scores: scores.to_vec(),
            num_samples: 1,
            loss: 0.5,
        }
    }

    #[test]
    fn labels_are_scored_one_by_one_and_together() {
        let labels = ["dog", "rain"].map(str::to_owned).to_vec();
        let rows = [
            row("a", &["dog", "rain"], &["dog"], [0.9, 0.2]),
            row("b", &[], &[], [0.3, 0.1]),
            row("c", &["dog"], &["dog"], [0.8, 0.4]),
        ];
        let found = draft(labels.clone(), &rows).unwrap();
        let values = found.evidence.values();
        assert!((values[&Metric::Accuracy] - 2.0 / 3.0).abs() < 1e-12);
        assert!((values[&Metric::MeanAveragePrecision] - 0.75).abs() < 1e-12, "1 for dog, one half for rain");
        assert!((found.chance[&Metric::MeanAveragePrecision] - 0.5).abs() < 1e-12, "two thirds and one third");
        let Detail::Tagging { labels: scores, mistakes } = &found.detail else { panic!() };
        assert_eq!((scores[0].score.support, scores[1].average_precision), (2, Some(0.5)));
        assert_eq!((mistakes.len(), &*mistakes[0].label, &*mistakes[0].prediction), (1, "dog, rain", "dog"));

        let error = draft(labels[..1].to_vec(), &rows).unwrap_err().to_string();
        assert!(error.contains("utterance `a` has class -1 (`rain`)"), "{error}");
    }
}
