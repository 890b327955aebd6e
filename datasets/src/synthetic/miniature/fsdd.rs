//! FSDD: two speakers say three digits, 8 kHz.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

const DIGITS: [(&str, &str); 3] = [("0", "zero"), ("5", "five"), ("7", "seven")];

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    for (name, speaker) in ["jackson", "mary_ann"].into_iter().zip(0..) {
        for (digit, text) in DIGITS {
            // Indices of test, of dev (five each at most), and of train.
            let takes = studio.options.takes;
            for index in (0..takes.min(5)).chain(5..5 + takes.min(5)).chain(10..10 + takes) {
                let path = format!("recordings/{digit}_{name}_{index}.wav");
                studio.clip(&path, 8_000, Line { speaker, take: index, emotion: "neutral", text })?;
            }
        }
    }
    studio.text("recordings/12_theo_3.wav", "")?;
    studio.text("recordings/notes.txt", "")?;
    studio.debris("recordings/0_jackson_0.wav")
}
