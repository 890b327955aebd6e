//! Every format that is read, and the WAV files that hound or symphonia refuse and sox reads, a test for each.

use super::*;
use crate::wav::write_pcm16;

/// A file of 16-bit samples 1, 2, 3...: a name, the size of the whole, chunks, then the samples behind the size they claim.
fn by_hand(name: [u8; 4], whole: u32, before: &[u8], claimed: u32, samples: i16) -> Vec<u8> {
    let mut file = name.to_vec();
    file.extend_from_slice(&whole.to_le_bytes());
    file.extend_from_slice(b"WAVE");
    file.extend_from_slice(before);
    file.extend_from_slice(b"fmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
    file.extend_from_slice(&claimed.to_le_bytes());
    (1..=samples).for_each(|sample| file.extend_from_slice(&sample.to_le_bytes()));
    file
}

#[track_caller]
fn reads(file: &[u8], expected: &[i16], kept: bool) {
    let clip = prepared(file);
    assert_eq!((samples_of(&clip).as_slice(), clip.kept), (expected, kept));
}

#[test]
fn a_truncated_file_is_refused() {
    refused(&by_hand(*b"RIFF", 44, b"", 8, 3), "truncated: the header promises 8 bytes of samples, the file has 6", Some(50));
}

#[test]
fn a_data_size_beyond_a_file_that_is_whole_is_only_a_wrong_size() {
    reads(&by_hand(*b"RIFF", 42, b"", 8, 3), &[1, 2, 3], false);
}

#[test]
fn a_size_of_0_for_the_whole_is_no_matter() {
    reads(&by_hand(*b"RIFF", 0, b"", 6, 3), &[1, 2, 3], false);
}

#[test]
fn sizes_that_a_pipe_left_open() {
    reads(&by_hand(*b"RIFF", u32::MAX, b"", u32::MAX, 3), &[1, 2, 3], false);
    reads(&by_hand(*b"RIFF", 0x7fff_f024, b"", 0x7fff_f000, 3), &[1, 2, 3], false);
    reads(&by_hand(*b"RIFF", 0, b"", 0, 3), &[1, 2, 3], false);
}

#[test]
fn no_samples_by_a_header_that_means_it() {
    refused(&by_hand(*b"RIFF", 36, b"", 0, 0), "0 samples", None);
    refused(&[by_hand(*b"RIFF", 46, b"", 0, 0).as_slice(), b"LIST\x02\0\0\0ab"].concat(), "0 samples", None);
}

#[test]
fn odd_chunks_have_a_pad_byte() {
    reads(&by_hand(*b"RIFF", 54, b"LIST\x03\0\0\0abc\0", 6, 3), &[1, 2, 3], true);
}

#[test]
fn junk_before_the_format() {
    reads(&by_hand(*b"RIFF", 54, b"JUNK\x04\0\0\0abcd", 6, 3), &[1, 2, 3], true);
}

#[test]
fn rf64_has_its_sizes_in_a_chunk_of_their_own() {
    let mut ds64 = b"ds64\x1c\0\0\0".to_vec();
    ds64.extend_from_slice(&78_u64.to_le_bytes());
    ds64.extend_from_slice(&6_u64.to_le_bytes());
    ds64.extend_from_slice(&3_u64.to_le_bytes());
    ds64.extend_from_slice(&[0; 4]);
    reads(&by_hand(*b"RF64", u32::MAX, &ds64, u32::MAX, 3), &[1, 2, 3], false);
    refused(
        &by_hand(*b"RF64", u32::MAX, &ds64, u32::MAX, 2),
        "truncated: the header promises 6 bytes of samples, the file has 4",
        Some(84),
    );
}

#[test]
fn half_a_sample_at_the_end_is_none() {
    let mut file = by_hand(*b"RIFF", 43, b"", 7, 3);
    file.push(9);
    reads(&file, &[1, 2, 3], false);
}

#[test]
fn every_format_gives_the_tone_at_its_length() {
    for (name, file) in FIXTURES {
        let (rate, len) = match *name {
            // The edit list or the tag tells what the encoder put in front and behind.
            "stereo.flac" | "tone.opus" => (48_000, 12_000),
            // By ffmpeg, which leaves the last packet whole.
            "surround.m4a" => (48_000, 12_288),
            // These do not say it.
            "uncounted.mp3" => (22_050, 6_912),
            "tone.aac" | "fragments.m4a" => (22_050, 7_168),
            "adpcm.wav" => (22_050, 6_108),
            // Filled up to a multiple of 8 bytes.
            "short.w64" => (22_050, 1_104),
            short if short.starts_with("short.") => (22_050, 1_103),
            "double.wav" | "apart32.flac" | "apart24.flac" => (22_050, 1_103),
            _ => (22_050, 5_512),
        };
        if ["surround.m4a", "tone.opus"].contains(name) {
            match with_ffmpeg().prepare_bytes(file.to_vec(), None) {
                Ok(clip) => {
                    assert_eq!((clip.source.sample_rate, clip.num_samples), (rate, len as u64 / 3), "{name}");
                    assert!(clip.by_ffmpeg, "{name}");
                }
                Err(reject) => {
                    assert!(!has("ffmpeg") && reject.reason.contains("the program `ffmpeg` might read it"), "{name}: {reject}");
                }
            }
            continue;
        }
        let mut mono = Vec::new();
        assert_eq!(samples(file, &mut mono).unwrap(), rate, "{name}");
        assert_eq!(mono.len(), len, "{name}");
        // The tone at full level: half of full scale, and less where channels of other tones are averaged with it; AAC overshoots.
        let loudest = mono.iter().fold(0.0_f32, |most, sample| most.max(sample.abs()));
        assert!((0.2..1.2).contains(&loudest), "{name}: {loudest}");
    }
}

#[test]
fn a_conforming_flac_keeps_its_bytes() {
    let file = written_flac(&[3; 2_000]);
    let clip = flac().prepare_bytes(file.clone(), None).unwrap();
    assert!(clip.kept && clip.bytes == file);
    let clip = wav().prepare_bytes(file, None).unwrap();
    assert_eq!((clip.kept, clip.bytes), (false, write_pcm16(TO, &[3; 2_000])));
}

#[test]
fn an_edit_list_rounded_down_cuts_nothing() {
    let mut file = FIXTURES.iter().find(|(name, _)| *name == "tone.m4a").unwrap().1.to_vec();
    let duration = file.windows(4).position(|kind| kind == b"elst").unwrap() + 12;
    file[duration..duration + 4].copy_from_slice(&249_u32.to_be_bytes()); // milliseconds; it lasts 249.98
    let mut mono = Vec::new();
    samples(&file, &mut mono).unwrap();
    assert_eq!(mono.len(), 5_512);
}

#[test]
fn stereo_of_32_bits_may_be_coded_as_a_difference_of_33() {
    for (name, file) in FIXTURES.iter().filter(|(name, _)| name.starts_with("apart")) {
        assert_eq!(prepared(file).source.num_channels, 2, "{name}"); // and its MD5 sum is right
    }
}

#[test]
fn wav_becomes_flac_without_loss() {
    let pcm: Vec<i16> = (0..9_000).map(|n| (n * n % 4_001) as i16 - 2_000).collect();
    let clip = flac().prepare_bytes(write_pcm16(TO, &pcm), None).unwrap();
    let mut back = Vec::new();
    assert_eq!(samples(&clip.bytes, &mut back).unwrap(), TO);
    assert!(back.iter().map(|&sample| (sample * 32_768.0) as i16).eq(pcm.iter().copied()));
}

#[test]
fn a_stretch_is_the_same_whatever_the_format() {
    let pcm: Vec<i16> = (0..9_000).map(|n| (n * n % 4_001) as i16 - 2_000).collect();
    for file in [write_pcm16(TO, &pcm), written_flac(&pcm)] {
        for (start, len) in [(0, 9_000), (0, 1), (8_999, 1), (1_000, 5_000)] {
            let clip = wav().prepare_bytes(file.clone(), Some(span(start, len))).unwrap();
            assert!(samples_of(&clip) == pcm[start as usize..(start + len) as usize]);
        }
        let error = wav().prepare_bytes(file, Some(span(8_000, 1_001))).unwrap_err();
        assert_eq!(error.reason, "samples 8000 to 9001 asked for, the recording has 9000");
    }
}

#[test]
fn a_file_gives_what_its_bytes_give() {
    let folder = tempfile::tempdir().unwrap();
    let conforming = written_flac(&[1, -2, 3]);
    for (name, file) in FIXTURES.iter().chain(&[("conforming.flac", &conforming[..])]) {
        let path = folder.path().join(name);
        std::fs::write(&path, file).unwrap();
        let mut from_path = None;
        match flac().with_ffmpeg(|| Some("ffmpeg".into())).draft_pieces(&File::open(&path).unwrap(), None) {
            Ok(draft) => finish(vec![((), draft)], &mut |(), result| from_path = Some(result)),
            Err(reject) => from_path = Some(Err(reject)),
        }
        let from_path = from_path.unwrap();
        assert_eq!(from_path, flac().with_ffmpeg(|| Some("ffmpeg".into())).prepare_bytes(file.to_vec(), None), "{name}");
    }
}
