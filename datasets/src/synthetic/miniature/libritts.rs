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
    let mut chapters = CHAPTERS.map(|(subset, name, chapter)| (subset, name.to_owned(), chapter)).to_vec();
    chapters.extend((0..studio.options.more_speakers).map(|number| ("train-clean-100", format!("{}", 2_001 + number), "7")));
    for ((subset, name, chapter), speaker) in chapters.into_iter().zip(0..) {
        let (folder, stem) = (format!("LibriTTS/{subset}/{name}/{chapter}"), format!("{name}_{chapter}"));
        let mut table = String::new();
        for index in 0..4 * studio.takes_of(subset) {
            let id = format!("{stem}_000000_{index:06}");
            let varied = studio.written_sentence(speaker * 100 + index);
            let (original, normalised) = match SENTENCES.get(index as usize % 2) {
                Some(texts) if !studio.is_varied() || index < 4 => *texts,
                _ => (varied.as_str(), varied.as_str()),
            };
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
            let last = format!("{folder}/{stem}_000000_{:06}.WAV", 4 * studio.takes_of(subset));
            studio.clip(&last, 24_000, Line { speaker, take: 99, emotion: "neutral", text: "yes" })?;
            studio.debris(&format!("{folder}/{stem}_000000_000000.wav"))?;
        }
        studio.text(&format!("{folder}/{stem}.trans.tsv"), &table)?;
        studio.text(&format!("{folder}/{stem}.book.tsv"), "")?;
    }
    studio
        .text("LibriTTS/SPEAKERS.txt", ";ID | SEX | SUBSET | MINUTES | NAME\n103 | F | train-clean-100 | 30.12 | Karen Savage\n")
}
