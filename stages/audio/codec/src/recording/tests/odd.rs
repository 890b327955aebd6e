//! Recordings that are odd and sound: what other programs read too, with a flag where something unexpected is in the file.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use symphonia::core::checksum::Crc32;
use symphonia::core::io::Monitor;

use super::*;

fn fixture(name: &str) -> &'static [u8] {
    FIXTURES.iter().find(|(found, _)| *found == name).unwrap().1
}

fn decoded(file: &[u8]) -> Vec<f32> {
    let mut mono = Vec::new();
    samples(file, &mut mono).unwrap();
    mono
}

/// Prepares without ffmpeg, and checks the flags.
#[track_caller]
fn flagged(file: &[u8], flags: &[Flag]) -> Prepared {
    let clip = flac().prepare_bytes(file.to_vec(), None).unwrap();
    assert_eq!(clip.flags, flags);
    clip
}

/// An `ID3v2` tag whose content looks like frames of MPEG audio and ADTS.
fn tag() -> Vec<u8> {
    let content =
        [b"TXXX\0\0\0\x40\0\0\x01\xff\xfe".as_slice(), &[0xff, 0xfb, 0x50, 0xc0, 0xff, 0xf1, 0x50, 0x80].repeat(40)].concat();
    let size = [0, 0, (content.len() >> 7) as u8, (content.len() & 0x7f) as u8];
    [b"ID3\x03\0\0".as_slice(), &size, &content].concat()
}

#[test]
fn tags_in_front_are_skipped_whatever_they_contain() {
    let flac_file = written_flac(&[3; 2_000]);
    let mut ape = b"APETAGEX\xd0\x07\0\0\x20\x4e\x01\0\x01\0\0\0\0\0\0\xa0\0\0\0\0\0\0\0\0".to_vec();
    ape.resize(32 + 85_536, 0xff);
    assert_eq!(decoded(&[&ape, fixture("tone.mp3")].concat()), decoded(fixture("tone.mp3")));
    for file in [fixture("tone.mp3"), fixture("uncounted.mp3"), fixture("tone.wav"), fixture("tone.aac"), &flac_file] {
        let tagged = [tag().as_slice(), &tag(), file].concat();
        assert_eq!(decoded(&tagged), decoded(file));
        assert!(!flagged(&tagged, &[]).kept);
    }
}

#[test]
fn mp3_begins_with_the_first_whole_frame() {
    let file = fixture("uncounted.mp3");
    let sound = decoded(file);
    for zeros in [1, 417, 5_000] {
        let padded = [vec![0; zeros].as_slice(), file].concat();
        assert_eq!(decoded(&padded), sound, "{zeros} zeros");
        flagged(&padded, &[]);
    }
    let half = &file[file.len() / 24..];
    assert_eq!(decoded(half).len(), sound.len() - 576);
    flagged(half, &[Flag::LeadingBytes]);
}

#[test]
fn mp3_ends_with_the_last_frame_and_tags_are_no_part_of_it() {
    let mut id3v1 = b"TAG".to_vec();
    id3v1.resize(128, b' ');
    let mut ape = b"APETAGEX\xd0\x07\0\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    ape[8..12].copy_from_slice(&2_000_u32.to_le_bytes());
    ape[12..16].copy_from_slice(&32_u32.to_le_bytes());
    // No header, as version 1 has it, and something like a frame within.
    let mut old_ape = [[0xff, 0xfb, 0x50, 0xc0].repeat(100), ape.clone()].concat();
    old_ape[412..416].copy_from_slice(&432_u32.to_le_bytes());
    let old_ape_and_id3v1 = [old_ape.as_slice(), &id3v1].concat();
    for name in ["tone.mp3", "uncounted.mp3"] {
        let file = fixture(name);
        for tail in [&old_ape, &old_ape_and_id3v1] {
            let tagged = [file, tail].concat();
            assert_eq!(decoded(&tagged), decoded(file), "{name}");
            flagged(&tagged, &[]);
        }
        for tail in [id3v1.as_slice(), &[0; 1_000], &tag(), &[b"LYRICSBEGINla la LYRICS200".as_slice(), &id3v1].concat(), &ape] {
            let tagged = [file, tail].concat();
            assert_eq!(decoded(&tagged), decoded(file), "{name}");
            flagged(&tagged, &[]);
        }
        let strange = [file, b"what is this doing here?"].concat();
        assert_eq!(decoded(&strange), decoded(file));
        flagged(&strange, &[Flag::TrailingBytes]);
    }
    let cut = &fixture("uncounted.mp3")[..fixture("uncounted.mp3").len() - 10];
    assert_eq!(decoded(cut).len(), decoded(fixture("uncounted.mp3")).len() - 576);
    flagged(cut, &[Flag::CutShort]);
}

#[test]
fn mp3_files_that_were_joined_give_both_and_a_flag() {
    let (counted, uncounted) = (fixture("tone.mp3"), fixture("uncounted.mp3"));
    let both = [counted, counted].concat();
    let once = decoded(counted);
    assert_eq!(decoded(&both), [once.as_slice(), &once].concat());
    flagged(&both, &[Flag::Joined]);
    let tagged = [tag().as_slice(), counted, b"TAG", &[0; 125], &tag(), counted].concat();
    assert_eq!(decoded(&tagged).len(), 2 * once.len());
    flagged(&tagged, &[Flag::Joined]);
    // The header counts the first part alone.
    let mixed = [counted, uncounted].concat();
    assert_eq!(decoded(&mixed).len(), once.len() + decoded(uncounted).len());
    flagged(&mixed, &[Flag::Joined]);
    // Without a header, nothing tells that there are two.
    assert_eq!(decoded(&[uncounted, uncounted].concat()).len(), 2 * decoded(uncounted).len());
    // A first part that ends within a frame.
    let torn = [&counted[..counted.len() - 50], counted].concat();
    assert!(wav().prepare_bytes(torn, None).unwrap_err().reason.contains("damaged or truncated"));
    let torn = [&uncounted[..uncounted.len() - 50], uncounted].concat();
    assert_eq!(decoded(&torn).len(), 2 * decoded(uncounted).len() - 576);
    flagged(&torn, &[Flag::SkippedBytes]);
}

#[test]
fn mp3_within_riff_is_read() {
    let stream = fixture("uncounted.mp3");
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x1e\0\0\0\x55\0\x01\0\x22\x56\0\0\xa0\x0f\0\0\x01\0\0\0\x0c\0\x01\0\x02\0\0\0\x68\0\x01\0\x71\x05data".to_vec();
    file.extend_from_slice(&(stream.len() as u32).to_le_bytes());
    file.extend_from_slice(stream);
    assert_eq!(decoded(&file), decoded(stream));
}

/// Start and end of every page.
fn pages(file: &[u8]) -> Vec<std::ops::Range<usize>> {
    let starts: Vec<usize> = (0..file.len() - 3).filter(|&at| file[at..].starts_with(b"OggS")).collect();
    starts.iter().zip(starts.iter().skip(1).chain([&file.len()])).map(|(&start, &end)| start..end).collect()
}

/// Changes every page of an Ogg file and mends its checksum.
fn repaged(file: &[u8], change: impl Fn(usize, &mut [u8])) -> Vec<u8> {
    let mut file = file.to_vec();
    for (number, range) in pages(&file).into_iter().enumerate() {
        let page = &mut file[range];
        change(number, page);
        page[22..26].fill(0);
        let mut crc = Crc32::new(0);
        crc.process_buf_bytes(page);
        page[22..26].copy_from_slice(&crc.crc().to_le_bytes());
    }
    file
}

#[test]
fn ogg_without_an_end_mark_is_whole() {
    let file = repaged(fixture("tone.ogg"), |_, page| page[5] &= !4);
    let sound = decoded(fixture("tone.ogg"));
    // Without the mark, nothing says that the last packet is not whole.
    let found = decoded(&file);
    assert!(found.len() >= sound.len() && found[..sound.len()] == sound, "{} and {}", found.len(), sound.len());
    flagged(&file, &[Flag::NoEndMark]);
}

#[test]
fn ogg_may_begin_at_any_time() {
    let late = |page: &mut [u8]| {
        let granule = u64::from_le_bytes(page[6..14].try_into().unwrap());
        if granule != 0 && granule != u64::MAX {
            page[6..14].copy_from_slice(&(granule + 1_000_000).to_le_bytes());
        }
    };
    let file = repaged(fixture("tone.ogg"), |_, page| late(page));
    // All samples are in one page, so that nothing says which of them the encoder added at the end.
    assert_eq!(decoded(&file).len(), 5_632);
    flagged(&file, &[]);
}

#[test]
fn ogg_links_are_decoded_one_after_the_other() {
    let once = decoded(fixture("tone.ogg"));
    // Another serial number in the second.
    let second = repaged(fixture("tone.ogg"), |_, page| page[14] ^= 0x55);
    for second in [fixture("tone.ogg"), &second] {
        let both = [fixture("tone.ogg"), second].concat();
        assert_eq!(decoded(&both), [once.as_slice(), &once].concat());
        flagged(&both, &[Flag::Joined]);
    }
    let other_rate = [fixture("tone.ogg"), fixture("tone.opus")].concat();
    assert!(flac().prepare_bytes(other_rate, None).unwrap_err().reason.contains("Opus"));
}

#[test]
fn ogg_with_a_damaged_or_missing_page_is_refused() {
    let file = fixture("tone.oga");
    let pages = pages(file);
    let middle = pages[pages.len() - 2].clone();
    let mut damaged = file.to_vec();
    damaged[middle.end - 1] ^= 1;
    refused(&damaged, "ogg: a page does not have its checksum", Some(middle.start as u64));
    let last = &file[pages[pages.len() - 1].clone()];
    let missing = repaged(&[file, last].concat(), |number, page| page[18] += if number == pages.len() { 2 } else { 0 });
    refused(&missing, "ogg: a page is missing", Some(file.len() as u64));
    refused(&file[..file.len() - 5], "ogg: truncated: the file ends within a page", Some(file.len() as u64 - 5));
    flagged(&[file, b"TAG"].concat(), &[Flag::TrailingBytes]);
    flagged(&[file, &[0; 40]].concat(), &[]);
}

#[test]
fn ogg_codecs_are_named() {
    let speex = repaged(fixture("tone.ogg"), |number, page| {
        if number == 0 {
            page[28..36].copy_from_slice(b"Speex   ");
        }
    });
    refused(&speex, "ogg: Speex, which is not decoded here; the program `ffmpeg` might read it, and is not on PATH", None);
}

#[test]
fn old_flac_with_blocks_that_differ_is_read() {
    // Two frames of 1152 samples, then one of 696: numbered by frames or by samples, and not marked as differing.
    let file = written_flac(&(0..3_000).map(|n| (n * n % 4_001) as i16).collect::<Vec<_>>());
    let sound = decoded(&file);
    let mut old = file.clone();
    old[8..10].copy_from_slice(&696_u16.to_be_bytes()); // the smallest block
    assert_eq!(decoded(&old), sound);
    assert_eq!(flagged(&old, &[]).num_samples, 3_000);
}

#[test]
fn flac_with_something_behind_it_does_not_keep_its_bytes() {
    let file = written_flac(&[3; 2_000]);
    assert!(flagged(&file, &[]).kept);
    for (tail, flag) in [(file.as_slice(), Flag::Joined), (&[0; 9], Flag::TrailingBytes), (b"TAG", Flag::TrailingBytes)] {
        let clip = flagged(&[file.as_slice(), tail].concat(), &[flag]);
        assert!(!clip.kept && clip.bytes == file);
    }
    // Without a length in the header, its end is where something else begins.
    let mut endless = file.clone();
    endless[22..26].fill(0);
    for (tail, flag) in [(file.as_slice(), Flag::Joined), (b"TAG", Flag::TrailingBytes)] {
        assert_eq!(flagged(&[endless.as_slice(), tail].concat(), &[flag]).num_samples, 2_000);
    }
    // Metadata of an unknown type.
    let mut unknown = file.clone();
    unknown[4] = 0;
    unknown.splice(42..42, *b"\x9e\0\0\x02ab");
    let clip = flagged(&unknown, &[]);
    assert!(!clip.kept && clip.bytes == file);
}

#[test]
fn wav_with_something_unexpected_does_not_keep_its_bytes() {
    let file = write_pcm16(TO, &[1, 2, 3]);
    let clip = wav().prepare_bytes([file.as_slice(), b"TAG", &[0; 125]].concat(), None).unwrap();
    assert_eq!((clip.kept, clip.flags.as_slice()), (false, [Flag::TrailingBytes].as_slice()));
    assert_eq!(clip.bytes, file);
    let clip = wav().prepare_bytes(file.repeat(2), None).unwrap();
    assert_eq!((clip.kept, clip.flags.as_slice()), (false, [Flag::Joined].as_slice()));
}

#[test]
fn wav_behind_a_tag_does_not_keep_its_bytes() {
    let file = write_pcm16(TO, &[1, 2, 3]);
    let clip = wav().prepare_bytes([tag(), file.clone()].concat(), None).unwrap();
    assert_eq!((clip.kept, clip.bytes), (false, file));
}

#[test]
fn playlists_are_no_recordings() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.mp3");
    fs::write(&other, fixture("tone.mp3")).unwrap();
    let lists = [
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n", other.display()),
        "ffconcat version 1.0\nfile other.mp3\n".to_owned(),
        "<?xml version=\"1.0\"?>\n<mpd xmlns=\"urn:mpeg:dash:schema:mpd:2011\"></mpd>".to_owned(),
    ];
    for list in lists {
        for file in [list.as_bytes().to_vec(), [tag(), list.into_bytes()].concat()] {
            let reject = with_ffmpeg().prepare_bytes(file, None).unwrap_err();
            assert_eq!(reject.reason, "a list of other files (a playlist), not a recording");
        }
    }
}

#[test]
fn what_this_machine_lacks_is_no_fault_of_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, script: &str, mode: &str, of_machine: bool| {
        let program = folder.path().join(name);
        // Written by another process: one that this process still has open cannot be started.
        let write = format!("cat > {0} && chmod {mode} {0}", program.display());
        let mut writer = Command::new("sh").args(["-c", &write]).stdin(Stdio::piped()).spawn().unwrap();
        write!(writer.stdin.take().unwrap(), "#!/bin/sh\n{script}\n").unwrap();
        assert!(writer.wait().unwrap().success());
        let mut preparer = wav().with_ffmpeg(|| Some(program.clone()));
        let reject = preparer.prepare_bytes(fixture("tone.opus").to_vec(), None).unwrap_err();
        assert_eq!(reject.of_machine, of_machine, "{name}: {reject}");
    };
    check("killed", "kill -9 $$", "755", true);
    check("stopped", "exit 255", "755", true);
    check("forbidden", "exit 1", "644", true);
    check("crashes", "kill -SEGV $$", "755", false);
    check("refuses", "exit 1", "755", false);
    // A signal from the terminal goes to a whole group of processes.
    check("apart", "[ $(ps -o pgid= -p $$) = $$ ] && exit 1; exit 255", "755", false);
    // What a folder for temporary files lacks.
    let full = DecodeError::Machine { action: "write", source: io::ErrorKind::StorageFull.into() };
    assert!(Reject::from(full).of_machine && Reject::from(DecodeError::Io(io::Error::from_raw_os_error(5))).of_machine);
    assert!(!Reject::from(DecodeError::Io(io::ErrorKind::UnexpectedEof.into())).of_machine);
}

#[test]
fn quiet_samples_of_an_unknown_format_are_no_mp3() {
    // High bytes of samples a little below zero are those of a header, and the low ones may be anything.
    let mut state = 1_u32;
    let quiet = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); // Numerical Recipes' generator
        ((state >> 16) as i16) / 128
    });
    let quiet: Vec<u8> = quiet.take(16_000).flat_map(i16::to_le_bytes).collect();
    let reject = wav().prepare_bytes([b"what is this?".as_slice(), &quiet].concat(), None).unwrap_err();
    assert!(reject.reason.starts_with("not an audio file that can be read"), "{reject}");
}

#[test]
fn channels_that_cancel_out_are_flagged() {
    let stereo = |right: fn(f32) -> f32| {
        let spec = hound::WavSpec { channels: 2, sample_rate: TO, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
        let mut file = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
        for n in 0..4_000 {
            let left = 8_000.0 * (n as f32 / 7.0).sin();
            writer.write_sample(left as i16).unwrap();
            writer.write_sample(right(left) as i16).unwrap();
        }
        writer.finalize().unwrap();
        file.into_inner()
    };
    flagged(&stereo(|left| -left), &[Flag::ChannelsCancel]);
    flagged(&stereo(|left| -0.95 * left), &[Flag::ChannelsCancel]);
    flagged(&stereo(|left| left), &[]);
    flagged(&stereo(|_| 0.0), &[]);
}

#[test]
fn floats_beyond_full_scale_are_flagged() {
    let scaled: Vec<f32> = (0..1_000).map(|n| (n as f32 / 7.0).sin() * 20_000.0).collect();
    flagged(&floats(TO, &scaled), &[Flag::BeyondFullScale]);
    let loud: Vec<f32> = (0..1_000).map(|n| if n < 10 { 1.2 } else { 0.5 }).collect();
    flagged(&floats(TO, &loud), &[]);
}

#[test]
fn m4a_with_the_comment_of_itunes_alone_is_trimmed() {
    let mut file = fixture("tone.m4a").to_vec();
    let at = |file: &[u8], kind: &[u8; 4]| file.windows(4).position(|four| four == kind).unwrap();
    let edits = at(&file, b"edts");
    file[edits..edits + 4].copy_from_slice(b"free");
    assert_eq!(decoded(&file).len(), 6_536);
    let text = b" 00000000 00000400 00000278 0000000000001588 00000000 00000000";
    let data = [&(text.len() as u32 + 16).to_be_bytes(), b"data\0\0\0\x01\0\0\0\0".as_slice(), text].concat();
    let name = b"\0\0\0\x14name\0\0\0\0iTunSMPB";
    let comment = [&(data.len() as u32 + 28).to_be_bytes(), b"----".as_slice(), name, &data].concat();
    // The movie box ends the file.
    let moov = at(&file, b"moov") - 4;
    let len = (file.len() - moov + comment.len()) as u32;
    file[moov..moov + 4].copy_from_slice(&len.to_be_bytes());
    file.extend_from_slice(&comment);
    assert_eq!(decoded(&file), decoded(fixture("tone.m4a")));
    flagged(&file, &[]);
}

#[test]
fn m4a_files_that_were_joined_are_flagged() {
    flagged(&fixture("tone.m4a").repeat(2), &[Flag::Joined]);
}
