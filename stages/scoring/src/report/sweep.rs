//! Sweeps: groups that differ in the number of one parameter. The dev set chooses among them; the test set only reports.

use super::group::Group;
use super::{NONE, Run, spaced};
use crate::metric::Metric;
use crate::plot::{Along, Curve, CurvePanel};

/// Best value of a training on the dev set, with the metric that judged it.
pub(super) fn on_dev(run: &Run) -> Option<(Metric, f64)> {
    let training = run.scores.training.as_ref()?;
    let metric = training.get("metric")?.as_str()?;
    let metric = Metric::ALL.into_iter().find(|known| known.name() == metric)?;
    Some((metric, training.get("best_value")?.as_f64().filter(|value| value.is_finite())?))
}

/// Mean of [`on_dev`] over the seeds of a group; none where the metrics differ.
fn mean_on_dev(group: &Group) -> Option<(Metric, f64)> {
    let all: Vec<(Metric, f64)> = group.runs.iter().map(|run| on_dev(run)).collect::<Option<_>>()?;
    let (metric, _) = *all.first()?;
    all.iter().all(|one| one.0 == metric).then(|| (metric, all.iter().map(|one| one.1).sum::<f64>() / all.len() as f64))
}

/// The axes that are swept: all runs have a number there, and not all the same.
fn axes<'a>(groups: &'a [&Group]) -> Vec<&'a str> {
    let runs = || groups.iter().flat_map(|group| group.runs.iter());
    let Some(first) = runs().next() else { return Vec::new() };
    let number = |run: &Run, axis: &str| run.telling.get(axis).and_then(|value| value.parse::<f64>().ok());
    let is_swept = |axis: &&str| runs().all(|run| number(run, axis).is_some_and(f64::is_finite));
    first.telling.keys().map(String::as_str).filter(is_swept).collect()
}

/// Values that the groups of one sweep have in common.
fn key(group: &Group, axes: &[&str]) -> Vec<String> {
    let first = group.runs[0];
    let others =
        first.others.iter().filter(|(axis, _)| !axes.contains(&axis.as_str())).map(|(axis, value)| format!("{axis} {value}"));
    [first.task.clone(), first.corpus.clone(), first.method.clone()].into_iter().chain(others).collect()
}

/// Score on the dev set of a group that is part of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OnDev {
    pub(super) metric: Metric,
    pub(super) value: f64,
    /// True if no other group of its sweep is better.
    pub(super) best: bool,
}

/// By group: the score on the dev set; none where nothing is swept or no training was given.
pub(super) fn judged(groups: &[&Group]) -> Vec<Option<OnDev>> {
    let axes = axes(groups);
    if axes.is_empty() {
        return vec![None; groups.len()];
    }
    let known: Vec<_> = groups.iter().map(|group| (key(group, &axes), mean_on_dev(group))).collect();
    let judge = |(own, value): &(Vec<String>, Option<(Metric, f64)>)| {
        let (metric, value) = (*value)?;
        let rivals = known.iter().filter(|(other, _)| other == own).filter_map(|(_, other)| *other);
        let rivals: Vec<f64> = rivals.filter(|other| other.0 == metric).map(|other| other.1).collect();
        let best = rivals.len() > 1 && !rivals.iter().any(|other| metric.improves(*other, value));
        Some(OnDev { metric, value, best })
    };
    known.iter().map(judge).collect()
}

/// A panel for each swept axis of each task and corpus: a line for each method, over the seeds.
pub(super) fn panels(groups: &[Group]) -> Vec<CurvePanel> {
    let all: Vec<&Group> = groups.iter().collect();
    let mut panels: Vec<CurvePanel> = Vec::new();
    for axis in axes(&all) {
        for run in groups.iter().flat_map(|group| group.runs.iter().copied()) {
            let Some((metric, score)) = on_dev(run) else { continue };
            let Some(value) = run.telling.get(axis).and_then(|value| value.parse().ok()) else { continue };
            let title =
                [spaced(&run.task), run.corpus.clone()].into_iter().filter(|part| part != NONE).collect::<Vec<_>>().join(", ");
            let others = run.telling.iter().filter(|(name, _)| *name != axis).map(|(_, value)| value.clone());
            let label = [run.method.clone()].into_iter().chain(others).collect::<Vec<_>>().join(", ");
            let along = Along::Values(axis.to_owned());
            let at = panels.iter().position(|panel| panel.title == title && panel.metric == metric && panel.along == along);
            let at = at.unwrap_or_else(|| {
                panels.push(CurvePanel { title, metric, along, curves: Vec::new() });
                panels.len() - 1
            });
            panels[at].curves.push(Curve { label, points: vec![(value, score)] });
        }
    }
    panels
}
