//! Fluent Speech Commands: two speakers in each split, and more to train on, give six commands.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

const COMMANDS: [(&str, &str); 6] = [
    ("Turn on the lights", "activate,lights,none"),
    ("Turn on the lights, in the kitchen", "activate,lights,kitchen"),
    ("Play music", "activate,music,none"),
    ("Stop the music", "deactivate,music,none"),
    ("Louder, please", "increase,volume,none"),
    ("Turn down the heat", "decrease,heat,none"),
];
const SPLITS: [(&str, [&str; 2]); 3] = [("train", ["kLr0", "V4ej"]), ("valid", ["2ojo", "Xygv"]), ("test", ["ro5A", "7NEa"])];

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    for ((split, speakers), which) in SPLITS.into_iter().zip(0..) {
        let more = if split == "train" { studio.options.more_speakers } else { 0 };
        let speakers = speakers.map(str::to_owned).into_iter().chain((0..more).map(|number| format!("more{number:02}")));
        let mut table = ",path,speakerId,transcription,action,object,location\r\n".to_owned();
        for (name, index) in speakers.zip(0..) {
            let speaker = if index < 2 { which * 2 + index } else { 4 + index };
            for ((text, intent), command) in COMMANDS.into_iter().zip(0..) {
                for take in 0..studio.takes_of(split) {
                    let path = format!("wavs/speakers/{name}/u{command:03}-{take}");
                    let extension = if (name.as_str(), command) == ("V4ej", 2) { "WAV" } else { "wav" };
                    studio.clip(&format!("{path}.{extension}"), 16_000, Line { speaker, take, emotion: "neutral", text })?;
                    table.push_str(&format!("{command},{path}.wav,{name},\"{text}\",{intent}\r\n"));
                }
            }
        }
        if split == "valid" {
            table.push_str(
                "1,too few,fields\r\n\
                1,wavs/speakers/nobody/gone.wav,nobody,Gone,bring,socks,none\r\n\
                1,wavs/speakers/2ojo/u000-0.wav,2ojo,Play,activate,piano,none\r\n\
                1,../../etc/x.wav,2ojo,Play,activate,music,none\r\n\
                1,wavs/speakers/2ojo/u000-0.wav,2ojo,Bring,bring,lights,none\r\n\r\n",
            );
        }
        studio.text(&format!("data/{split}_data.csv"), &table)?;
    }
    studio.text("data/synthetic_data.csv", "other tables may be there\n")?;
    studio.text("readme.md", "A stand-in for the readme of the real corpus.\n")?;
    studio.text("wavs/speakers/kLr0/stray.wav", "")?;
    studio.debris("wavs/speakers/kLr0/u000-0.wav")
}
