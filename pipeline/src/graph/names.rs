//! How nodes, patterns over them and references to them are written.

use std::fmt;

use super::Point;

/// `[axis=value,...]#partition`, each part only when there is one.
pub(super) struct Suffix<'a>(pub(super) &'a Point, pub(super) Option<u32>);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() {
            let pairs: Vec<String> = self.0.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
            write!(f, "[{}]", pairs.join(","))?;
        }
        if let Some(partition) = self.1 {
            write!(f, "#{partition}")?;
        }
        Ok(())
    }
}

/// Whether a pattern names a node. `train` names all nodes of a stage, `train[method=lora]` those at these values whatever
/// the other axes, `shards#7` one partition; `*` stands for any text in the stage's name.
pub fn matches(pattern: &str, id: &str) -> bool {
    let ((stage, wanted, part), (name, point, partition)) = (split(pattern), split(id));
    glob(stage, name) && part.is_none_or(|part| Some(part) == partition) && wanted.iter().all(|pair| point.contains(pair))
}

pub(super) fn split(id: &str) -> (&str, Vec<&str>, Option<&str>) {
    let (rest, partition) = id.rsplit_once('#').map_or((id, None), |(rest, partition)| (rest, Some(partition)));
    let (stage, point) = rest.split_once('[').map_or((rest, ""), |(stage, point)| (stage, point.trim_end_matches(']')));
    (stage, point.split(',').map(str::trim).filter(|pair| !pair.is_empty()).collect(), partition)
}

pub(super) fn glob(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut open = false;
    for piece in pieces {
        open = true;
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.is_empty() || open && (pattern.ends_with('*') || name.ends_with(pattern.rsplit('*').next().unwrap_or_default()))
}

/// `stage[axis=value]/part` as an input names it.
pub(super) struct Reference<'a> {
    pub(super) stage: &'a str,
    pub(super) pinned: Vec<(&'a str, &'a str)>,
    pub(super) part: Option<&'a str>,
}

impl<'a> Reference<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let (head, part) = match text.find('/').filter(|slash| text.find('[').is_none_or(|open| *slash < open)) {
            Some(slash) => (&text[..slash], Some(&text[slash + 1..])),
            None => match text.split_once("]/") {
                Some((head, part)) => (&text[..=head.len()], Some(part)),
                None => (text, None),
            },
        };
        let (stage, pins) = match head.split_once('[') {
            None => (head, ""),
            Some((stage, rest)) => (stage, rest.strip_suffix(']').ok_or("a `[` without its `]`")?),
        };
        let pair = |pin: &'a str| pin.split_once('=').map(|(axis, value)| (axis.trim(), value.trim()));
        let pinned: Option<Vec<_>> = pins.split(',').filter(|pin| !pin.trim().is_empty()).map(pair).collect();
        let pinned = pinned.ok_or("expected `[axis=value,...]`")?;
        if part.is_some_and(|part| part.split('/').any(|piece| matches!(piece, "" | "." | ".."))) {
            return Err("the part after `/` should be a relative path".to_owned());
        }
        Ok(Self { stage, pinned, part })
    }
}
