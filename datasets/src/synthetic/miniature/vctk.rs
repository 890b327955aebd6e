//! VCTK: ten or eleven sentences each of three speakers, both microphones of 0.92 and the tree of 0.80, and the speakers that
//! no protocol has. The `.flac` files are WAV inside.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

const SENTENCES: [&str; 2] = ["Please, go left.", "No, it\u{2019}s not."];
/// Name, recordings, whether there are texts, a second microphone, a recording in 0.80.
const SPEAKERS: [(&str, u32, bool, bool, bool); 6] = [
    ("p225", 10, true, true, true),
    ("p226", 10, true, true, true),
    ("p280", 2, true, false, true),
    ("p315", 2, false, true, true),
    ("p376", 11, true, true, false),
    ("s5", 2, true, true, false),
];
const INFO: &str = "ID  AGE  GENDER  ACCENTS  REGION COMMENTS \n\
    p225  23  F    English    Southern  England\n\
    p226  22  M    English    Surrey (a comment, as some have)\n\
    p280  25  F    French     France \n\
    p315  18  M    American   New England\n\
    p376  22  M    Indian\n\
    s5    26  F    British\n";

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    let takes = studio.options.takes;
    let more = (227..).take(studio.options.more_speakers as usize).map(|number| (format!("p{number}"), 10, true, true, false));
    let speakers = SPEAKERS.map(|(name, count, texts, second, old)| (name.to_owned(), count, texts, second, old));
    for ((name, count, has_texts, has_second, in_old), speaker) in speakers.into_iter().chain(more).zip(0..) {
        let count = if count > 2 { count + 10 * (takes - 1) } else { count };
        for number in 1..=count {
            let stem = format!("{name}_{number:03}");
            let text = if studio.is_varied() && number > 11 {
                studio.written_sentence(number)
            } else {
                SENTENCES[(number as usize - 1) % 2].to_owned()
            };
            let line = Line { speaker, take: number, emotion: "neutral", text: &text };
            let mut paths = vec![format!("wav48_silence_trimmed/{name}/{stem}_mic1.flac")];
            if has_second && number != 11 {
                paths.push(format!("wav48_silence_trimmed/{name}/{stem}_mic2.flac"));
            }
            if in_old {
                paths.push(format!("wav48/{name}/{stem}.wav"));
            }
            for (path, microphone) in paths.iter().zip(0..) {
                studio.clip(path, 48_000, Line { take: number * 10 + microphone, ..line })?;
            }
            if has_texts && number != 11 {
                studio.text(&format!("txt/{name}/{stem}.txt"), &format!("{text}\r\n"))?;
            }
        }
    }
    studio.text("speaker-info.txt", INFO)?;
    studio.text("wav48_silence_trimmed/log.txt", "")?;
    studio.text("txt/p225/p225_999.txt", "Nobody says this.\n")?;
    for name in ["p226_hello_mic1", "p999_001_mic1"] {
        studio.text(&format!("wav48_silence_trimmed/p226/{name}.flac"), "")?;
    }
    studio.debris("wav48_silence_trimmed/p225/p225_001_mic1.flac")?;
    studio.debris("txt/p225/p225_001.txt")
}
