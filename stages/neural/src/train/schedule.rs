//! Learning rates as functions of the step. Pure.
//!
//! A factor multiplies the learning rate at the top. Step 0 is the first update, so with a warm-up the first update has factor
//! 0, as in the reference code of the benchmark (transformers' schedules, whose formulas these are unless said otherwise).

use std::f64::consts::PI;

use neural_spec::Schedule;

/// The factor at `step` of `total`, the first `warmup` of which rise in a straight line from 0.
pub fn factor(schedule: &Schedule, step: u64, warmup: u64, total: u64) -> f64 {
    if let Schedule::Noam { width, warmup, anneal_steps, anneal_rate, resume_step } = schedule {
        return noam(resume_step + step + 1, u64::from(*width), u64::from(*warmup), anneal_steps, *anneal_rate);
    }
    if step < warmup {
        return step as f64 / warmup as f64;
    }
    let share = share(step, warmup, total);
    match *schedule {
        Schedule::TriStageDrop { until } if step < part(until, total) => 1.0,
        Schedule::Linear {} | Schedule::TriStageDrop { .. } => (1.0 - share).max(0.0),
        Schedule::Cosine {} => half_cosine(share),
        Schedule::CosineWithRestarts { .. } if share >= 1.0 => 0.0,
        Schedule::CosineWithRestarts { num_cycles } => half_cosine((f64::from(num_cycles) * share).fract()),
        Schedule::Constant {} | Schedule::Noam { .. } => 1.0,
        Schedule::InverseSqrt {} => {
            // Without a warm-up there is no scale of time to take: 10 000 steps, as transformers has it.
            let scale = if warmup == 0 { 10_000.0 } else { warmup as f64 };
            (scale / (step as f64 - warmup as f64 + scale)).sqrt()
        }
        Schedule::Polynomial { power, end } => end + (1.0 - end) * (1.0 - share.min(1.0)).powf(power),
        Schedule::WarmupStableDecay { decay_ratio } => {
            let decay = part(decay_ratio, total);
            let start = total.saturating_sub(decay).max(warmup);
            half_cosine(if step < start { 0.0 } else { share_of(step - start, total - start).min(1.0) })
        }
        Schedule::TriStage { hold_ratio } => tri_stage(step, (warmup + part(hold_ratio, total)).min(total), total),
        Schedule::TriStageUntil { until } => tri_stage(step, part(until, total), total),
    }
}

/// Updates of a share of all, rounded up.
pub fn part(ratio: f64, total: u64) -> u64 {
    ((ratio * total as f64).ceil() as u64).min(total)
}

/// A learning rate, not a factor, at step `step` >= 1: `d^-0.5 * min(s^-0.5, s * warmup^-1.5)`, times `anneal_rate` for every
/// anneal step passed (Vaswani et al. 2017, arXiv:1706.03762, section 5.3; the annealing is that of `FastSpeech` 2's public code).
pub fn noam(step: u64, d_model: u64, warmup: u64, anneal_steps: &[u64], anneal_rate: f64) -> f64 {
    let (s, w) = (step as f64, warmup as f64);
    let passed = anneal_steps.iter().filter(|&&anneal| step > anneal).count();
    (d_model as f64).powf(-0.5) * s.powf(-0.5).min(s * w.powf(-1.5)) * anneal_rate.powi(passed as i32)
}

/// 1 until `constant_until`, then in a straight line to 0 at `total`.
fn tri_stage(step: u64, constant_until: u64, total: u64) -> f64 {
    if step < constant_until { 1.0 } else { (1.0 - share(step, constant_until, total)).max(0.0) }
}

/// How much of what follows the warm-up has passed; above 1 after the end.
fn share(step: u64, warmup: u64, total: u64) -> f64 {
    share_of(step - warmup.min(step), total.saturating_sub(warmup))
}

fn share_of(passed: u64, whole: u64) -> f64 {
    passed as f64 / whole.max(1) as f64
}

fn half_cosine(share: f64) -> f64 {
    (0.5 * (1.0 + (PI * share).cos())).max(0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::golden;

    fn close(name: &str, found: &[f64], expected: &Value) {
        let expected: Vec<f64> = serde_json::from_value(expected.clone()).unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        for (step, (a, b)) in found.iter().zip(&expected).enumerate() {
            println!("GOLDEN schedules {name} {:e}", (a - b).abs() / (1e-9 + 1e-7 * b.abs())); // read by scripts/golden_table.py
            assert!((a - b).abs() <= 1e-9 + 1e-7 * b.abs(), "{name} at step {step}: {a}, expected {b}");
        }
    }

    #[test]
    fn factors_are_those_of_the_reference() {
        let Some(cases) = golden::json("train", "schedules") else { return };
        for case in cases.as_array().unwrap() {
            let int = |name: &str| case[name].as_u64().unwrap();
            let float = |name: &str| case[name].as_f64().unwrap();
            let kind = case["kind"].as_str().unwrap();
            let count = case["factors"].as_array().unwrap().len() as u64;
            let mut warmup = int("warmup");
            let total = case["total"].as_u64().unwrap_or(0);
            let schedule = match kind {
                "linear" => Schedule::Linear {},
                "cosine" => Schedule::Cosine {},
                "constant" | "constant_with_warmup" => Schedule::Constant {},
                "inverse_sqrt" => Schedule::InverseSqrt {},
                "cosine_with_restarts" => Schedule::CosineWithRestarts { num_cycles: int("num_cycles") as u32 },
                "polynomial" => Schedule::Polynomial { power: float("power"), end: float("lr_end") },
                "warmup_stable_decay" => {
                    assert_eq!(int("num_stable_steps"), total - warmup - int("num_decay_steps"));
                    Schedule::WarmupStableDecay { decay_ratio: int("num_decay_steps") as f64 / total as f64 }
                }
                "warmup_constant_linear" => {
                    let published = Schedule::TriStageUntil { until: int("constant_until") as f64 / total as f64 };
                    close(
                        kind,
                        &(0..count).map(|step| factor(&published, step, warmup, total)).collect::<Vec<_>>(),
                        &case["factors"],
                    );
                    let hold = int("constant_until") - warmup;
                    Schedule::TriStage { hold_ratio: hold as f64 / total as f64 }
                }
                "noam" => {
                    let anneal: Vec<u64> = serde_json::from_value(case["anneal_steps"].clone()).unwrap();
                    let rate = |step| noam(step, int("d_model"), warmup, &anneal, float("anneal_rate"));
                    close(kind, &(1..=count).map(rate).collect::<Vec<_>>(), &case["factors"]);
                    continue;
                }
                other => panic!("no schedule `{other}` here"),
            };
            if kind == "constant" {
                warmup = 0; // the reference's has none, whatever it is given
            }
            let found: Vec<f64> = (0..count).map(|step| factor(&schedule, step, warmup, total)).collect();
            close(kind, &found, &case["factors"]);
        }
    }

    #[test]
    fn rates_of_published_voices_are_those_of_the_reference() {
        let Some(cases) = golden::json("tts", "schedule") else { return };
        let fresh = |anneal: [u32; 3]| Schedule::Noam {
            width: 256,
            warmup: 4000,
            anneal_steps: anneal.map(u64::from).to_vec(),
            anneal_rate: 0.3,
            resume_step: 0,
        };
        for (name, schedule) in
            [("published", fresh([300_000, 400_000, 500_000])), ("restarted", fresh([30_000, 40_000, 50_000]))]
        {
            for row in cases[name].as_array().unwrap() {
                let (step, expected) = (row["step"].as_u64().unwrap(), row["learning_rate"].as_f64().unwrap());
                let found = factor(&schedule, step - 1, 0, 0);
                println!("GOLDEN schedule {name}.{step} {:e}", (found - expected).abs() / (1e-12 * expected));
                assert!((found - expected).abs() <= 1e-12 * expected, "{name} at step {step}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn the_published_plateau_may_end_before_the_warm_up() {
        // FLEURS as published: 1000 steps of warm-up in about 2050, and a line that begins at 40 % of them.
        let rate = |step| factor(&Schedule::TriStageUntil { until: 0.4 }, step, 1000, 2050);
        assert!((rate(999) - 0.999).abs() < 1e-12);
        assert!((rate(1000) - 1050.0 / 1230.0).abs() < 1e-12); // 0.854
        let sound = |step| factor(&Schedule::TriStage { hold_ratio: 0.4 }, step, 1000, 2050);
        assert!((sound(1000) - 1.0).abs() < 1e-12 && (sound(1819) - 1.0).abs() < 1e-12 && sound(1821) < 1.0);
    }

    #[test]
    fn the_logged_rate_drops_in_the_middle() {
        // LibriSpeech as logged: from 3e-5 to 1.67e-5 at 50 %.
        let rate = |step| 3e-5 * factor(&Schedule::TriStageDrop { until: 0.5 }, step, 5_000, 50_000);
        assert!((rate(2_500) - 1.5e-5).abs() < 1e-12 && (rate(24_999) - 3e-5).abs() < 1e-12);
        assert!((rate(25_000) - 1.67e-5).abs() < 1e-7 && rate(50_000).abs() < 1e-12);
    }

    #[test]
    fn every_schedule_starts_at_the_top_without_a_warm_up() {
        for schedule in [Schedule::Linear {}, Schedule::InverseSqrt {}, Schedule::TriStage { hold_ratio: 0.0 }] {
            assert_eq!(factor(&schedule, 0, 0, 10).to_bits(), 1.0_f64.to_bits(), "{schedule:?}");
        }
        assert_eq!(factor(&Schedule::Linear {}, 0, 0, 1).to_bits(), 1.0_f64.to_bits());
    }
}
