//! FSDD: two speakers say three digits, more of them all ten, 8 kHz.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

const DIGITS: [(&str, &str); 3] = [("0", "zero"), ("5", "five"), ("7", "seven")];
const MORE_DIGITS: [(&str, &str); 7] =
    [("1", "one"), ("2", "two"), ("3", "three"), ("4", "four"), ("6", "six"), ("8", "eight"), ("9", "nine")];
const SPEAKERS: [&str; 6] = ["jackson", "mary_ann", "nicolas", "theo", "yweweler", "george"];

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    let more_digits = if studio.is_varied() { MORE_DIGITS.as_slice() } else { &[] };
    for (name, speaker) in SPEAKERS.into_iter().zip(0..2 + studio.options.more_speakers) {
        for &(digit, text) in DIGITS.iter().chain(more_digits) {
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
