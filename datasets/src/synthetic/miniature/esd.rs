//! ESD: ten English and two Mandarin speakers. The Mandarin sentences are heard in English: the synthesiser has no Mandarin.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

/// In the order of the numbers.
const EMOTIONS: [(&str, &str); 5] =
    [("Neutral", "中立"), ("Angry", "生气"), ("Happy", "快乐"), ("Sad", "伤心"), ("Surprise", "惊喜")];
const SENTENCES: [(&str, &str); 2] = [("It\u{2019}s good, is it?", "很好"), ("Stop, please.", "停下")];
/// Of each emotion, per take: the first numbers of evaluation, of test, and three times as many of train.
const FIRST: [(&str, u32, u32); 3] = [("evaluation", 1, 1), ("test", 21, 1), ("train", 51, 3)];
/// Lines without a tab, a blank line, and one that says nothing.
const MALFORMED: &str = "0015";

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    let takes = studio.options.takes;
    for speaker in [1, 3].into_iter().chain(11..=20) {
        let name = format!("{speaker:04}");
        let mut transcript = String::new();
        for ((emotion, mandarin), block) in EMOTIONS.into_iter().zip(0..) {
            for (split, first, share) in FIRST {
                for index in 0..takes * share {
                    let number = block * 350 + first + index;
                    let (fixed, chinese) = SENTENCES[(number / 2 % 2) as usize];
                    let varied = studio.written_sentence(first + index);
                    let english = if studio.is_varied() && index >= share { varied.as_str() } else { fixed };
                    let path = path_of(&name, emotion, split, number);
                    studio.clip(&path, 16_000, Line { speaker, take: number, emotion, text: english })?;
                    let (sentence, emotion) = if speaker <= 10 { (chinese, mandarin) } else { (english, emotion) };
                    if (speaker, number) != (13, 1) {
                        let tab = if name == MALFORMED && index == 1 { ' ' } else { '\t' };
                        transcript.push_str(&format!("{name}_{number:06}{tab}{sentence}\t{emotion}\r\n"));
                    }
                    if name == MALFORMED && number == 1 {
                        transcript.push_str("no clip at all\r\n\r\n");
                    }
                }
            }
        }
        if speaker == 11 {
            transcript.push_str("0011_000399\tThere is no such clip.\tAngry\r\n\r\n");
        }
        studio.bytes(&format!("{name}/{name}.txt"), &encode(&transcript, speaker))?;
    }
    studio.text("ReadMe.txt", "A stand-in for the ReadMe of the real corpus.\n")?;
    studio.text("0011/Sad/Thumbs.db", "")?;
    studio.text("0011/Sad/train/hello.wav", "")?;
    studio.debris("0011/Sad/train/0011_001101.wav")
}

/// The last two speakers are in layout B, and one clip lies in the wrong folder.
fn path_of(speaker: &str, emotion: &str, split: &str, number: u32) -> String {
    let extension = if number == 21 && speaker == "0012" { "WAV" } else { "wav" };
    let file = format!("{speaker}_{number:06}.{extension}");
    match (speaker, number) {
        ("0019" | "0020", _) => format!("{speaker}/{emotion}/{file}"),
        ("0014", 351) => format!("{speaker}/{emotion}/test/{file}"),
        _ => format!("{speaker}/{emotion}/{split}/{file}"),
    }
}

/// The encodings of the real files, and UTF-8 with a mark besides.
fn encode(text: &str, speaker: u32) -> Vec<u8> {
    let utf16 = |bytes: fn(u16) -> [u8; 2]| "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(bytes).collect();
    match speaker {
        1 => encoding_rs::GBK.encode(text).0.into_owned(),
        16 | 17 => encoding_rs::WINDOWS_1252.encode(text).0.into_owned(),
        3 | 12 | 14 | 18 => utf16(u16::to_le_bytes),
        13 => utf16(u16::to_be_bytes),
        20 => format!("\u{feff}{text}").into_bytes(),
        _ => text.as_bytes().to_vec(),
    }
}
