//! Headers of pages, for readers that go to single values of a column that is not compressed.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use parquet_format_safe::thrift::protocol::TCompactInputProtocol;
use parquet_format_safe::{Encoding, PageHeader, PageType};

/// A header is small; no field of it may claim more bytes.
const MOST_IN_HEADER: usize = 1 << 20;
/// Bytes that are read at once.
const READ_LEN: usize = 256;

/// Content of a PLAIN data page of version 1 that is not compressed: levels, then values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainPage {
    /// Offset in the file of the first byte behind the header.
    pub start: u64,
    /// Bytes from there.
    pub len: u64,
}

impl PlainPage {
    /// Reads the header of the page at `at`.
    ///
    /// Errors: a file that cannot be read. The value is absent if there is no page of this kind.
    pub fn read(file: &File, at: u64) -> io::Result<Option<Self>> {
        let mut header_bytes = Counted { inner: BufReader::with_capacity(READ_LEN, At { file, at }), count: 0 };
        let header = PageHeader::read_from_in_protocol(&mut TCompactInputProtocol::new(&mut header_bytes, MOST_IN_HEADER));
        let Ok(header) = header else { return Ok(None) };
        let is_plain = header.data_page_header.is_some_and(|page| page.encoding == Encoding::PLAIN);
        let len = u64::try_from(header.compressed_page_size).ok();
        let whole = header.compressed_page_size == header.uncompressed_page_size;
        let start = at + header_bytes.count;
        Ok(len.filter(|_| is_plain && whole && header.type_ == PageType::DATA_PAGE).map(|len| Self { start, len }))
    }
}

/// Reads a file from a place on, without its cursor.
struct At<'f> {
    file: &'f File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buffer, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.count += len as u64;
        Ok(len)
    }
}
