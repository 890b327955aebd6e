//! Real speech (the Free Spoken Digit Dataset) in every format, decoded by us and by `ffmpeg` or `sox`: the same samples.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// Where the corpus is: `SURE_FSDD`, or where the project's shared material lies.
fn fsdd() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora/fsdd");
    let folder = std::env::var_os("SURE_FSDD").map_or(beside, PathBuf::from).join("recordings");
    folder.is_dir().then_some(folder)
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn real_speech_decodes_as_ffmpeg_and_sox_decode_it() {
    let Some(folder) = fsdd().filter(|_| has("ffmpeg") && has("sox")) else {
        eprintln!("LEFT OUT: needs ffmpeg, sox and the FSDD corpus (SURE_FSDD)");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    // Extension, how ffmpeg is to write it, who decodes it, the largest difference in steps of 16 bits, surplus samples of theirs.
    let formats: [(&str, &[&str], &str, f32, usize); 7] = [
        ("wav", &["-c:a", "pcm_s16le"], "sox", 0.0, 0),
        ("24.wav", &["-c:a", "pcm_s24le"], "sox", 0.0, 0),
        ("flac", &["-c:a", "flac"], "sox", 0.0, 0),
        ("stereo.flac", &["-c:a", "flac", "-af", "pan=stereo|c0=c0|c1=0.5*c0"], "", 0.0, 0),
        ("mp3", &["-c:a", "libmp3lame", "-b:a", "64k"], "ffmpeg", 1.0, 0),
        ("m4a", &["-c:a", "aac", "-b:a", "64k"], "ffmpeg", 1.0, 1_024),
        // ffmpeg 5.1 drops the first 256 samples of Vorbis; the length of the original says that sox is right.
        ("ogg", &["-c:a", "libvorbis"], "sox", 1.0, 0),
    ];
    for recording in ["0_jackson_0", "3_theo_7", "7_nicolas_12", "9_yweweler_49"] {
        let original = folder.join(format!("{recording}.wav"));
        for rate in ["8000", "22050"] {
            for (extension, codec, judge, most, surplus) in formats {
                let path = scratch.path().join(format!("{recording}-{rate}.{extension}"));
                let (from, to) = (original.to_str().unwrap(), path.to_str().unwrap());
                run("ffmpeg", &[&["-nostdin", "-v", "error", "-y", "-i", from, "-ar", rate], codec, &[to]].concat());
                let mut ours = Vec::new();
                assert_eq!(samples(&fs::read(&path).unwrap(), &mut ours).unwrap().to_string(), rate);
                let theirs = match judge {
                    "sox" => floats(&run("sox", &[to, "-t", "raw", "-e", "float", "-b", "32", "-"])),
                    "ffmpeg" => floats(&run("ffmpeg", &["-nostdin", "-v", "error", "-i", to, "-f", "f32le", "-"])),
                    _ => {
                        let both = floats(&run("sox", &[to, "-t", "raw", "-e", "float", "-b", "32", "-"]));
                        both.as_chunks::<2>().0.iter().map(|[left, right]| (left + right) / 2.0).collect()
                    }
                };
                let longer = theirs.len().checked_sub(ours.len());
                assert!(longer.is_some_and(|longer| longer <= surplus), "{to}: {} and {} samples", ours.len(), theirs.len());
                let differences = ours.iter().zip(&theirs).map(|(ours, theirs)| (ours - theirs).abs() * 32_768.0);
                let largest = differences.fold(0.0, f32::max);
                assert!(largest <= most, "{to}: differs by {largest} steps");
            }
        }
    }
}
