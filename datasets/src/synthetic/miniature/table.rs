//! A table of one's own: eight clips, and rows that are amiss.

use super::{Line, Studio};
use crate::synthetic::SynthesisError;

const TEXTS: [(&str, &str, &str); 4] =
    [("Yes, \u{201c}please\u{201d}", "yes", "train"), ("No", "no", "valid"), ("Stop!", "stop", "Test"), ("Yes", "yes", "train")];
const AMISS: &str = "clips/a 0.wav,train\r\n\
    clips/gone.wav,,train,yes,anna,Yes,\r\n\
    ../x.wav,,train,yes,anna,Yes,\r\n\
    clips/a 0.wav,again,eval,yes,anna,Yes,\r\n\
    ,,train,yes,anna,Yes,\r\n\r\n";

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    let mut table = "\u{feff}Path,Id,Split,Label,Speaker,Text,Room\r\n".to_owned();
    for take in 0..2 * studio.options.takes {
        for ((text, label, split), index) in TEXTS.into_iter().zip(0..) {
            let (number, speaker) = (take * 4 + index, take % (2 + studio.options.more_speakers.min(2)));
            let path = format!("clips/a {number}.wav");
            studio.clip(&path, 22_050, Line { speaker, take, emotion: "neutral", text })?;
            let id = if number == 0 { "first" } else { "" };
            let name = ["anna", "bob", "carl", "dora"][speaker as usize];
            table.push_str(&format!("{path},{id},{split},{label},{name},\"{text}\",kitchen\r\n"));
        }
    }
    studio.text("table.csv", &(table + AMISS))?;
    studio.text("clips/stray.wav", "")?;
    studio.debris("clips/a 0.wav")
}
