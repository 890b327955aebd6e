//! LibriSpeech: two chapters to train on, one each for dev and test. The `.flac` files are WAV inside.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

const SENTENCES: [&str; 2] = ["IT'S GOOD IS IT", "TURN LEFT AND STOP"];
/// Subset, speaker, chapter.
const CHAPTERS: [(&str, &str, &str); 4] = [
    ("train-clean-100", "103", "1240"),
    ("train-clean-100", "1034", "121119"),
    ("dev-clean", "84", "121123"),
    ("test-clean", "121", "9"),
];
const SPEAKERS: &str = "; Some comments\n;ID  |SEX| SUBSET           |MINUTES| NAME\n\
    84   | F | dev-clean        |  8.02 | Christie Nowak\n\
    103  | F | train-clean-100  | 30.12 | Karen | Savage\n\
    121  | F | test-clean       |  8.13 | Nikolle Doolin\n\
    1034 | M | train-clean-100  | 25.11 | Kevin O'Coin\n";

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    for ((subset, name, chapter), speaker) in CHAPTERS.into_iter().zip(0..) {
        let folder = format!("LibriSpeech/{subset}/{name}/{chapter}");
        let mut transcripts = String::new();
        for index in 0..4 * studio.options.takes {
            let (id, text) = (format!("{name}-{chapter}-{index:04}"), SENTENCES[index as usize % 2]);
            studio.clip(&format!("{folder}/{id}.flac"), 16_000, Line { speaker, take: index, emotion: "neutral", text })?;
            transcripts.push_str(&format!("{id} {text}\n"));
        }
        if speaker == 0 {
            transcripts.push_str("NO ID\r\n\r\n103-1240-9998 NOT THERE\r\n");
            studio.text(&format!("{folder}/103-1240-9999.flac"), "")?;
            studio.text(&format!("{folder}/cover.jpg"), "")?;
            studio.debris(&format!("{folder}/103-1240-0000.flac"))?;
        }
        studio.text(&format!("{folder}/{name}-{chapter}.trans.txt"), &transcripts)?;
    }
    studio.text("LibriSpeech/train-clean-100/103/notes", "")?;
    studio.text("LibriSpeech/SPEAKERS.TXT", SPEAKERS)?;
    studio.text("LibriSpeech/README.TXT", "A stand-in for the README of the real corpus.\n")
}
