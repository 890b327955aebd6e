use std::collections::BTreeMap;

use super::*;
use crate::evidence::{Classes, Ratio, TrialScores};

const ROUNDS: u32 = 10_000;

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("u{at:04}")).collect()
}

/// Word errors of utterances of ten words.
fn errors(parts: &[u32]) -> Evidence {
    let shares = parts.iter().map(|part| Ratio { part: f64::from(*part), whole: 10.0 }).collect();
    Evidence { ids: ids(parts.len()), ratios: BTreeMap::from([(Metric::Wer, shares)]), ..Evidence::default() }
}

/// Utterances of two classes in turn, answered wrongly where `wrong` says so.
fn classes(count: usize, wrong: impl Fn(usize) -> bool) -> Evidence {
    let labels: Vec<u32> = (0..count as u32).map(|at| at % 2).collect();
    let predictions = labels.iter().enumerate().map(|(at, label)| if wrong(at) { 1 - label } else { *label }).collect();
    Evidence { ids: ids(count), classes: Some(Classes { count: 2, labels, predictions }), ..Evidence::default() }
}

fn p(first: &Evidence, second: &Evidence, metric: Metric) -> f64 {
    compare(&[(first, second)], metric, Units::Utterance, ROUNDS, 5, None).unwrap().p
}

/// Square errors of utterances.
fn squares(parts: &[f64]) -> Evidence {
    let shares = parts.iter().map(|&part| Ratio { part, whole: f64::from(u8::from(part > 0.0)) }).collect();
    Evidence { ids: ids(parts.len()), ratios: BTreeMap::from([(Metric::F0Rmse, shares)]), ..Evidence::default() }
}

#[test]
fn roots_of_ratios_are_compared_as_they_are() {
    let (low, high): (Vec<f64>, Vec<f64>) = (0..40).map(|at| (100.0 + f64::from(at), 400.0 + f64::from(at % 7))).unzip();
    let (low, high) = (squares(&low), squares(&high));
    let found = compare(&[(&low, &high)], Metric::F0Rmse, Units::Utterance, ROUNDS, 5, None).unwrap();
    assert!((found.first - 119.5_f64.sqrt()).abs() < 1e-9 && found.p < 0.001 && found.better_on.is_none());
    assert!(p(&low, &low, Metric::F0Rmse) > 0.99);
    // An utterance may have frames to compare in one of the two only.
    let mut some = vec![100.0; 40];
    some[3] = 0.0;
    assert!(p(&squares(&some), &squares(&[100.0; 40]), Metric::F0Rmse) > 0.99);
}

#[test]
fn mcnemar_agrees_with_the_binomial_by_hand() {
    let check = |first, second, expected: f64| {
        let found = mcnemar(first, second);
        assert!((found - expected).abs() < 1e-12, "{first} against {second}: {found}, expected {expected}");
    };
    check(0, 0, 1.0);
    check(4, 4, 1.0);
    check(0, 5, 2.0 / 32.0);
    check(6, 1, 2.0 * 8.0 / 128.0);
    check(2, 3, 1.0);
    assert!(mcnemar(900, 1200) > 0.0 && mcnemar(900, 1200) < 1e-9, "no underflow to 0 or 1");
}

#[test]
fn matched_pairs_agree_with_the_normal_distribution_by_hand() {
    let check = |differences: &[f64], expected: f64| {
        let found = matched_pairs(differences);
        assert!((found - expected).abs() < 1e-6, "{differences:?}: {found}, expected {expected}");
    };
    // Mean 0.6, variance (12 - 10 * 0.36) / 9 = 0.93333, so z = 0.6 / sqrt(0.093333) = 1.963961.
    let differences = [2.0, -1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 2.0, 0.0, 0.0];
    check(&differences, 0.049_534);
    check(&differences.map(|difference| -0.01 * difference), 0.049_534);
    check(&[0.0; 5], 1.0);
    check(&[1.0, -1.0], 1.0);
    check(&[1.0; 4], 0.0);
    check(&[3.0], 1.0);
    check(&[], 1.0);
    // With many utterances it agrees with the test that needs no distribution.
    let (first, second): (Vec<u32>, Vec<u32>) = (0..400_u32).map(|at| (at % 7 / 3, at % 5 / 2)).unzip();
    let found = compare(&[(&errors(&first), &errors(&second))], Metric::Wer, Units::Utterance, ROUNDS, 5, None).unwrap();
    let matched = found.matched_pairs.unwrap();
    assert!(matched > 0.01 && (matched - found.p).abs() < 0.03, "{matched} {}", found.p);
}

#[test]
fn randomisation_agrees_with_all_ways_to_swap() {
    // Of the 2^6 ways to change places, those that reach the difference of 5: all signs equal, or only a single 1 turned and
    // the sum of the others still large enough. Counted by going through all.
    let (first, second) = ([3, 2, 1, 1, 0, 1], [1, 1, 0, 0, 0, 1]);
    let differences: Vec<i64> = first.iter().zip(second).map(|(a, b): (&u32, u32)| i64::from(*a) - i64::from(b)).collect();
    let observed: i64 = differences.iter().sum();
    let reaching = (0..64_u32).filter(|ways| {
        let sum: i64 = differences.iter().enumerate().map(|(k, d)| if ways >> k & 1 == 1 { -d } else { *d }).sum();
        sum.abs() >= observed.abs()
    });
    let exact = reaching.count() as f64 / 64.0;
    let found = p(&errors(&first), &errors(&second), Metric::Wer);
    assert!((found - exact).abs() < 0.03, "{found}, all ways give {exact}");
}

#[test]
fn equal_methods_do_not_differ_and_unequal_ones_do() {
    let good = errors(&[0; 200]);
    let bad = errors(&(0..200).map(|at| u32::from(at % 5 == 0)).collect::<Vec<_>>());
    assert!(p(&good, &good, Metric::Wer) > 0.99);
    let found = compare(&[(&good, &bad)], Metric::Wer, Units::Utterance, ROUNDS, 5, None).unwrap();
    assert!(found.p < 0.001 && found.winner(0.05).is_none(), "one seed decides nothing: {found:?}");
    assert_eq!((found.better_on, found.test), (Some((40, 0)), Test::ApproximateRandomisation));
    assert_eq!(found, compare(&[(&good, &bad)], Metric::Wer, Units::Utterance, ROUNDS, 5, None).unwrap());
    // All mistakes are those of one speaker of twenty: too few to tell.
    let speakers: Vec<String> = (0..200).map(|at| format!("s{}", if at % 5 == 0 { 0 } else { 1 + at % 19 })).collect();
    let spoken = |evidence: &Evidence| Evidence { speakers: Some(speakers.clone()), ..evidence.clone() };
    let found = compare(&[(&spoken(&good), &spoken(&bad))], Metric::Wer, Units::Speaker, ROUNDS, 5, None).unwrap();
    assert!(found.p > 0.9, "{found:?}");
    assert!(matches!(
        compare(&[(&good, &bad)], Metric::Wer, Units::Speaker, ROUNDS, 5, None).unwrap_err(),
        CompareError::NoSpeakers
    ));
}

#[test]
fn seeds_and_utterances_decide_together() {
    // Six seeds each: the same mistakes in a fifth of the utterances, and as many more as the seed says.
    let method = |share: usize, noise: [usize; 6]| noise.map(|more| classes(300, |at| at % 100 < share + more));
    let decide = |first: &[Evidence; 6], second: &[Evidence; 6]| {
        let pairs: Vec<_> = first.iter().zip(second).collect();
        compare(&pairs, Metric::Accuracy, Units::Utterance, ROUNDS, 5, None).unwrap()
    };
    let (steady, other) = (method(10, [0, 1, 0, 1, 0, 1]), method(20, [0, 1, 0, 1, 1, 0]));
    let found = decide(&steady, &other);
    assert_eq!((found.winner(0.05), found.over_seeds.unwrap().degrees), (Some(Side::First), Some(10)));
    assert_eq!(decide(&other, &steady).winner(0.05), Some(Side::Second));
    // The same mean difference, from trainings that scatter: the utterances show it, the seeds do not.
    let (wild, other) = (method(0, [0, 20, 1, 19, 2, 18]), method(10, [0, 20, 20, 0, 10, 10]));
    let found = decide(&wild, &other);
    assert!(found.p < 0.001 && found.winner(0.05).is_none(), "{found:?}");
}

#[test]
fn accuracy_of_one_seed_is_left_to_mcnemar() {
    let (first, second) = (classes(60, |at| at < 3), classes(60, |at| (2..14).contains(&at)));
    let found = compare(&[(&first, &second)], Metric::Accuracy, Units::Utterance, ROUNDS, 5, None).unwrap();
    assert_eq!((found.test, found.better_on), (Test::Mcnemar, Some((11, 2))));
    assert!((found.p - mcnemar(11, 2)).abs() < 1e-12);
    // Two seeds that agree say no more than one: the utterances are the same.
    let twice = compare(&[(&first, &second); 2], Metric::Accuracy, Units::Utterance, ROUNDS, 5, None).unwrap();
    assert_eq!((twice.test, twice.seeds), (Test::ApproximateRandomisation, 2));
    assert!((twice.p - found.p).abs() < 0.02, "{} {}", twice.p, found.p);
}

#[test]
fn f1_is_tested_by_changing_answers() {
    let (first, second) = (classes(60, |at| at < 3), classes(60, |at| (2..14).contains(&at)));
    let found = p(&first, &second, Metric::MacroF1);
    assert!((found - mcnemar(11, 2)).abs() < 0.02, "of two equally frequent classes F1 and accuracy hardly differ: {found}");
    assert!(p(&first, &first, Metric::WeightedF1) > 0.99);
}

#[test]
fn verifiers_are_compared_by_drawing_trials() {
    let trials = |noise: f64| {
        let hash = |at: usize| f64::from((at as u32).wrapping_mul(2_654_435_761) >> 16) / 65_536.0;
        let (targets, scores) = (0..400).map(|at| (at % 2 == 0, f64::from(u8::from(at % 2 == 0)) + noise * hash(at))).unzip();
        let recordings = (0..400).map(|at| [2 * at, 2 * at + 1]).collect();
        Evidence { ids: ids(400), trials: Some(TrialScores { scores, targets, recordings }), ..Evidence::default() }
    };
    let (sharp, blurred) = (trials(1.05), trials(4.0));
    let found = compare(&[(&sharp, &blurred)], Metric::Eer, Units::Utterance, ROUNDS, 5, None).unwrap();
    assert!(found.test == Test::PairedBootstrap && found.p < 0.01 && found.first < found.second, "{found:?}");
    assert!(p(&sharp, &sharp, Metric::MinDcf) > 0.99);
}

#[test]
fn what_cannot_be_paired_is_named() {
    #[track_caller]
    fn check(first: &Evidence, second: &Evidence, metric: Metric, part: &str) {
        let message = compare(&[(first, second)], metric, Units::Utterance, ROUNDS, 5, None).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    check(&errors(&[0, 1]), &errors(&[0, 1, 2]), Metric::Wer, "2 and 3 of them, 1 only in one, `u0002` for example");
    check(&errors(&[0, 1]), &errors(&[0, 1]), Metric::Per, "`per` was not measured for both");
    let mut other = classes(4, |_| false);
    other.classes.as_mut().unwrap().labels[3] = 0;
    check(&classes(4, |_| false), &other, Metric::Accuracy, "other right answers, of utterance `u0003`");
    assert!(matches!(compare(&[], Metric::Wer, Units::Utterance, 1, 1, None).unwrap_err(), CompareError::Empty));
}
