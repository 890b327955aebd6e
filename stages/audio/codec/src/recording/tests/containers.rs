//! Containers of samples that are stored one by one, made by hand.

use super::*;

const PCM: [i16; 6] = [0, 1, -2, 16_384, -32_768, 32_767];

fn big() -> Vec<u8> {
    PCM.iter().flat_map(|sample| sample.to_be_bytes()).collect()
}

fn little() -> Vec<u8> {
    PCM.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

#[track_caller]
fn gives(file: &[u8], container: &str, expected: &[i16]) -> Prepared {
    let clip = wav().prepare_bytes(file.to_vec(), None).unwrap();
    assert_eq!((clip.source.container, clip.source.sample_rate), (container, TO));
    assert_eq!(samples_of(&clip), expected);
    assert!(!clip.kept || container == "wav");
    clip
}

fn sphere(fields: &str, samples: &[u8]) -> Vec<u8> {
    let mut file = format!("NIST_1A\n   1024\n{fields}end_head\n").into_bytes();
    file.resize(1_024, b' ');
    file.extend_from_slice(samples);
    file
}

#[test]
fn sphere_is_read_in_both_orders_and_as_mu_law() {
    let fields = "channel_count -i 1\nsample_rate -i 16000\nsample_count -i 6\nsample_n_bytes -i 2\n";
    gives(&sphere(&format!("{fields}sample_byte_format -s2 01\nsample_coding -s3 pcm\n"), &little()), "sphere", &PCM);
    gives(&sphere(&format!("{fields}sample_byte_format -s2 10\n"), &big()), "sphere", &PCM);
    let law = "sample_rate -i 16000\nsample_count -i 2\nsample_n_bytes -i 1\nsample_coding -s4 ulaw\n";
    gives(&sphere(law, &[0xff, 0x00]), "sphere", &[0, -32_124]);
    let stereo = "channel_count -i 2\nsample_rate -i 16000\nsample_count -i 3\nsample_byte_format -s2 01\n";
    let clip = gives(&sphere(stereo, &little()), "sphere", &[1, 8_191, -1]);
    assert_eq!(clip.source.num_channels, 2);
    let reals = "sample_rate -r 16000.000000\nsample_count -r 6.0\nsample_byte_format -s2 01\n";
    gives(&sphere(reals, &little()), "sphere", &PCM);
    // A coding of any width states which byte is which.
    let wide = "sample_rate -i 16000\nsample_count -i 2\nsample_n_bytes -i 3\nsample_byte_format -s3 ";
    gives(&sphere(&format!("{wide}012\n"), &[0, 1, 0, 0, 0, 0xc0]), "sphere", &[1, -16_384]);
    gives(&sphere(&format!("{wide}210\n"), &[0, 1, 0, 0xc0, 0, 0]), "sphere", &[1, -16_384]);
    // SoX and libsndfile write two places for any width.
    gives(&sphere(&format!("{wide}01\n").replace("-s3", "-s2"), &[0, 1, 0, 0, 0, 0xc0]), "sphere", &[1, -16_384]);
    gives(&sphere(&format!("{wide}10\n").replace("-s3", "-s2"), &[0, 1, 0, 0xc0, 0, 0]), "sphere", &[1, -16_384]);
    for format in ["sample_byte_format -s4 1032\n", ""] {
        let unknown = sphere(&format!("sample_rate -i 16000\nsample_n_bytes -i 4\n{format}"), &little());
        assert!(wav().prepare_bytes(unknown, None).unwrap_err().reason.contains("`sample_byte_format`"));
    }
    let apart = sphere(&format!("{stereo}channels_interleaved -s5 FALSE\n"), &little());
    assert!(wav().prepare_bytes(apart, None).unwrap_err().reason.contains("channels one after the other"));
}

#[test]
fn sphere_that_is_compressed_or_short_is_refused() {
    let shorten = "sample_rate -i 16000\nsample_count -i 6\nsample_coding -s26 pcm,embedded-shorten-v2.00\n";
    let reject = wav().prepare_bytes(sphere(shorten, b"ajkg\x02"), None).unwrap_err();
    assert!(reject.reason.starts_with("sphere: compressed with shorten, which is not read"), "{reject}");
    let short = "sample_rate -i 16000\nsample_count -i 7\nsample_byte_format -s2 01\n";
    refused(&sphere(short, &little()), "truncated: the header promises 14 bytes of samples, the file has 12", Some(1_036));
    refused(&sphere("sample_count -i 6\n", &little()), "sphere: no `sample_rate` in the header", Some(0));
    refused(b"NIST_1A\n   xxxx\n", "sphere: no length of the header", Some(0));
}

/// `code` is that of AIFF-C.
fn aiff(code: Option<&[u8; 4]>, bits: u16, num_frames: u32, samples: &[u8]) -> Vec<u8> {
    let mut common = 1_u16.to_be_bytes().to_vec();
    common.extend_from_slice(&num_frames.to_be_bytes());
    common.extend_from_slice(&bits.to_be_bytes());
    common.extend_from_slice(b"\x40\x0c\xfa\0\0\0\0\0\0\0"); // 16000
    common.extend(code.into_iter().flatten());
    common.extend(code.iter().flat_map(|_| [0, 0]));
    let mut file = b"FORM\0\0\0\0AIF".to_vec();
    file.push(if code.is_some() { b'C' } else { b'F' });
    file.extend_from_slice(b"NAME\0\0\0\x03abc\0COMM");
    file.extend_from_slice(&(common.len() as u32).to_be_bytes());
    file.extend_from_slice(&common);
    file.extend_from_slice(b"SSND");
    file.extend_from_slice(&(samples.len() as u32 + 8).to_be_bytes());
    file.extend_from_slice(&[0; 8]);
    file.extend_from_slice(samples);
    let whole = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&whole.to_be_bytes());
    file
}

#[test]
fn aiff_and_aiff_c_are_read() {
    gives(&aiff(None, 16, 6, &big()), "aiff", &PCM);
    gives(&aiff(None, 12, 6, &big()), "aiff", &PCM);
    gives(&aiff(Some(b"NONE"), 16, 6, &big()), "aiff", &PCM);
    gives(&aiff(Some(b"sowt"), 16, 6, &little()), "aiff", &PCM);
    gives(&aiff(Some(b"42n1"), 24, 2, &[0, 1, 0, 0, 0, 0xc0]), "aiff", &[1, -16_384]);
    gives(&aiff(None, 8, 2, &[0x40, 0xc0]), "aiff", &[16_384, -16_384]);
    gives(&aiff(Some(b"raw "), 8, 2, &[0xc0, 0x40]), "aiff", &[16_384, -16_384]);
    gives(&aiff(Some(b"fl32"), 32, 1, &0.5_f32.to_be_bytes()), "aiff", &[16_384]);
    gives(&aiff(Some(b"ulaw"), 16, 2, &[0xff, 0x00]), "aiff", &[0, -32_124]);
    // Streams of unknown length, the second by SoX, and one that is cut.
    gives(&aiff(None, 16, 0, &big()), "aiff", &PCM);
    let mut stream = aiff(None, 16, 0x3f80_0000, &big());
    let at = stream.windows(4).position(|name| name == b"SSND").unwrap();
    stream[at + 4..at + 8].copy_from_slice(b"\x7f\0\0\x08");
    gives(&stream, "aiff", &PCM);
    let file = aiff(None, 16, 6, &big());
    refused(
        &file[..file.len() - 2],
        "truncated: the header promises 12 bytes of samples, the file has 10",
        Some(file.len() as u64 - 2),
    );
    let reject = wav().prepare_bytes(aiff(Some(b"MAC3"), 8, 6, &big()), None).unwrap_err();
    assert!(reject.reason.starts_with("aiff: samples of the type `MAC3`"), "{reject}");
}

#[test]
fn aiff_whose_counts_disagree_is_refused_or_flagged() {
    let reason = "aiff: decodes to 6 samples, its header promises 7: damaged or truncated";
    refused(&aiff(None, 16, 7, &big()), reason, Some(aiff(None, 16, 7, &big()).len() as u64));
    let clip = gives(&aiff(None, 16, 4, &big()), "aiff", &PCM[..4]);
    assert_eq!(clip.flags, [Flag::TrailingBytes]);
    // Blocks of 8 bytes.
    let mut blocks = aiff(None, 16, 5, &big());
    let at = blocks.windows(4).position(|name| name == b"SSND").unwrap();
    blocks[at + 15] = 8;
    assert_eq!(gives(&blocks, "aiff", &PCM[..5]).flags, []);
}

fn au(len: u32, encoding: u32, samples: &[u8]) -> Vec<u8> {
    let fields = [32, len, encoding, TO, 1, 0, 0];
    [b".snd".as_slice(), &fields.iter().flat_map(|field: &u32| field.to_be_bytes()).collect::<Vec<_>>(), samples].concat()
}

#[test]
fn au_is_read_with_and_without_a_length() {
    gives(&au(12, 3, &big()), "au", &PCM);
    gives(&au(u32::MAX, 3, &big()), "au", &PCM);
    for claimed in [0_u8, 8, 23] {
        let fields = [u32::from(claimed), 12, 3, TO, 1];
        let fields: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
        gives(&[b".snd".as_slice(), &fields, &big()].concat(), "au", &PCM);
    }
    gives(&au(2, 1, &[0xff, 0x00]), "au", &[0, -32_124]);
    for (name, samples) in [(b"dns.", little()), (b"\0ds.", little()), (b".sd\0", big())] {
        let fields = [24_u32, 12, 3, TO, 1];
        let order = |field: &u32| if name.ends_with(b"s.") { field.to_le_bytes() } else { field.to_be_bytes() };
        let fields: Vec<u8> = fields.iter().flat_map(order).collect();
        gives(&[name.as_slice(), &fields, &samples].concat(), "au", &PCM);
    }
    gives(&au(4, 6, &0.5_f32.to_be_bytes()), "au", &[16_384]);
    refused(&au(14, 3, &big()), "truncated: the header promises 14 bytes of samples, the file has 12", Some(44));
    let reject = wav().prepare_bytes(au(12, 23, &big()), None).unwrap_err();
    assert!(reject.reason.starts_with("au: samples of the encoding 23 are not read"), "{reject}");
}

fn caf(kind: [u8; 4], flags: u32, num_bytes: u32, len: i64, samples: &[u8]) -> Vec<u8> {
    let mut file = b"caff\0\x01\0\0desc\0\0\0\0\0\0\0\x20".to_vec();
    file.extend_from_slice(&f64::from(TO).to_be_bytes());
    file.extend_from_slice(&kind);
    for field in [flags, num_bytes, 1, 1, 8 * num_bytes] {
        file.extend_from_slice(&field.to_be_bytes());
    }
    file.extend_from_slice(b"info\0\0\0\0\0\0\0\x04\0\0\0\0data");
    file.extend_from_slice(&len.to_be_bytes());
    file.extend_from_slice(&[0; 4]);
    file.extend_from_slice(samples);
    file
}

#[test]
fn caf_is_read_with_and_without_a_length() {
    gives(&caf(*b"lpcm", 0, 2, 16, &big()), "caf", &PCM);
    gives(&caf(*b"lpcm", 2, 2, -1, &little()), "caf", &PCM);
    gives(&caf(*b"lpcm", 3, 4, 8, &0.5_f32.to_le_bytes()), "caf", &[16_384]);
    gives(&caf(*b"ulaw", 0, 1, 6, &[0xff, 0x00]), "caf", &[0, -32_124]);
    refused(&caf(*b"lpcm", 2, 2, 18, &little()), "truncated: the header promises 14 bytes of samples, the file has 12", Some(96));
    let reject = wav().prepare_bytes(caf(*b"alac", 0, 0, 16, &big()), None).unwrap_err();
    assert!(reject.reason.starts_with("caf: samples of the type `alac`"), "{reject}");
}

#[test]
fn what_follows_the_samples_is_flagged() {
    let files = [
        sphere("sample_rate -i 16000\nsample_count -i 6\nsample_byte_format -s2 01\n", &little()),
        aiff(None, 16, 6, &big()),
        aiff(Some(b"sowt"), 16, 6, &little()),
        au(12, 3, &big()),
        caf(*b"lpcm", 0, 2, 16, &big()),
        w64(),
    ];
    for file in &files {
        for (rest, flags) in [
            (file.as_slice(), &[Flag::Joined][..]),
            (&files[0], &[Flag::Joined]),
            (b"what is this doing here?", &[Flag::TrailingBytes]),
            (&[0; 9], &[]),
            (&[], &[]),
        ] {
            let clip = wav().prepare_bytes([file.as_slice(), rest].concat(), None).unwrap();
            assert_eq!((samples_of(&clip).as_slice(), clip.flags.as_slice()), (&PCM[..], flags), "{}", clip.source.container);
        }
    }
    // Chunks are not.
    let chunk = [&files[4][..], b"free\0\0\0\0\0\0\0\x02ab"].concat();
    assert_eq!(wav().prepare_bytes(chunk, None).unwrap().flags, []);
    let chunk = [&files[1][..], b"ANNO\0\0\0\x02ab"].concat();
    assert_eq!(wav().prepare_bytes(chunk, None).unwrap().flags, []);
}

#[test]
fn w64_is_read() {
    gives(&w64(), "w64", &PCM);
    // As ffmpeg leaves it where it writes to a pipe.
    let mut stream = w64();
    let at = stream.windows(4).position(|name| name == b"data").unwrap();
    stream[16..24].fill(0xff);
    stream[at + 16..at + 24].copy_from_slice(&(u64::MAX >> 1).to_le_bytes());
    gives(&stream[..at + 36], "w64", &PCM);
}

fn w64() -> Vec<u8> {
    let end = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";
    let mut file = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00\0\0\0\0\0\0\0\0wave".to_vec();
    file.extend_from_slice(end);
    file.extend_from_slice(b"fmt ");
    file.extend_from_slice(end);
    file.extend_from_slice(&40_u64.to_le_bytes());
    file.extend_from_slice(b"\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
    file.extend_from_slice(end);
    file.extend_from_slice(&36_u64.to_le_bytes());
    file.extend_from_slice(&little());
    file.resize(file.len().next_multiple_of(8), 0);
    file
}
