//! Everything that is not decoded here goes to the program `ffmpeg`, if there is one.
//!
//! ffmpeg writes float WAV to a pipe, all channels, at the recording's rate; the rest is done here as for every recording.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use super::pcm::Header;
use super::{DecodeError, Decoder, Flag, Loudness, Source, SourceInfo};
use crate::wav::{self, Found};

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 32 << 10;
/// The header of the WAV that ffmpeg writes is shorter than this.
const MAX_HEADER_LEN: u64 = 4_096;

/// Decodes with ffmpeg a recording that was refused with `reason`.
pub(crate) fn open<'s>(
    source: &Source<'s>,
    ffmpeg: &Path,
    container: &'static str,
    reason: &str,
) -> Result<Box<dyn Decoder + 's>, DecodeError> {
    // A file of its own that ffmpeg opens again, and can seek in: MP4 cannot be read from a pipe.
    let aside = |source| DecodeError::Machine { action: "write it to a temporary file for ffmpeg", source };
    let mut input = tempfile::tempfile().map_err(aside)?;
    let written = match source.bytes() {
        Some(bytes) => input.write_all(bytes),
        None => io::copy(&mut source.reader(), &mut input).map(drop),
    };
    written.and_then(|()| input.seek(SeekFrom::Start(0))).map_err(aside)?;
    let mut messages = tempfile::tempfile().map_err(aside)?;
    let spawned = Command::new(ffmpeg)
        .args(["-nostdin", "-v", "level+warning", "-xerror", "-protocol_whitelist", "file", "-i", "/dev/stdin", "-map", "0:a:0"])
        .args(["-bitexact", "-c:a", "pcm_f32le", "-f", "wav", "-"])
        // They would put colours into the messages and a file into the current folder.
        .env_remove("AV_LOG_FORCE_COLOR")
        .env_remove("FFREPORT")
        // A signal from the terminal ends a run after the node, which must not lose the recording.
        .process_group(0)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(messages.try_clone()?)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(DecodeError::NoFfmpeg { reason: reason.to_owned() }),
        Err(source) => return Err(DecodeError::Machine { action: "start ffmpeg", source }),
    };
    let mut output = child.stdout.take().expect("the output was asked to be a pipe");
    let mut head = Vec::new();
    output.by_ref().take(MAX_HEADER_LEN).read_to_end(&mut head)?;
    let header = match wav::read(&mut Cursor::new(&head), head.len() as u64) {
        Ok(Found::Samples(header)) if !is_guess(&mut messages)? => header,
        _ => {
            drop(output); // it may be waiting for its reader
            if head.len() as u64 == MAX_HEADER_LEN {
                let _ = child.kill();
                child.wait()?;
            } else {
                check_signal(child.wait()?)?;
            }
            return Err(DecodeError::Ffmpeg { reason: reason.to_owned(), said: said(&mut messages)? });
        }
    };
    let bytes = head.split_off(header.data_start as usize);
    let reason = reason.to_owned();
    Ok(Box::new(FfmpegDecoder { child, output, messages, header, container, reason, bytes, loudness: Loudness::default() }))
}

struct FfmpegDecoder {
    child: Child,
    output: ChildStdout,
    messages: File,
    header: Header,
    container: &'static str,
    /// Reason why the recording is not decoded here.
    reason: String,
    /// Bytes that were read and not decoded yet.
    bytes: Vec<u8>,
    loudness: Loudness,
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
            let ended = self.child.wait()?;
            if ended.success() {
                return Ok(false);
            }
            check_signal(ended)?;
            return Err(DecodeError::Ffmpeg { reason: self.reason.clone(), said: said(&mut self.messages)? });
        }
        let whole = self.bytes.len() - self.bytes.len() % frame_len;
        self.header.encoding.average(&self.bytes[..whole], self.header.num_channels, &mut self.loudness, mono);
        self.bytes.drain(..whole);
        Ok(true)
    }

    fn flags(&self) -> Vec<Flag> {
        self.loudness.flag().into_iter().collect()
    }
}

impl Drop for FfmpegDecoder {
    fn drop(&mut self) {
        // Both fail if it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Errors: a signal ended ffmpeg, as at the end of a session or where memory is short. A crash is left to the recording.
fn check_signal(ended: ExitStatus) -> Result<(), DecodeError> {
    const CRASHES: [i32; 5] = [4, 6, 7, 8, 11]; // SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV
    let what = match (ended.signal(), ended.code()) {
        (Some(signal), _) if !CRASHES.contains(&signal) => format!("signal {signal} ended the program"),
        // Its own answers to a signal, and to several.
        (None, Some(255 | 123)) => "a signal ended the program".to_owned(),
        _ => return Ok(()),
    };
    Err(DecodeError::Machine { action: "decode it with ffmpeg", source: io::Error::other(what) })
}

fn text_of(messages: &mut File) -> io::Result<String> {
    let mut text = Vec::new();
    messages.seek(SeekFrom::Start(0))?;
    messages.take(16 << 10).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// True if ffmpeg took the file for something without being sure: it decodes text and pictures to noise.
fn is_guess(messages: &mut File) -> io::Result<bool> {
    Ok(text_of(messages)?.contains("misdetection possible"))
}

/// Returns the first error that ffmpeg wrote, else its first line.
fn said(messages: &mut File) -> io::Result<String> {
    let text = text_of(messages)?;
    let is_error = |line: &&str| line.contains("[error]") || line.contains("[fatal]");
    let line = text.lines().find(is_error).or_else(|| text.lines().find(|line| line.contains("misdetection possible")));
    let line = line.or_else(|| text.lines().next()).unwrap_or("nothing");
    Ok(["[error] ", "[fatal] ", "[warning] "].iter().fold(without_addresses(line), |line, level| line.replace(level, "")))
}

/// Leaves out the addresses of ffmpeg's parts in memory (`[mp3float @ 0x55d0c0ffee00]`): they differ from run to run, while the
/// same recordings must give the same reasons.
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
