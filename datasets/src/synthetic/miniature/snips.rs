//! Audio SNIPS, prepared: four voices or more read three sentences in each split, or variations of them.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

const VOICES: [&str; 16] = [
    "Ivy", "Joanna", "Aditi", "Brian", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli", "Amy", "Geraint", "Nicole",
    "Emma", "Raveena", "Russell",
];
/// Words, slots and intent.
const SENTENCES: [(&str, &str); 3] = [
    ("PLAY ROCK & MORE , PLEASE", "O genre O O O O PlayMusic"),
    ("WHAT IS THE WEATHER IN HAPPY HOUSE \u{201c}", "O O O O O city city O GetWeather"),
    ("A TABLE IN THE KITCHEN FOR TWO", "O O O O restaurant_type O party_size BookRestaurant"),
];

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    let mut table = "\u{feff}".to_owned();
    for (split, which) in ["train", "valid", "test"].into_iter().zip(0..) {
        for (voice, speaker) in VOICES.into_iter().zip(0..4 + studio.options.more_speakers) {
            for take in 0..studio.takes_of(split) {
                for ((words, slots), sentence) in SENTENCES.into_iter().zip(0..) {
                    let (words, slots) = if studio.is_varied() && take > 0 {
                        varied(sentence, take + speaker * 3 + which * 7)
                    } else {
                        (words.to_owned(), slots.to_owned())
                    };
                    let id = format!("{voice}-snips-{split}-{}", take * 3 + sentence);
                    let line = Line { speaker, take: which * 100 + take, emotion: "neutral", text: &words };
                    studio.clip(&format!("{split}/{id}.wav"), 16_000, line)?;
                    table.push_str(&format!("{id} BOS {words} EOS\tO {slots}\r\n"));
                }
            }
        }
        table.push_str(if split == "train" { "\r\n" } else { "" });
    }
    table.push_str(
        "\r\nIvy-snips-train-9 BOS PLAY EOS O O PlayMusic\r\n\
        Ivy-snips-train-9 BOS PLAY ROCK EOS\tO O PlayMusic\r\n\
        Ivy-snips-train-9 BOS PLAY EOS\tO O Dance\r\n\
        Ivy-snips-dev-9 BOS PLAY EOS\tO O PlayMusic\r\n\
        Ivy-snips-train-77 BOS PLAY EOS\tO O PlayMusic\r\n",
    );
    studio.text("all.iob.snips.txt", &table)?;
    studio.text("slots.txt", "O\r\ncity\r\ngenre\r\nrestaurant_type\r\n")?;
    studio.text("all-trans.txt", "another form, texts only\n")?;
    studio.text("train/Ivy-snips-train-88.wav", "")?;
    studio.text("test/notes.txt", "")?;
    studio.debris("train/Ivy-snips-train-0.wav")
}

/// One of the three sentences with other values in its slots.
fn varied(sentence: u32, number: u32) -> (String, String) {
    let pick = |values: &[&'static str]| values[number as usize % values.len()];
    match sentence {
        0 => (
            format!("PLAY {} MUSIC PLEASE", pick(&["ROCK", "HAPPY", "HOUSE", "DOG", "TREE"])),
            "O genre O O PlayMusic".to_owned(),
        ),
        1 => {
            let city = pick(&["HAPPY HOUSE", "MARVIN", "SHEILA", "VISUAL TREE", "SEVEN"]);
            let slots = "city ".repeat(city.split(' ').count());
            (format!("WHAT IS THE WEATHER IN {city}"), format!("O O O O O {slots}GetWeather"))
        }
        _ => {
            let (place, size) =
                (pick(&["KITCHEN", "HOUSE", "TREE"]), pick(&["TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "NINE"]));
            (format!("A TABLE IN THE {place} FOR {size}"), "O O O O restaurant_type O party_size BookRestaurant".to_owned())
        }
    }
}
