//! Hundreds of recordings in every container, codec, rate, number of channels and form of header that ffmpeg, lame, flac, sox,
//! oggenc and opusenc write, decoded here and by ffmpeg: the same length, and the same samples to 60 dB or better.
//!
//! Needs these programs. Without them the test is left out, unless `SURE_NEEDS_TOOLS` is set.

#![expect(clippy::unwrap_used, reason = "a test fails by panics")]
#![expect(clippy::too_many_lines, reason = "the list of formats is long")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use codec::recording::{Format, Preparer, Target, samples};
use codec::wav::write_pcm16;

const TOOLS: [&str; 6] = ["ffmpeg", "lame", "flac", "sox", "oggenc", "opusenc"];
/// Least ratio of signal to difference, in dB.
const LEAST_RATIO: f64 = 60.0;
/// Samples that lame's decoder leaves out of a stream without a header: the delay of a decoder of layer III. With a header, it and
/// we leave out what the header says.
const DECODER_DELAY: usize = 529;
/// Rate of MP3 at which ffmpeg 5.1 differs from lame's decoder and mpg123, by 27 to 55 dB.
const ODD_RATE: u32 = 24_000;
/// Files that the matrix has at least.
const LEAST_FILES: usize = 300;

#[test]
fn recordings_of_every_form_decode_as_ffmpeg_decodes_them() {
    if let Some(missing) = TOOLS.iter().find(|tool| !has(tool)) {
        assert!(std::env::var_os("SURE_NEEDS_TOOLS").is_none(), "`{missing}` is not on PATH");
        eprintln!("LEFT OUT: the matrix of formats needs {}; no `{missing}`", TOOLS.join(", "));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let matrix = Matrix { folder: folder.path().to_owned() };
    let files = matrix.write();
    assert!(files.len() >= LEAST_FILES, "{} files", files.len());
    let theirs = matrix.by_ffmpeg(&files);
    let problems: Vec<String> = files.iter().zip(&theirs).filter_map(|(file, theirs)| file.compare(theirs).err()).collect();
    assert!(problems.is_empty(), "{} of {} files:\n{}", problems.len(), files.len(), problems.join("\n"));
    println!("{} files agree", files.len());
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// How lengths may differ from ffmpeg's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Same,
    /// ffmpeg leaves the last packet whole, by up to so many samples.
    LongerEnd(usize),
    /// Vorbis: as long as the source. ffmpeg drops the first packet, or leaves the last whole.
    OfSource,
    /// Decoded by ffmpeg for us too.
    Fallback,
    /// MP3 of free format: ffmpeg 5.1 does not read it.
    OfLame,
}

struct File {
    path: PathBuf,
    length: Length,
    /// Samples of the source.
    num_samples: usize,
}

impl File {
    fn compare(&self, theirs: &Path) -> Result<(), String> {
        let name = self.path.file_name().unwrap().to_string_lossy().into_owned();
        let told = |problem: String| format!("{name}: {problem}");
        let file = fs::read(&self.path).unwrap();
        if self.length == Length::OfLame {
            let mut ours = Vec::new();
            samples(&file, &mut ours).map_err(|reject| told(reject.reason))?;
            return self.compare_with_lame(&file, &ours).map_err(told);
        }
        let theirs = fs::read(theirs).map_err(|_| told("ffmpeg gave nothing".into()))?;
        if self.length == Length::Fallback {
            let preparer = Preparer::new(Target { sample_rate: 16_000, format: Format::Wav });
            let mut preparer = preparer.with_ffmpeg(|| Some("ffmpeg".into()));
            let mut prepare = |bytes| preparer.prepare_bytes(bytes, None);
            let (ours, theirs) = (prepare(file).map_err(|reject| told(reject.reason))?, prepare(theirs).unwrap());
            return if ours.bytes == theirs.bytes { Ok(()) } else { Err(told("another clip than ffmpeg's".into())) };
        }
        let (mut ours, mut other) = (Vec::new(), Vec::new());
        let rate = samples(&file, &mut ours).map_err(|reject| told(reject.reason))?;
        let other_rate = samples(&theirs, &mut other).map_err(|reject| told(format!("ffmpeg's: {reject}")))?;
        if rate != other_rate {
            return Err(told(format!("{rate} Hz, ffmpeg {other_rate} Hz")));
        }
        let lengths = format!("{} samples, ffmpeg {}", ours.len(), other.len());
        let found = match self.length {
            Length::LongerEnd(most) if (ours.len()..=ours.len() + most).contains(&other.len()) => ratio(&ours, &other),
            Length::OfSource if ours.len() == self.num_samples => {
                (0..=1_024).step_by(32).map(|start| ratio(&ours[start.min(ours.len())..], &other)).fold(f64::MIN, f64::max)
            }
            Length::OfSource | Length::LongerEnd(_) => return Err(told(lengths)),
            _ if ours.len() == other.len() => ratio(&ours, &other),
            _ => return Err(told(lengths)),
        };
        let is_odd = name.ends_with(".mp3") && rate == ODD_RATE;
        if found < LEAST_RATIO && !is_odd {
            return Err(told(format!("differs, {found:.1} dB; {lengths}")));
        }
        if is_odd || name.starts_with("lame") { self.compare_with_lame(&file, &ours).map_err(told) } else { Ok(()) }
    }

    /// Compares with lame's decoder: the same length but for its delay, and the same samples.
    fn compare_with_lame(&self, file: &[u8], ours: &[f32]) -> Result<(), String> {
        let theirs = self.by_lame();
        let has_header = file[..file.len().min(4_096)].windows(4).any(|four| four == b"Xing" || four == b"Info");
        let delay = if has_header { 0 } else { DECODER_DELAY };
        if ours.len() != theirs.len() + delay {
            return Err(format!("{} samples, lame {} and a delay of {delay}", ours.len(), theirs.len()));
        }
        let found = ratio(&ours[delay..], &theirs);
        if found >= LEAST_RATIO { Ok(()) } else { Err(format!("differs from lame, {found:.1} dB")) }
    }

    fn by_lame(&self) -> Vec<f32> {
        let wav = self.path.with_extension("by-lame.wav");
        let status = Command::new("lame").args(["--quiet", "--decode"]).args([&self.path, &wav]).status().unwrap();
        assert!(status.success());
        let mut mono = Vec::new();
        samples(&fs::read(wav).unwrap(), &mut mono).unwrap();
        mono
    }
}

/// Returns the ratio of signal to difference in dB, as far as both go.
fn ratio(ours: &[f32], theirs: &[f32]) -> f64 {
    let energy = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value * value)).sum::<f64>();
    let signal = energy(&mut theirs.iter().copied().take(ours.len()));
    let difference = energy(&mut ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs));
    if signal > 1e-6 { 10.0 * (signal / difference.max(1e-30)).log10() } else { f64::MIN }
}

struct Matrix {
    folder: PathBuf,
}

/// A program with its arguments.
type Call = (&'static str, Vec<String>);

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

impl Matrix {
    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Writes all files.
    fn write(&self) -> Vec<File> {
        let (mut calls, mut files) = (Vec::<Call>::new(), Vec::new());
        for rate in [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] {
            for channels in [1, 2, 6] {
                fs::write(self.path(&format!("source-{rate}-{channels}.wav")), source(rate, channels)).unwrap();
            }
        }
        // ffmpeg: arguments, file name, rates, channels.
        let low = [8_000, 22_050, 48_000];
        let all = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
        let mut by_ffmpeg = |name: &str, arguments: &str, rates: &[u32], channels: &[u32], length: Length| {
            for &rate in rates {
                for &number in channels {
                    let (stem, extension) = name.split_once('.').unwrap();
                    let path = self.path(&format!("{stem}-{rate}-{number}.{extension}"));
                    let source = self.path(&format!("source-{rate}-{number}.wav"));
                    let mut call = vec!["-nostdin".to_owned(), "-v".into(), "error".into(), "-y".into(), "-i".into(), source];
                    call.extend(words(arguments));
                    call.push(path.clone());
                    calls.push(("ffmpeg", call));
                    files.push(File { path: path.into(), length, num_samples: rate as usize / 2 });
                }
            }
        };
        for codec in ["u8", "s16le", "s24le", "s32le", "f32le", "f64le", "alaw", "mulaw"] {
            by_ffmpeg(&format!("{codec}.wav"), &format!("-c:a pcm_{codec}"), &low, &[1, 2, 6], Length::Same);
            by_ffmpeg(&format!("{codec}.w64"), &format!("-c:a pcm_{codec}"), &[44_100], &[1, 2], Length::Same);
        }
        by_ffmpeg("rf64.wav", "-rf64 always", &low, &[1], Length::Same);
        by_ffmpeg("adpcm-ms.wav", "-c:a adpcm_ms", &low, &[1, 2], Length::Same);
        by_ffmpeg("adpcm-ima.wav", "-c:a adpcm_ima_wav", &low, &[1, 2], Length::Same);
        for codec in ["s8", "s16be", "s16le", "s24be", "s32be", "f32be", "f64be", "alaw", "mulaw"] {
            by_ffmpeg(&format!("{codec}.aiff"), &format!("-c:a pcm_{codec}"), &[22_050], &[1, 2], Length::Same);
        }
        for codec in ["s8", "s16be", "s24be", "s32be", "f32be", "f64be", "alaw", "mulaw"] {
            by_ffmpeg(&format!("{codec}.au"), &format!("-c:a pcm_{codec}"), &[16_000], &[1, 2], Length::Same);
        }
        for codec in ["s8", "s16be", "s16le", "s24be", "s24le", "s32be", "f32be", "f32le", "f64le", "alaw", "mulaw"] {
            by_ffmpeg(&format!("{codec}.caf"), &format!("-c:a pcm_{codec}"), &[44_100], &[1, 2], Length::Same);
        }
        for level in [0, 5, 12] {
            by_ffmpeg(
                &format!("ffmpeg{level}.flac"),
                &format!("-c:a flac -compression_level {level}"),
                &low,
                &[1, 2, 6],
                Length::Same,
            );
        }
        by_ffmpeg("flac24.flac", "-c:a flac -sample_fmt s32", &low, &[1, 2], Length::Same);
        by_ffmpeg("ffmpeg.mp3", "-c:a libmp3lame -b:a 48k", &all, &[1, 2], Length::Same);
        by_ffmpeg("no-header.mp3", "-c:a libmp3lame -q:a 4 -write_xing 0 -id3v2_version 0", &all, &[1, 2], Length::Same);
        by_ffmpeg("layer2.mp2", "-c:a mp2 -b:a 96k", &[16_000, 22_050, 24_000, 32_000, 44_100, 48_000], &[1, 2], Length::Same);
        by_ffmpeg("aac.m4a", "-c:a aac -b:a 48k", &all, &[1, 2], Length::LongerEnd(1_024));
        by_ffmpeg("fast.m4a", "-c:a aac -b:a 64k -movflags +faststart", &low, &[1], Length::LongerEnd(1_024));
        by_ffmpeg("aac.mov", "-c:a aac -b:a 64k", &low, &[2], Length::LongerEnd(1_024));
        by_ffmpeg("adts.aac", "-c:a aac -b:a 48k -f adts", &all, &[1], Length::Same);
        by_ffmpeg("vorbis.ogg", "-c:a libvorbis -q:a 3", &low, &[1, 2], Length::OfSource);
        // Containers of video, and formats that only ffmpeg reads: none of them may be taken for MP3.
        for codec in ["s16be", "s16le", "u8"] {
            by_ffmpeg(&format!("{codec}.mov"), &format!("-c:a pcm_{codec}"), &[44_100], &[1, 2], Length::Same);
        }
        for codec in ["s8", "alaw", "mulaw", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "f64le", "f64be"] {
            by_ffmpeg(&format!("{codec}.mov"), &format!("-c:a pcm_{codec}"), &[44_100], &[1, 2], Length::Fallback);
        }
        for codec in ["s16le", "s24le", "f32le"] {
            for container in ["mka", "nut", "avi"] {
                by_ffmpeg(&format!("{codec}.{container}"), &format!("-c:a pcm_{codec}"), &[16_000], &[1, 2], Length::Fallback);
            }
        }
        for (codec, container) in
            [("dca", "mka"), ("dca", "nut"), ("ac3", "mka"), ("wavpack", "wv"), ("mp2", "ts"), ("libmp3lame", "mka")]
        {
            by_ffmpeg(&format!("{codec}.{container}"), &format!("-strict -2 -c:a {codec}"), &[48_000], &[1, 2], Length::Fallback);
        }
        by_ffmpeg("tta.tta", "-c:a tta", &low, &[1], Length::Fallback);
        by_ffmpeg("voc.voc", "-c:a pcm_s16le", &low, &[1], Length::Fallback);
        by_ffmpeg("alac.m4a", "-c:a alac", &low, &[1], Length::Fallback);
        by_ffmpeg("wma.wma", "-c:a wmav2 -b:a 64k", &[44_100], &[1], Length::Fallback);
        by_ffmpeg("opus.webm", "-c:a libopus -b:a 32k", &[48_000], &[1], Length::Fallback);
        by_ffmpeg("g726.wav", "-c:a g726 -b:a 32k", &[8_000], &[1], Length::Fallback);

        let mut by =
            |program: &'static str, name: &str, rate: u32, channels: u32, arguments: &dyn Fn(&str, &str) -> String, length| {
                let path = self.path(name);
                let source = self.path(&format!("source-{rate}-{channels}.wav"));
                calls.push((program, words(&arguments(&source, &path))));
                files.push(File { path: path.into(), length, num_samples: rate as usize / 2 });
            };
        for (rate, lowest, highest) in
            [(8_000, 8, 64), (16_000, 16, 160), (24_000, 32, 160), (32_000, 40, 320), (44_100, 32, 320), (48_000, 56, 320)]
        {
            for mode in ["m", "s", "j", "f", "d"] {
                let channels = if mode == "m" { 1 } else { 2 };
                let lowest = if channels == 2 && rate >= 32_000 { 64 } else { lowest };
                for bit_rate in [lowest, highest] {
                    let name = format!("lame-{mode}-{bit_rate}-{rate}.mp3");
                    let arguments = |source: &str, path: &str| {
                        format!("--quiet --resample {} -m {mode} -b {bit_rate} {source} {path}", f64::from(rate) / 1_000.0)
                    };
                    by("lame", &name, rate, channels, &arguments, Length::Same);
                }
            }
        }
        for (number, options) in [
            "-V 0",
            "-V 4",
            "-V 9",
            "-V 2 -t",
            "-V 6 -t",
            "--abr 96",
            "-b 128 -t",
            "--allshort -b 96",
            "--noshort -b 96",
            "-b 64 -p",
            "--nores -b 96",
        ]
        .iter()
        .enumerate()
        {
            for (rate, channels) in [(44_100, 1), (22_050, 2), (48_000, 2)] {
                by(
                    "lame",
                    &format!("lame-options{number}-{rate}.mp3"),
                    rate,
                    channels,
                    &|source, path| format!("--quiet {options} {source} {path}"),
                    Length::Same,
                );
            }
        }
        for (number, options) in ["--freeformat -b 100", "--freeformat -b 150", "--freeformat -b 150 -t"].iter().enumerate() {
            for (rate, mode) in [(8_000, "m"), (16_000, "j"), (32_000, "s"), (44_100, "f"), (44_100, "j"), (48_000, "d")] {
                by(
                    "lame",
                    &format!("lame-free{number}-{mode}-{rate}.mp3"),
                    rate,
                    if mode == "m" { 1 } else { 2 },
                    &|source, path| format!("--quiet -m {mode} {options} {source} {path}"),
                    Length::OfLame,
                );
            }
        }
        for (number, options) in
            ["-0", "-3", "-8", "-5 -b 192", "-5 -b 16 --lax", "-5 -b 4608", "-l 32 --lax", "-8 -e -p"].iter().enumerate()
        {
            for (rate, channels) in [(16_000, 1), (44_100, 2), (96_000, 2), (48_000, 6)] {
                by(
                    "flac",
                    &format!("flac{number}-{rate}.flac"),
                    rate,
                    channels,
                    &|source, path| format!("-s -f --channel-map=none {options} -o {path} {source}"),
                    Length::Same,
                );
            }
        }
        for (rate, channels) in [(8_000, 1), (16_000, 1), (44_100, 2)] {
            by(
                "flac",
                &format!("ogg-{rate}.oga"),
                rate,
                channels,
                &|source, path| format!("-s -f --ogg -o {path} {source}"),
                Length::Same,
            );
            for quality in [-1, 3, 8] {
                by(
                    "oggenc",
                    &format!("oggenc{quality}-{rate}.ogg"),
                    rate,
                    channels,
                    &|source, path| format!("-Q -q {quality} -o {path} {source}"),
                    Length::OfSource,
                );
            }
            for bit_rate in [16, 64] {
                by(
                    "opusenc",
                    &format!("opus{bit_rate}-{rate}.opus"),
                    rate,
                    channels,
                    &|source, path| format!("--quiet --bitrate {bit_rate} {source} {path}"),
                    Length::Fallback,
                );
            }
            for (coding, options) in [("pcm", "-e signed -b 16"), ("ulaw", "-e u-law -b 8"), ("alaw", "-e a-law -b 8")] {
                by(
                    "sox",
                    &format!("{coding}-{rate}.sph"),
                    rate,
                    channels,
                    &|source, path| format!("-D {source} {options} {path}"),
                    Length::Same,
                );
            }
        }
        in_parallel(&calls, |(program, arguments)| {
            let output = Command::new(program).args(arguments).output().unwrap();
            assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        });
        files.extend(self.variants());
        files
    }

    /// Files with unusual headers, made of the others.
    fn variants(&self) -> Vec<File> {
        let mut files = Vec::new();
        let mut write = |name: String, bytes: &[u8]| {
            let path = self.folder.join(name);
            fs::write(&path, bytes).unwrap();
            files.push(File { path, length: Length::Same, num_samples: 0 });
        };
        let wav = fs::read(self.path("source-16000-1.wav")).unwrap();
        for (number, size) in
            [0, 0x7fff_f000, 0x7fff_ffff, 0x8000_0000, 0xffff_ff9b, 0xffff_fffe, u32::MAX].into_iter().enumerate()
        {
            let mut stream = wav.clone();
            stream[40..44].copy_from_slice(&u32::to_le_bytes(size));
            stream[4..8].copy_from_slice(&u32::to_le_bytes(if size == 0 { 0 } else { size.saturating_add(36) }));
            write(format!("stream{number}.wav"), &stream);
        }
        let (format, data) = (&wav[20..36], &wav[44..]);
        let chunk = |name: &[u8; 4], content: &[u8]| [name.as_slice(), &(content.len() as u32).to_le_bytes(), content].concat();
        let riff = |chunks: &[Vec<u8>]| {
            let content = [b"WAVE".as_slice(), &chunks.concat()].concat();
            chunk(b"RIFF", &content)
        };
        for len in [18, 20, 40] {
            let mut long = format.to_vec();
            long.resize(len, 0);
            write(format!("format{len}.wav"), &riff(&[chunk(b"fmt ", &long), chunk(b"data", data)]));
        }
        let others = [
            chunk(b"JUNK", b"abcd"),
            chunk(b"fmt ", format),
            chunk(b"LIST", b"INFO"),
            chunk(b"data", data),
            chunk(b"LIST", b"INFO"),
        ];
        write("chunks.wav".into(), &riff(&others));
        for (valid, num_bytes) in [(12, 2_u32), (16, 2), (20, 3), (24, 3), (32, 4)] {
            let mut extensible = vec![0xfe, 0xff, 1, 0, 0x80, 0x3e, 0, 0];
            extensible.extend_from_slice(&(16_000 * num_bytes).to_le_bytes());
            extensible.extend_from_slice(&[num_bytes as u8, 0, 8 * num_bytes as u8, 0, 22, 0, valid, 0, 4, 0, 0, 0]);
            extensible.extend_from_slice(b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
            let low = vec![0; num_bytes as usize - 2];
            let wide: Vec<u8> = data.chunks_exact(2).flat_map(|sample| low.iter().chain(sample)).copied().collect();
            write(format!("valid{valid}-in-{num_bytes}.wav"), &riff(&[chunk(b"fmt ", &extensible), chunk(b"data", &wide)]));
        }
        let tag = [b"ID3\x03\0\0\0\0\x02\x00".as_slice(), &[0xff, 0xfb, 0x50, 0xc0].repeat(64)].concat();
        for name in ["ffmpeg-44100-1.mp3", "lame-options3-44100.mp3", "layer2-48000-2.mp2", "flac0-16000.flac"] {
            let file = fs::read(self.path(name)).unwrap();
            write(format!("tag-{name}"), &[tag.as_slice(), &file].concat());
            write(format!("end-{name}"), &[file.as_slice(), b"TAG", &[b' '; 125]].concat());
        }
        files
    }

    /// Decodes all files with ffmpeg to float WAV, several in one process.
    fn by_ffmpeg(&self, files: &[File]) -> Vec<PathBuf> {
        let outputs: Vec<PathBuf> = (0..files.len()).map(|number| self.folder.join(format!("theirs{number}.wav"))).collect();
        let pairs: Vec<(&File, &PathBuf)> =
            files.iter().zip(&outputs).filter(|(file, _)| file.length != Length::OfLame).collect();
        let groups: Vec<_> = pairs.chunks(8).collect();
        in_parallel(&groups, |group| {
            let mut call = Command::new("ffmpeg");
            call.args(["-nostdin", "-v", "error", "-y"]);
            group.iter().for_each(|(file, _)| {
                call.arg("-i").arg(&file.path);
            });
            for (number, (_, output)) in group.iter().enumerate() {
                call.args(["-map", &format!("{number}:a:0"), "-bitexact", "-c:a", "pcm_f32le"]).arg(output);
            }
            let output = call.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        });
        outputs
    }
}

/// Calls `work` for each item, in as many threads as there are processors.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let rest = Mutex::new(items.iter());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let item = rest.lock().unwrap().next();
                    let Some(item) = item else { break };
                    work(item);
                }
            });
        }
    });
}

/// Half a second of rising tones, clicks (which make encoders change their blocks), pauses and noise; every channel differs.
fn source(rate: u32, channels: usize) -> Vec<u8> {
    let (mut state, num_frames) = (1_u32, rate as usize / 2);
    let mut pcm = Vec::with_capacity(num_frames * channels);
    for n in 0..num_frames {
        let time = n as f64 / f64::from(rate);
        for channel in 0..channels {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); // Numerical Recipes' generator
            let noise = f64::from((state >> 16) as i16) / 32_768.0;
            let pitch: f64 = 200.0 + 150.0 * channel as f64;
            let voice = (1..6_u32)
                .map(|k| (std::f64::consts::TAU * pitch * f64::from(k) * (time + time * time)).sin() / f64::from(k))
                .sum::<f64>();
            let pause = if (0.2..0.25).contains(&time) { 0.0 } else { 1.0 };
            let click = if n % (rate as usize / 9) < 3 { 0.3 } else { 0.0 };
            pcm.push(((0.2 * voice + 0.02 * noise) * pause * 20_000.0 + click * 20_000.0) as i16);
        }
    }
    let mut file = write_pcm16(rate, &pcm);
    let frame_len = 2 * channels as u32;
    file[22..24].copy_from_slice(&(channels as u16).to_le_bytes());
    file[28..32].copy_from_slice(&(rate * frame_len).to_le_bytes());
    file[32..34].copy_from_slice(&(frame_len as u16).to_le_bytes());
    file
}
