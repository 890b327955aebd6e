//! Recordings that are damaged, absurd or odd: each gives a clip or a reason, quickly, and never a panic.

use std::fs;

use super::*;
use crate::wav::write_pcm16;

/// Flips, cuts and doubles bytes without a pattern, the same every time.
struct Damage(u64);

impl Damage {
    fn next(&mut self, below: usize) -> usize {
        // xorshift64 (Marsaglia 2003)
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }

    fn apply(&mut self, file: &mut Vec<u8>) {
        for _ in 0..=self.next(4) {
            // Headers are where it hurts.
            let reach = if self.next(2) == 0 { file.len().min(200) } else { file.len() };
            let at = self.next(reach);
            match self.next(6) {
                0 => file.truncate(at),
                1 if at < file.len() => file[at] = [0, 0x7f, 0x80, 0xff][self.next(4)],
                2 if at + 4 <= file.len() => file[at..at + 4].fill([0, 0xff][self.next(2)]),
                3 => {
                    let stretch: Vec<u8> = file.iter().skip(at).take(64).copied().collect();
                    file.splice(at..at, stretch);
                }
                4 => {
                    let end = (at + self.next(64)).min(file.len());
                    file.drain(at..end);
                }
                _ if at < file.len() => file[at] ^= 1 << self.next(8),
                _ => {}
            }
        }
    }
}

#[test]
fn thousands_of_damaged_files_give_clips_or_reasons() {
    let rounds = if std::env::var_os("RUN_SLOW_TESTS").is_some() { 20_000 } else { 150 };
    let clip: Vec<i16> = (0..3_000).map(|n| (n * n % 4_001) as i16 - 2_000).collect();
    let own = [("own.wav", write_pcm16(TO, &clip)), ("own.flac", written_flac(&clip))];
    let own = own.iter().map(|(name, file)| (*name, file.as_slice()));
    let mut preparer = flac();
    for (number, (name, sound)) in own.chain(FIXTURES.iter().copied()).enumerate() {
        let mut damage = Damage(0x9e37_79b9_7f4a_7c15 + number as u64);
        // Our own code never panics. symphonia's may, with the checks of an unoptimised build: that is a reason like others.
        let may_panic = !["own.wav", "own.flac", "tone.wav", "stereo.flac"].contains(&name);
        for _ in 0..rounds {
            let mut file = sound.to_vec();
            damage.apply(&mut file);
            match preparer.prepare_bytes(file, None) {
                Ok(clip) => assert!(clip.num_samples > 0),
                Err(reject) => {
                    assert!(!reject.reason.is_empty());
                    assert!(may_panic || !reject.reason.contains("panicked"), "{name}: a panic: {reject}");
                }
            }
        }
    }
}

#[test]
fn every_cut_of_every_format_is_a_reason_or_a_shorter_clip_and_no_panic() {
    for (name, file) in FIXTURES {
        let whole = prepared(file).num_samples;
        for at in (0..file.len()).step_by(file.len() / 60) {
            if let Ok(clip) = wav().prepare_bytes(file[..at].to_vec(), None) {
                // Formats that do not say how long they are.
                assert!(
                    ["tone.aac", "uncounted.mp3", "fragments.m4a"].contains(name) || !clip.flags.is_empty(),
                    "{name} cut at {at} passes"
                );
                assert!(clip.num_samples <= whole, "{name}");
            }
        }
    }
}

#[test]
fn a_file_of_no_bytes_or_of_another_kind() {
    refused(b"", "0 bytes", Some(0));
    refused(
        b"\x89PNG\r\n",
        "not an audio file that can be read: begins with \"\\x89PNG\\r\\n\", expected WAV, FLAC, MP3, MP4, Ogg, AIFF, AU, CAF or \
         SPHERE; the program `ffmpeg` might read it, and is not on PATH",
        None,
    );
    refused(b"RIFF\x10\0\0\0AVI LIST", "wav: RIFF without WAVE; the program `ffmpeg` might read it, and is not on PATH", None);
}

#[test]
fn what_a_file_is_decides_its_content_not_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.wav");
    fs::write(&path, FIXTURES.iter().find(|(name, _)| *name == "tone.mp3").unwrap().1).unwrap();
    assert_eq!(wav().prepare(&path, None).unwrap().source.container, "mp3");
    fs::write(&path, "x,y\n1,2\n").unwrap();
    for (preparer, ffmpeg) in
        [(with_ffmpeg(), if has("ffmpeg") { Ffmpeg::Tried } else { Ffmpeg::Missing }), (wav(), Ffmpeg::Missing)]
    {
        let reject = { preparer }.prepare(&path, None).unwrap_err();
        assert!(reject.reason.starts_with("not an audio file"), "{reject}");
        assert_eq!(reject.ffmpeg, ffmpeg, "{reject}");
        assert!(reject.reason.contains("ffmpeg"), "{reject}");
    }
}

#[test]
fn folders_missing_files_and_forbidden_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.wav");
    assert!(wav().prepare(&path, None).unwrap_err().reason.starts_with("cannot be read: "));
    fs::create_dir(&path).unwrap();
    assert_eq!(wav().prepare(&path, None).unwrap_err().reason, "a folder, not a file");
    fs::remove_dir(&path).unwrap();
    fs::write(&path, write_pcm16(TO, &[1])).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    // Root may read everything.
    if fs::read(&path).is_err() {
        assert!(wav().prepare(&path, None).unwrap_err().reason.starts_with("cannot be read: "));
    }
}

#[test]
fn headers_that_claim_gigabytes_allocate_nothing() {
    // Claims of 2 to 4 GB: of the file, of a chunk, of the samples, of an MP4 table.
    let mut file = write_pcm16(TO, &[5; 100]);
    file[4..8].copy_from_slice(&0x7ffe_0000_u32.to_le_bytes());
    file[40..44].copy_from_slice(&0x7ffd_ff00_u32.to_le_bytes());
    refused(&file, "truncated: the header promises 2147352320 bytes of samples, the file has 200", Some(244));
    let m4a = FIXTURES.iter().find(|(name, _)| *name == "tone.m4a").unwrap().1;
    for kind in [b"stsz", b"stts", b"stco", b"stsc", b"elst"] {
        let mut file = m4a.to_vec();
        let at = file.windows(4).position(|four| four == kind).unwrap();
        let count = if kind == b"stsz" { at + 12 } else { at + 8 };
        file[count..count + 4].fill(0xff);
        assert!(wav().prepare_bytes(file, None).is_err(), "{}", kind.escape_ascii());
    }
    let mut flac_file = written_flac(&[5; 100]);
    flac_file[5..8].fill(0xff); // 16 MB of STREAMINFO
    assert!(wav().prepare_bytes(flac_file, None).is_err());
}

#[test]
fn tags_without_a_length_end() {
    let empty = [b"APETAGEX".as_slice(), &[0; 24]].concat();
    assert!(wav().prepare_bytes(empty.clone(), None).is_err());
    let mp3 = FIXTURES.iter().find(|(name, _)| *name == "uncounted.mp3").unwrap().1;
    for file in [[&empty, mp3].concat(), [mp3, &empty, mp3].concat(), [mp3, &empty].concat()] {
        let _ = wav().prepare_bytes(file, None);
    }
}

#[test]
fn a_flipped_byte_in_flac_is_found() {
    let clip: Vec<i16> = (0..5_000).map(|n| (n * n % 4_001) as i16 - 2_000).collect();
    let sound = written_flac(&clip);
    let mut found = 0;
    for at in (60..sound.len()).step_by(101) {
        let mut file = sound.clone();
        file[at] ^= 0x10;
        let reject = flac().prepare_bytes(file, None).unwrap_err();
        assert!(reject.reason.starts_with("flac: "), "{reject}");
        found += 1;
    }
    assert!(found > 50);
    let mut wrong_sum = sound;
    wrong_sum[30] ^= 1;
    refused(&wrong_sum, "flac: the samples do not have the MD5 sum that the header promises", None);
}

#[test]
fn one_sample_eight_channels_and_384_khz_are_sound() {
    assert_eq!(prepared(&write_pcm16(TO, &[7])).num_samples, 1);
    assert_eq!(prepared(&write_pcm16(48_000, &[7])).num_samples, 1);
    assert_eq!(prepared(&write_pcm16(384_000, &[7; 384])).num_samples, 16);
    let mut eight = std::io::Cursor::new(Vec::new());
    let spec = hound::WavSpec { channels: 8, sample_rate: TO, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::new(&mut eight, spec).unwrap();
    (0..16).for_each(|n: i32| writer.write_sample(8 * n).unwrap());
    writer.finalize().unwrap();
    let clip = prepared(eight.get_ref());
    assert_eq!((clip.num_samples, clip.source.num_channels), (2, 8));
    assert_eq!(samples_of(&clip), [28, 92]);
}
