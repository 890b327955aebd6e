use super::*;
use crate::testing::{Copy, reasons, shown, shown_id};

/// 16 bit at 8000 Hz, one second.
fn second() -> Vec<u8> {
    let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x80\x3e\0\0".to_vec();
    wav.resize(wav.len() + 16_000, 0);
    wav
}

fn list(table: &str, text: &str, recordings: &[&str]) -> Result<Listing, CorpusError> {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join(table), text).unwrap();
    for path in recordings {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, second()).unwrap();
    }
    Table.list(root.path(), &PROTOCOLS[0])
}

#[test]
fn columns_are_known_by_name_and_others_are_tags() {
    let listing = Copy::of("table").list("table").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [4, 2, 2]);
    assert_eq!(listing.labels, ["no", "stop", "yes"]);
    assert_eq!(shown_id(&listing, "first"), "first train yes anna clips/a 0.wav Yes, \u{201c}please\u{201d}");
    let first = listing.utterances.iter().find(|u| u.id == "first").unwrap();
    assert_eq!(first.annotation.tags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(), ["room=kitchen"]);
    let expected = [
        "clips/stray.wav: no row names it",
        "table.csv:10: 2 fields, expected 7",
        "table.csv:11: `clips/gone.wav` is not there",
        "table.csv:12: path `../x.wav` leads out of the corpus",
        "table.csv:13: split `eval` is not train, dev or test",
        "table.csv:14: no `path`",
    ];
    assert_eq!(reasons(&listing), expected);
}

#[test]
fn stretches_are_in_samples_or_in_seconds_of_the_recording() {
    let text = "path,start,end,start_sample,num_samples,split\n\
        a.wav,0.25,0.5,,,train\na.wav,0.75,,,,train\na.wav,0.5,9,,,train\na.wav,,,100,50,train\n\
        a.wav,1,2,,,train\na.wav,x,2,,,train\na.wav,1,,100,,train\na.mp3,0,0.5,,,train\n";
    let listing = list("table.csv", text, &["a.wav"]).unwrap();
    let spans: Vec<_> =
        listing.utterances.iter().map(|u| (u.id.as_str(), u.span.unwrap().start, u.span.unwrap().num_samples)).collect();
    assert_eq!(
        spans,
        [("a#100+50", 100, 50), ("a#2000+2000", 2_000, 2_000), ("a#4000+4000", 4_000, 4_000), ("a#6000+2000", 6_000, 2_000)]
    );
    let expected = [
        "table.csv:6: a stretch without samples: the recording lasts 1.000 s",
        "table.csv:7: `x` is not a time in seconds",
        "table.csv:8: a stretch is in seconds or in samples, not in both",
        "table.csv:9: `a.mp3` is not there; `a.wav` is",
    ];
    assert_eq!(reasons(&listing), expected);
}

#[test]
fn without_a_split_the_speaker_decides_and_new_rows_move_no_other() {
    let rows = |count: u32| (0..count).map(|n| format!("c{n}.wav\tspeaker{}", n / 2)).collect::<Vec<_>>().join("\n");
    let names: Vec<_> = (0..80).map(|n| format!("c{n}.wav")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = list("table.tsv", &format!("path\tspeaker\n{}", rows(80)), &names).unwrap();
    let some = list("table.tsv", &format!("path\tspeaker\n{}", rows(60)), &names[..60]).unwrap();
    let split = |listing: &Listing, id: &str| listing.utterances.iter().find(|u| u.id == id).unwrap().split;
    assert!(some.utterances.iter().all(|u| split(&all, &u.id) == u.split));
    assert!((0..40).all(|n| split(&all, &format!("c{}", 2 * n)) == split(&all, &format!("c{}", 2 * n + 1))));
    assert!(Split::ALL.iter().all(|split| all.count(*split) > 0));
}

#[test]
fn tables_may_be_of_splits_but_not_of_the_same() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
    write("a.wav", "");
    write("b.WAV", "");
    write("train.csv", "file\na.wav\n");
    write(
        "validation.jsonl",
        "{\"audio\": {\"path\": \"b.WAV\"}, \"sentence\": \"x\"}\n{\"audio\": \"a.wav\", \"split\": \"test\"}\n",
    );
    let listing = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
    assert_eq!(listing.utterances.iter().map(shown).collect::<Vec<_>>(), ["a train - - a.wav -", "b dev - - b.WAV x"]);
    assert_eq!(reasons(&listing), ["validation.jsonl:2: split `test` in the table of dev"]);
    std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
    let looped = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
    assert_eq!((looped.utterances, looped.skipped[0].path.starts_with("loop/a.wav")), (listing.utterances, true));
    write("valid.tsv", "path\na.wav\n");
    let error = Table.list(root.path(), &PROTOCOLS[0]).unwrap_err().to_string();
    assert!(error.contains("validation.jsonl` cannot be understood: `valid.tsv` is there too"), "{error}");
}

#[test]
fn tables_of_any_name_are_read_when_they_are_named() {
    let copy = Copy::of("table");
    copy.write("lists/of mine.tsv", "path\tsplit\nclips/a 0.wav\ttest\n");
    copy.write("lists/train.csv", "path\nclips/a 1.wav\n");
    let named = |tables: [&str; 2]| Tables { tables: tables.map(str::to_owned).to_vec(), ..Tables::default() };
    let tables = named(["lists/of mine.tsv", "lists/train.csv"]);
    let listing = tables.list(&copy.root(), &PROTOCOLS[0]).unwrap();
    let shown: Vec<_> = listing.utterances.iter().map(|utterance| format!("{} {}", utterance.id, utterance.split)).collect();
    assert_eq!(shown, ["clips/a 0 test", "clips/a 1 train"]);
    assert!(tables.wants(&PROTOCOLS[0], "lists/train.csv") && !tables.wants(&PROTOCOLS[0], "table.csv"));
    let error = named(["lists/train.csv", "gone.csv"]).list(&copy.root(), &PROTOCOLS[0]);
    assert!(error.unwrap_err().to_string().contains("`gone.csv` is not there"));
}

/// A column `audio` of recordings, or of their paths alone.
fn audio(bytes: [Option<&[u8]>; 2]) -> arrow_array::ArrayRef {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, StringArray, StructArray};

    let bytes = Arc::new(bytes.into_iter().collect::<BinaryArray>()) as ArrayRef;
    let paths = Arc::new(StringArray::from(vec!["a.wav", "b.wav"])) as ArrayRef;
    Arc::new(StructArray::try_from(vec![("bytes", bytes), ("path", paths)]).unwrap())
}

/// A Parquet table of recordings that are files.
fn parquet_table() -> Vec<u8> {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, Float64Array, RecordBatch, StringArray};

    let text = |values: [Option<&str>; 2]| Arc::new(values.into_iter().collect::<StringArray>()) as ArrayRef;
    // A struct, as pandas writes dictionaries: left out.
    let numbers = Arc::new(Float64Array::from(vec![1.0, 2.0])) as ArrayRef;
    let other = Arc::new(arrow_array::StructArray::try_from(vec![("k", numbers)]).unwrap()) as ArrayRef;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("audio", audio([None, None])),
        ("Text", text([Some("Yes"), None])),
        ("end", Arc::new(Float64Array::from(vec![Some(0.5), None]))),
        ("raw", Arc::new(BinaryArray::from_iter_values([b"\xff", b"\0"]))),
        ("other", other),
    ];
    written(&RecordBatch::try_from_iter(columns).unwrap(), None)
}

/// A Parquet file of one batch.
fn written(batch: &arrow_array::RecordBatch, properties: Option<::parquet::file::properties::WriterProperties>) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut file, batch.schema(), properties).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    file
}

#[test]
fn parquet_tables_say_what_the_others_do() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("test.parquet"), parquet_table()).unwrap();
    for name in ["a.wav", "b.wav"] {
        std::fs::write(root.path().join(name), second()).unwrap();
    }
    let listing = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
    assert_eq!(listing.utterances.iter().map(shown).collect::<Vec<_>>(), ["a#0+4000 test - - a.wav Yes", "b test - - b.wav -"]);
    assert!(listing.utterances.iter().all(|utterance| utterance.annotation.tags.is_empty()));
}

/// A table as pandas writes it, with each codec: see `tests/fixtures/make.py`.
#[test]
fn parquet_tables_of_pandas_are_read_whatever_their_codec() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.wav"), second()).unwrap();
    std::fs::write(root.path().join("b.wav"), second()).unwrap();
    for codec in ["none", "snappy", "snappy-v2", "gzip", "lz4", "zstd"] {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{codec}.parquet"));
        std::fs::copy(fixture, root.path().join("train.parquet")).unwrap();
        let listing = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
        assert_eq!((listing.utterances.len(), listing.skipped.len()), (40, 0), "{codec}");
        assert_eq!(shown(&listing.utterances[38]), "u38 train - - a.wav Yes, please.", "{codec}");
        assert_eq!(shown(&listing.utterances[39]), "u39 train - - b.wav -", "{codec}");
        let tags: Vec<_> = listing.utterances[39].annotation.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(tags, ["embedding=[0.5, 1.5]", "ok=false", "take=39"], "{codec}");
    }
}

#[test]
fn damaged_parquet_tables_are_read_or_refused() {
    let (root, whole) = (tempfile::tempdir().unwrap(), parquet_table());
    let path = root.path().join("table.parquet");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        if at % 3 == 0 {
            damaged.truncate(at);
        } else {
            damaged[at] ^= 0x41;
        }
        std::fs::write(&path, damaged).unwrap();
        let _ = Table.list(root.path(), &PROTOCOLS[0]);
    }
    std::fs::write(&path, b"PAR1").unwrap();
    let error = Table.list(root.path(), &PROTOCOLS[0]).unwrap_err().to_string();
    assert!(error.contains("it is not a Parquet table that can be read"), "{error}");
}

/// A table of a path and a text of 80 MB, which packs to a few kB.
fn swollen_table(note: arrow_array::ArrayRef) -> Vec<u8> {
    use std::sync::Arc;

    use ::parquet::basic::{Compression, ZstdLevel};
    use ::parquet::file::properties::WriterProperties;
    use arrow_array::{ArrayRef, RecordBatch, StringArray};

    let path: ArrayRef = Arc::new(StringArray::from(vec!["a.wav"]));
    let batch = RecordBatch::try_from_iter([("path", path), ("note", note)]).unwrap();
    let packed =
        WriterProperties::builder().set_dictionary_enabled(false).set_compression(Compression::ZSTD(ZstdLevel::default()));
    let statistics = ::parquet::file::properties::EnabledStatistics::None;
    written(&batch, Some(packed.set_statistics_enabled(statistics).build()))
}

#[test]
fn a_page_that_claims_far_more_than_the_file_has_is_not_unpacked() {
    use std::sync::Arc;

    use arrow_array::{BinaryArray, StringArray};

    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.wav"), second()).unwrap();
    let text = "a".repeat(80 << 20);
    let write = |table: Vec<u8>| {
        assert!(table.len() < 64 << 10, "{}", table.len());
        std::fs::write(root.path().join("table.parquet"), table).unwrap();
    };
    write(swollen_table(Arc::new(StringArray::from(vec![text.as_str()]))));
    let error = Table.list(root.path(), &PROTOCOLS[0]).unwrap_err().to_string();
    assert!(error.contains("column `note`: a page at byte ") && error.contains("to 838860"), "{error}");
    // What is never read may be as it likes.
    write(swollen_table(Arc::new(BinaryArray::from(vec![text.as_bytes()]))));
    assert_eq!(Table.list(root.path(), &PROTOCOLS[0]).unwrap().utterances.len(), 1);
}

#[test]
fn what_is_amiss_with_a_row_is_told_apart() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("table.csv"), "path\na.wav\nx.wav\ngone.wav\na.wav\n").unwrap();
    std::fs::write(root.path().join("a.wav"), second()).unwrap();
    std::fs::create_dir(root.path().join("x.wav")).unwrap();
    let listing = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
    let expected = [
        "table.csv:3: `x.wav` is a folder, not a file",
        "table.csv:4: `gone.wav` is not there",
        "table.csv:5: its id `a` is that of `table.csv:2`",
    ];
    assert_eq!(reasons(&listing), expected);
    let causes: Vec<_> = listing.skipped.iter().map(|skipped| skipped.cause).collect();
    assert_eq!(causes, [Cause::Unusable, Cause::Missing, Cause::Unusable]);
}

#[test]
fn a_table_of_which_no_row_is_of_use_says_why() {
    let error = list("table.csv", "path\ngone.wav\n", &[]).unwrap_err().to_string();
    assert!(error.ends_with("; 1 left out, the first: table.csv:2: `gone.wav` is not there"), "{error}");
    let error = Table.list(&std::env::temp_dir().join("nowhere"), &PROTOCOLS[0]).unwrap_err().to_string();
    assert!(error.contains("expected a folder with"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = Table.list(empty.path(), &PROTOCOLS[0]).unwrap_err().to_string();
    assert!(error.contains("`table.csv` or `table.tsv` or `table.jsonl` or another of 65 such names"), "{error}");
}

#[test]
fn recordings_in_a_parquet_table_are_rows_and_class_indices_have_names() {
    use std::sync::Arc;

    use ::parquet::file::metadata::KeyValue;
    use ::parquet::file::properties::WriterProperties;
    use arrow_array::types::Int64Type;
    use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};

    let (one, two) = (second(), vec![1, 2, 3]);
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)]), None]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("file", Arc::new(StringArray::from(vec!["/home/else/a.wav", "/home/else/b.wav"]))),
        ("audio", audio([Some(&one), Some(&two)])),
        ("label", Arc::new(Int64Array::from(vec![1, -1]))),
        ("n", Arc::new(lists)),
    ];
    let text = r#"{"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}"#;
    let pairs = vec![KeyValue::new("huggingface".to_owned(), text.to_owned())];
    let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs)).build();
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data/validation-00000-of-00001-0a1b.parquet");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, written(&RecordBatch::try_from_iter(columns).unwrap(), Some(properties))).unwrap();
    let listing = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
    let table = "data/validation-00000-of-00001-0a1b.parquet";
    assert_eq!(
        listing.utterances.iter().map(shown).collect::<Vec<_>>(),
        [format!("a dev yes - {table} -"), format!("b dev - - {table} -")]
    );
    assert_eq!((listing.labels, listing.utterances[1].embedded), (vec!["no".to_owned(), "yes".to_owned()], Some(1)));
    assert_eq!(listing.utterances[0].annotation.tags["n"], "[1, 2]");
    assert_eq!(embedded(&path, &[0, 1]).unwrap(), [one, two.clone()]);
    assert_eq!(embedded(&path, &[1]).unwrap(), [two]);
    assert!(Table.wants(&PROTOCOLS[0], table) && !Table.wants(&PROTOCOLS[0], "data/x.parquet"));
}

/// Warnings and notes of a table, and what was skipped.
#[track_caller]
fn warnings(text: &str, recordings: &[&str]) -> (Vec<String>, Vec<String>) {
    let listing = list("table.csv", text, recordings).unwrap();
    let lacks = |warning: &String| !warning.starts_with("no column");
    (listing.warnings.iter().filter(|one| lacks(one)).cloned().collect(), reasons(&listing))
}

#[test]
fn contradictions_and_unknown_splits_are_warnings_with_their_line() {
    let (found, skipped) = warnings("path,label,split\na.wav,x,train\na.wav,y,train\nb.wav,x,eval\n", &["a.wav", "b.wav"]);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], "table.csv:4: split `eval` is not train, dev or test: 1 row left out");
    assert!(found[1].starts_with("table.csv:3: `a` has the label `y` here and `x` in `table.csv:2`"), "{found:?}");
    assert_eq!(skipped.len(), 2);
}

#[test]
fn ids_that_are_not_unique_and_like_stems_lose_no_row() {
    let listing = list("table.csv", "path,label\na.wav,x\na.flac,y\n", &["a.wav", "a.flac"]).unwrap();
    assert_eq!(listing.utterances.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["a.flac", "a.wav"]);
    let listing = list("table.csv", "path,id\na.wav,7\nb.wav,7\nc.wav,8\n", &["a.wav", "b.wav", "c.wav"]).unwrap();
    assert_eq!(listing.utterances.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["8", "a.wav", "b.wav"]);
    assert!(listing.warnings[0].starts_with("table.csv:3: id `7` is that of another recording too: 2 rows"));
}

#[test]
fn classes_are_one_in_both_unicode_forms_and_numbers_sort_as_numbers() {
    let text = "path,label\na.wav,Zoe\u{308}\nb.wav,Zo\u{eb}\nc.wav,zo\u{eb}\n";
    let listing = list("table.csv", text, &["a.wav", "b.wav", "c.wav"]).unwrap();
    assert_eq!(listing.labels, ["Zo\u{eb}", "zo\u{eb}"]);
    let form = "table.csv:3: label `Zo\u{eb}` is that of table.csv:2 in another Unicode form: they are one class";
    assert_eq!(listing.warnings[0], form);
    assert!(listing.warnings[1].contains("differ only in case"), "{:?}", listing.warnings);
    let listing = list("table.csv", "path,label\na.wav,10\nb.wav,2\n", &["a.wav", "b.wav"]).unwrap();
    assert_eq!(listing.labels, ["2", "10"]);
    let error = list("table.csv", "path,label\na.wav,1\nb.wav,1.0\n", &["a.wav", "b.wav"]).unwrap_err().to_string();
    assert!(error.contains("labels `1` (table.csv:2) and `1.0` (table.csv:3) are one number"), "{error}");
}

#[test]
fn recordings_are_found_as_tables_name_them() {
    let root = tempfile::tempdir().unwrap();
    for path in ["sub/c.wav", "b.wav", "Zoe\u{308}.wav", "clips/v.mp3", "wavs/LJ1-1.wav", " s.wav", "strange.sound"] {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, second()).unwrap();
    }
    let absolute = root.path().join("sub/c.wav");
    let given = ["sub/../b.wav", "Zo\u{eb}.wav", "v.mp3", "LJ1-1", "\" s.wav\"", "strange.sound", absolute.to_str().unwrap()];
    std::fs::write(root.path().join("table.csv"), format!("path\n{}\n", given.join("\n"))).unwrap();
    let listing = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
    assert_eq!(reasons(&listing), [""; 0]);
    let found: Vec<&str> = listing.utterances.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(found, [" s.wav", "Zoe\u{308}.wav", "b.wav", "clips/v.mp3", "strange.sound", "sub/c.wav", "wavs/LJ1-1.wav"]);
    assert!(found.iter().all(|path| Table.wants(&PROTOCOLS[0], path)));
}

#[test]
fn recordings_that_are_not_found_are_explained() {
    let text = "path\na.WAV\na.mp3\n/data/a.wav\nx/../../a.wav\n.b/a.wav\nnotes.txt\na.wav\n";
    let listing = list("table.csv", text, &["a.wav", "notes.txt"]).unwrap();
    let found = reasons(&listing);
    assert_eq!(found[0], "table.csv:2: `a.WAV` is not there; `a.wav` is");
    assert_eq!(found[1], "table.csv:3: `a.mp3` is not there; `a.wav` is");
    assert!(found[2].starts_with("table.csv:4: `/data/a.wav` is not below the folder of the corpus"), "{found:?}");
    assert_eq!(found[3], "table.csv:5: path `x/../../a.wav` leads out of the corpus");
    assert!(found[4].contains("is hidden") && found[5].contains("no recording"), "{found:?}");
}

#[test]
fn offsets_and_durations_are_stretches() {
    let text = "{\"audio_filepath\": \"a.wav\", \"offset\": 0.25, \"duration\": 0.5, \"text\": \"hi\"}\n\
                {\"audio_filepath\": \"a.wav\", \"duration\": 1.0, \"text\": \"all\"}\n";
    let listing = list("train_manifest.json", text, &["a.wav"]).unwrap();
    let spans: Vec<_> = listing.utterances.iter().map(|one| one.span.map(|span| (span.start, span.num_samples))).collect();
    assert_eq!(spans, [None, Some((2_000, 4_000))]);
    assert_eq!(
        listing.notes,
        ["columns of train_manifest.json: recording: `audio_filepath`; text: `text`; begin: `offset`; duration: `duration`"]
    );
    let error = list("table.csv", "path,seg_from\na.wav,0\n", &["a.wav"]);
    assert!(error.is_ok());
    let error = list("table.csv", "path,word_start\na.wav,0.5\n", &["a.wav"]).unwrap_err().to_string();
    assert!(error.contains("column `word_start` looks like a time range and is not understood"), "{error}");
}

#[test]
fn a_duration_that_cannot_be_compared_is_a_warning() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.ogg"), b"OggS").unwrap();
    std::fs::write(root.path().join("table.csv"), "path,label,speaker,duration\na.ogg,x,ann,1.5\n").unwrap();
    let listing = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
    assert!(listing.warnings[0].starts_with("table.csv:2: a duration, of a recording whose header does not tell its length"));
    assert_eq!(listing.utterances[0].span, None);
}

#[test]
fn several_labels_are_groups() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.wav"), second()).unwrap();
    std::fs::write(root.path().join("table.csv"), "path,accent,language\na.wav,welsh,english\n").unwrap();
    let columns = ColumnNames { label: vec!["accent".to_owned(), "language".to_owned()], ..ColumnNames::default() };
    let listing = Tables { tables: Vec::new(), columns }.list(root.path(), &PROTOCOLS[0]).unwrap();
    assert_eq!((listing.labels, &listing.classes["accent"][..]), (vec!["welsh|english".to_owned()], &["welsh".to_owned()][..]));
    assert_eq!(listing.utterances[0].annotation.slots[1].value, "english");
}

#[test]
fn what_a_table_lacks_is_a_warning() {
    let listing = list("table.csv", "path\na.wav\n", &["a.wav"]).unwrap();
    assert!(listing.warnings[0].starts_with("no column of speakers (--speaker COLUMN): rows are split one by one"));
    assert!(listing.warnings[1].starts_with("no column of labels (--label COLUMN) and none of transcripts"));
}

#[test]
fn a_kaldi_data_folder_is_a_table() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
    std::fs::write(root.path().join("r.wav"), second()).unwrap();
    write("wav.scp", "R1 r.wav\nR2 sph2pipe r.sph |\n");
    write("text", "U1 HELLO YOU\nU2 NO\n");
    write("utt2spk", "U1 ann\n");
    write("segments", "U1 R1 0.25 0.5\nU2 R2 0 1\nU3 R9 0 1\n");
    let listing = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
    let one = &listing.utterances[0];
    assert_eq!((shown(one), one.span.unwrap().num_samples), (format!("U1 {} - ann r.wav HELLO YOU", one.split), 2_000));
    let found = reasons(&listing);
    assert!(found[0].contains("output of a command") && found[1].contains("`R9` of `segments` is not in `wav.scp`"), "{found:?}");
    assert!(["wav.scp", "text", "segments"].iter().all(|path| Table.wants(&PROTOCOLS[0], path)));
    write("segments", "U1 R1 0.25 -1\nU1 R1 0.5 1\n");
    let listing = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
    assert_eq!(listing.utterances[0].span.unwrap().num_samples, 6_000);
    let expected = [
        "segments:2: `U1` is in line 1 with another value: this line is left out",
        "text:2: `U2` has no recording (1 such line)",
    ];
    assert_eq!(listing.warnings[..2], expected);
}

#[test]
fn a_zero_byte_that_json_hides_is_a_reason_to_leave_a_row_out() {
    let text = "{\"path\": \"a.wav\", \"text\": \"x\\u0000y\"}\n{\"path\": \"b.wav\", \"text\": \"z\"}\n";
    let listing = list("table.jsonl", text, &["a.wav", "b.wav"]).unwrap();
    let expected = ["a.wav: no row names it", "table.jsonl:1: column `text` contains a zero byte (NUL), which no text has"];
    assert_eq!(reasons(&listing), expected);
}

#[test]
fn a_column_of_channels_is_a_warning() {
    let listing = list("table.csv", "path,label,speaker,channel\na.wav,x,ann,2\n", &["a.wav"]).unwrap();
    assert_eq!(listing.warnings, ["table.csv: column `channel` is only a tag: the channels of a recording are averaged"]);
}

#[test]
fn the_example_of_the_documentation_is_read_as_it_says() {
    let page = include_str!("../../../docs/tables.md");
    let example = page.split("```csv\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let recordings: Vec<String> = (1..=6).map(|number| format!("clips/000{number}.wav")).collect();
    let recordings: Vec<&str> = recordings.iter().map(String::as_str).collect();
    let listing = list("table.csv", example, &recordings).unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [2, 2, 2]);
    assert_eq!((listing.labels.join(" "), listing.warnings.len(), listing.skipped.len()), ("no yes".to_owned(), 0, 0));
    assert_eq!(shown_id(&listing, "clips/0001"), "clips/0001 train yes anna clips/0001.wav Yes, of course.");
}

#[test]
fn folders_named_as_splits_are_splits() {
    let splits = |listing: &Listing| Split::ALL.map(|split| listing.count(split));
    let text = "file_name,label\ntrain/a.wav,x\ntrain/b.wav,y\ndata/validation/c.wav,x\ntest/d.wav,y\n";
    let recordings = ["train/a.wav", "train/b.wav", "data/validation/c.wav", "test/d.wav"];
    let listing = list("metadata.csv", text, &recordings).unwrap();
    assert_eq!(splits(&listing), [2, 1, 1]);
    assert_eq!(listing.notes[1], "splits: the folders of the recordings, for `train`, `dev`, `test`");
    // One in no such folder, or all in one: the folders are no splits.
    for (text, recordings) in [
        ("path\ntrain/a.wav\ntest/b.wav\nc.wav\n", &["train/a.wav", "test/b.wav", "c.wav"][..]),
        ("path\ntest/a.wav\ntest/b.wav\n", &["test/a.wav", "test/b.wav"]),
    ] {
        assert_eq!(list("table.csv", text, recordings).unwrap().notes.len(), 1);
    }
    // A table in each, as the Hub's AudioFolder has it.
    let root = tempfile::tempdir().unwrap();
    for (folder, name) in [("train", "a"), ("validation", "b"), ("test", "c")] {
        std::fs::create_dir(root.path().join(folder)).unwrap();
        std::fs::write(root.path().join(format!("{folder}/{name}.wav")), second()).unwrap();
        std::fs::write(root.path().join(format!("{folder}/metadata.csv")), format!("file_name,label\n{name}.wav,x\n")).unwrap();
    }
    let listing = Table.list(root.path(), &PROTOCOLS[0]).unwrap();
    assert_eq!((splits(&listing), listing.skipped.len()), ([1, 1, 1], 0));
    assert!(Table.wants(&PROTOCOLS[0], "validation/metadata.csv"));
    let tables = vec!["train/metadata.csv".to_owned(), "test/metadata.csv".to_owned()];
    let listing = Tables { tables, columns: ColumnNames::default() }.list(root.path(), &PROTOCOLS[0]).unwrap();
    assert_eq!(splits(&listing), [1, 0, 1]);
}

#[test]
fn a_copy_that_lacks_one_of_several_parquet_files_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str| std::fs::write(root.path().join(name), b"PAR1").unwrap();
    let problem = || Table.list(root.path(), &PROTOCOLS[0]).unwrap_err().to_string();
    write("test-00000-of-00001.parquet");
    write("train-00000-of-00003.parquet");
    write("train-00002-of-00003.parquet");
    assert!(problem().contains("`train-00001-of-00003.parquet` is not there: the copy is not complete"), "{}", problem());
    write("train-00001-of-00003.parquet");
    assert!(!problem().contains("is not there"), "{}", problem());
    write("dev-00001-of-00002-0123456789abcdef.parquet");
    assert!(problem().contains("`dev-00000-of-00002-*.parquet` is not there"), "{}", problem());
}

#[test]
fn rows_that_contradict_each_other_are_warnings() {
    let text = "path,label,split,text,speaker\na.wav,x,train,hi,ann\na.wav,x,test,hi,ann\nb.wav,x,train,hi,ann\nb.wav,x,train,ho,ann\n\
                c.wav,x,train,hi,ann\nc.wav,x,train,hi,ben\nc.wav,x,train,hi,ann\n";
    let listing = list("table.csv", text, &["a.wav", "b.wav", "c.wav"]).unwrap();
    let expected = [
        "table.csv:3: `a` has the split `test` here and `train` in `table.csv:2`: this row is left out",
        "table.csv:5: `b` has the text `ho` here and `hi` in `table.csv:4`: this row is left out",
        "table.csv:7: `c` has the speaker `ben` here and `ann` in `table.csv:6`: this row is left out",
    ];
    assert_eq!(listing.warnings[..3], expected);
    assert_eq!(listing.skipped.len(), 4);
}

#[test]
fn labels_that_stand_for_no_value_are_warnings() {
    let listing = list("table.csv", "path,label,speaker\na.wav,NaN,ann\nb.wav,x,ann\n", &["a.wav", "b.wav"]).unwrap();
    let warning = "table.csv:2: `NaN` is a class like others; leave the value empty where the label is not known";
    assert_eq!(listing.warnings, [warning]);
}

#[test]
fn long_numbers_are_labels_of_their_own() {
    let numbers = ["9007199254740993", "9007199254740992"];
    let text = format!("path,label\na.wav,{}\nb.wav,{}\n", numbers[0], numbers[1]);
    assert_eq!(list("table.csv", &text, &["a.wav", "b.wav"]).unwrap().labels.len(), 2);
    let text = format!("path,label\na.wav,{}\nb.wav,0{}\n", numbers[0], numbers[0]);
    let error = list("table.csv", &text, &["a.wav", "b.wav"]).unwrap_err().to_string();
    assert!(error.contains("are one number"), "{error}");
}

#[test]
fn tables_of_another_kind_are_named() {
    let problem = |bytes: &[u8]| {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cuts.jsonl.gz"), bytes).unwrap();
        let tables = Tables { tables: vec!["cuts.jsonl.gz".to_owned()], columns: ColumnNames::default() };
        tables.list(root.path(), &PROTOCOLS[0]).unwrap_err().to_string()
    };
    assert!(problem(b"\x1f\x8b\x08\0rest").ends_with("it is compressed with gzip: unpack it first (`gunzip`)"));
    assert!(problem(b"PK\x03\x04rest").contains("a spreadsheet"));
    assert!(problem(b"PAR1rest").ends_with("it is Parquet: name it `.parquet`"));
}

#[test]
fn addresses_are_no_recordings() {
    let listing = list("table.csv", "path\nhttps://example.org/b.wav\na.wav\n", &["a.wav"]).unwrap();
    let expected = "table.csv:2: `https://example.org/b.wav` is an address (https), not a file: download it first";
    assert_eq!(reasons(&listing), [expected]);
}
