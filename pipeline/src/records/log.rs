//! The record log: a file of lines, each a checksum and an [`Entry`] as JSON.
//!
//! ```text
//! 0123456789abcdef {"result":{...}}      16 hexadecimal digits: the first 8 bytes of the BLAKE3 digest of the JSON text
//! ```
//!
//! Lines are only ever appended, each by one call, while the process holds the write lock of the index. A process that is killed
//! in the middle of a line leaves a torn tail, which the next writer cuts off. A damaged line elsewhere is skipped by its checksum.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::RecordsError;
use super::entry::{Entry, Head};
use crate::Digest;

/// Format of the log. Raised when an older program could misread it.
pub(crate) const FORMAT: u32 = 1;

/// Hexadecimal digits of a checksum.
const SUM: usize = 16;

/// The record log of a store, open for appending.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    /// Name in its first line.
    pub(crate) id: String,
}

/// Outcome of reading a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadReport {
    /// End of the last whole line.
    pub(crate) end: u64,
    /// Bytes after it: a line without its end.
    pub(crate) torn: u64,
    /// Offsets of the lines whose checksum does not match, or which this program does not understand.
    pub(crate) damaged: Vec<u64>,
}

impl ReadReport {
    /// Sentences about the damage that was found.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut all = vec![];
        if self.torn > 0 {
            all.push(format!(
                "the record log ended with {} bytes of a line that a killed process left: they were cut off",
                self.torn
            ));
        }
        if let Some(first) = self.damaged.first() {
            let (lines, are) = if self.damaged.len() == 1 { ("line", "is") } else { ("lines", "are") };
            all.push(format!(
                "{} damaged {lines} of the record log {are} skipped (the first begins at byte {first}): what was recorded there runs again \
                 when it is needed",
                self.damaged.len()
            ));
        }
        all
    }
}

impl Log {
    /// Opens the log, or begins one.
    pub(crate) fn open(path: &Path) -> Result<Self, RecordsError> {
        let failed = |source| RecordsError::Log { action: "open", path: path.to_owned(), source };
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(failed)?;
        let id = if let Some(head) = head_of(path)? {
            head.id
        } else {
            let head = Head { format: FORMAT, id: new_id() };
            let id = head.id.clone();
            // Where the first line is damaged, the new name follows on a line of its own.
            let is_empty = file.metadata().map_err(failed)?.len() == 0;
            let text = [if is_empty { &b""[..] } else { b"\n" }, &line(&Entry::Log(head))].concat();
            let written = file.write_all(&text).and_then(|()| file.sync_all());
            written.and_then(|()| sync_folder(path)).map_err(failed)?;
            id
        };
        Ok(Self { path: path.to_owned(), file, id })
    }

    /// Writes a whole new log next to the old one and puts it in its place.
    pub(crate) fn replace(
        path: &Path,
        write: impl FnOnce(&mut dyn FnMut(&Entry<'_>) -> Result<(), RecordsError>) -> Result<(), RecordsError>,
    ) -> Result<Self, RecordsError> {
        let failed = |source| RecordsError::Log { action: "write", path: path.to_owned(), source };
        let new = path.with_extension("new");
        let mut out = io::BufWriter::new(File::create(&new).map_err(failed)?);
        let mut put = |entry: &Entry<'_>| out.write_all(&line(entry)).map_err(failed);
        put(&Entry::Log(Head { format: FORMAT, id: new_id() }))?;
        write(&mut put)?;
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().and_then(|()| std::fs::rename(&new, path)).and_then(|()| sync_folder(path)).map_err(failed)?;
        Self::open(path)
    }

    /// Number of its bytes.
    pub(crate) fn len(&self) -> Result<u64, RecordsError> {
        self.file.metadata().map(|meta| meta.len()).map_err(|source| self.failed("read", source))
    }

    /// Appends lines. When that fails, the log is as before.
    pub(crate) fn append(&mut self, lines: &[u8], length: u64) -> Result<(), RecordsError> {
        self.file.write_all(lines).map_err(|source| {
            let _ = self.file.set_len(length); // else the next writer cuts the torn line off
            self.failed("write", source)
        })
    }

    /// Cuts a torn tail off.
    pub(crate) fn cut(&self, length: u64) -> Result<(), RecordsError> {
        self.file.set_len(length).map_err(|source| self.failed("write", source))
    }

    /// Waits until all lines are on disk.
    pub(crate) fn sync(&self) -> Result<(), RecordsError> {
        self.file.sync_data().map_err(|source| self.failed("write", source))
    }

    /// Reads the entries from an offset on.
    pub(crate) fn read(
        &self,
        from: u64,
        each: impl FnMut(&Entry<'_>) -> Result<(), RecordsError>,
    ) -> Result<ReadReport, RecordsError> {
        read(&self.path, from, each)
    }

    fn failed(&self, action: &'static str, source: io::Error) -> RecordsError {
        RecordsError::Log { action, path: self.path.clone(), source }
    }
}

/// Head of the log at a path: its first line, or where that is damaged the first one that is found. None when there is no log.
pub(crate) fn head_of(path: &Path) -> Result<Option<Head>, RecordsError> {
    let failed = |source| RecordsError::Log { action: "read", path: path.to_owned(), source };
    let mut lines = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => BufReader::new(file.map_err(failed)?),
    };
    let mut text = vec![];
    while lines.read_until(b'\n', &mut text).map_err(failed)? > 0 {
        if let Some(Entry::Log(head)) = parse(&text) {
            if head.format > FORMAT {
                return Err(RecordsError::Newer { part: "record log", found: head.format, known: FORMAT });
            }
            return Ok(Some(head));
        }
        text.clear();
    }
    Ok(None)
}

/// Reads the entries of a log from an offset on.
pub(crate) fn read(
    path: &Path,
    from: u64,
    mut each: impl FnMut(&Entry<'_>) -> Result<(), RecordsError>,
) -> Result<ReadReport, RecordsError> {
    let failed = |source| RecordsError::Log { action: "read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut input = BufReader::with_capacity(1 << 18, file);
    let (mut report, mut line) = (ReadReport { end: from, ..ReadReport::default() }, vec![]);
    loop {
        line.clear();
        let length = input.read_until(b'\n', &mut line).map_err(failed)? as u64;
        if line.last() != Some(&b'\n') {
            report.torn = length;
            return Ok(report);
        }
        match parse(&line) {
            Some(entry) => each(&entry)?,
            None => report.damaged.push(report.end),
        }
        report.end += length;
    }
}

/// One line of the log.
pub(crate) fn line(entry: &Entry<'_>) -> Vec<u8> {
    let mut bytes = vec![b' '; SUM + 1];
    serde_json::to_writer(&mut bytes, entry).expect("plain data");
    let sum = checksum(&bytes[SUM + 1..]);
    bytes[..SUM].copy_from_slice(&sum);
    bytes.push(b'\n');
    bytes
}

fn parse(line: &[u8]) -> Option<Entry<'static>> {
    let (sum, rest) = line.split_at_checked(SUM)?;
    let json = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    if checksum(json) != *sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn checksum(json: &[u8]) -> [u8; SUM] {
    let hex = blake3::hash(json).to_hex();
    hex.as_bytes().first_chunk().copied().unwrap_or([b'0'; SUM])
}

/// Name that no other log has.
fn new_id() -> String {
    let mut seed = [0; 16];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    let time = crate::host::now_ms();
    Digest::of(format!("{seed:?} {} {time} {}", random.is_ok(), std::process::id()).as_bytes()).to_string()[..SUM].to_owned()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: i64) -> Vec<Entry<'static>> {
        (0..count).map(|number| Entry::Durable(vec![number])).collect()
    }

    fn write(path: &Path, count: i64) {
        let mut log = Log::open(path).unwrap();
        for entry in entries(count) {
            let length = log.len().unwrap();
            log.append(&line(&entry), length).unwrap();
        }
    }

    fn read_all(path: &Path) -> (Vec<Entry<'static>>, ReadReport) {
        let mut found: Vec<Entry<'static>> = vec![];
        let report = read(path, 0, |entry| {
            if let Entry::Durable(results) = entry {
                found.push(Entry::Durable(results.clone()));
            }
            Ok(())
        });
        (found, report.unwrap())
    }

    #[test]
    fn entries_come_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.log");
        write(&path, 3);
        write(&path, 2);
        let (found, report) = read_all(&path);
        assert_eq!(found, [entries(3), entries(2)].concat());
        assert_eq!((report.torn, report.damaged.len()), (0, 0));
    }

    #[test]
    fn a_log_cut_at_any_byte_gives_all_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.log");
        write(&path, 4);
        let bytes = std::fs::read(&path).unwrap();
        let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let (found, report) = read_all(&path);
            assert_eq!(found.len(), lines(&bytes[..length]).saturating_sub(1), "{length}");
            assert_eq!(report.end + report.torn, length as u64);
        }
    }

    #[test]
    fn a_damaged_line_is_skipped_by_its_checksum_wherever_the_damage_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.log");
        write(&path, 4);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let (found, report) = read_all(&path);
            assert!(found.len() >= 2, "{at}: {found:?}"); // a lost line end spoils two lines
            assert!(found.iter().all(|entry| entries(4).contains(entry)), "{at}");
            assert!(!report.damaged.is_empty() || report.torn > 0, "{at}");
        }
    }
}
