//! Columns of a table by their names: which one says what.

use serde::{Deserialize, Serialize};

/// Columns that a user names, where their names are not among the usual ones, or another one is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnNames {
    /// Column of the recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Columns of the class. With several, each is a group of its own, and the label joins their values with `|`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label: Vec<String>,
    /// Column of the speakers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<String>,
    /// Column of the transcripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Column of the splits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Column of the begin of a stretch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Column of the end of a stretch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Column of the duration of a stretch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Columns that are tags, whatever their names look like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<String>,
}

impl ColumnNames {
    /// True if no column is named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Meanings of a column, in the order of reports, with the names it is known by. The first name found is used.
pub const ACCEPTED: [(&str, &[&str]); 6] =
    [("path", PATHS), ("label", LABELS), ("speaker", SPEAKERS), ("text", TEXTS), ("split", SPLITS), ("id", IDS)];
const PATHS: &[&str] = &[
    "path",
    "file_name",
    "filename",
    "file",
    "filepath",
    "file_path",
    "audio",
    "audio_filepath",
    "audio_file_path",
    "audio_path",
    "audiopath",
    "audio_file",
    "audio_filename",
    "audio_file_name",
    "wav",
    "wav_path",
    "wavpath",
    "wav_file",
    "wav_filename",
    "wav_filepath",
    "recording",
    "recording_path",
    "recording_file",
    "clip",
    "clip_path",
    "sound",
    "sound_file",
    "sound_path",
    "relative_path",
    "uri",
];
const LABELS: &[&str] = &[
    "label",
    "class",
    "category",
    "emotion",
    "keyword",
    "intent",
    "command",
    "label_name",
    "class_name",
    "class_label",
    "target",
];
const SPEAKERS: &[&str] = &[
    "speaker",
    "speaker_id",
    "speakerid",
    "spk",
    "spk_id",
    "client_id",
    "speaker_name",
    "user_id",
    "user",
    "reader",
    "reader_id",
    "talker",
    "participant",
    "participant_id",
    "actor",
];
const TEXTS: &[&str] = &[
    "text",
    "transcript",
    "transcription",
    "sentence",
    "raw_text",
    "raw_transcript",
    "raw_transcription",
    "text_raw",
    "orthography",
    "utterance",
];
const NORMALISED: &[&str] = &[
    "normalised",
    "normalized",
    "normalised_text",
    "normalized_text",
    "text_normalised",
    "text_normalized",
    "norm_text",
    "text_norm",
    "normalised_transcript",
    "normalized_transcript",
    "normalised_transcription",
    "normalized_transcription",
];
const SPLITS: &[&str] = &["split", "data_split", "dataset_split", "partition", "subset", "set"];
const IDS: &[&str] = &["id", "utt_id", "utterance_id", "uttid", "utt", "key", "audio_id", "clip_id", "sample_id"];

/// Unit of a column of times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unit {
    /// Seconds per unit; texts such as `1:02.5` are read too.
    Secs(f64),
    /// Samples at the recording's own rate.
    Samples,
}

/// A column of times.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TimeColumn {
    pub(super) name: String,
    pub(super) unit: Unit,
}

/// Columns of one table.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) path: String,
    pub(super) id: Option<String>,
    pub(super) split: Option<String>,
    pub(super) labels: Vec<String>,
    pub(super) speaker: Option<String>,
    pub(super) text: Option<String>,
    pub(super) normalised: Option<String>,
    /// Begins, ends and durations: at most one in seconds and one in samples each.
    pub(super) starts: Vec<TimeColumn>,
    pub(super) ends: Vec<TimeColumn>,
    pub(super) durations: Vec<TimeColumn>,
    pub(super) tags: Vec<String>,
}

/// A column as a table has it.
pub(super) struct Found<'a> {
    /// Name as the table has it.
    pub(super) name: &'a str,
    /// Some of its values that are not empty.
    pub(super) values: Vec<&'a str>,
}

impl Columns {
    /// Decides which column says what. `audio` is the column of recordings that are in the table.
    ///
    /// Errors: a column that is named and missing; no column of recordings; two columns with one meaning; a column that looks
    /// like a time range and is not understood.
    pub(super) fn choose(found: &[Found], names: &ColumnNames, audio: Option<&str>) -> Result<Self, String> {
        let mut free: Vec<(&str, String)> = found.iter().map(|column| (column.name, normal(column.name))).collect();
        let mut tags = Vec::new();
        for tag in &names.tag {
            let at = position(&free, tag, "--tag")?;
            tags.push(free.remove(at).0.to_owned());
        }
        let mut columns = Self::default();
        let named = |name: &Option<String>, option, free: &mut Vec<(&str, String)>| match name {
            None => Ok(None),
            Some(name) => position(free, name, option).map(|at| Some(free.remove(at).0.to_owned())),
        };
        // Named columns first, so that none of them is taken for something else.
        let path = named(&names.path, "--path", &mut free)?;
        let own_times = [
            named(&names.start, "--start", &mut free)?,
            named(&names.end, "--end", &mut free)?,
            named(&names.duration, "--duration", &mut free)?,
        ];
        for label in &names.label {
            columns.labels.extend(named(&Some(label.clone()), "--label", &mut free)?);
        }
        // A class may also be the speaker, or the word that is said.
        let also = |name: &Option<String>| {
            columns.labels.iter().find(|label| name.as_deref().is_some_and(|name| is_named(label, name))).cloned()
        };
        let (is_speaker, is_text) = (also(&names.speaker), also(&names.text));
        columns.speaker = is_speaker.map_or_else(|| named(&names.speaker, "--speaker", &mut free), |label| Ok(Some(label)))?;
        columns.text = is_text.map_or_else(|| named(&names.text, "--text", &mut free), |label| Ok(Some(label)))?;
        columns.split = named(&names.split, "--split", &mut free)?;

        let known = |accepted: &[&str], free: &mut Vec<(&str, String)>| {
            let at = accepted.iter().find_map(|name| free.iter().position(|(_, normal)| normal == name))?;
            Some(free.remove(at).0.to_owned())
        };
        let own = audio.and_then(|audio| free.iter().position(|(name, _)| *name == audio)).map(|at| free.remove(at).0.to_owned());
        let Some(path) = path.or(own).or_else(|| known(PATHS, &mut free)) else { return Err(no_path(found)) };
        columns.path = path;
        columns.id = known(IDS, &mut free);
        if columns.labels.is_empty() {
            columns.labels.extend(known(LABELS, &mut free));
        }
        columns.speaker = columns.speaker.or_else(|| known(SPEAKERS, &mut free));
        columns.normalised = known(NORMALISED, &mut free);
        if columns.text.is_none() {
            // With both forms, the raw one is what was distributed.
            let raw = ["text", "transcript", "transcription"].into_iter().find(|name| {
                let has = |name: &str| free.iter().any(|(_, normal)| normal == name);
                has(name) && has(&format!("raw_{name}"))
            });
            if let (Some(name), None) = (raw, &columns.normalised) {
                columns.normalised = known(&[name], &mut free);
                columns.text = known(&[&format!("raw_{name}")], &mut free);
            } else {
                columns.text = known(TEXTS, &mut free);
            }
        }
        if columns.split.is_none() {
            // `set`, `subset` and the like may be something else.
            let splits_only = |name: &str| {
                let column = found.iter().find(|column| normal(column.name) == name);
                column.is_some_and(|column| column.values.iter().all(|value| super::split_named(value).is_some()))
            };
            let accepted: Vec<&str> =
                SPLITS.iter().copied().filter(|name| name.ends_with("split") || splits_only(name)).collect();
            columns.split = known(&accepted, &mut free);
        }
        if columns.split.is_none() {
            // Of any name, if it contains nothing but names of splits.
            let is_split = |name: &str| {
                let values = found.iter().find(|column| column.name == name).map_or(&[][..], |column| &column.values);
                !values.is_empty() && values.iter().all(|value| super::split_named(value).is_some())
            };
            columns.split = free.iter().position(|(name, _)| is_split(name)).map(|at| free.remove(at).0.to_owned());
        }
        columns.choose_times(found, own_times, &mut free)?;
        columns.tags = free.into_iter().map(|(name, _)| name.to_owned()).chain(tags).collect();
        columns.tags.sort();
        Ok(columns)
    }

    fn choose_times<'a>(
        &mut self,
        found: &[Found<'a>],
        named: [Option<String>; 3],
        free: &mut Vec<(&'a str, String)>,
    ) -> Result<(), String> {
        let has_base = |base: Base| free.iter().any(|(_, normal)| base_of(normal).is_some_and(|(found, _)| found == base));
        let (has_onset, has_to) = (has_base(Base::Onset), has_base(Base::From) && has_base(Base::To));
        let has_start = has_base(Base::Start) || has_onset || has_base(Base::Offset) || named[0].is_some();
        let [own_start, own_end, own_duration] = named;
        let is_own = [own_start.is_some(), own_end.is_some(), own_duration.is_some()];
        let mut chosen: [Vec<TimeColumn>; 3] = [own_start, own_end, own_duration].map(|name| {
            let column = |name: String| TimeColumn { unit: unit_of(&normal(&name)).unwrap_or(Unit::Secs(1.0)), name };
            name.map(column).into_iter().collect()
        });
        let mut taken = Vec::new();
        for (name, normal) in free.iter() {
            let values = found.iter().find(|column| column.name == *name).map_or(&[][..], |column| &column.values);
            // A value that is no time is a mistake of its row, unless most are none.
            let num_times = values.iter().filter(|value| super::times::is_time(value)).count();
            let is_time = num_times > 0 && num_times * 2 >= values.len();
            let known = base_of(normal);
            let is_certain = known.is_some_and(|(base, _)| !matches!(base, Base::From | Base::To | Base::Length));
            if is_certain
                && !is_time
                && let Some(value) = values.iter().find(|value| value.bytes().any(|byte| byte.is_ascii_digit()))
            {
                return Err(no_time(name, value));
            }
            let known = known.filter(|_| is_time || values.is_empty());
            let role = known.and_then(|(base, unit)| {
                let role = match base {
                    Base::Offset if has_onset => 1,
                    Base::Start | Base::Onset | Base::Offset => 0,
                    Base::End => 1,
                    Base::From if has_to => 0,
                    Base::To if has_to => 1,
                    Base::Duration => 2,
                    Base::Length if has_start => 2,
                    Base::From | Base::To | Base::Length => return None,
                };
                Some((role, unit))
            });
            match role {
                Some((role, Some(unit))) if !is_own[role] => {
                    let is_samples = unit == Unit::Samples;
                    if let Some(first) = chosen[role].iter().find(|column| (column.unit == Unit::Samples) == is_samples) {
                        let (what, option) = [("begin", "--start"), ("end", "--end"), ("duration", "--duration")][role];
                        return Err(format!(
                            "columns `{}` and `{name}` both look like the {what} of a stretch: name one of them with {option} and the \
                             other with --tag",
                            first.name
                        ));
                    }
                    chosen[role].push(TimeColumn { name: (*name).to_owned(), unit });
                    taken.push(*name);
                }
                Some((_, None)) => return Err(not_understood(name, "counts frames of an unknown length")),
                None if is_time && looks_like_range(normal) => return Err(not_understood(name, "looks like a time range")),
                None if !values.is_empty()
                    && values.iter().all(|value| super::times::is_range(value))
                    && could_be_range(normal) =>
                {
                    return Err(not_understood(name, "looks like a time range"));
                }
                Some(_) | None => {}
            }
        }
        free.retain(|(name, _)| !taken.contains(name));
        [self.starts, self.ends, self.durations] = chosen;
        // With an end, a duration may be that of anything.
        if !self.ends.is_empty() {
            let spare = self.durations.extract_if(.., |column| !is_own[2] && column.unit != Unit::Samples);
            let spare: Vec<String> = spare.map(|column| column.name).collect();
            free.extend(
                found.iter().filter(|column| spare.iter().any(|name| name == column.name)).map(|c| (c.name, normal(c.name))),
            );
        }
        Ok(())
    }

    /// Tag whose name says that it chooses a channel.
    pub(super) fn channel(&self) -> Option<&str> {
        const CHANNELS: [&str; 4] = ["channel", "channel_id", "channel_selector", "audio_channel"];
        self.tags.iter().find(|name| CHANNELS.contains(&normal(name).as_str())).map(String::as_str)
    }

    /// One line that says what each column is used for.
    pub(super) fn report(&self, table: &str, left_out: &[String]) -> String {
        let mut parts = Vec::new();
        let mut add = |what: &str, names: Vec<&String>| {
            if !names.is_empty() {
                let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
                parts.push(format!("{what} {}", names.join(", ")));
            }
        };
        let times = |columns: &'_ [TimeColumn]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let (starts, ends, durations) = (times(&self.starts), times(&self.ends), times(&self.durations));
        add("recording:", vec![&self.path]);
        add("id:", self.id.iter().collect());
        add("label:", self.labels.iter().collect());
        add("speaker:", self.speaker.iter().collect());
        add("text:", self.text.iter().collect());
        add("normalised text:", self.normalised.iter().collect());
        add("split:", self.split.iter().collect());
        add("begin:", starts.iter().collect());
        add("end:", ends.iter().collect());
        add("duration:", durations.iter().collect());
        add("tags:", self.tags.iter().collect());
        add("left out:", left_out.iter().collect());
        format!("columns of {table}: {}", parts.join("; "))
    }
}

fn not_understood(name: &str, what: &str) -> String {
    format!(
        "column `{name}` {what} and is not understood: name it with --start, --end or --duration (seconds, or samples if its name \
         ends in `_samples`), or with --tag if it is none"
    )
}

fn no_time(name: &str, value: &str) -> String {
    format!(
        "column `{name}` looks like a time range, and `{}` is no time: write seconds with a decimal point, such as 1.5, or \
         0:01:02.5; name the column with --tag if it is none",
        value.escape_debug()
    )
}

/// True if a user who writes `name` means this column.
fn is_named(column: &str, name: &str) -> bool {
    normal(column) == normal(name.trim())
}

/// Position of a column that a user names.
fn position(free: &[(&str, String)], name: &str, option: &str) -> Result<usize, String> {
    let wanted = name.trim().to_lowercase();
    let at = free
        .iter()
        .position(|(column, _)| column.to_lowercase() == wanted)
        .or_else(|| free.iter().position(|(_, own)| *own == normal(&wanted)));
    at.ok_or_else(|| {
        let columns: Vec<_> = free.iter().map(|(column, _)| format!("`{}`", column.escape_debug())).collect();
        format!("no column `{name}` ({option}); the columns are {}", columns.join(", "))
    })
}

fn no_path(found: &[Found]) -> String {
    let columns = found.iter().map(|column| format!("`{}`", column.name.escape_debug())).collect::<Vec<_>>().join(", ");
    let is_one = found.len() == 1 && found[0].name.contains([';', ',', '\t', '|']);
    let hint = if is_one { "; fields are separated by commas in .csv, by tabs in .tsv" } else { "" };
    let advice = join_first(found).unwrap_or_else(|| "name it with --path".to_owned());
    format!(
        "no column `path` (or `{}` and others, see `sure list table`) says where the recordings are, found {columns}{hint}; {advice}",
        PATHS[1..5].join("`, `")
    )
}

/// Advice for one of two tables that belong together: recordings, and what is said in them; none for other tables.
fn join_first(found: &[Found]) -> Option<String> {
    const REFERENCES: [&str; 6] = ["recording_id", "record_id", "rec_id", "reco_id", "file_id", "media_id"];
    const PARTS_OF_LHOTSE: [&[&str]; 2] =
        [&["sources", "sampling_rate"], &["id", "recording_id", "start", "duration", "channel"]];
    let has = |name: &&str| found.iter().any(|column| normal(column.name) == **name);
    if PARTS_OF_LHOTSE.iter().any(|part| part.iter().all(has)) {
        return Some(format!("{LHOTSE}, and name `cuts.jsonl`"));
    }
    let reference = found.iter().find(|column| REFERENCES.contains(&normal(column.name).as_str()))?;
    let name = reference.name.escape_debug();
    Some(format!(
        "`{name}` seems to refer to a table of recordings: join the two into one table, in which every row has the path of its \
         recording; if `{name}` itself names the files, --path {name}"
    ))
}

/// Advice for manifests of lhotse that are no cuts.
pub(super) const LHOTSE: &str = "lhotse keeps recordings and supervisions apart: join them with `lhotse cut simple -r RECORDINGS -s \
                                 SUPERVISIONS cuts.jsonl`";

/// True if one of the names is that of a column of recordings.
pub(super) fn has_path(names: &[String]) -> bool {
    names.iter().any(|name| PATHS.contains(&normal(name).as_str()))
}

/// Name in lower case with `_` between its words: `audioFilePath`, `Audio File-Path` and `audio_file_path` are one.
pub(super) fn normal(name: &str) -> String {
    let mut words = String::new();
    let mut was_lower = false;
    for letter in name.chars() {
        if letter.is_alphanumeric() {
            if letter.is_uppercase() && was_lower {
                words.push('_');
            }
            words.extend(letter.to_lowercase());
            was_lower = letter.is_lowercase() || letter.is_numeric();
        } else {
            if !words.ends_with('_') {
                words.push('_');
            }
            was_lower = false;
        }
    }
    words.trim_matches('_').to_owned()
}

/// Meaning of a column of times by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Start,
    Onset,
    /// Begin as `NeMo` has it; next to an onset the end.
    Offset,
    End,
    From,
    To,
    Duration,
    /// A duration next to a begin, else anything.
    Length,
}

const BASES: [(&str, Base); 26] = [
    ("start", Base::Start),
    ("starts", Base::Start),
    ("begin", Base::Start),
    ("begins", Base::Start),
    ("beg", Base::Start),
    ("xmin", Base::Start),
    ("tmin", Base::Start),
    ("onset", Base::Onset),
    ("offset", Base::Offset),
    ("end", Base::End),
    ("ends", Base::End),
    ("stop", Base::End),
    ("until", Base::End),
    ("xmax", Base::End),
    ("tmax", Base::End),
    ("from", Base::From),
    ("t0", Base::From),
    ("to", Base::To),
    ("t1", Base::To),
    ("duration", Base::Duration),
    ("dur", Base::Duration),
    ("length", Base::Length),
    ("len", Base::Length),
    ("starttime", Base::Start),
    ("begintime", Base::Start),
    ("endtime", Base::End),
];
/// Words that say nothing about the meaning of a column of times.
const FILLERS: [&str; 20] = [
    "time",
    "times",
    "at",
    "segment",
    "seg",
    "audio",
    "clip",
    "utt",
    "utterance",
    "speech",
    "chunk",
    "in",
    "of",
    "pos",
    "position",
    "recording",
    "file",
    "wav",
    "num",
    "n",
];
const FRAMES: [&str; 2] = ["frame", "frames"];

/// Unit that a name states; none for frames.
fn unit_of(normal: &str) -> Option<Unit> {
    let unit = |word: &str| match word {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(Unit::Secs(1.0)),
        "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => Some(Unit::Secs(1e-3)),
        "us" | "usec" | "usecs" | "micros" | "microsecond" | "microseconds" => Some(Unit::Secs(1e-6)),
        "ns" | "nsec" | "nanosecond" | "nanoseconds" => Some(Unit::Secs(1e-9)),
        "min" | "mins" | "minute" | "minutes" => Some(Unit::Secs(60.0)),
        "sample" | "samples" => Some(Unit::Samples),
        _ => None,
    };
    let mut words = normal.split('_');
    if words.clone().any(|word| FRAMES.contains(&word)) {
        return None;
    }
    Some(words.find_map(unit).unwrap_or(Unit::Secs(1.0)))
}

/// Meaning and unit of a column of times, by its name; without a unit it counts frames.
fn base_of(normal: &str) -> Option<(Base, Option<Unit>)> {
    if ["num_samples", "n_samples"].contains(&normal) {
        return Some((Base::Length, Some(Unit::Samples)));
    }
    let is_unit =
        |word: &&str| unit_of(word) != Some(Unit::Secs(1.0)) || ["s", "sec", "secs", "second", "seconds"].contains(word);
    let mut words = normal.split('_').filter(|word| !FILLERS.contains(word) && !is_unit(word));
    let (word, None) = (words.next()?, words.next()) else { return None };
    let (_, base) = BASES.iter().find(|(known, _)| *known == word)?;
    Some((*base, unit_of(normal)))
}

/// True if a column of numbers with this name may be a begin, an end or a duration.
fn looks_like_range(normal: &str) -> bool {
    const WORDS: [&str; 12] =
        ["start", "begin", "onset", "offset", "end", "stop", "duration", "xmin", "xmax", "tmin", "tmax", "dur"];
    const OTHERS: [&str; 7] = ["date", "year", "month", "day", "age", "total", "speaker"];
    let has = |words: &[&str]| normal.split('_').any(|word| words.contains(&word));
    has(&WORDS) && !has(&OTHERS)
}

/// True if a column of pairs of numbers with this name may be a time range.
fn could_be_range(normal: &str) -> bool {
    const WORDS: [&str; 14] = [
        "segment",
        "segments",
        "range",
        "interval",
        "span",
        "stretch",
        "timestamp",
        "timestamps",
        "time",
        "times",
        "start",
        "end",
        "boundaries",
        "region",
    ];
    normal.split('_').any(|word| WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(columns: &[(&str, &[&str])], names: &ColumnNames) -> Result<String, String> {
        let found: Vec<Found> = columns.iter().map(|(name, values)| Found { name, values: values.to_vec() }).collect();
        Columns::choose(&found, names, None).map(|columns| columns.report("t", &[]).replace("columns of t: ", ""))
    }

    #[track_caller]
    fn check(columns: &[(&str, &[&str])], expected: &str) {
        assert_eq!(choose(columns, &ColumnNames::default()).unwrap(), expected);
    }

    const NONE: &[&str] = &[];

    #[test]
    fn columns_of_well_known_tables_are_understood() {
        let number = &["1.5"][..];
        // NeMo, Common Voice, the Hub's audio folders, FLEURS on the Hub, ESC-50, MELD, AudioSet's onsets, lhotse's cuts.
        check(
            &[("audio_filepath", NONE), ("duration", number), ("offset", number), ("text", NONE), ("lang", NONE)],
            "recording: `audio_filepath`; text: `text`; begin: `offset`; duration: `duration`; tags: `lang`",
        );
        check(
            &[("client_id", NONE), ("path", NONE), ("sentence", NONE), ("accents", NONE)],
            "recording: `path`; speaker: `client_id`; text: `sentence`; tags: `accents`",
        );
        check(&[("file_name", NONE), ("transcription", NONE)], "recording: `file_name`; text: `transcription`");
        check(
            &[("path", NONE), ("transcription", NONE), ("raw_transcription", NONE), ("num_samples", &["16000"])],
            "recording: `path`; text: `raw_transcription`; normalised text: `transcription`; tags: `num_samples`",
        );
        check(
            &[("filename", NONE), ("fold", &["1"]), ("target", &["3"]), ("category", NONE)],
            "recording: `filename`; label: `category`; tags: `fold`, `target`",
        );
        check(
            &[("file", NONE), ("StartTime", &["0:01:02,5"]), ("endtime", &["0:01:03,5"])],
            "recording: `file`; begin: `StartTime`; end: `endtime`",
        );
        check(&[("file", NONE), ("onset", number), ("offset", number)], "recording: `file`; begin: `onset`; end: `offset`");
        check(
            &[("wav", NONE), ("start_ms", number), ("dur (ms)", number)],
            "recording: `wav`; begin: `start_ms`; duration: `dur (ms)`",
        );
        check(&[("wav", NONE), ("from", number), ("to", number)], "recording: `wav`; begin: `from`; end: `to`");
        check(&[("wav", NONE), ("from", &["London"]), ("length", number)], "recording: `wav`; tags: `from`, `length`");
        check(&[("wav", NONE), ("subset", &["train", "valid"])], "recording: `wav`; split: `subset`");
        check(&[("wav", NONE), ("subset", &["clean"])], "recording: `wav`; tags: `subset`");
        check(&[("wav", NONE), ("usage", &["Train", "test"])], "recording: `wav`; split: `usage`");
    }

    #[test]
    fn columns_that_look_like_times_and_are_not_understood_are_errors() {
        let number = &["1.5"][..];
        let error = |columns: &[(&str, &[&str])]| choose(columns, &ColumnNames::default()).unwrap_err();
        assert!(error(&[("path", NONE), ("word_start", number)]).starts_with("column `word_start` looks like a time range"));
        assert!(error(&[("path", NONE), ("start_frame", number)]).starts_with("column `start_frame` counts frames"));
        assert!(error(&[("path", NONE), ("timestamp", &["[0.0, 1.5]"])]).starts_with("column `timestamp` looks like"));
        assert!(error(&[("path", NONE), ("start", number), ("begin", number)]).contains("both look like the begin"));
        for text in ["0,5", "1.5 s", "1,500", "2020-01-02"] {
            let found = error(&[("path", NONE), ("start", &[text, text])]);
            assert!(found.starts_with(&format!("column `start` looks like a time range, and `{text}` is no time")), "{found}");
        }
        check(&[("path", NONE), ("end", &["open", "closed"])], "recording: `path`; tags: `end`");
        check(&[("path", NONE), ("start_date", &["2020"])], "recording: `path`; tags: `start_date`");
        let names = ColumnNames { start: Some("Word_Start".to_owned()), tag: vec!["begin".to_owned()], ..ColumnNames::default() };
        let named = choose(&[("path", NONE), ("word_start", number), ("begin", number)], &names).unwrap();
        assert_eq!(named, "recording: `path`; begin: `word_start`; tags: `begin`");
    }

    #[test]
    fn any_column_can_be_named_and_several_labels() {
        let columns: &[(&str, &[&str])] = &[("wo", NONE), ("accent", NONE), ("language", NONE), ("label", NONE), ("wer", NONE)];
        let some = |name: &str| Some(name.to_owned());
        let label = vec!["accent".to_owned(), "Language".to_owned()];
        let names = ColumnNames { path: some("wo"), label, speaker: some("wer"), ..ColumnNames::default() };
        let chosen = choose(columns, &names).unwrap();
        assert_eq!(chosen, "recording: `wo`; label: `accent`, `language`; speaker: `wer`; tags: `label`");
        let both = ColumnNames { text: some("Accent"), speaker: some("accent"), ..names.clone() };
        let chosen = choose(columns, &both).unwrap();
        assert_eq!(
            chosen,
            "recording: `wo`; label: `accent`, `language`; speaker: `accent`; text: `accent`; tags: `label`, `wer`"
        );
        let error = choose(columns, &ColumnNames { text: some("txt"), ..names }).unwrap_err();
        assert!(error.starts_with("no column `txt` (--text); the columns are `label`"), "{error}");
        let error = choose(columns, &ColumnNames::default()).unwrap_err();
        assert!(error.starts_with("no column `path`") && error.ends_with("name it with --path"), "{error}");
    }

    #[test]
    fn one_of_two_tables_that_belong_together_is_refused_with_advice() {
        let number = &["1.5"][..];
        let refused = |columns: &[(&str, &[&str])]| choose(columns, &ColumnNames::default()).unwrap_err();
        let supervisions: &[(&str, &[&str])] =
            &[("id", NONE), ("recording_id", NONE), ("start", number), ("duration", number), ("channel", &["0"]), ("text", NONE)];
        let recordings: &[(&str, &[&str])] =
            &[("id", NONE), ("sources", NONE), ("sampling_rate", &["8000"]), ("num_samples", &["8000"]), ("duration", number)];
        for columns in [supervisions, recordings] {
            let error = refused(columns);
            assert!(error.contains("`lhotse cut simple -r RECORDINGS -s SUPERVISIONS cuts.jsonl`, and name"), "{error}");
        }
        let error = refused(&[("RecordingID", NONE), ("from", number), ("to", number), ("label", NONE)]);
        assert!(error.contains("`RecordingID` seems to refer to a table of recordings: join the two"), "{error}");
        assert!(error.ends_with("--path RecordingID"), "{error}");
    }
}
