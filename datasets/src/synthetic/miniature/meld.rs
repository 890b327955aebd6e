//! MELD: one clip of each emotion in each split, and what is known to be wrong. The `.mp4` files are WAV inside.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

const HEADER: &str = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime";
const EMOTIONS: [(&str, &str); 7] = [
    ("neutral", "neutral"),
    ("joy", "positive"),
    ("sadness", "negative"),
    ("anger", "negative"),
    ("surprise", "positive"),
    ("fear", "negative"),
    ("disgust", "negative"),
];
const SPEAKERS: [&str; 6] = ["Chandler", "Joey", "Monica", "Phoebe", "Rachel", "Ross"];
const SENTENCES: [&str; 2] = ["No, not \u{2014} no.", "It\u{2019}s good\u{2026} \u{201c}more\u{201d}, please!"];
const SPLITS: [(&str, &str); 3] =
    [("train", "train_splits"), ("dev", "dev_splits_complete"), ("test", "output_repeated_splits_test")];

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    for ((split, folder), which) in SPLITS.into_iter().zip(0..) {
        let mut table = format!("{HEADER}\r\n");
        let num_speakers = SPEAKERS.len().min(2 + studio.options.more_speakers as usize) as u32;
        let speaker_of =
            |dialogue: &str, number: u32| (dialogue.parse::<u32>().unwrap_or(0) * (num_speakers - 2) + number) % num_speakers;
        let row = |dialogue: &str, number: u32, (emotion, sentiment): (&str, &str), end: &str| {
            let (speaker, text) =
                (SPEAKERS[speaker_of(dialogue, number) as usize], SENTENCES[number as usize % 2].replace('"', "\"\""));
            let times = format!("\"00:16:16,000\",\"{end}\"");
            format!("1,\"{text}\",{speaker},{emotion},{sentiment},{dialogue},{number},8,21,{times}\r\n")
        };
        for dialogue in 0..studio.takes_of(split) {
            for (number, emotion) in (0..).zip(EMOTIONS) {
                let extension = if (split, number) == ("dev", 2) { "MP4" } else { "mp4" };
                let path = format!("{folder}/dia{dialogue}_utt{number}.{extension}");
                let line = Line {
                    speaker: speaker_of(&dialogue.to_string(), number),
                    take: which * 1_000 + dialogue * 10 + number,
                    emotion: emotion.0,
                    text: SENTENCES[number as usize % 2],
                };
                studio.clip(&path, 48_000, line)?;
                table.push_str(&row(
                    &dialogue.to_string(),
                    number,
                    emotion,
                    if number % 2 == 0 { "0:16:17,000" } else { "00:16:17,250" },
                ));
            }
        }
        let neutral = EMOTIONS[0];
        let mut special = |name: &str| {
            let line = Line { speaker: 0, take: which, emotion: "neutral", text: SENTENCES[0] };
            studio.clip(&format!("{folder}/{name}.mp4"), 48_000, line)
        };
        match split {
            "train" => {
                special("dia125_utt3")?;
                special("dia241_utt0")?;
                table.push_str(&row("125", 3, neutral, "0:16:17,000"));
                table.push_str(&row("241", 0, neutral, "0:16:17,000"));
            }
            "dev" => {
                special("dia49_utt4")?;
                table.push_str(&row("110", 7, neutral, "0:16:17,000"));
                table.push_str(&row("9", 9, neutral, "0:16:17,000"));
                table.push_str("too,few,fields\r\n");
                table.push_str(&row("10", 0, ("bored", "neutral"), ""));
                table.push_str(&row("x", 0, neutral, ""));
            }
            _ => {
                special("dia38_utt4")?;
                special("final_videos_testdia0_utt0")?;
                special("dia9_utt8")?;
                table.push_str(&row("38", 4, neutral, "0:21:21,000"));
            }
        }
        studio.text(&format!("{split}_sent_emo.csv"), &table)?;
        studio.debris(&format!("{folder}/dia0_utt0.mp4"))?;
    }
    studio.text("README.txt", "A stand-in for the README of the real corpus.\n")
}
