//! The stage `report.table`: the scores of many runs to a table, a picture and one page that shows it all.

mod html;
mod parquet;
mod table;

use std::collections::BTreeMap;

use pipeline::{Input, Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plot::{self, ScatterPoint};
use crate::score::{FILE_NAME, Parameters, Scores, read_json, within, write};
use crate::significance::{Interval, mcnemar};

/// Gathers the scores of many runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportTable {
    /// Stands above the table and the page.
    pub title: String,
}

impl Stage for ReportTable {
    const KIND: &'static str = "report.table";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "a table of all scores, accuracy against trainable parameters, and a page with both";

    fn slots() -> Vec<Slot> {
        vec![Slot::many("scores", "artifacts of score.classification; the axes corpus, method and seed name them")]
    }
}

/// The scores at one point of the matrix.
#[derive(Debug)]
struct Run {
    corpus: String,
    method: String,
    seed: String,
    /// The other axes.
    others: BTreeMap<String, String>,
    scores: Scores,
}

/// The runs that differ by seed only.
#[derive(Debug)]
struct Group<'a> {
    runs: Vec<&'a Run>,
    /// Whether no other group on the same corpus is more accurate.
    best: bool,
}

/// Writes `table.txt`, `table.md`, `table.parquet`, `accuracy_vs_parameters.svg` and `.png`, `index.html`.
///
/// Errors: [`StageError::Failed`] when a file of scores is not one, [`StageError::Io`] when files cannot be read or written.
pub fn run(params: &ReportTable, job: &Job) -> Result<(), StageError> {
    let runs = job.inputs.many("scores").iter().map(read_run).collect::<Result<Vec<_>, _>>()?;
    let groups = group(&runs);
    let scatter = plot::accuracy_vs_parameters("Accuracy against trainable parameters", &points(&groups));
    let table = table::Table::new(&runs, &groups);
    let comparisons = compare(&runs);
    let out = |name: &str| job.out.join(name);
    write(&out("table.txt"), table.text(&params.title, &comparisons).as_bytes())?;
    write(&out("table.md"), table.markdown(&params.title, &comparisons).as_bytes())?;
    write(&out("table.parquet"), &parquet::encode(&runs).map_err(StageError::failed)?)?;
    write(&out("accuracy_vs_parameters.svg"), scatter.svg().as_bytes())?;
    write(&out("accuracy_vs_parameters.png"), &scatter.png(2.0))?;
    write(&out("index.html"), html::page(&params.title, &table, &comparisons, &scatter, &runs).as_bytes())
}

fn read_run(input: &Input) -> Result<Run, StageError> {
    let scores: Scores = read_json(&within(&input.path, FILE_NAME), "a file of scores")?;
    let mut others = input.point.clone();
    let mut axis = |name: &str| others.remove(name).unwrap_or_else(|| "-".to_owned());
    Ok(Run { corpus: axis("corpus"), method: axis("method"), seed: axis("seed"), others, scores })
}

impl Run {
    fn same_but_for_seed(&self, other: &Self) -> bool {
        (&self.corpus, &self.method, &self.others) == (&other.corpus, &other.method, &other.others)
    }
    /// For headings: the axes that say something.
    fn name(&self) -> String {
        let seed = if self.seed == "-" { String::new() } else { format!("seed {}", self.seed) };
        let others = self.others.iter().map(|(axis, value)| format!("{axis} {value}"));
        let parts = [self.corpus.clone(), self.method.clone()].into_iter().chain(others).chain([seed]);
        let parts: Vec<String> = parts.filter(|part| !part.is_empty() && part != "-").collect();
        if parts.is_empty() { "run".to_owned() } else { parts.join(", ") }
    }
}

/// In order of first appearance.
fn group(runs: &[Run]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|group| group.runs[0].same_but_for_seed(run)) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { runs: vec![run], best: false }),
        }
    }
    for at in 0..groups.len() {
        let mine = groups[at].mean(Scores::accuracy);
        let rivals = || groups.iter().filter(|other| other.runs[0].corpus == groups[at].runs[0].corpus);
        groups[at].best = rivals().count() > 1 && rivals().all(|other| other.mean(Scores::accuracy) <= mine);
    }
    groups
}

impl Group<'_> {
    fn mean(&self, of: impl Fn(&Scores) -> f64) -> f64 {
        self.runs.iter().map(|run| of(&run.scores)).sum::<f64>() / self.runs.len() as f64
    }
    /// Standard deviation over seeds, of the sample; none for one seed.
    fn deviation(&self, of: impl Fn(&Scores) -> f64) -> Option<f64> {
        let mean = self.mean(&of);
        let squares: f64 = self.runs.iter().map(|run| (of(&run.scores) - mean).powi(2)).sum();
        (self.runs.len() > 1).then(|| (squares / (self.runs.len() - 1) as f64).sqrt())
    }
    /// The interval over utterances; its ends averaged over seeds.
    fn interval(&self) -> Interval {
        let low = self.mean(|scores| scores.accuracy_interval.low);
        Interval { low, high: self.mean(|scores| scores.accuracy_interval.high) }
    }
    fn parameters(&self) -> Option<Parameters> {
        self.runs.iter().find_map(|run| run.scores.parameters)
    }
}

fn points(groups: &[Group]) -> Vec<ScatterPoint> {
    let point = |group: &Group| {
        let parameters = group.parameters().filter(|parameters| parameters.trainable > 0)?;
        let (first, others) = (group.runs[0], group.runs[0].others.values().cloned());
        Some(ScatterPoint {
            group: first.corpus.clone(),
            label: [first.method.clone()].into_iter().chain(others).collect::<Vec<_>>().join(", "),
            parameters: parameters.trainable as f64,
            accuracy: group.mean(Scores::accuracy),
            interval: group.interval(),
        })
    };
    groups.iter().filter_map(point).collect()
}

/// Two methods on the same utterances.
#[derive(Debug, PartialEq)]
struct Comparison {
    first: String,
    second: String,
    /// Utterances that only the first, and only the second, answered rightly.
    only: (u64, u64),
    /// Probability of such a split when both are equally good.
    p: f64,
}

impl Comparison {
    /// One sentence.
    fn sentence(&self) -> String {
        let Self { first, second, only, p } = self;
        let verdict = match p {
            p if *p >= 0.05 => "no difference shown",
            _ if only.0 > only.1 => "the first is better",
            _ => "the second is better",
        };
        let p = if *p < 0.0001 { "p < 0.0001".to_owned() } else { format!("p = {p:.4}") };
        format!("{first} against {second}: {verdict} ({} and {} utterances right only there, {p})", only.0, only.1)
    }
}

/// Every two methods that answered the same utterances of the same corpus from the same seed.
fn compare(runs: &[Run]) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    for (at, first) in runs.iter().enumerate() {
        for second in &runs[at + 1..] {
            let comparable = (&first.corpus, &first.seed, &first.others) == (&second.corpus, &second.seed, &second.others)
                && first.scores.utterance_set == second.scores.utterance_set;
            if comparable {
                // Mistakes are sorted by id.
                let missed = |run: &Run, id: &str| run.scores.mistakes.binary_search_by(|m| m.id.as_str().cmp(id)).is_ok();
                let only = |other: &Run, one: &Run| {
                    other.scores.mistakes.iter().filter(|mistake| !missed(one, &mistake.id)).count() as u64
                };
                let only = (only(second, first), only(first, second));
                let (p, first, second) = (mcnemar(only.0, only.1), first.name(), second.name());
                comparisons.push(Comparison { first, second, only, p });
            }
        }
    }
    comparisons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictions::Prediction;
    use crate::score::{ScoreClassification, score};

    fn run(method: &str, seed: &str, wrong: &[usize]) -> Run {
        let words = ["no", "yes"];
        let row = |at: usize| {
            let (label, prediction) = (at % 2, (at + usize::from(wrong.contains(&at))) % 2);
            Prediction {
                id: format!("u{at:03}"),
                label: label as i64,
                prediction: prediction as i64,
                label_text: words[label].to_owned(),
                prediction_text: words[prediction].to_owned(),
                num_samples: 16_000,
                loss: 0.5,
                speaker: None,
            }
        };
        let params = ScoreClassification { confidence: 0.95, resamples: 200, seed: 1 };
        let training = serde_json::json!({"parameters": {"total": 1000, "trainable": 10}});
        let scores = score(&params, words.map(str::to_owned).to_vec(), (0..20).map(row).collect(), Some(training)).unwrap();
        let (corpus, method, seed, others) = ("tones".to_owned(), method.to_owned(), seed.to_owned(), BTreeMap::new());
        Run { corpus, method, seed, others, scores }
    }

    #[test]
    fn runs_that_differ_by_seed_share_a_row() {
        let runs = [run("lora", "1", &[0, 1]), run("full", "1", &[0]), run("lora", "2", &[0, 1, 2, 3])];
        let groups = group(&runs);
        assert_eq!(groups.iter().map(|group| group.runs.len()).collect::<Vec<_>>(), [2, 1]);
        assert!((groups[0].mean(Scores::accuracy) - 0.85).abs() < 1e-12);
        assert!((groups[0].deviation(Scores::accuracy).unwrap() - 0.1 / 2f64.sqrt()).abs() < 1e-12);
        assert_eq!((groups[0].best, groups[1].best), (false, true));
        assert!(groups[1].deviation(Scores::accuracy).is_none());
    }

    #[test]
    fn only_runs_of_one_seed_are_compared() {
        let runs = [run("lora", "1", &[0, 1]), run("full", "1", &[1, 2, 3]), run("lora", "2", &[0])];
        let found = compare(&runs);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].only, (2, 1));
        assert_eq!(
            found[0].sentence(),
            "tones, lora, seed 1 against tones, full, seed 1: no difference shown \
             (2 and 1 utterances right only there, p = 1.0000)"
        );
    }

    #[test]
    fn the_table_names_every_column_in_text_and_markdown() {
        let runs = [run("lora", "1", &[0, 1]), run("full|x", "1", &[0]), run("lora", "2", &[0, 1, 2, 3])];
        let groups = group(&runs);
        let table = table::Table::new(&runs, &groups);
        let text = table.text("A title", &compare(&runs));
        let lines: Vec<&str> = text.lines().skip(2).take(5).collect();
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        assert!(text.contains("85.00 ± 7.07") && text.contains("2 seeds") && text.contains("1.00 %"), "{text}");
        let markdown = table.markdown("A title", &[]);
        assert!(markdown.contains("**95.00**") && markdown.contains("full\\|x"), "{markdown}");
    }
}
