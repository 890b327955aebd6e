use super::*;
use crate::evidence::Classes;
use crate::random::SplitMix;
use crate::significance::Resampling;

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() < tolerance, "{found}, expected {expected}");
}

#[test]
fn the_distribution_is_students() {
    // Two-sided 5 % and 1 % points of the usual tables.
    for (t, degrees, p) in [
        (12.706, 1, 0.05),
        (4.303, 2, 0.05),
        (3.182, 3, 0.05),
        (2.776, 4, 0.05),
        (2.571, 5, 0.05),
        (2.228, 10, 0.05),
        (3.169, 10, 0.01),
        (2.131, 15, 0.05),
        (2.042, 30, 0.05),
        (1.984, 100, 0.05),
        (0.0, 7, 1.0),
    ] {
        close(student(t, degrees), p, 2e-4);
        close(student(-t, degrees), p, 2e-4);
    }
}

#[test]
fn noise_is_pooled_over_groups_and_over_changes() {
    let pooled = SeedNoise::pooled([&[1.0, 3.0][..], &[10.0, 10.0, 13.0], &[5.0]]);
    assert_eq!(pooled.degrees, 3);
    close(pooled.variance, (2.0 + 6.0) / 3.0, 1e-12);
    assert_eq!(SeedNoise::pooled([&[1.0][..]]).degrees, 0);
    let changes = SeedNoise::of_changes(&[2.0, -2.0]);
    assert_eq!(changes.degrees, 2);
    close(changes.variance, 2.0, 1e-12);
}

#[test]
fn a_difference_within_the_noise_of_seeds_is_none() {
    let noise = |variance, degrees| Some(SeedNoise { variance, degrees });
    let test = |noise| t_test(0.02, 1e-6, 5, noise);
    assert!(test(None).unwrap().p < 1e-9, "over utterances alone it is certain");
    let found = test(noise(4e-4, 8)).unwrap();
    close(found.t, 0.02 / f64::sqrt(1e-6 + 8e-4 / 5.0), 1e-9);
    assert!(found.p > 0.1, "{found:?}");
    assert!(test(noise(1e-6, 8)).unwrap().p < 0.001);
    assert_eq!(test(noise(1e-6, 3)), None, "too few seeds");
    close(t_test(0.0, 0.0, 5, noise(0.0, 8)).unwrap().p, 1.0, 1e-12);
}

#[test]
fn false_discoveries_are_limited() {
    // The example of the paper, table 1 of section 2.2: 15 probabilities, of which four are rejected at 0.05.
    let p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0];
    let rejected = benjamini_hochberg(&p, 0.05);
    assert_eq!(rejected.iter().filter(|rejected| **rejected).count(), 4);
    assert!(rejected[..4].iter().all(|rejected| *rejected));
    assert_eq!(benjamini_hochberg(&[0.9, 0.001], 0.05), [false, true]);
    assert_eq!(benjamini_hochberg(&[], 0.05), [false; 0]);
}

/// Answers to utterances of ten speakers, right with a probability that depends on the speaker.
fn answers(random: &mut SplitMix, count: usize) -> Evidence {
    let labels: Vec<u32> = (0..count as u32).map(|at| at % 2).collect();
    let wrong = |at: usize, random: &mut SplitMix| random.uniform() < 0.1 + 0.03 * (at % 10) as f64;
    let predictions = labels.iter().enumerate().map(|(at, label)| label ^ u32::from(wrong(at, random))).collect();
    Evidence {
        ids: (0..count).map(|at| format!("u{at:04}")).collect(),
        speakers: Some((0..count).map(|at| format!("s{}", at % 10)).collect()),
        classes: Some(Classes { count: 2, labels, predictions }),
        ..Evidence::default()
    }
}

#[test]
fn the_variance_over_utterances_is_that_of_draws() {
    let mut random = SplitMix::new(3);
    let runs: Vec<Evidence> = (0..4).map(|_| answers(&mut random, 300)).collect();
    let pairs = [(&runs[0], &runs[1]), (&runs[2], &runs[3])];
    for by in [Units::Utterance, Units::Speaker] {
        let linear = utterance_variance(&pairs, Metric::Accuracy, by, 1).unwrap();
        // Micro F1 equals accuracy, and is found by draws.
        let drawn = utterance_variance(&pairs, Metric::MicroF1, by, 1).unwrap();
        assert!((linear / drawn - 1.0).abs() < 0.3, "{by:?}: {linear} and {drawn}");
    }
    assert!(utterance_variance(&pairs, Metric::MacroF1, Units::Utterance, 1).unwrap() > 0.0);
    assert_eq!(utterance_variance(&pairs, Metric::Wer, Units::Utterance, 1), None);
    let intervals = super::super::intervals(&runs[0], &Resampling::default()).unwrap();
    assert!(intervals.contains_key(&Metric::MacroF1));
}

/// Rebuilds of 42 cells, of which one is truly three points worse and the others were only trained again. The accuracy is 90 %, and
/// both results of a seed disagree on 6 % of the utterances. The noise is estimated from eight earlier results of each cell.
///
/// Returns false alarms per rebuild, and the share of rebuilds that find the loss: by the rule, and by a test over utterances alone.
fn rebuilds(utterances: f64, sigma: f64, seeds: usize, count: usize) -> [(f64, f64); 2] {
    const CELLS: usize = 42;
    let mut random = SplitMix::new(20_261_129);
    let mut outcome = [(0, 0); 2];
    for _ in 0..count {
        let mut p = [Vec::new(), Vec::new()];
        for cell in 0..CELLS {
            let value = |random: &mut SplitMix| 0.9 + sigma * random.normal();
            let history: Vec<Vec<f64>> = (0..8).map(|_| (0..seeds).map(|_| value(&mut random)).collect()).collect();
            let noise = if seeds > 1 {
                SeedNoise::pooled(history.iter().map(Vec::as_slice))
            } else {
                SeedNoise::of_changes(&history.windows(2).map(|pair| pair[1][0] - pair[0][0]).collect::<Vec<_>>())
            };
            let of_utterances = 0.06 / utterances / seeds as f64;
            let loss = if cell == 0 { -0.03 } else { 0.0 };
            let seeds_alone: f64 = (0..seeds).map(|_| value(&mut random) - value(&mut random)).sum::<f64>() / seeds as f64;
            let difference = loss + seeds_alone + of_utterances.sqrt() * random.normal();
            let alone = t_test(difference, of_utterances, seeds, None).unwrap().p;
            let both = t_test(difference, of_utterances, seeds, Some(noise)).map_or(1.0, |test| test.p);
            p[0].push(if difference.abs() < 0.005 { 1.0 } else { both });
            p[1].push(alone);
        }
        for (p, (false_alarms, found)) in p.iter().zip(&mut outcome) {
            let rejected = benjamini_hochberg(p, 0.05);
            *false_alarms += rejected[1..].iter().filter(|rejected| **rejected).count();
            *found += usize::from(rejected[0]);
        }
    }
    outcome.map(|(false_alarms, found)| (false_alarms as f64 / count as f64, found as f64 / count as f64))
}

#[test]
fn two_hundred_rebuilds_of_42_cells_have_few_false_alarms_and_find_the_loss() {
    // Utterances, noise of seeds in points, seeds; then the most false alarms per rebuild and the least share of losses found.
    let cases = [
        (110.0, 1.2, 5, 0.15, 0.05),
        (300.0, 0.8, 1, 0.15, 0.0),
        (300.0, 0.8, 5, 0.15, 0.4),
        (3000.0, 0.5, 3, 0.15, 0.9),
        (10_000.0, 0.3, 3, 0.15, 0.99),
    ];
    for (utterances, points, seeds, most, least) in cases {
        let [both, alone] = rebuilds(utterances, points / 100.0, seeds, 200);
        let figures = format!(
            "{utterances} utterances, {points} points, {seeds} seeds: {:.3} false alarms a rebuild, {:.0} % found; over utterances \
             alone {:.2} and {:.0} %",
            both.0,
            100.0 * both.1,
            alone.0,
            100.0 * alone.1
        );
        println!("REBUILDS {figures}");
        assert!(both.0 <= most && both.1 >= least, "{figures}");
        assert!(alone.0 > both.0, "{figures}");
    }
}
