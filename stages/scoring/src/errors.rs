//! Wrong answers of a model, worst first: the content of `sure errors`. Prints nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::alignment::{Cell, cells};
use crate::edit::{Edits, Step};
use crate::predictions::{Intents, Prediction, Predictions, Tagged, Transcription, Trial};
use crate::text::Unit;
use crate::verification::Trials;

/// Selection of wrong answers.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// At most so many utterances, and so many confusions.
    pub limit: usize,
    /// Unit of the errors of texts.
    pub unit: Unit,
    /// Only utterances whose id, speaker or text contains this.
    pub containing: Option<&'a str>,
}

/// Wrong answers of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Errors {
    /// One class per utterance, or one value in each of several slots.
    Classes {
        /// How many utterances were looked at.
        utterances: usize,
        /// How many of them are wrong.
        wrong: usize,
        /// Confused tokens or classes, most frequent first.
        confusions: Vec<Confused>,
        /// The wrong answers, highest loss first.
        worst: Vec<WrongClass>,
    },
    /// One text per utterance.
    Texts {
        /// How many utterances were looked at.
        utterances: usize,
        /// How many of them have an error.
        wrong: usize,
        /// All errors.
        edits: Edits,
        /// Tokens that were replaced, left out or added, most frequent first.
        confusions: Vec<Confused>,
        /// The utterances with most errors.
        worst: Vec<WrongText>,
    },
    /// Trials.
    Trials {
        /// How many trials were looked at.
        trials: usize,
        /// The equal error rate; null without trials of both kinds.
        eer: f64,
        /// Trials of one voice with the lowest scores.
        rejected: Vec<WrongTrial>,
        /// Trials of two voices with the highest scores.
        accepted: Vec<WrongTrial>,
    },
}

/// One taken for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confused {
    /// The slot, where there are several.
    pub slot: Option<String>,
    /// Right token; none for an insertion.
    pub reference: Option<String>,
    /// Answered token; none for a deletion.
    pub hypothesis: Option<String>,
    /// How often.
    pub times: u64,
    /// How often the right one occurs; none for something added.
    pub of: Option<u64>,
}

/// An utterance with a wrong class, or wrong values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WrongClass {
    /// The utterance.
    pub id: String,
    /// Speaker.
    pub speaker: Option<String>,
    /// The loss; null where it is not a number.
    pub loss: f32,
    /// Slot (none where there is one only), right and answered value of all that is wrong.
    pub answers: Vec<(Option<String>, String, String)>,
}

/// An utterance with errors in its text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WrongText {
    /// The utterance.
    pub id: String,
    /// Speaker.
    pub speaker: Option<String>,
    /// Errors.
    pub edits: Edits,
    /// Reference and hypothesis side by side.
    pub alignment: Vec<Aligned>,
}

/// A column of an alignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Aligned {
    /// `match`, `substitution`, `deletion`, `insertion`
    pub step: &'static str,
    /// Empty for an insertion.
    pub reference: String,
    /// Empty for a deletion.
    pub hypothesis: String,
}

/// A trial on the wrong side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WrongTrial {
    /// The recording of the voice that is claimed.
    pub enrol: String,
    /// The recording to verify.
    pub test: String,
    /// How alike they seemed.
    pub score: f64,
}

impl Errors {
    /// Sorts out what is wrong.
    pub fn of(predictions: &Predictions, request: Request<'_>) -> Self {
        match predictions {
            Predictions::Classes(rows) => of_classes(rows, request),
            Predictions::Intents(rows) => of_intents(rows, request),
            Predictions::Tags(rows) => of_tags(rows, request),
            Predictions::Texts(rows) => of_texts(rows, request),
            Predictions::Trials(rows) => of_trials(rows, request),
        }
    }
}

impl Request<'_> {
    fn wants(&self, parts: &[&str], speaker: Option<&String>) -> bool {
        let Some(wanted) = self.containing else { return true };
        parts.iter().any(|part| part.contains(wanted)) || speaker.is_some_and(|speaker| speaker.contains(wanted))
    }
}

/// Slot, reference and hypothesis, as in [`Confused`].
type Pair = (Option<String>, Option<String>, Option<String>);

/// Counts what was taken for what.
#[derive(Default)]
struct Confusions {
    times: BTreeMap<Pair, u64>,
    of: BTreeMap<(Option<String>, String), u64>,
}

impl Confusions {
    fn add(&mut self, slot: Option<&str>, reference: Option<&str>, hypothesis: Option<&str>) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        if let Some(reference) = reference {
            *self.of.entry((own(slot), reference.to_owned())).or_default() += 1;
        }
        if reference != hypothesis {
            *self.times.entry((own(slot), own(reference), own(hypothesis))).or_default() += 1;
        }
    }

    fn most_frequent(self, limit: usize) -> Vec<Confused> {
        let Self { times, of } = self;
        let confused = |((slot, reference, hypothesis), times): (Pair, u64)| {
            let of = reference.clone().and_then(|reference| of.get(&(slot.clone(), reference)).copied());
            Confused { slot, reference, hypothesis, times, of }
        };
        let mut all: Vec<Confused> = times.into_iter().map(confused).collect();
        all.sort_by_key(|confused| std::cmp::Reverse(confused.times)); // stable: equally frequent ones by name
        all.truncate(limit);
        all
    }
}

/// The wrong answers of highest loss first, losses that are not numbers before all others; equal ones by id.
fn classes(utterances: usize, confusions: Confusions, mut wrong: Vec<WrongClass>, limit: usize) -> Errors {
    let num_wrong = wrong.len();
    let height = |loss: f32| if loss.is_nan() { f32::INFINITY } else { loss };
    wrong.sort_by(|a, b| height(b.loss).total_cmp(&height(a.loss)).then_with(|| a.id.cmp(&b.id)));
    wrong.truncate(limit);
    Errors::Classes { utterances, wrong: num_wrong, confusions: confusions.most_frequent(limit), worst: wrong }
}

fn of_classes(rows: &[Prediction], request: Request<'_>) -> Errors {
    let (mut confusions, mut wrong, mut utterances) = (Confusions::default(), Vec::new(), 0);
    let wanted = rows.iter().filter(|row| request.wants(&[&row.id, &row.label_text, &row.prediction_text], row.speaker.as_ref()));
    for row in wanted {
        utterances += 1;
        confusions.add(None, Some(&row.label_text), Some(&row.prediction_text));
        if row.label != row.prediction {
            let answers = vec![(None, row.label_text.clone(), row.prediction_text.clone())];
            wrong.push(WrongClass { id: row.id.clone(), speaker: row.speaker.clone(), loss: row.loss, answers });
        }
    }
    classes(utterances, confusions, wrong, request.limit)
}

fn of_intents(rows: &[Intents], request: Request<'_>) -> Errors {
    let (mut confusions, mut wrong, mut utterances) = (Confusions::default(), Vec::new(), 0);
    for row in rows {
        let mut parts = vec![row.id.as_str()];
        parts.extend(row.slots.iter().flat_map(|answer| [answer.label.as_str(), answer.prediction.as_str()]));
        if !request.wants(&parts, row.speaker.as_ref()) {
            continue;
        }
        utterances += 1;
        for answer in &row.slots {
            confusions.add(Some(&answer.slot), Some(&answer.label), Some(&answer.prediction));
        }
        if !row.is_right() {
            let wrong_ones = row.slots.iter().filter(|answer| answer.label != answer.prediction);
            let answers = wrong_ones.map(|one| (Some(one.slot.clone()), one.label.clone(), one.prediction.clone())).collect();
            wrong.push(WrongClass { id: row.id.clone(), speaker: row.speaker.clone(), loss: row.loss, answers });
        }
    }
    classes(utterances, confusions, wrong, request.limit)
}

/// Labels that were missed and labels too many. An utterance is wrong if its labels are not exactly the right ones.
fn of_tags(rows: &[Tagged], request: Request<'_>) -> Errors {
    let (mut confusions, mut wrong, mut utterances) = (Confusions::default(), Vec::new(), 0);
    for row in rows {
        let parts: Vec<&str> = [&row.id].into_iter().chain(&row.labels).chain(&row.predictions).map(String::as_str).collect();
        if !request.wants(&parts, row.speaker.as_ref()) {
            continue;
        }
        utterances += 1;
        for label in &row.labels {
            let found = row.predictions.contains(label);
            confusions.add(None, Some(label), Some(label.as_str()).filter(|_| found));
        }
        for label in row.predictions.iter().filter(|label| !row.labels.contains(*label)) {
            confusions.add(None, None, Some(label));
        }
        if row.labels != row.predictions {
            let named = |labels: &[String]| if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
            let answers = vec![(None, named(&row.labels), named(&row.predictions))];
            wrong.push(WrongClass { id: row.id.clone(), speaker: row.speaker.clone(), loss: row.loss, answers });
        }
    }
    classes(utterances, confusions, wrong, request.limit)
}

fn of_texts(rows: &[Transcription], request: Request<'_>) -> Errors {
    let (mut confusions, mut all, mut utterances) = (Confusions::default(), Edits::default(), 0);
    let mut wrong: Vec<(Edits, &Transcription)> = Vec::new();
    let wanted = rows.iter().filter(|row| request.wants(&[&row.id, &row.reference, &row.hypothesis], row.speaker.as_ref()));
    for row in wanted {
        utterances += 1;
        let edits = request.unit.count(&row.reference, &row.hypothesis);
        all += edits;
        if edits.errors() > 0 {
            wrong.push((edits, row));
        }
        for Cell { step, reference, hypothesis } in cells(request.unit, &row.reference, &row.hypothesis) {
            let (reference, hypothesis) = (Some(reference.as_str()), Some(hypothesis.as_str()));
            match step {
                Step::Match | Step::Substitution => confusions.add(None, reference, hypothesis),
                Step::Deletion => confusions.add(None, reference, None),
                Step::Insertion => confusions.add(None, None, hypothesis),
            }
        }
    }
    let count = wrong.len();
    // Most errors first; of equally many, the higher share of errors.
    wrong.sort_by(|(a, x), (b, y)| b.errors().cmp(&a.errors()).then(a.tokens.cmp(&b.tokens)).then_with(|| x.id.cmp(&y.id)));
    let text = |(edits, row): (Edits, &Transcription)| WrongText {
        id: row.id.clone(),
        speaker: row.speaker.clone(),
        edits,
        alignment: cells(request.unit, &row.reference, &row.hypothesis).into_iter().map(aligned).collect(),
    };
    Errors::Texts {
        utterances,
        wrong: count,
        edits: all,
        confusions: confusions.most_frequent(request.limit),
        worst: wrong.into_iter().take(request.limit).map(text).collect(),
    }
}

fn aligned(cell: Cell) -> Aligned {
    let step = match cell.step {
        Step::Match => "match",
        Step::Substitution => "substitution",
        Step::Deletion => "deletion",
        Step::Insertion => "insertion",
    };
    Aligned { step, reference: cell.reference, hypothesis: cell.hypothesis }
}

fn of_trials(rows: &[Trial], request: Request<'_>) -> Errors {
    let rows: Vec<&Trial> = rows.iter().filter(|trial| request.wants(&[&trial.enrol_id, &trial.test_id], None)).collect();
    let eer = Trials::new(rows.iter().map(|trial| (trial.score, trial.target))).eer();
    let wrong = |target: bool| {
        let mut some: Vec<&&Trial> = rows.iter().filter(|trial| trial.target == target).collect();
        some.sort_by(|a, b| if target { a.score.total_cmp(&b.score) } else { b.score.total_cmp(&a.score) });
        let trial =
            |trial: &&&Trial| WrongTrial { enrol: trial.enrol_id.clone(), test: trial.test_id.clone(), score: trial.score };
        some.iter().take(request.limit).map(trial).collect()
    };
    Errors::Trials { trials: rows.len(), eer, rejected: wrong(true), accepted: wrong(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Request = Request { limit: 10, unit: Unit::Word, containing: None };

    fn row(id: &str, reference: &str, hypothesis: &str) -> Transcription {
        let (id, reference, hypothesis) = (id.to_owned(), reference.to_owned(), hypothesis.to_owned());
        Transcription { id, reference, hypothesis, num_samples: 1, loss: 0.0, speaker: Some("ann".to_owned()) }
    }

    #[test]
    fn texts_are_listed_worst_first_with_what_was_taken_for_what() {
        let rows = vec![row("a", "the cat", "the hat"), row("b", "the cat sat on", "the hat in"), row("c", "so", "so")];
        let Errors::Texts { utterances, wrong, edits, confusions, worst } = Errors::of(&Predictions::Texts(rows.clone()), ALL)
        else {
            panic!("texts")
        };
        assert_eq!((utterances, wrong, edits.errors()), (3, 2, 4));
        assert_eq!(worst.iter().map(|text| text.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        let first = &confusions[0];
        assert_eq!((first.reference.as_deref(), first.hypothesis.as_deref()), (Some("cat"), Some("hat")));
        assert_eq!((first.times, first.of), (2, Some(2)));
        assert!(confusions.iter().any(|one| one.reference.as_deref() == Some("on") && one.hypothesis.is_none()));
        let some = Request { containing: Some("sat"), ..ALL };
        let Errors::Texts { utterances, .. } = Errors::of(&Predictions::Texts(rows), some) else { panic!("texts") };
        assert_eq!(utterances, 1);
    }

    #[test]
    fn wrong_classes_come_by_loss() {
        let answer = |id: &str, prediction: i64, loss: f32| Prediction {
            id: id.to_owned(),
            label: 0,
            prediction,
            label_text: "no".to_owned(),
            prediction_text: ["no", "go"][prediction as usize].to_owned(),
            num_samples: 1,
            loss,
            speaker: None,
        };
        let rows = vec![answer("a", 1, 0.5), answer("b", 0, 9.0), answer("c", 1, 2.0), answer("d", 1, f32::NAN)];
        let found = Errors::of(&Predictions::Classes(rows), Request { limit: 2, ..ALL });
        let Errors::Classes { utterances, wrong, confusions, worst } = found else { panic!("classes") };
        assert_eq!((utterances, wrong, confusions[0].times, confusions[0].of), (4, 3, 3, Some(4)));
        assert_eq!(worst.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["d", "c"]);
    }

    #[test]
    fn trials_are_listed_on_both_sides() {
        let trial = |test: &str, score, target| Trial { enrol_id: "e".to_owned(), test_id: test.to_owned(), score, target };
        let rows = vec![trial("a", 0.9, true), trial("b", 0.1, true), trial("c", 0.8, false)];
        let Errors::Trials { rejected, accepted, .. } = Errors::of(&Predictions::Trials(rows), ALL) else { panic!("trials") };
        assert_eq!((rejected[0].test.as_str(), accepted[0].test.as_str()), ("b", "c"));
    }
}
