//! Whether a file can be known to be whole: what MP3 and Ogg say of their length, and symphonia does not tell from a guess.

use std::io::{self, Read, Seek, SeekFrom};

/// Whether an MP3 file begins with a frame that counts the others (`Xing`, `Info` or `VBRI`). symphonia counts them itself where
/// there is none, from the size of the file.
pub(super) fn mp3_is_counted(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    let head = read_at(file, 0, 10)?;
    // ID3v2: ten bytes, then as many as these four say, seven bits each.
    let tag_len = match head.as_slice() {
        [b'I', b'D', b'3', _, _, _, size @ ..] if size.len() == 4 => {
            10 + size.iter().fold(0, |sum, &byte| sum << 7 | u64::from(byte & 0x7f))
        }
        _ => 0,
    };
    let frame = read_at(file, tag_len, 4_096)?;
    Ok(frame.windows(4).any(|four| matches!(four, b"Xing" | b"Info" | b"VBRI")))
}

/// Whether an Ogg file ends with a page that is whole and marked as the last (RFC 3533, section 6).
pub(super) fn ogg_is_whole(file: &mut (impl Read + Seek), size: u64) -> io::Result<bool> {
    // A page has at most 27 + 255 + 255 * 255 bytes.
    let start = size.saturating_sub(65_307);
    let tail = read_at(file, start, 65_307)?;
    let is_last = |at: usize| {
        let page = &tail[at..];
        let Some(head) = page.get(..27) else { return false };
        let segments = usize::from(head[26]);
        let Some(lens) = page.get(27..27 + segments) else { return false };
        let len = 27 + segments + lens.iter().map(|&len| usize::from(len)).sum::<usize>();
        head[5] & 4 != 0 && page.len() == len
    };
    let starts = tail.windows(4).enumerate().filter(|(_, four)| *four == b"OggS");
    Ok(starts.map(|(at, _)| at).any(is_last))
}

fn read_at(file: &mut (impl Read + Seek), start: u64, len: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}
