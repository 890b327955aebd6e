//! `like`: stages that are as another one of the file but for what they name.

use std::collections::HashMap;

use super::files::change_table;
use super::term::{Pair, Term};
use crate::mistake::Mistake;

/// Gives every stage with `like` what the stage that it names has. After a mistake, `like` stays in place.
pub(super) fn resolve(stages: &mut [Pair], mistakes: &mut Vec<Mistake>) {
    let numbers: HashMap<String, usize> =
        stages.iter().enumerate().map(|(number, (name, _))| (name.value.clone(), number)).collect();
    let mut done = vec![false; stages.len()];
    for start in 0..stages.len() {
        // From a stage to the first one that needs no other, and back.
        let mut path = vec![];
        let mut at = start;
        while !std::mem::replace(&mut done[at], true) {
            let (name, body) = &stages[at];
            let Some(like) = body.value.get("like") else { break };
            let Some(other) = like.value.as_str() else {
                mistakes.push(Mistake::new(&like.at, "`like` should name a stage"));
                break;
            };
            if body.value.get("run").is_some() {
                let text = format!("`stages.{}` has `run` and `like`, which takes over the kind of `{other}`", name.value);
                mistakes.push(Mistake::new(&like.at, text));
            }
            let Some(next) = numbers.get(other) else {
                let names = stages.iter().map(|(name, _)| name.value.as_str()).filter(|known| *known != name.value);
                mistakes.push(Mistake::unknown(&like.at, "stage", other, names));
                break;
            };
            path.push(at);
            at = *next;
        }
        if let Some(first) = path.iter().position(|stage| *stage == at) {
            let names: Vec<&str> = path[first..].iter().chain([&at]).map(|stage| stages[*stage].0.value.as_str()).collect();
            let text = format!("these stages are like each other: {}", names.join(" -> "));
            mistakes.push(Mistake::new(&stages[at].0.at, text));
        }
        for stage in path.into_iter().rev() {
            if stages[at].1.value.get("like").is_none() {
                let mut body = stages[at].1.clone();
                let mut own = stages[stage].1.clone();
                if let Term::Table(pairs) = &mut own.value {
                    pairs.retain(|(key, _)| key.value != "like");
                }
                body.at = own.at.clone();
                change_table(&mut body, own, true);
                stages[stage].1 = body;
            }
            at = stage;
        }
    }
}
