//! The transcript file of one speaker.

use std::collections::BTreeMap;

use crate::place::Place;
use crate::text::{Fallback, decode, lines};
use crate::{CorpusError, Listing};

/// Names of the emotions in English and in Mandarin transcripts.
const EMOTIONS: [&str; 10] = ["Angry", "Happy", "Neutral", "Sad", "Surprise", "生气", "快乐", "中立", "伤心", "惊喜"];

/// Clip -> sentence.
#[derive(Debug, Default)]
pub(super) struct Transcripts {
    sentences: BTreeMap<String, (String, bool)>,
    /// The clip of the first line, if the file is UTF-16: SURE's code loses it.
    pub(super) lost: Option<String>,
}

impl Transcripts {
    /// Errors: a file that is there and cannot be read. One that is not there is noted as missing.
    pub(super) fn read(place: &Place, speaker: &str, listing: &mut Listing) -> Result<Self, CorpusError> {
        let name = format!("{speaker}/{speaker}.txt");
        if !place.is_file(&name) {
            listing.missing(place.path(&name), "the transcripts of a speaker are not there");
            return Ok(Self::default());
        }
        let bytes = place.bytes(&name)?;
        let text = decode(&bytes, if speaker <= "0010" { Fallback::Gbk } else { Fallback::Windows1252 });
        let mut found = Self::default();
        for (line, content) in lines(&text) {
            let Some((id, sentence)) = parse(content) else {
                listing.skip(format!("{}:{line}", place.path(&name)), "not a clip, a sentence and an emotion, parted by tabs");
                continue;
            };
            let is_first = found.sentences.is_empty();
            if found.sentences.contains_key(id) {
                listing.skip(format!("{}:{line}", place.path(&name)), format!("a second line of clip `{id}`"));
                continue;
            }
            if is_first && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")) {
                found.lost = Some(id.to_owned());
            }
            found.sentences.insert(id.to_owned(), (sentence.to_owned(), false));
        }
        Ok(found)
    }

    /// The sentence of a clip, noting that the clip was met.
    pub(super) fn take(&mut self, id: &str) -> Option<String> {
        let (sentence, met) = self.sentences.get_mut(id)?;
        *met = true;
        Some(sentence.clone()).filter(|sentence| !sentence.is_empty())
    }

    /// Notes the clips that were never met as missing.
    pub(super) fn report_left(&self, place: &Place, speaker: &str, listing: &mut Listing) {
        for (id, _) in self.sentences.iter().filter(|(_, (_, met))| !met) {
            let path = place.path(&format!("{speaker}/{id}.wav"));
            listing.missing(path, format!("`{speaker}.txt` names it, but it is in no folder of an emotion"));
        }
    }
}

/// The clip and the sentence of a line. A tab may be missing: then the first white space ends the clip, and an emotion at the
/// end is no part of the sentence.
fn parse(line: &str) -> Option<(&str, &str)> {
    let (id, rest) = line.trim().split_once(char::is_whitespace)?;
    let (speaker, number) = id.split_once('_')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(speaker) || !is_number(number) {
        return None;
    }
    let rest = rest.trim();
    let sentence = match rest.rsplit_once('\t') {
        Some((sentence, _)) => sentence,
        None => EMOTIONS.iter().find_map(|emotion| rest.strip_suffix(emotion)).unwrap_or(rest),
    };
    Some((id, sentence.trim()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_with_and_without_tabs_are_read() {
        let check = |line: &str, expected: Option<(&str, &str)>| assert_eq!(parse(line), expected, "{line:?}");
        check("0011_000351\tThe nine the eggs, I keep.\tAngry", Some(("0011_000351", "The nine the eggs, I keep.")));
        check("0012_001355 She said so.\tSad\r", Some(("0012_001355", "She said so.")));
        check("0015_000137\tShe said so. Neutral", Some(("0015_000137", "She said so.")));
        check("0001_000001\t打远一看\t中立", Some(("0001_000001", "打远一看")));
        check("0001_000001 打远一看中立", Some(("0001_000001", "打远一看")));
        check("0011_000351\t\tAngry", Some(("0011_000351", "")));
        check("0011_000351", None);
        check("hello world", None);
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "\\PC{0,40}|[0-9_\t A-z]{0,40}") {
            parse(&line);
        }
    }
}
