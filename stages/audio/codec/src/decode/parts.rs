//! A recording in several parts, decoded one after the other.

use std::collections::VecDeque;

use super::{DecodeError, Decoder, Flag, Source, SourceInfo};
use crate::sums::Summed;

/// Opens a part.
type Open<'s> = fn(&Source<'s>) -> Result<Box<dyn Decoder + 's>, DecodeError>;

pub(super) struct Parts<'s> {
    now: Box<dyn Decoder + 's>,
    rest: VecDeque<Source<'s>>,
    open: Open<'s>,
    flags: Vec<Flag>,
}

impl<'s> Parts<'s> {
    /// Opens the first part. `flags` are those of the whole.
    pub(super) fn open(
        parts: VecDeque<Source<'s>>,
        mut flags: Vec<Flag>,
        open: Open<'s>,
    ) -> Result<Box<dyn Decoder + 's>, DecodeError> {
        let mut rest = parts;
        let first = rest.pop_front().ok_or(DecodeError::NoSamples)?;
        if !rest.is_empty() {
            flags.push(Flag::Joined);
        }
        Ok(Box::new(Self { now: open(&first)?, rest, open, flags }))
    }
}

impl Decoder for Parts<'_> {
    fn info(&self) -> SourceInfo {
        self.now.info()
    }

    fn next(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError> {
        if self.now.next(mono)? {
            return Ok(true);
        }
        let Some(part) = self.rest.pop_front() else { return Ok(false) };
        let (before, next) = (self.now.info(), (self.open)(&part)?);
        let after = next.info();
        if before.sample_rate != after.sample_rate {
            let reason = format!("changes from {} Hz to {} Hz", before.sample_rate, after.sample_rate);
            return Err(DecodeError::damaged(before.container, &reason, part.start()));
        }
        self.flags.extend(self.now.flags());
        self.now = next;
        Ok(true)
    }

    fn summed(&mut self) -> Option<Summed> {
        self.now.summed()
    }

    fn flags(&self) -> Vec<Flag> {
        self.flags.iter().copied().chain(self.now.flags()).collect()
    }
}
