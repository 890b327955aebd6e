//! Facts of an MP4 file that symphonia does not pass on: where the edit list begins and ends, and how many samples
//! the packets hold.
//!
//! An AAC encoder puts about a thousand samples in front, and fills the last packet up; the edit list and the durations of the
//! packets say how much of it is sound. Source: ISO/IEC 14496-12, sections 8.6.1.2 (stts) and 8.6.6 (elst).

use std::io::{self, Read, Seek};

use super::fields::{be32, be64, bytes_at, some_at};

/// The part of a track that is to be heard, in ticks of its time scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeline {
    /// Ticks per second.
    pub(super) timescale: u32,
    /// The first tick.
    pub(super) start: u64,
    /// One behind the last tick; absent when the edit list leaves it open.
    pub(super) end: Option<u64>,
    /// All packets together; absent in files made of fragments.
    pub(super) duration: Option<u64>,
}

/// Boxes that a file begins with, by name.
pub(super) const BEGINNINGS: [[u8; 4]; 7] = [*b"ftyp", *b"moov", *b"mdat", *b"free", *b"skip", *b"wide", *b"pnot"];

/// Boxes that are looked at, at most.
const MAX_BOXES: u32 = 10_000;
/// Bytes of the movie box that are searched for a comment.
const MAX_MOOV: u64 = 4 << 20;

/// True if a second file follows in the same file.
pub(super) fn is_joined(file: &mut (impl Read + Seek), size: u64) -> io::Result<bool> {
    let mut budget = MAX_BOXES;
    let Some(first) = find(file, Range { start: 0, end: size }, *b"moov", &mut budget)? else { return Ok(false) };
    Ok(find(file, Range { start: first.end, end: size }, *b"moov", &mut budget)?.is_some())
}

/// Reads the comment `iTunSMPB`: how many samples an encoder put in front, and how many are sound. Numbers in hexadecimal: one that
/// is 0, those in front, those behind, those between.
fn itunes_gap(moov: &[u8]) -> Option<(u64, u64)> {
    let name = moov.windows(8).position(|eight| eight == b"iTunSMPB")?;
    let value = &moov[name..];
    let data = value.windows(4).position(|four| four == b"data")?;
    // A type and a language, four bytes each, then the text.
    let text = value.get(data + 12..)?;
    let text =
        std::str::from_utf8(&text[..text.iter().take(256).take_while(|byte| byte.is_ascii_hexdigit() || **byte == b' ').count()]);
    let mut numbers = text.ok()?.split_whitespace().skip(1).map(|number| u64::from_str_radix(number, 16).ok());
    let (front, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
    (count > 0).then_some((front, count))
}

/// The timeline of the first track of sound. `None` when the file does not have what it takes; then symphonia will say why.
pub(super) fn timeline(file: &mut (impl Read + Seek), size: u64) -> io::Result<Option<Timeline>> {
    let mut budget = MAX_BOXES;
    let Some(moov) = find(file, Range { start: 0, end: size }, *b"moov", &mut budget)? else { return Ok(None) };
    let movie_scale = match find(file, moov, *b"mvhd", &mut budget)? {
        Some(mvhd) => scale_of(file, mvhd)?,
        None => None,
    };
    let mut rest = moov;
    while let Some(trak) = find(file, rest, *b"trak", &mut budget)? {
        rest.start = trak.end;
        let Some(mdia) = find(file, trak, *b"mdia", &mut budget)? else { continue };
        let Some(hdlr) = find(file, mdia, *b"hdlr", &mut budget)? else { continue };
        if read::<12>(file, hdlr)?.is_none_or(|head| &head[8..] != b"soun") {
            continue;
        }
        let Some(mdhd) = find(file, mdia, *b"mdhd", &mut budget)? else { return Ok(None) };
        let Some(timescale) = scale_of(file, mdhd)? else { return Ok(None) };
        let duration = match path(file, mdia, [*b"minf", *b"stbl", *b"stts"], &mut budget)? {
            Some(stts) => duration_of(file, stts)?,
            None => None,
        };
        let edit = match path(file, trak, [*b"edts", *b"elst"], &mut budget)? {
            Some(elst) => edit_of(file, elst)?,
            None => None,
        };
        if edit.is_none()
            && let Some((start, count)) = itunes_gap(&some_at(file, moov.start, (moov.end - moov.start).min(MAX_MOOV))?)
        {
            return Ok(Some(Timeline { timescale, start, end: Some(start.saturating_add(count)), duration }));
        }
        let start = edit.map_or(0, |edit| edit.start);
        // The length of an edit is in ticks of the movie, often milliseconds, and some programs round it down: up to the next
        // one, not to cut what is sound. What the packets hold is known to the sample, and bounds it too.
        let end = edit.zip(movie_scale).filter(|(edit, _)| edit.duration > 0).map(|(edit, movie_scale)| {
            let coarse = u128::from(movie_scale < timescale);
            let ticks = ((u128::from(edit.duration) + coarse) * u128::from(timescale)).div_ceil(u128::from(movie_scale));
            start.saturating_add(ticks.min(u128::from(u64::MAX)) as u64)
        });
        return Ok(Some(Timeline { timescale, start, end, duration }));
    }
    Ok(None)
}

/// Bytes of the file.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

/// The inside of the first box of that kind.
fn find(file: &mut (impl Read + Seek), within: Range, kind: [u8; 4], budget: &mut u32) -> io::Result<Option<Range>> {
    let mut at = within.start;
    while *budget > 0 && at.saturating_add(8) <= within.end {
        *budget -= 1;
        let Some(head) = read::<8>(file, Range { start: at, end: within.end })? else { return Ok(None) };
        let (mut len, mut head_len) = (u64::from(be32(&head)), 8);
        if len == 1 {
            let Some(wide) = read::<8>(file, Range { start: at + 8, end: within.end })? else { return Ok(None) };
            (len, head_len) = (u64::from_be_bytes(wide), 16);
        } else if len == 0 {
            len = within.end - at; // to the end of the file
        }
        let end = at.saturating_add(len);
        if len < head_len || end > within.end {
            return Ok(None);
        }
        if head[4..] == kind {
            return Ok(Some(Range { start: at + head_len, end }));
        }
        at = end;
    }
    Ok(None)
}

fn path<const N: usize>(
    file: &mut (impl Read + Seek),
    mut within: Range,
    kinds: [[u8; 4]; N],
    budget: &mut u32,
) -> io::Result<Option<Range>> {
    for kind in kinds {
        match find(file, within, kind, budget)? {
            Some(inside) => within = inside,
            None => return Ok(None),
        }
    }
    Ok(Some(within))
}

/// The first bytes of a box. `None` when it is shorter.
fn read<const N: usize>(file: &mut (impl Read + Seek), range: Range) -> io::Result<Option<[u8; N]>> {
    if range.end - range.start < N as u64 {
        return Ok(None);
    }
    bytes_at(file, range.start)
}

/// Ticks per second by a `mvhd` or `mdhd` box, whose version says how wide the two dates before are.
fn scale_of(file: &mut (impl Read + Seek), range: Range) -> io::Result<Option<u32>> {
    let Some(head) = read::<16>(file, range)? else { return Ok(None) };
    let scale = if head[0] == 1 { read::<24>(file, range)?.map_or(0, |head| be32(&head[20..])) } else { be32(&head[12..]) };
    Ok((scale > 0).then_some(scale))
}

/// The sum over all packets of a `stts` box: pairs of a count and a duration.
fn duration_of(file: &mut (impl Read + Seek), range: Range) -> io::Result<Option<u64>> {
    let Some(head) = read::<8>(file, range)? else { return Ok(None) };
    let entries = u64::from(be32(&head[4..])).min((range.end - range.start - 8) / 8);
    let mut total = 0_u64;
    for entry in 0..entries {
        let start = range.start + 8 + 8 * entry;
        let Some(pair) = read::<8>(file, Range { start, end: range.end })? else { break };
        total = total.saturating_add(u64::from(be32(&pair)) * u64::from(be32(&pair[4..])));
    }
    Ok((total > 0).then_some(total))
}

/// The first edit that shows something.
#[derive(Debug, Clone, Copy)]
struct Edit {
    /// In ticks of the track.
    start: u64,
    /// In ticks of the movie; 0 when open.
    duration: u64,
}

/// Edits beyond the first few are no speech corpus.
const MAX_EDITS: u64 = 16;

fn edit_of(file: &mut (impl Read + Seek), range: Range) -> io::Result<Option<Edit>> {
    let Some(head) = read::<8>(file, range)? else { return Ok(None) };
    let wide = head[0] == 1;
    for entry in 0..u64::from(be32(&head[4..])).min(MAX_EDITS) {
        let start = range.start + 8 + entry * if wide { 20 } else { 12 };
        if start > range.end {
            break;
        }
        let at = Range { start, end: range.end };
        let (duration, media_time) = if wide {
            let Some(edit) = read::<16>(file, at)? else { break };
            (be64(&edit), be64(&edit[8..]) as i64)
        } else {
            let Some(edit) = read::<8>(file, at)? else { break };
            (u64::from(be32(&edit)), i64::from(be32(&edit[4..]) as i32))
        };
        // -1 stands for a pause before the track begins.
        if let Ok(start) = u64::try_from(media_time) {
            return Ok(Some(Edit { start, duration }));
        }
    }
    Ok(None)
}
