//! Patterns over nodes, as targets and `sure log` take them.

use super::Node;

/// `workflow:stage[axis=value,...]#first-last`, every part but the stage optional; `*` stands for any text in the stage's name
/// and in values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern<'a> {
    pub(super) workflow: Option<&'a str>,
    pub(super) stage: &'a str,
    /// Axes and values; other axes may have any value.
    pub(super) point: Vec<(&'a str, &'a str)>,
    /// First and last partition.
    pub(super) partitions: Option<(u32, u32)>,
}

/// True if a pattern names a node. `train` names all nodes of a stage, `train[method=lora]` those at these values whatever
/// the other axes, `shards#7` one partition, `shards#3-7` some; `*` stands for any text in the stage's name and in values. A
/// workflow's name may stand before: `keyword_spotting:train`.
pub fn matches(pattern: &str, id: &str) -> bool {
    let (Ok(pattern), Ok(node)) = (Pattern::parse(pattern), Pattern::parse(id)) else { return false };
    let value = |axis: &str| node.point.iter().find(|(name, _)| *name == axis).map(|(_, value)| *value);
    (pattern.workflow.is_none() || node.workflow.is_none() || pattern.workflow == node.workflow)
        && pattern.holds(node.stage, value, node.partitions.map(|(first, _)| first))
}

impl<'a> Pattern<'a> {
    /// Reads a pattern, or says what was expected.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let (head, rest) = text.find('[').map_or((text, ""), |open| text.split_at(open));
        let (workflow, head) = head.split_once(':').map_or((None, head), |(workflow, head)| (Some(workflow), head));
        let (stage, point, partitions) = if rest.is_empty() {
            let (stage, partitions) = head.split_once('#').map_or((head, None), |(stage, part)| (stage, Some(part)));
            (stage, "", partitions)
        } else {
            let (point, after) = rest[1..].split_once(']').ok_or("a `[` without its `]`")?;
            let partitions = after.strip_prefix('#');
            if partitions.is_none() && !after.is_empty() {
                return Err(format!("after `]` only `#` and a partition can follow, not `{after}`"));
            }
            (head, point, partitions)
        };
        let pairs = point.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let pair = |pair: &'a str| pair.split_once('=').map(|(axis, value)| (axis.trim(), value.trim()));
        let point: Option<Vec<_>> = pairs.map(pair).collect();
        let point = point.ok_or("expected `[axis=value,...]`")?;
        let partitions = partitions.map(|text| range(text).ok_or_else(|| format!("`#{text}` should be a number or `3-7`")));
        Ok(Self { workflow, stage: stage.trim(), point, partitions: partitions.transpose()? })
    }

    /// True if the pattern names a node.
    pub(super) fn matches(&self, node: &Node) -> bool {
        self.holds(&node.stage, |axis| node.point.get(axis), node.partition)
    }

    fn holds<'n>(&self, stage: &str, value: impl Fn(&str) -> Option<&'n str>, partition: Option<u32>) -> bool {
        glob(self.stage, stage)
            && self.partitions.is_none_or(|(first, last)| partition.is_some_and(|number| first <= number && number <= last))
            && self.point.iter().all(|(axis, wanted)| value(axis).is_some_and(|value| glob(wanted, value)))
    }
}

fn range(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// True if a name fits a pattern in which `*` stands for any text.
pub(super) fn glob(pattern: &str, name: &str) -> bool {
    let Some((first, others)) = pattern.split_once('*') else { return pattern == name };
    let (Some(mut rest), (middle, last)) = (name.strip_prefix(first), others.rsplit_once('*').unwrap_or(("", others))) else {
        return false;
    };
    for piece in middle.split('*') {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}
