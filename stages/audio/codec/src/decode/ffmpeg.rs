//! What symphonia cannot decode goes to the program `ffmpeg`, if there is one: AAC of more than two channels or with spectral
//! band replication, AC-3, Opus. Never needed for anything else.
//!
//! ffmpeg writes float WAV to a pipe, all channels, at the recording's rate; the rest is done here as for every recording.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::{DecodeError, Decoder, Source, SourceInfo};
use crate::wav::Header;

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 32 << 10;
/// The header of the WAV that ffmpeg writes is shorter than this.
const MAX_HEADER_LEN: u64 = 4_096;

/// Decodes with ffmpeg what was refused with `reason`.
pub(super) fn open<'s>(source: &Source<'s>, container: &'static str, reason: &str) -> Result<Box<dyn Decoder + 's>, DecodeError> {
    // A file of its own that ffmpeg opens anew, and can seek in: MP4 cannot be read from a pipe.
    let mut input = match source {
        Source::File(file) => file.try_clone()?,
        Source::Memory(bytes) => {
            let mut file = tempfile::tempfile()?;
            file.write_all(bytes)?;
            file
        }
    };
    input.seek(SeekFrom::Start(0))?;
    let mut messages = tempfile::tempfile()?;
    let spawned = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-xerror", "-i", "/dev/stdin", "-map", "0:a:0", "-bitexact"])
        .args(["-c:a", "pcm_f32le", "-f", "wav", "-"])
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(messages.try_clone()?)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let reason = format!("{reason}: only the program `ffmpeg` could decode this, and it is not on PATH");
            return Err(DecodeError::Unsupported { container, reason });
        }
        Err(error) => return Err(error.into()),
    };
    let mut output = child.stdout.take().expect("the output was asked to be a pipe");
    let mut head = Vec::new();
    output.by_ref().take(MAX_HEADER_LEN).read_to_end(&mut head)?;
    let Ok(header) = Header::read(&mut Cursor::new(&head), head.len() as u64) else {
        drop(output); // it may be waiting for somebody to read
        let reason = format!("{reason}, and ffmpeg says: {}", said(&mut child, &mut messages)?);
        return Err(DecodeError::Unsupported { container, reason });
    };
    let first = head.split_off(header.data_start as usize);
    Ok(Box::new(FfmpegDecoder { child, output, messages, header, container, bytes: first }))
}

struct FfmpegDecoder {
    child: Child,
    output: ChildStdout,
    messages: File,
    header: Header,
    container: &'static str,
    /// Read, but not yet given.
    bytes: Vec<u8>,
}

impl Decoder for FfmpegDecoder {
    fn info(&self) -> SourceInfo {
        let Header { sample_rate, num_channels, .. } = self.header;
        SourceInfo { sample_rate, num_channels, container: self.container }
    }

    fn next(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError> {
        self.output.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut self.bytes)?;
        let frame_len = self.header.frame_len();
        if self.bytes.len() < frame_len {
            if self.child.wait()?.success() {
                return Ok(false);
            }
            let reason = format!("ffmpeg says: {}", said(&mut self.child, &mut self.messages)?);
            return Err(DecodeError::Damaged { container: self.container, reason, offset: None });
        }
        let whole = self.bytes.len() - self.bytes.len() % frame_len;
        self.header.encoding.average(&self.bytes[..whole], self.header.num_channels, mono);
        self.bytes.drain(..whole);
        Ok(true)
    }
}

impl Drop for FfmpegDecoder {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line that ffmpeg wrote to standard error.
fn said(child: &mut Child, messages: &mut File) -> io::Result<String> {
    child.wait()?;
    let mut text = Vec::new();
    messages.seek(SeekFrom::Start(0))?;
    messages.take(4_096).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().map_or_else(|| "nothing".to_owned(), without_addresses))
}

/// Leaves out where in memory ffmpeg's parts are (`[mp3float @ 0x55d0c0ffee00]`): another place in every run, while the same
/// recordings must give the same reasons.
fn without_addresses(line: &str) -> String {
    let mut parts = line.split(" @ 0x");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, rest| line + rest.trim_start_matches(|digit: char| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_no_address() {
        assert_eq!(without_addresses("[mov,mp4 @ 0x56326b3f5900] no moov [x @ 0x1f]: gone"), "[mov,mp4] no moov [x]: gone");
        assert_eq!(without_addresses("/dev/stdin: Invalid data"), "/dev/stdin: Invalid data");
    }
}
