//! LibriTTS: two chapters to train on, one each for dev and test.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

/// Original and normalised.
const SENTENCES: [(&str, &str); 2] =
    [("It's good, is it?", "It's good, is it?"), ("Turn left \u{2014} & stop!", "Turn left {and} stop!")];
const CHAPTERS: [(&str, &str, &str); 4] = [
    ("train-clean-100", "103", "1241"),
    ("train-clean-100", "1034", "121119"),
    ("dev-clean", "84", "121123"),
    ("test-clean", "121", "121726"),
];

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    for ((subset, name, chapter), speaker) in CHAPTERS.into_iter().zip(0..) {
        let (folder, stem) = (format!("LibriTTS/{subset}/{name}/{chapter}"), format!("{name}_{chapter}"));
        let mut table = String::new();
        for index in 0..4 * studio.options.takes {
            let (id, (original, normalised)) = (format!("{stem}_000000_{index:06}"), SENTENCES[index as usize % 2]);
            let line = Line { speaker, take: index, emotion: "neutral", text: original };
            studio.clip(&format!("{folder}/{id}.wav"), 24_000, line)?;
            studio.text(&format!("{folder}/{id}.original.txt"), original)?;
            studio.text(&format!("{folder}/{id}.normalized.txt"), normalised)?;
            if (speaker, index) != (0, 2) {
                table.push_str(&format!("{id}\t{original}\t{normalised}\n"));
            }
        }
        if speaker == 0 {
            table.push_str("no id\r\n\r\n103_1241_000000_000000\tAgain.\tAgain.\r\n103_1241_000099_000000\tGone.\tGone.\r\n");
            let last = format!("{folder}/{stem}_000000_{:06}.WAV", 4 * studio.options.takes);
            studio.clip(&last, 24_000, Line { speaker, take: 99, emotion: "neutral", text: "yes" })?;
            studio.debris(&format!("{folder}/{stem}_000000_000000.wav"))?;
        }
        studio.text(&format!("{folder}/{stem}.trans.tsv"), &table)?;
        studio.text(&format!("{folder}/{stem}.book.tsv"), "")?;
    }
    studio
        .text("LibriTTS/SPEAKERS.txt", ";ID | SEX | SUBSET | MINUTES | NAME\n103 | F | train-clean-100 | 30.12 | Karen Savage\n")
}
