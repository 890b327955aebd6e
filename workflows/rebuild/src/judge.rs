//! Comparison of the cells of a rebuild with their last result and with their baseline: states, noise, verdicts, causes.
//!
//! The rule is in `docs/rebuild.md`. The statistics are those of [`scoring::significance`]; this module finds their inputs in the
//! history.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use scoring::Metric;
use scoring::evidence::Evidence;
use scoring::history::{self, Cause, Change, Lineage, Measured, Rule, State, Verdict, causes};
use scoring::significance::{SeedNoise, TTest, Units, comparable, t_test, utterance_variance};

use crate::causes::name_causes;
use crate::history::{History, KEPT};
use crate::record::{Cell, CellDetail, Confirmation, Cost, Detail, Ended, Finding, NamedCause, Numbers, SeedDetail, Source};

/// Result of a cell in this rebuild, before it is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct CellNow {
    /// Task.
    pub task: String,
    /// Corpus.
    pub corpus: String,
    /// Method.
    pub method: String,
    /// Other axes.
    pub others: BTreeMap<String, String>,
    /// Node that scores it, without its seed.
    pub node: String,
    /// Metric; none when nothing was scored.
    pub metric: Option<Metric>,
    /// Number of utterances.
    pub utterances: u64,
    /// Error, when a seed has no result.
    pub failed: Option<String>,
    /// Results by seed.
    pub seeds: BTreeMap<String, SeedNow>,
    /// Everything that it was made of.
    pub lineage: Lineage,
    /// Cost of each training that ran, by its node without the seed.
    pub costs: BTreeMap<String, Cost>,
}

/// Result of one seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeedNow {
    /// Value.
    pub value: f64,
    /// Blob with the evidence.
    pub evidence: String,
    /// Details.
    pub detail: SeedDetail,
}

/// Results of a rebuild, before they are judged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// Id of the rebuild.
    pub id: String,
    /// Cells by key.
    pub cells: BTreeMap<String, CellNow>,
    /// Sources by place.
    pub sources: BTreeMap<String, Source>,
}

/// Cells of a rebuild with their verdicts, and their details for the history.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// Cells by key.
    pub cells: BTreeMap<String, Cell>,
    /// Details.
    pub detail: Detail,
    /// Cells whose baseline becomes this rebuild, with the reason.
    pub new_baselines: BTreeMap<String, String>,
    /// Losses to be confirmed with new seeds, the largest first.
    pub to_confirm: Vec<String>,
    /// Losses beyond those that are confirmed in one rebuild.
    pub unconfirmed: Vec<String>,
    /// Sentences about evidence that could not be read.
    pub notices: Vec<String>,
}

/// Trainings whose losses are confirmed in one rebuild; a training may have cells of several metrics.
const MOST_CONFIRMED: usize = 4;
/// Degrees of freedom below which the noise is taken from other methods of the task and corpus, too.
const ENOUGH_DEGREES: u32 = 10;
/// Speakers from which the variance over speakers is known well enough to be used alone.
const ENOUGH_SPEAKERS: usize = 8;
/// Probability below which old and new seeds together confirm a loss.
const CONFIRMED: f64 = 0.05;

/// Judges results against a history.
pub struct Judge<'a> {
    history: &'a History,
    rule: &'a Rule,
    now: &'a Results,
    evidence: RefCell<BTreeMap<String, Option<Rc<Evidence>>>>,
    details: RefCell<BTreeMap<String, Rc<Detail>>>,
    missing: RefCell<BTreeSet<String>>,
}

/// An earlier result of a cell.
struct Earlier<'a> {
    ended: &'a Ended,
    cell: &'a Cell,
    detail: Option<CellDetail>,
}

impl Judged {
    /// Chooses which losses are confirmed with new seeds, the surest first: those of as many trainings as a rebuild may repeat.
    fn choose_to_confirm(&mut self, mut losses: Vec<(f64, String)>) {
        losses.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        let mut trained = BTreeSet::new();
        for (_, key) in losses {
            let cell = &self.cells[&key];
            let training = (cell.task.clone(), cell.corpus.clone(), cell.node.clone());
            if trained.contains(&training) || trained.len() < MOST_CONFIRMED {
                trained.insert(training);
                self.to_confirm.push(key);
            } else {
                self.unconfirmed.push(key);
            }
        }
    }
}

impl<'a> Judge<'a> {
    /// Prepares for judging.
    pub fn new(history: &'a History, rule: &'a Rule, now: &'a Results) -> Self {
        let (evidence, details, missing) = Default::default();
        Self { history, rule, now, evidence, details, missing }
    }

    /// Judges all cells.
    pub fn judge(&self) -> Judged {
        let previous = self.history.log.ended().rev().find(|ended| ended.outcome.is_end() && !ended.fresh);
        let gone = previous.into_iter().flat_map(|ended| &ended.cells);
        let gone = gone.filter(|(key, cell)| cell.last.verdict != Verdict::Gone && !self.now.cells.contains_key(*key));
        let gone = gone.map(|(key, _)| key);
        let keys: Vec<&String> = self.now.cells.keys().chain(gone).collect();
        let last: Vec<Option<Earlier<'_>>> = keys.iter().map(|key| self.last(key)).collect();
        let base: Vec<Option<Earlier<'_>>> = keys.iter().map(|key| self.baseline(key)).collect();
        let against_last = self.findings(&keys, &last);
        // A result that stays has been compared with its baseline before.
        let stays = |at: usize| {
            let finding = &last[at].as_ref()?.cell.baseline;
            let same_baseline = finding.against.as_deref() == base[at].as_ref().map(|earlier| earlier.ended.id.as_str());
            (against_last[at].0.verdict == Verdict::Same && same_baseline).then(|| finding.clone())
        };
        let kept: Vec<Option<Finding>> = (0..keys.len()).map(stays).collect();
        let open: Vec<usize> = (0..keys.len()).filter(|at| kept[*at].is_none()).collect();
        let subset: Vec<&String> = open.iter().map(|at| keys[*at]).collect();
        let (mut rest, mut base) = (vec![], base);
        for at in &open {
            rest.push(base[*at].take());
        }
        let mut against_base: Vec<(Finding, Vec<NamedCause>, bool)> =
            kept.iter().map(|_| (Finding::of(Verdict::Same), vec![], false)).collect();
        for (at, found) in open.iter().zip(self.findings(&subset, &rest)) {
            against_base[*at] = found;
        }
        for (at, finding) in kept.into_iter().enumerate() {
            if let Some(finding) = finding {
                against_base[at].0 = finding;
            }
        }
        let is_open: BTreeSet<usize> = open.into_iter().collect();
        let mut judged = Judged::default();
        let mut losses = vec![];
        for (at, key) in keys.iter().enumerate() {
            let ((found, why, intended), (to_base, base_why, base_intended)) = (&against_last[at], &against_base[at]);
            let fresh_base = is_open.contains(&at);
            let is_worse = found.verdict == Verdict::Worse || (fresh_base && to_base.verdict == Verdict::Worse);
            let told_by_base = found.verdict != Verdict::Worse && fresh_base && to_base.verdict == Verdict::Worse;
            let (cause, meant) = if told_by_base { (base_why, *base_intended) } else { (why, *intended) };
            let Some(now) = self.now.cells.get(*key) else {
                let Some(earlier) = &last[at] else { continue };
                let mut cell = earlier.cell.clone();
                (cell.values, cell.evidence, cell.failed, cell.confirmation, cell.alarm) = Default::default();
                (cell.last, cell.baseline, cell.causes, cell.costs) =
                    (found.clone(), Finding::of(Verdict::Gone), vec![], BTreeMap::new());
                judged.cells.insert((*key).clone(), cell);
                continue;
            };
            let same = found.verdict == Verdict::Same;
            let since =
                last[at].as_ref().filter(|_| same).map_or_else(|| self.now.id.clone(), |earlier| earlier.cell.since.clone());
            let cell = Cell {
                task: now.task.clone(),
                corpus: now.corpus.clone(),
                method: now.method.clone(),
                others: now.others.clone(),
                node: now.node.clone(),
                metric: now.metric.or_else(|| last[at].as_ref().and_then(|earlier| earlier.cell.metric)),
                values: now.seeds.iter().map(|(seed, result)| (seed.clone(), result.value)).collect(),
                evidence: now.seeds.iter().map(|(seed, result)| (seed.clone(), result.evidence.clone())).collect(),
                utterances: now.utterances,
                failed: now.failed.clone(),
                since,
                last: found.clone(),
                baseline: to_base.clone(),
                causes: cause.clone(),
                confirmation: None,
                alarm: is_worse && meant,
                costs: now.costs.clone(),
            };
            if is_worse && !meant {
                let test = if told_by_base { to_base } else { found };
                losses.push((test.test.map_or(0.0, |test| test.p), (*key).clone()));
            }
            if let Some(why) = new_baseline(now, self.baseline(key).is_some(), to_base, base_why, *base_intended) {
                judged.new_baselines.insert((*key).clone(), why);
            }
            let seeds = now.seeds.iter().map(|(seed, result)| (seed.clone(), result.detail.clone())).collect();
            let mut lineage = now.lineage.clone();
            if let Some(before) = last[at].as_ref().filter(|_| same).and_then(|earlier| earlier.detail.as_ref()) {
                lineage = before.lineage.clone(); // program and machine are those that made the result
            }
            judged.detail.cells.insert((*key).clone(), CellDetail { lineage, seeds });
            judged.cells.insert((*key).clone(), cell);
        }
        judged.choose_to_confirm(losses);
        let missing = self.missing.borrow();
        judged.notices = missing
            .iter()
            .map(|name| format!("blob {name} of the history is missing or damaged: cells that need it are not judged"))
            .collect();
        judged
    }

    /// Tests a loss again with results of seeds that the cell did not have. The result replaces the verdict where it says otherwise.
    pub fn confirm(&self, cell: &mut Cell, key: &str, new: &BTreeMap<String, SeedNow>) {
        let by_last = cell.last.verdict == Verdict::Worse;
        let earlier = if by_last { self.last(key) } else { self.baseline(key) };
        let test = earlier.zip(cell.metric).and_then(|(earlier, metric)| self.test_all(cell, key, &earlier, metric, new));
        let finding = if by_last { &mut cell.last } else { &mut cell.baseline };
        let first = finding.test.map_or(0.0, |test| test.difference);
        let confirmed = test.is_some_and(|test| test.p < CONFIRMED && test.t.signum().total_cmp(&first.signum()).is_eq());
        cell.confirmation = Some(Confirmation {
            values: new.iter().map(|(seed, result)| (seed.clone(), result.value)).collect(),
            confirmed,
            p: test.map(|test| test.p),
        });
        cell.alarm = confirmed;
        if !confirmed {
            for finding in [&mut cell.last, &mut cell.baseline] {
                if finding.verdict == Verdict::Worse {
                    finding.verdict = Verdict::Moved;
                }
            }
        }
    }

    /// Test over all seeds, old and new ones. The earlier result has no new ones, so every present result is set against every earlier.
    fn test_all(
        &self,
        cell: &Cell,
        key: &str,
        earlier: &Earlier<'_>,
        metric: Metric,
        new: &BTreeMap<String, SeedNow>,
    ) -> Option<TTest> {
        let now = self.now.cells.get(key)?;
        let present: Vec<(&str, f64)> =
            now.seeds.values().chain(new.values()).map(|seed| (seed.evidence.as_str(), seed.value)).collect();
        let before: Vec<(&str, f64)> =
            earlier.cell.values.iter().map(|(seed, value)| (earlier.cell.evidence[seed].as_str(), *value)).collect();
        if new.is_empty() || before.is_empty() {
            return None;
        }
        let mean = |all: &[(&str, f64)]| all.iter().map(|(_, value)| value).sum::<f64>() / all.len() as f64;
        let difference = mean(&present) - mean(&before);
        let mut pairs = vec![];
        for (one, _) in &present {
            for (other, _) in &before {
                pairs.push((self.evidence(one)?, self.evidence(other)?));
            }
        }
        let variance = Self::variance_of(&pairs, metric)?;
        let mut noise = self.noise(key, metric, Some(&present.iter().map(|(_, value)| *value).collect::<Vec<_>>()));
        // The variance of the difference between means of two sizes, in the form of as many pairs as there are earlier seeds.
        let (count, others) = (before.len() as f64, present.len() as f64);
        noise.variance *= count * (1.0 / count + 1.0 / others) / 2.0;
        let trained = cell.last.test.or(cell.baseline.test).is_none_or(|test| test.degrees.is_some());
        t_test(difference, variance, before.len(), trained.then_some(noise))
    }

    fn last(&self, key: &str) -> Option<Earlier<'a>> {
        let (ended, cell) = self.history.log.results(key).rev().find(|(ended, _)| !ended.fresh)?;
        Some(Earlier { ended, cell, detail: self.detail(ended, key) })
    }

    fn baseline(&self, key: &str) -> Option<Earlier<'a>> {
        let ended = self.history.log.find(&self.history.baselines.get(key)?.rebuild)?;
        let cell = ended.cells.get(key).filter(|cell| !cell.values.is_empty())?;
        Some(Earlier { ended, cell, detail: self.detail(ended, key) })
    }

    fn detail(&self, ended: &Ended, key: &str) -> Option<CellDetail> {
        let name = ended.detail.as_ref()?;
        let mut details = self.details.borrow_mut();
        if !details.contains_key(name) {
            let detail = self.history.detail(name).unwrap_or_else(|_| {
                self.missing.borrow_mut().insert(name.clone());
                Detail::default()
            });
            details.insert(name.clone(), Rc::new(detail));
        }
        details[name].cells.get(key).cloned()
    }

    fn evidence(&self, name: &str) -> Option<Rc<Evidence>> {
        let mut known = self.evidence.borrow_mut();
        let read = || {
            let read = self.history.evidence(name).ok().map(Rc::new);
            if read.is_none() {
                self.missing.borrow_mut().insert(name.to_owned());
            }
            read
        };
        known.entry(name.to_owned()).or_insert_with(read).clone()
    }

    /// Finding, causes and whether they were intended, for each key.
    fn findings(&self, keys: &[&String], earlier: &[Option<Earlier<'_>>]) -> Vec<(Finding, Vec<NamedCause>, bool)> {
        let changes: Vec<Change> = keys.iter().zip(earlier).map(|(key, earlier)| self.change(key, earlier.as_ref())).collect();
        let judgements = history::judge(&changes, self.rule);
        let found = changes.iter().zip(judgements).zip(keys.iter().zip(earlier));
        let finding =
            |((change, judgement), (key, earlier)): ((&Change, history::Judgement), (&&String, &Option<Earlier<'_>>))| {
                let test = match (&change.state, judgement.test) {
                    (State::Measured(found), Some(test)) => Some(Numbers {
                        difference: found.difference,
                        utterance_variance: found.utterance_variance,
                        training_variance: found.noise.map_or(0.0, |noise| 2.0 * noise.variance / found.seeds as f64),
                        seeds: found.seeds,
                        degrees: test.degrees,
                        p: test.p,
                    }),
                    _ => None,
                };
                let against = earlier.as_ref().map(|earlier| earlier.ended.id.clone());
                let unchanged = matches!(change.state, State::Same | State::New | State::Gone | State::Failed);
                let (causes, intended) = match (unchanged, earlier, self.now.cells.get(*key)) {
                    (false, Some(earlier), Some(now)) => self.causes(now, earlier),
                    _ => (vec![], false),
                };
                (Finding { verdict: judgement.verdict, against, test }, causes, intended)
            };
        found.map(finding).collect()
    }

    fn causes(&self, now: &CellNow, earlier: &Earlier<'_>) -> (Vec<NamedCause>, bool) {
        let Some(detail) = &earlier.detail else {
            let cause =
                NamedCause { kind: "unexplained".to_owned(), text: "the details of the earlier result are missing".to_owned() };
            return (vec![cause], false);
        };
        let found = causes(&detail.lineage, &now.lineage, true);
        let is_intended = !found.is_empty() && found.iter().all(Cause::is_intended);
        let named =
            name_causes(&found, (&detail.lineage, &earlier.ended.sources), (&now.lineage, &self.now.sources), self.history);
        (named, is_intended)
    }

    fn change(&self, key: &str, earlier: Option<&Earlier<'_>>) -> Change {
        let now = self.now.cells.get(key);
        let metric = now.and_then(|now| now.metric).or_else(|| earlier.and_then(|earlier| earlier.cell.metric));
        let state = match (now, earlier) {
            (None, _) => State::Gone,
            (Some(now), _) if now.seeds.is_empty() => State::Failed,
            (Some(_), None) => State::New,
            (Some(now), Some(earlier)) => self.state(key, now, earlier),
        };
        Change { metric: metric.unwrap_or(Metric::Accuracy), state }
    }

    fn state(&self, key: &str, now: &CellNow, earlier: &Earlier<'_>) -> State {
        let common: Vec<&String> = now.seeds.keys().filter(|seed| earlier.cell.values.contains_key(*seed)).collect();
        let Some(metric) = now.metric.filter(|metric| earlier.cell.metric == Some(*metric)).filter(|_| !common.is_empty()) else {
            return State::OtherUtterances;
        };
        let unknown =
            Measured { difference: 0.0, utterance_variance: 0.0, seeds: 1, noise: Some(SeedNoise { variance: 0.0, degrees: 0 }) };
        let before = |seed: &String| earlier.detail.as_ref().and_then(|detail| detail.seeds.get(seed));
        let same_evidence = common.iter().all(|seed| earlier.cell.evidence.get(*seed) == Some(&now.seeds[*seed].evidence));
        if common.iter().any(|seed| before(seed).is_none()) {
            return if same_evidence { State::Same } else { State::Measured(unknown) };
        }
        let equal = |of: fn(&SeedDetail) -> &String| {
            common.iter().all(|seed| before(seed).is_some_and(|before| of(before) == of(&now.seeds[*seed].detail)))
        };
        let same_training = equal(|seed| &seed.trained);
        if same_training && (same_evidence || equal(|seed| &seed.scored)) {
            return State::Same;
        }
        if !equal(|seed| &seed.utterance_set) {
            return State::OtherUtterances;
        }
        let mut pairs = vec![];
        for seed in &common {
            let both = self.evidence(&now.seeds[*seed].evidence).zip(self.evidence(&earlier.cell.evidence[*seed]));
            let Some(both) = both else { return State::Measured(unknown) };
            if comparable(&both.0, &both.1).is_err() {
                return State::OtherUtterances;
            }
            pairs.push(both);
        }
        let Some(variance) = Self::variance_of(&pairs, metric) else { return State::Measured(unknown) };
        let difference =
            common.iter().map(|seed| now.seeds[*seed].value - earlier.cell.values[*seed]).sum::<f64>() / common.len() as f64;
        let noise = (!same_training).then(|| self.noise(key, metric, None));
        State::Measured(Measured { difference, utterance_variance: variance, seeds: common.len(), noise })
    }

    /// Variance of the mean difference when speakers are drawn again; where they are few or not known, when utterances are, if that is
    /// more.
    fn variance_of(pairs: &[(Rc<Evidence>, Rc<Evidence>)], metric: Metric) -> Option<f64> {
        let pairs: Vec<(&Evidence, &Evidence)> = pairs.iter().map(|(one, other)| (&**one, &**other)).collect();
        let speakers = pairs.first()?.0.speakers.as_ref().map(|speakers| speakers.iter().collect::<BTreeSet<_>>().len());
        let by_speaker = || utterance_variance(&pairs, metric, Units::Speaker, 0);
        match speakers {
            Some(count) if count >= ENOUGH_SPEAKERS => by_speaker(),
            Some(2..) => Some(utterance_variance(&pairs, metric, Units::Utterance, 0)?.max(by_speaker()?)),
            _ => utterance_variance(&pairs, metric, Units::Utterance, 0),
        }
    }

    /// Noise of seeds of a cell: over the seeds of its last distinct results and the present one; below [`ENOUGH_DEGREES`] degrees of
    /// freedom also of the other methods of its task and corpus. With one seed, from the changes between successive results.
    fn noise(&self, key: &str, metric: Metric, present: Option<&[f64]>) -> SeedNoise {
        let siblings = || {
            let own = self.now.cells.get(key);
            let is_sibling = |(other, cell): &(&String, &CellNow)| {
                own.is_some_and(|own| {
                    *other != key && own.task == cell.task && own.corpus == cell.corpus && cell.metric == Some(metric)
                })
            };
            self.now.cells.iter().filter(is_sibling).map(|(key, _)| key.as_str()).collect::<Vec<_>>()
        };
        let mut groups = self.groups(key, present);
        let mut noise = SeedNoise::pooled(groups.iter().map(Vec::as_slice));
        if noise.degrees > 0 {
            if noise.degrees < ENOUGH_DEGREES {
                groups.extend(siblings().into_iter().flat_map(|sibling| self.groups(sibling, None)));
                noise = SeedNoise::pooled(groups.iter().map(Vec::as_slice));
            }
            return noise;
        }
        let mut changes = self.changes(key);
        if (changes.len() as u32) < ENOUGH_DEGREES {
            changes.extend(siblings().into_iter().flat_map(|sibling| self.changes(sibling)));
        }
        SeedNoise::of_changes(&changes)
    }

    fn groups(&self, key: &str, present: Option<&[f64]>) -> Vec<Vec<f64>> {
        let distinct = self.history.log.distinct(key);
        let recent = distinct.iter().rev().take(KEPT);
        let mut groups: Vec<Vec<f64>> = recent.map(|(_, cell)| cell.values.values().copied().collect()).collect();
        let now = self.now.cells.get(key);
        let is_known = now.is_some_and(|now| {
            distinct
                .iter()
                .any(|(_, cell)| now.seeds.iter().all(|(seed, result)| cell.evidence.get(seed) == Some(&result.evidence)))
        });
        let own = now.filter(|_| !is_known).map(|now| now.seeds.values().map(|seed| seed.value).collect::<Vec<_>>());
        groups.extend(present.map(<[f64]>::to_vec).or(own));
        groups
    }

    /// Changes of single seeds between successive results that neither data nor settings explain.
    fn changes(&self, key: &str) -> Vec<f64> {
        let distinct = self.history.log.distinct(key);
        let recent = &distinct[distinct.len().saturating_sub(KEPT + 1)..];
        let mut changes = vec![];
        for pair in recent.windows(2) {
            let ((_, before), (_, after)) = (&pair[0], &pair[1]);
            let is_intended = after.causes.iter().any(|cause| cause.kind == "data" || cause.kind == "settings");
            if !is_intended && before.metric == after.metric {
                changes.extend(after.values.iter().filter_map(|(seed, value)| Some(value - before.values.get(seed)?)));
            }
        }
        changes
    }
}

/// Reason why the baseline of a cell becomes its present result: it is the first, or data or settings changed it and it is no loss.
fn new_baseline(now: &CellNow, has_one: bool, found: &Finding, causes: &[NamedCause], intended: bool) -> Option<String> {
    if now.seeds.is_empty() {
        return None;
    }
    let why = || causes.iter().map(NamedCause::print).collect::<Vec<_>>().join("; ");
    match found.verdict {
        Verdict::New if !has_one => Some("first result".to_owned()),
        Verdict::Better | Verdict::Moved | Verdict::NotComparable if intended => Some(why()),
        _ => None,
    }
}
