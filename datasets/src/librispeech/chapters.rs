//! Folders `<subset>/<speaker>/<chapter>`, as LibriSpeech and LibriTTS have them.

use std::collections::BTreeMap;

use crate::folder::Kind;
use crate::place::{Place, Recordings};
use crate::{Annotation, CorpusError, Listing, Split, Utterance};

/// A folder of the corpus, and the split that it is.
pub(crate) type Subset = (&'static str, Split);

/// True if a path is in one of some subsets.
pub(crate) fn is_in(subsets: &[Subset], inner: &str) -> bool {
    inner.split_once('/').is_some_and(|(folder, _)| subsets.iter().any(|(subset, _)| *subset == folder))
}

/// One chapter read by one speaker.
pub(crate) struct Chapter<'a> {
    /// Relative to the corpus.
    pub(crate) folder: String,
    pub(crate) subset: Subset,
    speaker: &'a str,
    number: &'a str,
}

impl Chapter<'_> {
    /// Returns the common beginning of the names of the chapter's files.
    pub(crate) fn stem(&self, between: char) -> String {
        format!("{}{between}{}", self.speaker, self.number)
    }

    /// Lists the recordings of the chapter. Errors: a folder that cannot be listed.
    pub(crate) fn recordings(
        &self,
        place: &Place,
        extensions: &[&str],
        known: &[&str],
        listing: &mut Listing,
    ) -> Result<Recordings, CorpusError> {
        Recordings::read(place, &self.folder, 0, extensions, known, listing)
    }

    /// An utterance of it.
    pub(crate) fn utterance(
        &self,
        id: &str,
        path: String,
        transcript: Option<String>,
        genders: &BTreeMap<String, &'static str>,
    ) -> Utterance {
        let (subset, split) = self.subset;
        let mut utterance = Utterance {
            annotation: Annotation {
                speaker: Some(self.speaker.to_owned()),
                transcript: transcript.filter(|text| !text.is_empty()),
                ..Annotation::default()
            },
            ..Utterance::new(id, path, split)
        };
        utterance.tag("subset", subset);
        utterance.tag("chapter", self.number);
        utterance.tag("gender", genders.get(self.speaker).copied().unwrap_or_default());
        if utterance.annotation.transcript.is_none() {
            utterance.annotation.flags.push("no transcript".to_owned());
        }
        utterance
    }
}

/// Visits the chapters of a subset in order of name.
///
/// Errors: a folder that cannot be listed, or what `visit` says. A subset that is not there is noted as missing.
pub(crate) fn list_chapters(
    place: &Place,
    subset: Subset,
    listing: &mut Listing,
    mut visit: impl FnMut(&Place, &Chapter, &mut Listing) -> Result<(), CorpusError>,
) -> Result<(), CorpusError> {
    let (top, _) = subset;
    if !place.is_dir(top) {
        listing.missing(place.path(top), "a subset is not there");
        return Ok(());
    }
    for speaker in numbered(place, top, "speaker", listing)? {
        let folder = format!("{top}/{speaker}");
        for number in numbered(place, &folder, "chapter", listing)? {
            let chapter = Chapter { folder: format!("{folder}/{number}"), subset, speaker: &speaker, number: &number };
            visit(place, &chapter, listing)?;
        }
    }
    Ok(())
}

/// The folders of a folder that are numbers; anything else is skipped.
fn numbered(place: &Place, inner: &str, what: &str, listing: &mut Listing) -> Result<Vec<String>, CorpusError> {
    let mut found = Vec::new();
    for entry in place.entries(inner)? {
        if entry.kind == Kind::Folder && entry.name.bytes().all(|byte| byte.is_ascii_digit()) {
            found.push(entry.name);
        } else {
            listing.skip(place.path(&format!("{inner}/{}", entry.name)), format!("not the folder of a {what}"));
        }
    }
    Ok(found)
}

/// The genders of the speakers: `ID | SEX | SUBSET | MINUTES | NAME`, `;` begins a comment. Without the file there are none.
///
/// Errors: a file that cannot be read.
pub(crate) fn genders(place: &Place, inner: &str) -> Result<BTreeMap<String, &'static str>, CorpusError> {
    if !place.is_file(inner) {
        return Ok(BTreeMap::new());
    }
    Ok(parse_genders(&place.text(inner)?))
}

fn parse_genders(text: &str) -> BTreeMap<String, &'static str> {
    let rows = text.lines().filter(|line| !line.starts_with(';'));
    let gender = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        let (id, sex) = (fields.next()?, fields.next()?);
        let gender = match sex {
            "F" => "female",
            "M" => "male",
            _ => return None,
        };
        Some((id.to_owned(), gender))
    };
    rows.filter_map(gender).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_may_contain_a_bar() {
        let text = ";ID  |SEX| SUBSET\n14   | F | train-clean-360  | 25.03 | Kristin | LeMoine\r\n16 | M | x\n17 |?| x\n";
        assert_eq!(parse_genders(text), BTreeMap::from([("14".to_owned(), "female"), ("16".to_owned(), "male")]));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[0-9FM|; \n\\PC]{0,100}") {
            parse_genders(&text);
        }
    }
}
