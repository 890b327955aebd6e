//! MELD: utterances of the TV series Friends in seven emotions, as MP4 clips.
//!
//! ```text
//! <root>/train_sent_emo.csv      Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime
//!                                1,also I was the point person,Chandler,neutral,neutral,0,0,8,21,"00:16:16,059","00:16:21,731"
//! <root>/train_splits/dia0_utt0.mp4     also dev_splits_complete/ and output_repeated_splits_test/
//! ```
//!
//! Version read: `MELD.Raw` with its inner archives unpacked, each folder where they put it or inside `train/`, `dev/`, `test/`;
//! and clips converted to WAV or FLAC, also directly in `train/`, `dev/`, `test/` as SURE has them. Licence: annotations GPL-3.0;
//! the clips are cut from a TV series, for research. Usable of the published rows: 9 988 train, 1 108 dev, 2 610 test.
//! Source: Poria et al. 2019, arXiv:1810.02508, and the issues of its repository.
//!
//! Dialogues are numbered anew in each split, so an id names the split: `train/dia0_utt0`. The times of a row are those in the
//! episode; here they only say how long a clip should be. Clips that are known to be cut wrongly, and dialogues out of step
//! with their text, are kept with a flag: the published test set has them, and so has every published figure. `meld-clean`
//! leaves out those whose sound is known not to be what the row says; its figures compare with nobody else's.

mod known;

use std::path::Path;

use crate::place::{Layout, MINIATURE, Place, Recordings};
use crate::text::{Header, Row, rows};
use crate::{Annotation, Cause, Corpus, CorpusError, Facts, Listing, Protocol, Split, Utterance};

const LAYOUT: Layout = Layout {
    corpus: "meld",
    expected: "`<split>_sent_emo.csv` and `dia<D>_utt<U>.mp4` in `train_splits/`, `dev_splits_complete/` and \
               `output_repeated_splits_test/`",
    outer: &["MELD.Raw/"],
};

/// The order of SURE.
const EMOTIONS: [&str; 7] = ["neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust"];
const CLEAN: &str = "meld-clean";

static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "meld",
        about: "seven emotions, all clips that can be decoded, splits as published",
        labels: &EMOTIONS,
        expected: Some([9_988, 1_108, 2_610]),
    },
    Protocol {
        name: CLEAN,
        about: "as meld, without clips known to be cut wrongly or out of step with their text",
        labels: &EMOTIONS,
        expected: None,
    },
];

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct Meld;

impl Corpus for Meld {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "MELD, emotions in dialogues of Friends, https://github.com/declare-lab/MELD"
    }
    fn licence(&self) -> &'static str {
        "annotations GPL-3.0; clips of a TV series, research use"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    fn wants(&self, _: &Protocol, path: &str) -> bool {
        let inner = LAYOUT.inner(path);
        path == MINIATURE
            || Split::ALL.into_iter().any(|split| {
                tables(split).iter().any(|table| inner == table)
                    || folders(split)
                        .iter()
                        .any(|folder| inner.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')))
            })
    }

    /// Classes are those of all rows: the emotions of the two rows without a usable clip are among them.
    fn facts(&self, protocol: &Protocol) -> Facts {
        const CLASSES: [(&str, [u64; 3]); 7] = [
            ("neutral", [4_710, 470, 1_256]),
            ("joy", [1_743, 163, 402]),
            ("sadness", [683, 111, 208]),
            ("anger", [1_109, 153, 345]),
            ("surprise", [1_205, 150, 281]),
            ("fear", [268, 40, 50]),
            ("disgust", [271, 22, 68]),
        ];
        let common = Facts { defects: &known::DEFECTS, shares_speakers: true, repeats_names: true, ..Facts::default() };
        if protocol.name == CLEAN {
            return common;
        }
        Facts { classes: &CLASSES, class_slack: 1, hours: Some([8.71, 0.96, 2.40]), ..common }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let marks: Vec<String> = Split::ALL.into_iter().flat_map(tables).collect();
        let place = LAYOUT.open(root, &marks.iter().map(String::as_str).collect::<Vec<_>>())?;
        let mut listing = Listing::default();
        for split in Split::ALL {
            match tables(split).into_iter().find(|table| place.is_file(table)) {
                None => listing.missing(place.path(&tables(split)[0]), "the table of a split is not there"),
                Some(table) => list_split(&place, split, &table, protocol, &mut listing)?,
            }
        }
        place.finish(listing, protocol)
    }
}

/// Where the table of a split may be.
fn tables(split: Split) -> [String; 3] {
    let [folder, ..] = folders(split);
    [format!("{split}_sent_emo.csv"), format!("{split}/{split}_sent_emo.csv"), format!("{folder}/{split}_sent_emo.csv")]
}

/// Where the clips of a split may be.
fn folders(split: Split) -> [String; 3] {
    let own = match split {
        Split::Train => "train_splits",
        Split::Dev => "dev_splits_complete",
        Split::Test => "output_repeated_splits_test",
    };
    [own.to_owned(), format!("{split}/{own}"), split.name().to_owned()]
}

fn list_split(place: &Place, split: Split, table: &str, protocol: &Protocol, listing: &mut Listing) -> Result<(), CorpusError> {
    let Some(folder) = folders(split).into_iter().find(|folder| place.is_dir(folder)) else {
        listing.missing(place.path(&folders(split)[0]), "the clips of a split are not there");
        return Ok(());
    };
    let mut clips = Recordings::read(place, &folder, 0, &["mp4", "wav", "flac"], &[".csv"], listing)?;
    let rows = rows(&place.text(table)?, b',');
    let Some((first, rows)) = rows.split_first() else { return Err(place.malformed(table, "it is empty".to_owned())) };
    let columns = Columns::find(first).map_err(|name| place.malformed(table, format!("its first row has no column `{name}`")))?;
    for row in rows {
        let parsed = match columns.parse(row) {
            Ok(parsed) => parsed,
            Err(reason) => {
                listing.skip(format!("{}:{}", place.path(table), row.line), reason);
                continue;
            }
        };
        let id = format!("{split}/{}", parsed.clip);
        let path = clips.take(&parsed.clip);
        let named = || path.clone().unwrap_or_else(|| place.path(&format!("{folder}/{}.mp4", parsed.clip)));
        let problem = known::problem(&id);
        match (&path, problem) {
            (_, Some(defect)) if !defect.kept => listing.skip_for(Cause::Known, named(), defect.problem),
            (_, Some(defect)) if protocol.name == CLEAN && known::WRONG.contains(&id.as_str()) => {
                listing.skip_for(Cause::Known, named(), defect.problem);
            }
            (_, None) if protocol.name == CLEAN && known::is_out_of_step(split, &parsed.dialogue) => {
                listing.skip_for(Cause::Known, named(), known::OUT_OF_STEP);
            }
            (None, _) => listing.missing(named(), format!("row {} of `{table}` names it, but there is no such clip", row.line)),
            (Some(path), problem) => {
                let mut utterance = parsed.utterance(id, path, split);
                utterance.annotation.flags.extend(problem.map(|defect| defect.problem.to_owned()));
                if known::is_out_of_step(split, &parsed.dialogue) {
                    utterance.annotation.flags.push(known::OUT_OF_STEP.to_owned());
                }
                listing.utterances.push(utterance);
            }
        }
    }
    for (clip, path) in clips.left() {
        if known::has_no_row(split, clip) {
            listing.skip_for(Cause::Known, path, known::WITHOUT_A_ROW);
        } else {
            listing.extra(path, format!("no row of `{table}` names it"));
        }
    }
    Ok(())
}

/// Where the columns are.
struct Columns {
    len: usize,
    /// Text, speaker, emotion, sentiment, dialogue, utterance.
    needed: [usize; 6],
    /// Season, episode, beginning, end.
    more: [Option<usize>; 4],
}

/// Fields of a row.
#[derive(Debug)]
struct Parsed {
    clip: String,
    dialogue: String,
    text: String,
    speaker: String,
    emotion: &'static str,
    tags: [(&'static str, String); 4],
    duration_ms: Option<u64>,
}

impl Columns {
    fn find(row: &Row) -> Result<Self, &'static str> {
        let header = Header::new(row);
        let needed = header.columns(["utterance", "speaker", "emotion", "sentiment", "dialogue_id", "utterance_id"])?;
        let more = ["season", "episode", "starttime", "endtime"].map(|name| header.column(name));
        Ok(Self { len: header.len(), needed, more })
    }

    fn parse(&self, row: &Row) -> Result<Parsed, String> {
        if row.fields.len() != self.len {
            return Err(format!("{} fields, expected {}", row.fields.len(), self.len));
        }
        let [text, speaker, emotion, sentiment, dialogue, number] = self.needed.map(|at| row.fields[at].trim().to_owned());
        let [season, episode, start, end] = self.more.map(|at| at.map_or("", |at| row.fields[at].trim()).to_owned());
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number(&dialogue) || !is_number(&number) {
            return Err(format!("dialogue `{dialogue}` and utterance `{number}` are not numbers"));
        }
        let Some(emotion) = EMOTIONS.into_iter().find(|known| *known == emotion) else {
            return Err(format!("emotion `{emotion}` is not one of the seven"));
        };
        let duration_ms = millis(&start).zip(millis(&end)).and_then(|(start, end)| end.checked_sub(start));
        let clip = format!("dia{dialogue}_utt{number}");
        let tags = [("sentiment", sentiment), ("dialogue", dialogue.clone()), ("season", season), ("episode", episode)];
        Ok(Parsed { clip, dialogue, text, speaker, emotion, tags, duration_ms })
    }
}

impl Parsed {
    fn utterance(&self, id: String, path: &str, split: Split) -> Utterance {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let mut utterance = Utterance {
            duration_ms: self.duration_ms,
            annotation: Annotation {
                label: Some(self.emotion.to_owned()),
                speaker: some(&self.speaker),
                transcript: some(&self.text),
                ..Annotation::default()
            },
            ..Utterance::new(id, path, split)
        };
        for (name, value) in &self.tags {
            utterance.tag(name, value);
        }
        if utterance.annotation.transcript.is_none() {
            utterance.annotation.flags.push("no transcript".to_owned());
        }
        utterance
    }
}

/// Milliseconds of `hh:mm:ss,mmm` or `h:mm:ss,mmm`.
fn millis(time: &str) -> Option<u64> {
    let (clock, millis) = time.split_once(',')?;
    let mut total = 0_u64;
    let mut parts = 0;
    for part in clock.split(':') {
        let part: u32 = part.parse().ok()?;
        total = total.checked_mul(60)?.checked_add(u64::from(part))?;
        parts += 1;
    }
    if parts != 3 || millis.len() != 3 {
        return None;
    }
    total.checked_mul(1_000)?.checked_add(u64::from(millis.parse::<u32>().ok()?))
}

#[cfg(test)]
mod tests;
