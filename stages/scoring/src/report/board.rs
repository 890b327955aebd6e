//! Board of tasks by methods: one number for each, the best of a row marked, and its comparison with the others.

use super::group::Group;
use super::published::{self, Certainty};
use super::{NONE, ReportTable, Run, spaced, units};
use crate::metric::{Direction, Metric};
use crate::plot::{HeatCell, HeatRow};
use crate::significance::{CompareError, Paired, SeedNoise, compare, print_p};

/// Probability below which a difference counts as shown.
pub(super) const LEVEL: f64 = 0.05;

/// Tasks by methods.
#[derive(Debug)]
pub(super) struct Board<'a> {
    pub(super) methods: Vec<String>,
    pub(super) rows: Vec<BoardRow<'a>>,
}

/// A task on a corpus.
#[derive(Debug)]
pub(super) struct BoardRow<'a> {
    pub(super) task: String,
    pub(super) corpus: String,
    /// The axes of the matrix beside task, corpus, method and seed that differ: `backbone scratch`.
    pub(super) others: String,
    pub(super) metric: Metric,
    /// By method.
    pub(super) cells: Vec<Option<&'a Group<'a>>>,
    /// The methods from best to worst.
    ranking: Vec<usize>,
    /// The best against each of the others, in order of the ranking.
    pub(super) contests: Vec<Contest>,
    /// By method: what is known of the published benchmark.
    pub(super) published: Vec<Option<(f64, Certainty)>>,
}

/// The best method of a row against another.
#[derive(Debug)]
pub(super) struct Contest {
    pub(super) best: String,
    pub(super) other: String,
    pub(super) outcome: Result<Paired, CompareError>,
}

impl<'a> Board<'a> {
    pub(super) fn new(groups: &'a [Group<'a>], params: &ReportTable) -> Self {
        let mut methods: Vec<String> = Vec::new();
        for group in groups {
            if !methods.contains(&group.runs[0].method) {
                methods.push(group.runs[0].method.clone());
            }
        }
        let mut rows: Vec<BoardRow> = Vec::new();
        for group in groups {
            let first = group.runs[0];
            let column = methods.iter().position(|method| *method == first.method).expect("every method was listed");
            let (task, corpus, others) = (&first.task, &first.corpus, others(first));
            for metric in [first.scores.primary].into_iter().chain(first.scores.further_metrics()) {
                let key =
                    |row: &BoardRow| row.task == *task && row.corpus == *corpus && row.others == others && row.metric == metric;
                if let Some(row) = rows.iter_mut().find(|row| key(row)) {
                    row.cells[column] = Some(group);
                    continue;
                }
                let mut cells = vec![None; methods.len()];
                cells[column] = Some(group);
                let comparable = params.published || first.others.get("backbone").is_some_and(|name| name == "published");
                let known = |method: &String| published::find(task, corpus, method, metric).filter(|_| comparable);
                rows.push(BoardRow {
                    task: task.clone(),
                    corpus: corpus.clone(),
                    others: others.clone(),
                    metric,
                    cells,
                    ranking: Vec::new(),
                    contests: Vec::new(),
                    published: methods.iter().map(known).collect(),
                });
            }
        }
        let mut tasks: Vec<&String> = Vec::new();
        for group in groups {
            if !tasks.contains(&&group.runs[0].task) {
                tasks.push(&group.runs[0].task);
            }
        }
        rows.sort_by_key(|row| tasks.iter().position(|task| **task == row.task));
        for row in &mut rows {
            row.rank(&methods, params);
        }
        Self { methods, rows }
    }

    /// True if there are several methods.
    pub(super) fn is_worth_showing(&self) -> bool {
        self.methods.len() > 1
    }

    pub(super) fn has_published(&self) -> bool {
        self.rows.iter().any(|row| row.published.iter().any(Option::is_some))
    }

    /// True if no other method is better than this group on its task and corpus.
    pub(super) fn is_best(&self, group: &Group) -> bool {
        let at = |row: &BoardRow| row.cells.iter().position(|cell| cell.is_some_and(|cell| std::ptr::eq(cell, group)));
        let mut rows = self.rows.iter().filter(|row| row.metric == group.runs[0].scores.primary);
        rows.any(|row| at(row).is_some_and(|method| row.is_best(method)))
    }

    /// Mean rank of each method over the tasks on which all methods have a score, and the number of these tasks. Equally good methods
    /// share the mean of their ranks; further metrics of a task do not count.
    pub(super) fn ranks(&self) -> (Vec<(String, f64)>, usize) {
        let of_task =
            |row: &&BoardRow| row.cells.iter().flatten().next().is_some_and(|group| group.runs[0].scores.primary == row.metric);
        let rows: Vec<&BoardRow> = self.rows.iter().filter(of_task).collect();
        let ranked: Vec<usize> = (0..self.methods.len()).filter(|at| rows.iter().any(|row| row.ranking.contains(at))).collect();
        let complete: Vec<&&BoardRow> = rows.iter().filter(|row| row.ranking.len() == ranked.len()).collect();
        let mean = |&method: &usize| {
            let of_row = |row: &&&BoardRow| {
                let value = |at: usize| row.cells[at].map_or(f64::NAN, |group| group.mean(row.metric));
                let own = value(method);
                let better = ranked.iter().filter(|other| row.metric.improves(value(**other), own)).count();
                let alike = ranked.iter().filter(|other| value(**other).total_cmp(&own).is_eq()).count();
                better as f64 + f64::midpoint(alike as f64, 1.0)
            };
            let sum: f64 = complete.iter().map(of_row).sum();
            (self.methods[method].clone(), sum / complete.len().max(1) as f64)
        };
        (ranked.iter().map(mean).collect(), complete.len())
    }

    /// For the picture.
    pub(super) fn heat(&self) -> Vec<HeatRow> {
        let row = |row: &BoardRow| {
            let cell = |(at, cell): (usize, Option<&Group>)| {
                cell.map(|group| HeatCell {
                    text: group.print(row.metric),
                    value: group.mean(row.metric),
                    best: row.is_best(at),
                    clear: row.is_clear(),
                })
            };
            HeatRow { name: row.name(), metric: row.metric, cells: row.cells.iter().copied().enumerate().map(cell).collect() }
        };
        self.rows.iter().map(row).collect()
    }
}

/// The axes beside those that have a column of their own.
fn others(run: &Run) -> String {
    run.telling.iter().map(|(axis, value)| format!("{axis} {value}")).collect::<Vec<_>>().join(", ")
}

impl BoardRow<'_> {
    fn rank(&mut self, methods: &[String], params: &ReportTable) {
        let mean = |cells: &[Option<&Group>], at: usize| cells[at].map_or(f64::NAN, |group| group.mean(self.metric));
        let mut ranking: Vec<usize> = (0..self.cells.len())
            .filter(|&at| !params.anchors.contains(&methods[at]) && mean(&self.cells, at).is_finite())
            .collect();
        ranking.sort_by(|&a, &b| {
            let order = mean(&self.cells, a).total_cmp(&mean(&self.cells, b));
            let best_first = if self.metric.direction() == Direction::HigherIsBetter { order.reverse() } else { order };
            best_first.then(a.cmp(&b))
        });
        self.ranking = ranking;
        let Some((&best, others)) = self.ranking.split_first() else { return };
        let values = |at: usize| self.cells[at].map_or_else(Vec::new, |group| group.values(self.metric));
        let all: Vec<Vec<f64>> = self.ranking.iter().map(|at| values(*at)).collect();
        let contest = |&other: &usize| {
            let groups = (self.cells[best].expect("it was ranked"), self.cells[other].expect("it was ranked"));
            let noise = noise(&values(best), &values(other), &all);
            let outcome = contest(groups.0, groups.1, self.metric, params.rounds, noise);
            Contest { best: methods[best].clone(), other: methods[other].clone(), outcome }
        };
        self.contests = others.iter().map(contest).collect();
    }

    /// True if no other method is better.
    pub(super) fn is_best(&self, method: usize) -> bool {
        let value = |method: usize| self.cells[method].map(|group| group.mean(self.metric));
        let best = self.ranking.first().and_then(|best| value(*best));
        let mine = value(method);
        self.ranking.len() > 1
            && self.ranking.contains(&method)
            && best.zip(mine).is_some_and(|(best, mine)| mine.is_finite() && !self.metric.improves(best, mine))
    }

    /// True if the best is better than the runner-up, over seeds and utterances.
    pub(super) fn is_clear(&self) -> bool {
        let outcome = self.contests.first().and_then(|contest| contest.outcome.as_ref().ok());
        outcome.is_some_and(|paired| paired.winner(LEVEL).is_some())
    }

    /// `keyword spotting, fsdd`
    pub(super) fn name(&self) -> String {
        let parts = [spaced(&self.task), self.corpus.clone(), self.others.clone()];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty() && part != NONE).collect();
        let name = if parts.is_empty() { self.metric.title().to_owned() } else { parts.join(", ") };
        match self.metric {
            Metric::SlotValueCer => format!("{name}, values"),
            Metric::SpeakerSimilarity | Metric::Mcd | Metric::MacroF1 if name != self.metric.title() => {
                format!("{name}, {}", self.metric)
            }
            _ => name,
        }
    }
}

/// Degrees of freedom from which on the noise of the two methods alone is known well enough.
const ENOUGH_DEGREES: u32 = 10;

/// Noise of seeds of two methods; that of all methods of the row where the two have too few seeds.
fn noise(first: &[f64], second: &[f64], all: &[Vec<f64>]) -> SeedNoise {
    let own = SeedNoise::pooled([first, second]);
    if own.degrees >= ENOUGH_DEGREES { own } else { SeedNoise::pooled(all.iter().map(Vec::as_slice)) }
}

/// Compares the seeds that both have, together.
fn contest(first: &Group, second: &Group, metric: Metric, rounds: u32, noise: SeedNoise) -> Result<Paired, CompareError> {
    let partner = |run: &&Run| second.runs.iter().find(|other| other.seed == run.seed);
    let pairs = first.runs.iter().filter_map(|run| Some((run.evidence.as_ref()?, partner(run)?.evidence.as_ref()?)));
    compare(&pairs.collect::<Vec<_>>(), metric, units(first), rounds, 0, Some(noise))
}

impl Contest {
    /// One sentence, without the row's name.
    pub(super) fn sentence(&self) -> String {
        let Self { best, other, outcome } = self;
        let paired = match outcome {
            Ok(paired) => paired,
            Err(CompareError::Empty) => return format!("{best} against {other}: not compared, no seed in common"),
            Err(error) => return format!("{best} against {other}: not compared, {error}"),
        };
        let counts = paired.better_on.map(|(more, less)| format!("ahead on {more}, behind on {less} of {}; ", paired.utterances));
        let (counts, test) = (counts.unwrap_or_default(), paired.test.title());
        let matched = paired.matched_pairs.map(|p| format!(", matched pairs {}", print_p(p))).unwrap_or_default();
        let verdict = paired.verdict(LEVEL, "better", "worse");
        format!("{best} against {other}: {verdict} ({counts}utterances alone: {}, {test}{matched})", print_p(paired.p))
    }
}
