use std::io::Cursor;

use super::*;
use crate::decode::Loudness;

/// Writes samples (integers of `bits`) with hound.
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

fn header(file: &[u8]) -> Result<Header, DecodeError> {
    match read(&mut Cursor::new(file), file.len() as u64)? {
        Found::Samples(header) => Ok(header),
        other => panic!("{other:?}"),
    }
}

fn samples(file: &[u8]) -> Vec<f32> {
    let Header { encoding, num_channels, data_start, data_len, .. } = header(file).unwrap();
    let data = &file[data_start as usize..(data_start + data_len) as usize];
    let mut mono = Vec::new();
    encoding.average(data, num_channels, &mut Loudness::default(), &mut mono);
    mono
}

#[test]
fn hounds_files_of_every_form_are_read() {
    use hound::SampleFormat::{Float, Int};
    let check = |bits_per_sample: u16, sample_format, input: &[i32], expected: &[f32]| {
        let spec = hound::WavSpec { channels: 1, sample_rate: 22_050, bits_per_sample, sample_format };
        let file = written(spec, input);
        assert_eq!(samples(&file), expected, "{bits_per_sample} bits");
        assert_eq!(header(&file).unwrap().sample_rate, 22_050);
    };
    check(8, Int, &[-128, 0, 64], &[-1.0, 0.0, 0.5]);
    check(16, Int, &[-32_768, 0, 16_384], &[-1.0, 0.0, 0.5]);
    check(24, Int, &[-8_388_608, 0, 4_194_304], &[-1.0, 0.0, 0.5]);
    check(32, Int, &[i32::MIN, 0, 1 << 30], &[-1.0, 0.0, 0.5]);
    check(32, Float, &[-100, 0, 50], &[-1.0, 0.0, 0.5]);
}

/// A format chunk: code, channels, bits of a sample, bytes of a sample, valid bits if it is extensible.
fn format(code: u16, channels: u16, bits: u16, num_bytes: u16, valid: Option<u16>) -> Vec<u8> {
    let mut chunk = Vec::new();
    chunk.extend_from_slice(&if valid.is_some() { 0xfffe } else { code }.to_le_bytes());
    chunk.extend_from_slice(&channels.to_le_bytes());
    chunk.extend_from_slice(&16_000_u32.to_le_bytes());
    chunk.extend_from_slice(&(16_000 * u32::from(channels * num_bytes)).to_le_bytes());
    chunk.extend_from_slice(&(channels * num_bytes).to_le_bytes());
    chunk.extend_from_slice(&bits.to_le_bytes());
    if let Some(valid) = valid {
        chunk.extend_from_slice(&22_u16.to_le_bytes());
        chunk.extend_from_slice(&valid.to_le_bytes());
        chunk.extend_from_slice(&4_u32.to_le_bytes());
        chunk.extend_from_slice(&code.to_le_bytes());
        chunk.extend_from_slice(b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
    }
    chunk
}

/// A file of chunks, each padded to an even length.
fn chunks(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    for (name, content) in chunks {
        file.extend_from_slice(*name);
        file.extend_from_slice(&(content.len() as u32).to_le_bytes());
        file.extend_from_slice(content);
        file.resize(file.len().next_multiple_of(2), 0);
    }
    let whole = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&whole.to_le_bytes());
    file
}

#[test]
fn valid_bits_are_the_upper_ones_of_every_container() {
    for num_bytes in 1..=4_u16 {
        for valid in 8 * (num_bytes - 1) + 1..=8 * num_bytes {
            // Minus a half of full scale, in the upper bits; bits that are not valid are 0.
            let mut sample = vec![0; usize::from(num_bytes)];
            *sample.last_mut().unwrap() = if num_bytes == 1 { 0x40 } else { 0xc0 };
            let bits = 8 * num_bytes;
            for format in [
                format(1, 1, bits, num_bytes, Some(valid)),
                format(1, 1, valid, num_bytes, None),
                format(1, 1, valid, num_bytes, Some(valid)),
                format(1, 1, bits, num_bytes, Some(0)),
            ] {
                let file = chunks(&[(b"fmt ", &format), (b"data", &sample.repeat(2))]);
                assert_eq!(samples(&file), [-0.5, -0.5], "{valid} bits in {num_bytes} bytes: {format:?}");
            }
        }
    }
    // Fewer valid bits than the bytes need.
    let wide = chunks(&[(b"fmt ", &format(1, 1, 32, 4, Some(20))), (b"data", &[0, 0, 0, 0xc0])]);
    assert_eq!(samples(&wide), [-0.5]);
    let wide = chunks(&[(b"fmt ", &format(1, 1, 24, 4, None)), (b"data", &[0, 0, 0, 0xc0])]);
    assert_eq!(samples(&wide), [-0.5]);
}

#[test]
fn floats_and_laws_are_read_in_both_forms() {
    for valid in [None, Some(8), Some(32), Some(64)] {
        let float = chunks(&[(b"fmt ", &format(3, 1, 32, 4, valid)), (b"data", &0.25_f32.to_le_bytes())]);
        assert_eq!(samples(&float), [0.25]);
        let double = chunks(&[(b"fmt ", &format(3, 1, 64, 8, valid)), (b"data", &0.25_f64.to_le_bytes())]);
        assert_eq!(samples(&double), [0.25]);
        let law = chunks(&[(b"fmt ", &format(6, 2, 8, 1, valid)), (b"data", &[0xd5, 0xd5])]);
        assert_eq!(samples(&law), [8.0 / 32_768.0]);
        let law = chunks(&[(b"fmt ", &format(7, 1, 8, 1, valid)), (b"data", &[0xff, 0x00])]);
        assert_eq!(samples(&law), [0.0, -32_124.0 / 32_768.0]);
        // The bits that a code stands for.
        let law = chunks(&[(b"fmt ", &format(7, 1, 16, 1, valid)), (b"data", &[0xff, 0x00])]);
        assert_eq!(samples(&law), [0.0, -32_124.0 / 32_768.0]);
    }
}

#[test]
fn format_chunks_of_every_length_are_read() {
    let whole = format(1, 1, 16, 2, None);
    for len in [14, 16, 17, 18, 20, 22, 40, 100] {
        let mut chunk = whole.clone();
        chunk.resize(len, 0);
        let file = chunks(&[(b"fmt ", &chunk), (b"data", &[0, 0xc0])]);
        assert_eq!(samples(&file), [-0.5], "{len} bytes");
    }
    let file = chunks(&[(b"fmt ", &whole[..13]), (b"data", &[0, 0xc0])]);
    assert!(matches!(header(&file), Err(DecodeError::Unsupported { .. })));
}

#[test]
fn big_endian_files_are_read() {
    let mut file = b"RIFX\0\0\0\x28WAVEfmt \0\0\0\x10\0\x01\0\x01\0\0\x3e\x80\0\0\x7d\0\0\x02\0\x10data\0\0\0\x04".to_vec();
    file.extend_from_slice(&[0xc0, 0, 0x20, 0]);
    assert_eq!(samples(&file), [-0.5, 0.25]);
    assert!(!header(&file).unwrap().plain);
    // Extensible: the code as a number of 32 bits, of 16 as sox has it, or as in RIFF.
    for code in [[0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0]] {
        let mut file =
            b"RIFX\0\0\0\x40WAVEfmt \0\0\0\x28\xff\xfe\0\x01\0\0\x3e\x80\0\0\xbb\x80\0\x03\0\x18\0\x16\0\x14\0\0\0\x04".to_vec();
        file.extend_from_slice(&code);
        file.extend_from_slice(b"\0\0\0\x10\x80\0\0\xaa\0\x38\x9b\x71data\0\0\0\x06\xc0\0\0\x20\0\0");
        assert_eq!(samples(&file), [-0.5, 0.25], "{code:?}");
    }
}

#[test]
fn sizes_of_64_bits_may_be_open_too() {
    let rf64 = |whole: u64, data: u64| {
        let mut file = by_hand(b"ds64\x1c\0\0\0", 16_000, u32::MAX, 2);
        let sizes = [whole, data, 2].map(u64::to_le_bytes).concat();
        file.splice(20..20, [sizes.as_slice(), &[0; 4]].concat());
        file[..8].copy_from_slice(b"RF64\xff\xff\xff\xff");
        file
    };
    for (whole, data) in [(76, 4), (u64::MAX, u64::MAX), (0, 0)] {
        assert_eq!(header(&rf64(whole, data)).unwrap().data_len, 4, "{whole} {data}");
    }
    assert!(matches!(header(&rf64(80, 8)), Err(DecodeError::Truncated { .. })));
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
fn only_files_with_nothing_unexpected_are_plain() {
    let format = format(1, 1, 16, 2, None);
    let plain = |file: &[u8]| {
        let header = header(file).unwrap();
        (header.plain, header.flags)
    };
    let data: (&[u8; 4], &[u8]) = (b"data", &[1, 2, 3, 4]);
    let sound = chunks(&[(b"LIST", b"abc"), (b"fmt ", &format), data, (b"LIST", b"abc")]);
    assert_eq!(plain(&sound), (true, vec![]));
    assert_eq!(plain(&write_pcm16(16_000, &[1, 2])), (true, vec![]));
    let second = chunks(&[(b"fmt ", &format), data, data]);
    assert_eq!(plain(&second), (false, vec![Flag::Joined]));
    assert_eq!(plain(&[sound.as_slice(), &sound].concat()), (false, vec![Flag::Joined]));
    assert_eq!(plain(&[sound.as_slice(), b"TAG", &[0; 125]].concat()), (false, vec![Flag::TrailingBytes]));
    assert_eq!(plain(&[sound.as_slice(), &[0; 512]].concat()), (false, vec![Flag::TrailingBytes]));
    // A chunk that the size of the whole does not count.
    assert_eq!(plain(&[sound.as_slice(), b"LIST\x02\0\0\0ab"].concat()), (false, vec![]));
    let twice = chunks(&[(b"fmt ", &format), (b"fmt ", &format), data]);
    assert_eq!(plain(&twice), (false, vec![]));
    let mut no_whole = sound.clone();
    no_whole[4..8].fill(0);
    assert_eq!(plain(&no_whole), (false, vec![]));
    for odd in [&[format.as_slice(), &[0; 4]].concat(), &self::format(1, 1, 12, 2, None), &self::format(1, 1, 16, 2, Some(16))] {
        assert_eq!(plain(&chunks(&[(b"fmt ", odd), data])), (false, vec![]), "{odd:?}");
    }
    assert_eq!(plain(&chunks(&[(b"fmt ", &[format.as_slice(), &[0; 2]].concat()), data])), (true, vec![]));
    let odd_name = chunks(&[(b"\x01\x02\x03\x04", b"ab"), (b"fmt ", &format), data]);
    assert_eq!(plain(&odd_name), (false, vec![]));
}

#[test]
fn every_size_that_a_stream_leaves_means_to_the_end() {
    for open in [0, 0x7fff_0000, 0x7fff_f000, 0x7fff_ffff, 0x8000_0000, 0xffff_ff9b, 0xffff_fffe, u32::MAX] {
        for whole in [0, 36, open, open.wrapping_add(36)] {
            let mut file = by_hand(b"", 16_000, open, 40);
            file[4..8].copy_from_slice(&whole.to_le_bytes());
            assert_eq!(header(&file).unwrap().data_len, 80, "{open:x} in {whole:x}");
        }
    }
    // A length of 0 that is meant: another chunk follows.
    let mut empty = by_hand(b"", 16_000, 0, 0);
    empty.extend_from_slice(b"LIST\x02\0\0\0ab");
    assert!(matches!(header(&empty), Err(DecodeError::NoSamples)));
}

#[test]
fn damaged_files_are_refused_in_words() {
    #[track_caller]
    fn refused(file: &[u8], message: &str) {
        assert_eq!(header(file).unwrap_err().to_string(), message);
    }
    refused(b"", "wav: RIFF without WAVE");
    refused(b"RIFF\0\0\0\0AVI ", "wav: RIFF without WAVE");
    refused(b"RIFF\0\0\0\0WAVE", "no `fmt ` chunk in the WAV file");
    refused(&by_hand(b"", 16_000, 8, 4)[..36], "no `data` chunk in the WAV file");
    let mut truncated = by_hand(b"", 16_000, 8, 2);
    truncated[4] = 44;
    refused(&truncated, "truncated: the header promises 8 bytes of samples, the file has 4");
    refused(&by_hand(b"JUNK\xff\xff\xff\xff", 16_000, 8, 4), "no `fmt ` chunk in the WAV file");
    refused(&by_hand(b"", 16_000, 0, 0), "0 samples");
    refused(&by_hand(b"", 0, 8, 4), "a sample rate of 0 Hz, expected 2000 to 768000 Hz");
    refused(&by_hand(b"", 1, 8, 4), "a sample rate of 1 Hz, expected 2000 to 768000 Hz");
    let mut no_channels = by_hand(b"", 16_000, 8, 4);
    no_channels[22] = 0;
    refused(&no_channels, "wav: 0 channels");
    let formats = [format(1, 1, 16, 2, None), format(1, 1, 24, 3, None)];
    let two = chunks(&[(b"fmt ", &formats[0]), (b"fmt ", &formats[1]), (b"data", &[0; 12])]);
    refused(&two, "wav: two `fmt ` chunks that differ");
    let late = chunks(&[(b"data", &[0; 4]), (b"fmt ", &formats[0])]);
    refused(&late, "wav: the samples come before the `fmt ` chunk");
    let odd = chunks(&[(b"fmt ", &format(1, 1, 40, 5, None)), (b"data", &[0; 10])]);
    refused(&odd, "wav: samples of 40 bits in 5 bytes (format 1) are not read");
}

#[test]
fn no_cut_or_flipped_byte_makes_it_panic() {
    let file = by_hand(b"LIST\x03\0\0\0abc\0", 16_000, 8, 4);
    for at in 0..file.len() {
        let _ = header(&file[..at]);
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[at] ^= flip;
            if let Ok(Found::Samples(header)) = read(&mut Cursor::new(&damaged), damaged.len() as u64) {
                assert!(header.data_start + header.data_len <= damaged.len() as u64);
            }
        }
    }
}

#[test]
fn hound_reads_what_is_written() {
    let file = write_pcm16(16_000, &[1, -2, 3]);
    let mut reader = hound::WavReader::new(Cursor::new(&file)).unwrap();
    assert_eq!(reader.spec().sample_rate, 16_000);
    assert_eq!(reader.samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), [1, -2, 3]);
    assert_eq!(header(&file).unwrap().data_start, 44);
}
