//! A file that is read from front to back, with as much of it in memory as its decoder needs.

use std::borrow::Cow;
use std::io::{self, Read};

use super::{ReadSeek, Source};

/// Bytes that are read at once.
const READ_LEN: usize = 32 << 10;

/// Part of a file that is in memory.
pub(super) struct Window<'s> {
    /// The rest of the file; absent when all of it is in memory.
    reader: Option<Box<dyn ReadSeek + 's>>,
    bytes: Cow<'s, [u8]>,
    /// Index of the first byte that was not used.
    start: usize,
    /// Offset in the file of that byte.
    pub(super) offset: u64,
}

impl<'s> Window<'s> {
    pub(super) fn of(source: &Source<'s>) -> Self {
        let offset = source.start();
        match source.bytes() {
            Some(bytes) => Self { reader: None, bytes: Cow::Borrowed(bytes), start: 0, offset },
            None => Self { reader: Some(source.reader()), bytes: Cow::Owned(Vec::new()), start: 0, offset },
        }
    }

    /// Returns the bytes that are in memory and were not used.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Marks bytes as used.
    pub(super) fn consume(&mut self, len: usize) {
        self.start += len;
        self.offset += len as u64;
    }

    /// Reads on, twice as much each time that it did not suffice. False at the end of the file.
    pub(super) fn more(&mut self) -> io::Result<bool> {
        let Some(reader) = &mut self.reader else { return Ok(false) };
        let bytes = self.bytes.to_mut();
        bytes.drain(..self.start);
        self.start = 0;
        let len = bytes.len().max(READ_LEN) as u64;
        let read = reader.take(len).read_to_end(bytes)?;
        Ok(read > 0)
    }

    /// True at the end of the file.
    pub(super) fn at_end(&mut self) -> io::Result<bool> {
        Ok(self.rest().is_empty() && !self.more()?)
    }

    /// At least `len` bytes, or all that are left.
    pub(super) fn at_least(&mut self, len: usize) -> io::Result<&[u8]> {
        while self.rest().len() < len && self.more()? {}
        Ok(self.rest())
    }

    /// Goes on behind `len` bytes, as far as there are any.
    pub(super) fn skip(&mut self, mut len: usize) -> io::Result<()> {
        while len > 0 && !self.at_end()? {
            let step = len.min(self.rest().len());
            self.consume(step);
            len -= step;
        }
        Ok(())
    }
}
