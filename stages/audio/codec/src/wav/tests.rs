use std::io::Cursor;

use super::*;

/// A file of the given samples (integers of `bits`), written by hound.
fn written(spec: hound::WavSpec, samples: &[i32]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for &sample in samples {
        match spec.sample_format {
            hound::SampleFormat::Int => writer.write_sample(sample).unwrap(),
            hound::SampleFormat::Float => writer.write_sample(sample as f32 / 100.0).unwrap(),
        }
    }
    writer.finalize().unwrap();
    file.into_inner()
}

fn spec(channels: u16, bits_per_sample: u16, sample_format: hound::SampleFormat) -> hound::WavSpec {
    hound::WavSpec { channels, sample_rate: 22_050, bits_per_sample, sample_format }
}

#[track_caller]
fn check(bits: u16, format: hound::SampleFormat, samples: &[i32], expected: &[f32]) {
    for channels in [1, 2, 8] {
        let interleaved: Vec<i32> = samples.iter().flat_map(|&sample| vec![sample; usize::from(channels)]).collect();
        let file = written(spec(channels, bits, format), &interleaved);
        let wav = parse(&file).unwrap();
        assert_eq!((wav.header.sample_rate, wav.header.num_channels, wav.num_samples()), (22_050, channels, samples.len()));
        let mut mono = Vec::new();
        wav.mono(&mut mono);
        assert_eq!(mono, expected, "{bits} bits, {channels} channels");
    }
}

#[test]
fn every_sample_format_is_read_and_channels_are_averaged() {
    use hound::SampleFormat::{Float, Int};
    check(8, Int, &[-128, 0, 64], &[-1.0, 0.0, 0.5]);
    check(16, Int, &[-32_768, 1, 16_384], &[-1.0, 1.0 / 32_768.0, 0.5]);
    check(24, Int, &[-8_388_608, 1, 4_194_304], &[-1.0, 1.0 / 8_388_608.0, 0.5]);
    check(32, Int, &[i32::MIN, 1 << 30], &[-1.0, 0.5]);
    check(32, Float, &[-100, 25, 300], &[-1.0, 0.25, 3.0]);
}

#[test]
fn channels_that_differ_are_averaged() {
    let file = written(spec(2, 16, hound::SampleFormat::Int), &[16_384, 0, -16_384, 16_384]);
    let mut mono = Vec::new();
    parse(&file).unwrap().mono(&mut mono);
    assert_eq!(mono, [0.25, 0.0]);
}

/// A file of 16-bit zeros: chunks before the data, then a data chunk with the promised length.
fn by_hand(before: &[u8], sample_rate: u32, promised: u32, samples: usize) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    file.extend_from_slice(before);
    file.extend_from_slice(b"fmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&sample_rate.to_le_bytes());
    file.extend_from_slice(&sample_rate.wrapping_mul(2).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&promised.to_le_bytes());
    file.resize(file.len() + 2 * samples, 0);
    file
}

#[test]
fn chunks_before_and_after_the_data_are_skipped_also_odd_ones() {
    let odd = by_hand(b"LIST\x03\0\0\0abc\0", 16_000, 8, 4);
    assert_eq!(parse(&odd).unwrap().num_samples(), 4);
    let mut trailing = by_hand(b"", 16_000, 8, 4);
    trailing.extend_from_slice(b"LIST\x02\0\0\0ab");
    assert_eq!(parse(&trailing).unwrap().num_samples(), 4);
}

#[test]
fn extensible_files_are_read() {
    // hound writes more than two channels in the extensible form.
    let file = written(spec(8, 16, hound::SampleFormat::Int), &[8; 8]);
    assert_eq!(u16::from_le_bytes([file[20], file[21]]), 0xfffe);
    assert_eq!(parse(&file).unwrap().header.encoding, Encoding::I16);
}

#[test]
fn damaged_files_are_refused_in_words() {
    #[track_caller]
    fn refused(file: &[u8], message: &str) {
        assert_eq!(parse(file).unwrap_err().to_string(), message);
    }
    refused(b"", "not a WAV file: does not begin with RIFF and WAVE");
    refused(&[b'x'; 4_000], "not a WAV file: does not begin with RIFF and WAVE");
    refused(b"RIFF\0\0\0\0WAVE", "no `fmt ` chunk in the WAV file");
    refused(&by_hand(b"", 16_000, 8, 4)[..36], "no `data` chunk in the WAV file");
    refused(&by_hand(b"", 16_000, 8, 2), "truncated: the header promises 8 bytes of samples, the file has 4");
    refused(&by_hand(b"JUNK\xff\xff\xff\xff", 16_000, 8, 4), "no `fmt ` chunk in the WAV file");
    refused(&by_hand(b"", 16_000, 0, 0), "0 samples");
    refused(&by_hand(b"", 0, 8, 4), "a sample rate of 0 Hz, expected 2000 to 768000 Hz");
    refused(&by_hand(b"", 1, 8, 4), "a sample rate of 1 Hz, expected 2000 to 768000 Hz");
    let mut no_channels = by_hand(b"", 16_000, 8, 4);
    no_channels[22] = 0;
    assert!(parse(&no_channels).unwrap_err().to_string().starts_with("a WAV format that cannot be read: "));
    let mut law = by_hand(b"", 16_000, 8, 4);
    law[20] = 6;
    assert!(parse(&law).unwrap_err().to_string().starts_with("a WAV format that cannot be read: "));
}

#[test]
fn no_cut_or_flipped_byte_makes_it_panic() {
    let file = by_hand(b"LIST\x03\0\0\0abc\0", 16_000, 8, 4);
    let mut mono = Vec::new();
    for at in 0..file.len() {
        let _ = parse(&file[..at]);
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[at] ^= flip;
            if let Ok(wav) = parse(&damaged) {
                wav.mono(&mut mono);
                assert_eq!(mono.len(), wav.num_samples());
            }
        }
    }
}

#[test]
fn a_stretch_lies_within_or_is_nothing() {
    let file = by_hand(b"", 16_000, 8, 4);
    let header = parse(&file).unwrap().header;
    let len = |start, num_samples| header.slice(start, num_samples).map(|slice| slice.num_samples());
    assert_eq!(len(1, 2), Some(2));
    assert_eq!(len(1, 3), Some(3));
    assert_eq!(len(1, 4), None);
    assert_eq!(len(0, 0), None);
    assert_eq!(len(u64::MAX, 2), None);
}

#[test]
fn what_is_written_is_what_hound_reads() {
    let file = write_pcm16(16_000, &[1, -2, 3]);
    let mut reader = hound::WavReader::new(Cursor::new(&file)).unwrap();
    assert_eq!(reader.spec().sample_rate, 16_000);
    assert_eq!(reader.samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), [1, -2, 3]);
    assert_eq!(parse(&file).unwrap().header.data_start, 44);
}
