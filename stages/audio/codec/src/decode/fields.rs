//! Numbers in the headers of containers.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

/// Reads the `N` bytes at `at`; `None` at the end of the file.
pub(crate) fn bytes_at<const N: usize>(file: &mut (impl Read + Seek + ?Sized), at: u64) -> io::Result<Option<[u8; N]>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = [0; N];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads at most `len` bytes at `at`.
pub(crate) fn some_at(file: &mut (impl Read + Seek + ?Sized), at: u64, len: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

pub(crate) fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

pub(crate) fn be64(bytes: &[u8]) -> u64 {
    u64::from(be32(bytes)) << 32 | u64::from(be32(&bytes[4..]))
}

pub(crate) fn le32(bytes: &[u8]) -> u32 {
    be32(bytes).swap_bytes()
}

pub(crate) fn le64(bytes: &[u8]) -> u64 {
    be64(bytes).swap_bytes()
}
