//! FLEURS, American English, in 32-bit floats as distributed: four sentences in each split, one of them with two readers. One row of test claims 20 s.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

/// Raw and normalised.
const SENTENCES: [(&str, &str); 3] = [
    ("\"It\u{2019}s good\", is it?", "it's good is it"),
    ("No \u{2014} stop.", "no stop"),
    ("Happy dog, happy cat!", "happy dog happy cat"),
];

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    for (split, first) in [("train", 1_001), ("dev", 2_001), ("test", 3_001)] {
        let mut table = String::new();
        let readers = if split == "train" { 4 + studio.options.more_speakers } else { 4 };
        for index in 0..readers * studio.takes_of(split) {
            let varied = studio.written_sentence(first + index);
            let plain = studio.sentence(first + index);
            let (raw, normalised) = match SENTENCES.get(if index % 4 == 2 { 0 } else { index as usize % 4 % 3 }) {
                Some(texts) if !studio.is_varied() || index < 4 => *texts,
                _ => (varied.as_str(), plain.as_str()),
            };
            let (sentence, name) = (if index % 4 == 2 { index - 1 } else { index + 1 }, first + index);
            let line = Line { speaker: first / 1_000 * 20 + index % readers, take: index, emotion: "neutral", text: raw };
            studio.clip_of_floats(&format!("data/en_us/audio/{split}/{name}.wav"), 16_000, line)?;
            let letters = normalised.replace(' ', "|").chars().map(String::from).collect::<Vec<_>>().join(" ");
            let num_samples = if (split, index) == ("test", 3) { 320_000 } else { 24_000 };
            let gender = ["FEMALE", "MALE", "OTHER"][index as usize % 3];
            table.push_str(&format!("{sentence}\t{name}.wav\t{raw}\t{normalised}\t{letters} |\t{num_samples}\t{gender}\r\n"));
        }
        if split == "train" {
            let name = first + readers * studio.takes_of(split);
            studio.clip_of_floats(
                &format!("data/en_us/audio/train/{name}.WAV"),
                16_000,
                Line { speaker: 0, take: 99, emotion: "", text: "yes" },
            )?;
            table.push_str(&format!("7\t{name}.wav\t\t\t\t16000\tMALE\r\n"));
            table.push_str("too\tfew\r\n8\t8.wav\ta\ta\ta\t16000\tMALE\r\n9\t9.wav\ta\ta\ta\tmany\tMALE\r\n");
            table.push_str("9\t../x.wav\ta\ta\ta\t16000\tMALE\r\n\r\n");
        }
        studio.text(&format!("data/en_us/{split}.tsv"), &table)?;
    }
    studio.text("data/en_us/audio/test/9.wav", "")?;
    studio.debris("data/en_us/audio/test/9.wav")
}
