use proptest::prelude::*;

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
        "table.csv:8: a stretch is either `start` and `end` or both `start_sample` and `num_samples`",
        "table.csv:9: `a.mp3` is not there",
    ];
    assert_eq!(reasons(&listing), expected);
    let no_header = span_in_secs(Some("0"), Some("1"), None).unwrap_err();
    assert!(no_header.ends_with("give `start_sample` and `num_samples`"), "{no_header}");
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

proptest! {
    #[test]
    fn any_times_are_a_stretch_or_a_reason(start in "[0-9.einf-]{0,6}", end in "[0-9.einf-]{0,6}") {
        let length = Length { sample_rate: 8_000, num_samples: 8_000, is_cut: false };
        if let Ok(span) = span_in_secs(Some(&start), Some(&end), Some(length)) {
            prop_assert!(span.num_samples > 0 && span.start + span.num_samples <= 8_000);
        }
        let _ = span_in_samples(&start, &end);
    }
}

#[test]
fn tables_of_any_name_are_read_when_they_are_named() {
    let copy = Copy::of("table");
    copy.write("lists/of mine.tsv", "path\tsplit\nclips/a 0.wav\ttest\n");
    copy.write("lists/train.csv", "path\nclips/a 1.wav\n");
    let tables = Tables(vec!["lists/of mine.tsv".to_owned(), "lists/train.csv".to_owned()]);
    let listing = tables.list(&copy.root(), &PROTOCOLS[0]).unwrap();
    let shown: Vec<_> = listing.utterances.iter().map(|utterance| format!("{} {}", utterance.id, utterance.split)).collect();
    assert_eq!(shown, ["clips/a 0 test", "clips/a 1 train"]);
    assert!(tables.wants(&PROTOCOLS[0], "lists/train.csv") && !tables.wants(&PROTOCOLS[0], "table.csv"));
    let error = Tables(vec!["lists/train.csv".to_owned(), "gone.csv".to_owned()]).list(&copy.root(), &PROTOCOLS[0]);
    assert!(error.unwrap_err().to_string().contains("`gone.csv` is not there"));
}

/// A Parquet table with the columns of a shard that matter here.
fn parquet_table() -> Vec<u8> {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, Float64Array, RecordBatch, StringArray, StructArray};

    let text = |values: [Option<&str>; 2]| Arc::new(values.into_iter().collect::<StringArray>()) as ArrayRef;
    let bytes = Arc::new(BinaryArray::from_iter_values([b"RIFF", b"RIFF"])) as ArrayRef;
    let audio = StructArray::try_from(vec![("bytes", bytes), ("path", text([Some("a.wav"), Some("b.wav")]))]).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("audio", Arc::new(audio)),
        ("Text", text([Some("Yes"), None])),
        ("end", Arc::new(Float64Array::from(vec![Some(0.5), None]))),
        ("raw", Arc::new(BinaryArray::from_iter_values([b"\xff", b"\0"]))),
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
        assert_eq!(tags, ["ok=false", "take=39"], "{codec}");
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
    assert!(error.contains("`table.csv` or `table.tsv` or `table.jsonl` or another of 32 such names"), "{error}");
}
