//! How an input names what it reads.

/// `stage[axis=value]/part`.
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
