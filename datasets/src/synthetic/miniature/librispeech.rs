//! LibriSpeech: two chapters or more to train on, one each for dev and test, and a lexicon of every word that is said. The
//! `.flac` files are WAV inside.

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
    let mut chapters = CHAPTERS.map(|(subset, name, chapter)| (subset, name.to_owned(), chapter)).to_vec();
    chapters.extend((0..studio.options.more_speakers).map(|number| ("train-clean-100", format!("{}", 2_001 + number), "7")));
    for ((subset, name, chapter), speaker) in chapters.into_iter().zip(0..) {
        let folder = format!("LibriSpeech/{subset}/{name}/{chapter}");
        let mut transcripts = String::new();
        for index in 0..4 * studio.takes_of(subset) {
            let id = format!("{name}-{chapter}-{index:04}");
            let text = if studio.is_varied() && index >= 4 {
                studio.sentence(speaker * 100 + index).to_uppercase()
            } else {
                SENTENCES[index as usize % 2].to_owned()
            };
            let line = Line { speaker, take: index, emotion: "neutral", text: &text };
            studio.clip(&format!("{folder}/{id}.flac"), 16_000, line)?;
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
    studio.text("lexicon.txt", &super::lexicon())?;
    studio.text("LibriSpeech/README.TXT", "A stand-in for the README of the real corpus.\n")
}
