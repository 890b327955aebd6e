//! Prepares recordings in memory, on one thread, and prints the speed.
//!
//! ```text
//! cargo run --release -p codec --example prepare_speed -- wav RECORDING...
//! ```
//!
//! Counted is decoding, resampling and encoding, without files, hashes and Parquet, in processor time: other work on the machine
//! does not count. Best of five rounds.

use std::error::Error;
use std::fs;

use codec::recording::{Format, Preparer, Target};

#[expect(clippy::print_stdout, reason = "an example talks to its user")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (format, paths) = arguments.split_first().ok_or("expected `wav` or `flac`, then recordings")?;
    let format = if format == "flac" { Format::Flac } else { Format::Wav };
    let files = paths.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
    let mut preparer = Preparer::new(Target { sample_rate: 16_000, format });
    let (mut fastest, mut num_samples, mut num_bytes) = (f64::INFINITY, 0, 0);
    for _ in 0..5 {
        (num_samples, num_bytes) = (0, 0);
        let begun = processor_secs()?;
        for file in &files {
            let clip = preparer.prepare_bytes(file.clone(), None)?;
            num_samples += clip.num_samples;
            num_bytes += clip.bytes.len();
        }
        fastest = fastest.min(processor_secs()? - begun);
    }
    let secs = num_samples as f64 / 16_000.0;
    let share = num_bytes as f64 / (2 * num_samples) as f64;
    println!("{secs:.0} s of audio: {:.0} times real time, {share:.3} of the size of PCM", secs / fastest);
    Ok(())
}

/// Returns the processor time of this thread (Linux: the first number of `schedstat`, in nanoseconds).
fn processor_secs() -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/schedstat")?;
    Ok(status.split(' ').next().ok_or("an empty schedstat")?.parse::<f64>()? / 1e9)
}
