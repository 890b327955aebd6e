//! Prepares one recording after the other as a 16 kHz WAV clip and prints its length, form and flags, or the reason why there is none.
//!
//! ```text
//! cargo run -p codec --example clip -- RECORDING...                  prints
//! cargo run -p codec --example clip -- --out FOLDER RECORDING...     writes FOLDER/0.wav, FOLDER/1.wav... too
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use codec::recording::{Format, Preparer, Target};

#[expect(clippy::print_stdout, reason = "an example talks to its user")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = None;
    if arguments.first().is_some_and(|first| first == "--out") {
        let folder = arguments.get(1).ok_or("expected a folder after --out")?;
        out = Some(PathBuf::from(folder));
        arguments.drain(..2);
    }
    let preparer = Preparer::new(Target { sample_rate: 16_000, format: Format::Wav });
    let mut preparer = preparer.with_ffmpeg(|| Some("ffmpeg".into()));
    for (number, path) in arguments.iter().enumerate() {
        match preparer.prepare(Path::new(path), None) {
            Ok(clip) => {
                let form = clip.source;
                let flags: Vec<&str> = clip.flags.iter().map(|flag| flag.text()).collect();
                let by = if clip.by_ffmpeg { ", decoded by ffmpeg" } else { "" };
                let kept = if clip.kept { ", bytes kept" } else { "" };
                let (container, rate, channels) = (form.container, form.sample_rate, form.num_channels);
                println!("{path}: {} samples; {container}, {rate} Hz, {channels} channels{by}{kept} {flags:?}", clip.num_samples);
                if let Some(out) = &out {
                    std::fs::write(out.join(format!("{number}.wav")), &clip.bytes)?;
                }
            }
            Err(reject) => println!("{path}: {reject}"),
        }
    }
    Ok(())
}
