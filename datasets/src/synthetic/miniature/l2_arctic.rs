//! L2-ARCTIC: four sentences each of three speakers, annotations of a few, and a story.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

const SENTENCES: [&str; 2] = ["Turn left, please.", "It\u{2019}s good, is it?"];
/// The folder of a speaker: the last is nested, as unpacking its own archive leaves it.
const SPEAKERS: [&str; 3] = ["ABA", "YDCK", "NJS/NJS"];
const MORE: [&str; 4] = ["EBVS", "THV", "TLV", "HKK"];

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    for (folder, speaker) in SPEAKERS.into_iter().chain(MORE).zip(0..3 + studio.options.more_speakers) {
        for index in 0..4 * studio.options.takes {
            let name = match (folder, index) {
                ("YDCK", 3) => "arctic_a0209".to_owned(),
                _ => format!("arctic_a{:04}", index + 1),
            };
            let text = if studio.is_varied() && index >= 4 {
                studio.written_sentence(index)
            } else {
                SENTENCES[index as usize % 2].to_owned()
            };
            let line = Line { speaker, take: index, emotion: "neutral", text: &text };
            studio.clip(&format!("{folder}/wav/{name}.wav"), 44_100, line)?;
            studio.text(&format!("{folder}/transcript/{name}.txt"), &format!("{text}\r\n"))?;
        }
    }
    let words = [("", 0.1), ("turn", 0.3), ("left", 0.3), ("please", 0.3)];
    let phones = ["sil", "T", "ER,AH,s", "N", "L", "EH", "F", "T", "P", "L", "IY", "Z"].map(|phone| (phone, 0.083));
    let whole = grid(&[("words", &words), ("phones", &phones), ("IPA", &[("", 1.0)])]);
    studio.text("ABA/annotation/arctic_a0001.TextGrid", &whole)?;
    studio.text("ABA/annotation/arctic_a0002.TextGrid", &grid(&[("words", &words)]))?;
    studio.text("ABA/annotation/arctic_a0003.TextGrid", &whole[..whole.rfind("text =").unwrap_or_default()])?;
    studio.text("YDCK/annotation/arctic_a0209.TextGrid", "broken")?;
    studio.text("ABA/transcript/arctic_a0099.txt", "Nobody says this.")?;
    studio.text("ABA/wav/notes.wav", "")?;
    let story = "Hello. What is it?";
    studio.clip("suitcase_corpus/wav/aba.wav", 44_100, Line { speaker: 0, take: 1_000, emotion: "neutral", text: story })?;
    studio.text("suitcase_corpus/transcript/aba.txt", story)?;
    studio.text("suitcase_corpus/wav/xyz.wav", "")?;
    studio.text("README.md", "A stand-in for the README of the real corpus.\n")?;
    studio.debris("ABA/wav/arctic_a0001.wav")
}

/// An annotation: tiers of texts that last so many seconds, one after the other.
fn grid(tiers: &[(&str, &[(&str, f64)])]) -> String {
    let mut text = "File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\nxmin = 0\nxmax = 1\ntiers? <exists>\n".to_owned();
    text.push_str(&format!("size = {}\nitem []:\n", tiers.len()));
    for (number, (name, intervals)) in (1..).zip(tiers) {
        text.push_str(&format!("    item [{number}]:\n        class = \"IntervalTier\"\n        name = \"{name}\"\n"));
        text.push_str(&format!("        xmin = 0\n        xmax = 1\n        intervals: size = {}\n", intervals.len()));
        let mut start = 0.0;
        for (number, (label, secs)) in (1..).zip(*intervals) {
            let end = start + secs;
            text.push_str(&format!(
                "        intervals [{number}]:\n            xmin = {start:.3}\n            xmax = {end:.3}\n"
            ));
            text.push_str(&format!("            text = \"{label}\"\n"));
            start = end;
        }
    }
    text
}
