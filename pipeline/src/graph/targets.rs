//! Targets: patterns over nodes, matched against the stages and axes of a workflow before any node is made.

use super::Node;
use super::axes::Axes;
use super::expand::Asked;
use super::pattern::{Pattern, glob};
use super::points::Wanted;
use super::stages::{Stage, Stages};
use crate::mistake::Mistake;

/// A target that can be matched.
pub(super) struct Target<'a> {
    text: &'a str,
    pattern: Pattern<'a>,
}

/// Reads targets; what is wrong in one is a mistake, and the others are kept.
pub(super) fn read<'a>(texts: &'a [String], workflow: &str, axes: &Axes<'_>, mistakes: &mut Vec<Mistake>) -> Vec<Target<'a>> {
    let mut targets = vec![];
    for text in texts {
        let mut wrong = |message: String| mistakes.push(Mistake::new(&(0..0), format!("target `{text}`: {message}")));
        let mut pattern = match Pattern::parse(text) {
            Ok(pattern) => pattern,
            Err(message) => {
                wrong(message);
                continue;
            }
        };
        if let Some(other) = pattern.workflow.filter(|name| *name != workflow) {
            wrong(format!("this is the workflow `{workflow}`, not `{other}`"));
            continue;
        }
        // A setting has one value for all nodes, so that their ids do not show it; a target may still name it.
        pattern.point.retain(|(name, wanted)| {
            let Some(setting) = axes.get(name).filter(|axis| !axis.spec.matrix) else { return true };
            let Some(value) = setting.values.first() else { return false };
            if !glob(wanted, &value.text) {
                wrong(format!("`{name}` is a setting, and its value here is `{}`", value.text));
            }
            false
        });
        targets.push(Target { text, pattern });
    }
    targets
}

impl Target<'_> {
    pub(super) fn matches(&self, node: &Node) -> bool {
        self.pattern.matches(node)
    }

    /// The partitions it wants: all, or from a first one to a last.
    pub(super) fn partitions(&self) -> Asked {
        self.pattern.partitions.map_or(Asked::ALL, |(first, last)| Asked::only(first, last))
    }

    /// The values it wants of each axis of a stage; none when it does not want this stage.
    pub(super) fn wanted(&self, stage: &Stage<'_>, axes: &Axes<'_>) -> Option<Vec<Wanted>> {
        if !glob(self.pattern.stage, &stage.name) {
            return None;
        }
        let mut wanted = vec![Wanted::All; stage.axes.len()];
        for (name, pattern) in &self.pattern.point {
            let place = stage.axes.binary_search(&axes.number(name)?).ok()?;
            let values = &axes.list[stage.axes[place] as usize].values;
            let fits = (0..).zip(values).filter(|(_, known)| glob(pattern, &known.text)).map(|(number, _)| number);
            wanted[place] = Wanted::Some(fits.collect());
        }
        Some(wanted)
    }

    /// Why it names no node: its stage may be right and its point or partition wrong.
    pub(super) fn unknown(&self, stages: &Stages<'_>, axes: &Axes<'_>) -> Mistake {
        let stage = self.pattern.stage;
        if !stages.list.iter().any(|known| glob(stage, &known.name)) {
            return Mistake::unknown(&(0..0), "target", self.text, stages.names());
        }
        if let Some((name, _)) = self.pattern.point.iter().find(|(name, _)| axes.number(name).is_none()) {
            return Mistake::unknown(&(0..0), &format!("axis in target `{}`:", self.text), name, axes.names());
        }
        Mistake::new(&(0..0), format!("target `{}`: `{stage}` has no such point or partition", self.text))
    }
}
