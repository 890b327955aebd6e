//! IEMOCAP: six turns of a dialog in each of five sessions. Transcripts are windows-1252.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

const SENTENCES: [&str; 2] = ["No, no more.", "It\u{2019}s good\u{2026}"];
const EMOTIONS: [&str; 6] = ["neu", "hap", "ang", "sad", "exc", "xxx"];

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    for session in 1..=5 {
        let (base, dialog) = (format!("IEMOCAP_full_release/Session{session}"), format!("Ses{session:02}F_impro01"));
        let mut labels = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\r\n\r\n".to_owned();
        let mut transcripts = String::new();
        for index in 0..6 * studio.options.takes {
            let (emotion, actor) = (EMOTIONS[index as usize % 6], ["M", "F"][index as usize % 2]);
            let (turn, text) = (format!("{dialog}_{actor}{index:03}"), SENTENCES[index as usize % 2]);
            let line = Line { speaker: session * 2 + index % 2, take: index, emotion, text };
            studio.clip(&format!("{base}/sentences/wav/{dialog}/{turn}.wav"), 16_000, line)?;
            let times = format!("[{index}.0000 - {index}{}]", if index % 2 == 0 { ".5000" } else { ".9999" });
            let times = if index == 1 { "[6.2500 - 7.5000]".to_owned() } else { times };
            labels.push_str(&format!("{times}\t{turn}\t{emotion}\t[2.5000, 2.5000, 3.0000]\r\nC-E1:\tNeutral;\t()\r\n"));
            if (session, index) != (3, 0) {
                transcripts.push_str(&format!("{turn} [006.2500-007.5000]: {text}\r\n"));
            }
        }
        if session == 2 {
            labels = labels.trim_end_matches("C-E1:\tNeutral;\t()\r\n").to_owned();
            labels.push_str("[1.0 - 2.0]\ttoo few\r\n");
            labels.push_str(&format!("[1.0 - 2.0]\t{dialog}_F998\tneu\t[2.5000, 2.5000, 3.0000]\r\n\r\n"));
            studio.text(&format!("{base}/sentences/wav/{dialog}/{dialog}_F999.wav"), "")?;
        }
        transcripts.push_str("M: an aside without a turn\r\n");
        studio.text(&format!("{base}/dialog/EmoEvaluation/{dialog}.txt"), &labels)?;
        studio.text(&format!("{base}/dialog/EmoEvaluation/Categorical/{dialog}_e1_cat.txt"), "one annotator\n")?;
        let transcripts = encoding_rs::WINDOWS_1252.encode(&transcripts).0.into_owned();
        studio.bytes(&format!("{base}/dialog/transcriptions/{dialog}.txt"), &transcripts)?;
        studio.debris(&format!("{base}/dialog/EmoEvaluation/{dialog}.txt"))?;
        studio.debris(&format!("{base}/sentences/wav/{dialog}/{dialog}_M000.wav"))?;
    }
    Ok(())
}
