//! `sure compare`

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use scoring::evidence::{FILE_NAME, read};
use scoring::significance::{Paired, Units, compare as test, print_p};
use scoring::{Metric, score};
use serde_json::json;

use crate::artifacts::{self, Left};
use crate::cli::Place;
use crate::commands::runs;
use crate::console::fit_stdout;
use crate::opening::{Access, open_store};
use crate::problem::problem;
use crate::settings::Settings;

/// Differences with a smaller probability count as shown.
const LEVEL: f64 = 0.05;

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// `lora`, `score[method=lora]` or `keyword_spotting:score[method=lora]`; without a workflow, that of the last run. A node that trains
    /// or evaluates stands for the score of it. `12:lora` is that of run 12, and `12` all of run 12
    first: String,
    /// Nodes to compare it with; several seeds on both sides are compared seed by seed
    second: String,
    /// Metric to compare by: `accuracy`, `wer`, ... [default: every metric that both have]
    #[arg(long)]
    metric: Option<String>,
    /// Unit that is swapped as a whole in the test of significance
    #[arg(long, value_enum, default_value_t = By::Utterance)]
    by: By,
    /// Rounds of the test
    #[arg(long, default_value_t = 10_000)]
    rounds: u32,
    /// Where its generator of random numbers starts
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Utterances
    Utterance,
    /// Speakers with all that they say
    Speaker,
}

pub(crate) fn compare(args: &CompareArgs) -> Result<ExitCode> {
    let (first, second) = (find(&args.first, &args.place)?, find(&args.second, &args.place)?);
    let mut out = io::stdout().lock();
    let mut all = vec![];
    let groups = groups(&first, &second, args)?;
    for pairs in &groups {
        let tested = tested(pairs, args)?;
        if args.json {
            let (first, second): (Vec<&str>, Vec<&str>) = pairs.iter().map(|(a, b)| (&*a.node, &*b.node)).unzip();
            all.push(json!({"first": first, "second": second, "metrics": tested}));
            continue;
        }
        for (a, b) in pairs {
            writeln!(out, "{} against {}", a.shown(&args.first), b.shown(&args.second))?;
        }
        writeln!(out)?;
        writeln!(out, "{}\n", fit_stdout(&lines(&tested).join("\n")))?;
    }
    if args.json {
        let all = if is_run(&args.first) && is_run(&args.second) { all.into() } else { all.remove(0) };
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let p = "p: chance of a difference at least as large if both were equally good, not corrected for several metrics.";
    writeln!(out, "{}", fit_stdout(p))?;
    if groups.iter().any(|pairs| pairs.len() == 1) {
        let seeds = "One seed: a difference may come from the seed. Several seeds decide: `sure run WORKFLOW --set seed=1,2,3`.";
        writeln!(out, "{}", fit_stdout(seeds))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `12:lora` as run 12 and `lora`; `12` as run 12 and all of it.
fn run_and_rest(given: &str) -> Option<(i64, Option<&str>)> {
    let (run, rest) = given.split_once(':').map_or((given, None), |(run, rest)| (run, Some(rest)));
    run.parse().ok().map(|run| (run, rest))
}

/// True if a whole run is named.
fn is_run(given: &str) -> bool {
    matches!(run_and_rest(given), Some((_, None)))
}

/// The scores that a node, a value of the matrix or a run names.
fn find(given: &str, place: &Place) -> Result<Vec<Left>> {
    let Some((number, rest)) = run_and_rest(given) else {
        return artifacts::find(given, place, FILE_NAME, "scores");
    };
    let store = open_store(&Settings::load(&place.machine, &place.corpus)?, Access::Read)?;
    let run = runs::find(&store, number)?;
    let all = artifacts::scored(&store, run.id)?;
    let names: Vec<String> = all.iter().map(|left| left.node.clone()).collect();
    let found: Vec<Left> = all.into_iter().filter(|left| rest.is_none_or(|rest| artifacts::means(rest, &left.node))).collect();
    match (found.is_empty(), rest) {
        (false, _) => Ok(found),
        (true, Some(rest)) if !names.is_empty() => {
            Err(problem(format!("no node `{rest}` in run {number}"), format!("there are {}", names.join(", "))))
        }
        (true, _) => {
            let message = format!("the store has no scores of run {number}: it made none, or `sure store gc` removed them");
            Err(problem(message, "`sure runs --scores` lists runs with their scores"))
        }
    }
}

impl Left {
    /// Name for people: with the number of the run, if that is how it was named.
    fn shown(&self, given: &str) -> String {
        run_and_rest(given).map_or_else(|| self.node.clone(), |(run, _)| format!("{run}:{}", self.node))
    }
}

/// The pairs that are tested together: all; of two whole runs those at one point of the matrix.
fn groups<'a>(first: &'a [Left], second: &'a [Left], args: &CompareArgs) -> Result<Vec<Vec<(&'a Left, &'a Left)>>> {
    if !(is_run(&args.first) && is_run(&args.second)) {
        return Ok(vec![pair(first, second, args)?]);
    }
    let mut groups: BTreeMap<String, Vec<(&Left, &Left)>> = BTreeMap::new();
    for left in first {
        if let Some(other) = second.iter().find(|other| other.node == left.node) {
            groups.entry(artifacts::without_seed(&left.node)).or_default().push((left, other));
        }
    }
    if groups.is_empty() {
        let message = format!("runs {} and {} have no node in common that scores", args.first, args.second);
        return Err(problem(message, "name a node of each: `12:lora`"));
    }
    Ok(groups.into_values().collect())
}

/// Tests pairs of scores together.
fn tested(pairs: &[(&Left, &Left)], args: &CompareArgs) -> Result<Vec<Paired>> {
    let mut evidence = vec![];
    for (a, b) in pairs {
        evidence.push((read(&a.folder.join(FILE_NAME))?, read(&b.folder.join(FILE_NAME))?));
    }
    let evidence: Vec<_> = evidence.iter().map(|(a, b)| (a, b)).collect();
    let metrics = common(args, pairs[0].0, &evidence[0].0.metrics(), &evidence[0].1.metrics())?;
    let by = match args.by {
        By::Utterance => Units::Utterance,
        By::Speaker => Units::Speaker,
    };
    let tested = metrics.into_iter().map(|metric| test(&evidence, metric, by, args.rounds, args.seed, None));
    tested.collect::<Result<_, _>>().with_context(|| format!("`{}` and `{}` cannot be compared", args.first, args.second))
}

/// Seed by seed; a single one on both sides whatever their seeds are.
fn pair<'a>(first: &'a [Left], second: &'a [Left], args: &CompareArgs) -> Result<Vec<(&'a Left, &'a Left)>> {
    if let ([a], [b]) = (first, second) {
        return Ok(vec![(a, b)]);
    }
    let names = |nodes: &[Left]| nodes.iter().map(|left| format!("`{}`", left.node)).collect::<Vec<_>>().join(", ");
    for (pattern, nodes) in [(&args.first, first), (&args.second, second)] {
        let doubled = nodes.iter().enumerate().any(|(at, left)| nodes[at + 1..].iter().any(|other| other.seed == left.seed));
        if doubled {
            let message = format!("`{pattern}` names several nodes of one seed: {}", names(nodes));
            return Err(problem(message, "name one, or one for each seed, `score[method=lora]`"));
        }
    }
    let partner = |left: &&'a Left| second.iter().find(|other| other.seed == left.seed);
    let pairs: Vec<_> = first.iter().filter_map(|left| Some((left, partner(&left)?))).collect();
    if pairs.is_empty() {
        let message = format!("no seed in common: {} against {}", names(first), names(second));
        return Err(problem(message, "name one node on each side"));
    }
    Ok(pairs)
}

/// Those asked for, else all that both have, the one that methods are compared by first.
fn common(args: &CompareArgs, first: &Left, mine: &[Metric], theirs: &[Metric]) -> Result<Vec<Metric>> {
    let Some(name) = &args.metric else { return Ok(shown(&first.folder, mine, theirs)) };
    let common: Vec<Metric> = mine.iter().copied().filter(|metric| theirs.contains(metric)).collect();
    if let Some(metric) = common.iter().find(|metric| metric.name() == name) {
        return Ok(vec![*metric]);
    }
    let known = common.iter().map(|metric| metric.name()).collect::<Vec<_>>().join(", ");
    Err(problem(format!("no metric `{name}` that both have"), format!("there are {known}")))
}

/// Metrics of two scores that people compare, the one that methods are compared by first.
pub(crate) fn shown(folder: &Path, mine: &[Metric], theirs: &[Metric]) -> Vec<Metric> {
    let primary = score::read_scores(folder).map(|scores| scores.primary).ok();
    let mut common: Vec<Metric> = mine.iter().copied().filter(|metric| theirs.contains(metric)).collect();
    common.retain(|metric| *metric != Metric::Loss && *metric != Metric::MicroF1);
    common.sort_by_key(|metric| Some(*metric) != primary);
    common
}

/// One line per metric, in columns.
fn lines(tested: &[Paired]) -> Vec<String> {
    let widest = tested.iter().map(|paired| paired.metric.title_with_unit().chars().count()).max().unwrap_or(0);
    let line = |paired: &Paired| {
        let (metric, scale) = (paired.metric, paired.metric.scale());
        let difference = format!("{:+.*}", metric.decimals(), scale * (paired.second - paired.first));
        let p = print_p(paired.p);
        let verdict = paired.verdict(LEVEL, "the first is better", "the second is better");
        let counts = paired.better_on.map(|(first, second)| format!("; ahead on {first} and {second} of {}", paired.utterances));
        let matched = paired.matched_pairs.map(|p| format!(", matched pairs {}", print_p(p)));
        let (title, first, second) = (metric.title_with_unit(), metric.print(paired.first), metric.print(paired.second));
        let space = " ".repeat(widest - title.chars().count());
        format!(
            "{title}{space}  {first:>7}  {second:>7}  {difference:>8}  {verdict} (utterances alone: {p}, {}{}{})",
            paired.test.title(),
            matched.unwrap_or_default(),
            counts.unwrap_or_default()
        )
    };
    let head = format!("{}  {:>7}  {:>7}  {:>8}", " ".repeat(widest), "first", "second", "change");
    std::iter::once(head).chain(tested.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use scoring::significance::{TTest, Test};

    use super::*;

    #[test]
    fn a_line_says_all_there_is_to_say() {
        let over_seeds = |p| Some(TTest { t: 2.0, degrees: Some(10), p });
        let paired = |metric, p| Paired {
            metric,
            first: 0.9,
            second: 0.95,
            p,
            test: Test::Mcnemar,
            over_seeds: over_seeds(p),
            matched_pairs: None,
            better_on: Some((3, 12)),
            utterances: 300,
            seeds: 2,
        };
        let found = lines(&[paired(Metric::Accuracy, 0.0351), paired(Metric::Wer, 0.2)]);
        assert_eq!(
            found[1],
            "accuracy (%)    90.00    95.00     +5.00  the second is better, p = 0.035 over 2 seeds and the utterances (utterances \
             alone: p = 0.035, McNemar's exact test; ahead on 3 and 12 of 300)"
        );
        assert!(found[2].starts_with("WER (%)         90.00    95.00     +5.00  no difference shown, p = 0.200"), "{}", found[2]);
        let alone = lines(&[Paired { seeds: 1, over_seeds: None, ..paired(Metric::Accuracy, 0.0351) }]);
        assert!(alone[1].contains("  not decided, one seed (utterances alone: p = 0.035"), "{}", alone[1]);
        assert_eq!(found[0], "                first   second    change");
    }
}
