use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use datasets::Annotation;
use datasets::parquet_file::ParquetFile;
use pipeline::{Digest, Spare};

use super::*;
use crate::reader::{ReadError, ShardReader};
use crate::recording::{Preparer, Target};
use crate::testing::{Fixture, params};
use crate::wav::write_pcm16;

fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    ["train", "dev", "test", "rejects"].iter().map(|name| folder.join(format!("{name}.parquet"))).collect()
}

fn bytes(folder: &Path) -> Vec<Vec<u8>> {
    parquet_files(folder).iter().chain([&folder.join("report.json")]).map(|path| fs::read(path).unwrap()).collect()
}

/// The rows of rejects.parquet as `id: reason`.
fn rejects(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in ParquetFile::open(&folder.join("rejects.parquet"), "a table of rejects").unwrap().rows(|_| true).unwrap() {
        let batch = batch.unwrap();
        let (ids, reasons) = (batch.text("id").unwrap(), batch.text("reason").unwrap());
        lines.extend((0..batch.num_rows()).map(|at| format!("{}: {}", ids.value(at), reasons.value(at))));
    }
    lines
}

#[test]
fn every_clip_comes_back_resampled_with_its_labels() {
    let bench = Fixture::new(3);
    let out = bench.shards("shards", &bench.manifest("manifest", 1).unwrap(), 0, 1).unwrap();
    let reader = ShardReader::open(&parquet_files(&out)[..3]).unwrap();
    assert_eq!(reader.rows().len(), 72);
    assert_eq!(reader.labels().len(), 10);
    let at = reader.rows().iter().position(|row| row.id == "2_bob_7").unwrap();
    let row = &reader.rows()[at];
    let annotation = &row.annotation;
    assert_eq!((row.class, annotation.label.as_deref(), annotation.speaker.as_deref()), (Some(2), Some("2"), Some("bob")));
    assert_eq!((annotation.transcript.as_deref(), row.num_samples), (Some("two"), 2 * (400 + 20 + 7)));
    let source = fs::read(bench.corpus().join("recordings/2_bob_7.wav")).unwrap();
    let expected = Preparer::new(Target { sample_rate: 16_000, format: Format::Wav }).prepare_bytes(source, None).unwrap();
    assert_eq!(reader.load_wav(at).unwrap(), expected.bytes);
    let samples = reader.load(at).unwrap();
    assert_eq!(samples.len(), row.num_samples);
    let pcm = |n: usize| i16::from_le_bytes([expected.bytes[44 + 2 * n], expected.bytes[45 + 2 * n]]);
    assert!(samples.iter().enumerate().all(|(n, &sample)| (sample * 32_768.0) as i16 == pcm(n)));
}

#[test]
fn splits_go_to_their_own_files() {
    let bench = Fixture::new(2);
    let out = bench.shards("shards", &bench.manifest("manifest", 1).unwrap(), 0, 1).unwrap();
    let ids = |split: &str| {
        let reader = ShardReader::open(&[out.join(format!("{split}.parquet"))]).unwrap();
        reader.rows().iter().map(|row| row.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids("train"), ["0_ann_10", "0_ann_11", "0_bob_10", "0_bob_11", "1_ann_10", "1_ann_11", "1_bob_10", "1_bob_11"]);
    assert_eq!((ids("dev").len(), ids("test").len()), (20, 20));
}

#[test]
fn bytes_depend_neither_on_threads_nor_on_the_run() {
    let bench = Fixture::new(6);
    let manifest = bench.manifest("manifest", 1).unwrap();
    let one = bytes(&bench.shards("one", &manifest, 0, 1).unwrap());
    let again = bytes(&bench.shards("again", &manifest, 0, 1).unwrap());
    let four = bytes(&bench.shards("four", &manifest, 0, 4).unwrap());
    let helped = bytes(&bench.helped_shards("helped", &manifest, &Spare::of(3)).unwrap());
    assert!(one == again, "two runs differ");
    assert!(one == four, "one and four threads differ");
    assert!(one == helped, "one thread and one that three others help differ");
}

#[test]
fn an_empty_part_gives_empty_shards() {
    let bench = Fixture::new(1);
    let manifest = bench.manifest("manifest", 100).unwrap();
    let empty = (0..100).find(|&part| manifest::read_entries(&manifest.join(manifest::part_folder(part))).unwrap().is_empty());
    let out = bench.shards("shards", &manifest, empty.unwrap(), 1).unwrap();
    let reader = ShardReader::open(&parquet_files(&out)[..3]).unwrap();
    assert_eq!((reader.rows().len(), reader.labels().len()), (0, 10));
}

#[test]
fn broken_recordings_are_rejected_with_reasons_and_the_rest_goes_on() {
    let bench = Fixture::new(10);
    bench.record("0_ann_0", b"");
    bench.record("0_ann_1", b"this is text, whatever its name says");
    bench.record("0_ann_2", &write_pcm16(8_000, &[1; 100])[..100]);
    bench.record("0_ann_3", &write_pcm16(8_000, &[]));
    bench.record("0_ann_4", &write_pcm16(0, &[1; 100]));
    fs::create_dir(bench.corpus().join("recordings/0_cat_5.wav")).unwrap();
    let manifest = bench.manifest("manifest", 1).unwrap();
    let out = bench.shards("shards", &manifest, 0, 2).unwrap();
    let expected = [
        "0_ann_0: 0 bytes",
        "0_ann_1: not an audio file that can be read: begins with \"this is \", expected WAV, FLAC, MP3, MP4, Ogg, AIFF, AU, CAF or SPHERE",
        "0_ann_2: truncated: the header promises 200 bytes of samples, the file has 56",
        "0_ann_3: 0 samples",
        "0_ann_4: a sample rate of 0 Hz, expected 2000 to 768000 Hz",
    ];
    let found = rejects(&out);
    // With ffmpeg, a reason says what it says.
    assert!(found.len() == 5 && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
    assert_eq!(ShardReader::open(&parquet_files(&out)[..3]).unwrap().rows().len(), 235);
    let skipped = fs::read_to_string(manifest.join("skipped.jsonl")).unwrap();
    let others: Vec<_> = skipped.lines().filter(|line| !line.contains("the published corpus has it")).collect();
    assert_eq!(others, ["{\"path\":\"recordings/0_cat_5.wav\",\"reason\":\"a folder, not a file\"}"]);
}

#[test]
fn too_many_broken_recordings_fail_the_node_and_are_named() {
    let bench = Fixture::new(1);
    for index in 0..3 {
        bench.record(&format!("0_ann_{index}"), b"");
    }
    let error = bench.shards("shards", &bench.manifest("manifest", 1).unwrap(), 0, 1).unwrap_err().to_string();
    let start = "3 of 24 recordings are broken, more than the allowed share of 0.1; `recordings/0_ann_0.wav`: 0 bytes";
    assert!(error.starts_with(start), "{error}");
}

#[test]
fn an_edited_or_deleted_recording_means_that_the_source_changed() {
    let bench = Fixture::new(1);
    let manifest = bench.manifest("manifest", 1).unwrap();
    let check = |out: &str| {
        let error = bench.shards(out, &manifest, 0, 1).unwrap_err();
        assert!(matches!(&error, StageError::SourceChanged { path } if path.ends_with("0_ann_5.wav")), "{error}");
    };
    bench.record("0_ann_5", &write_pcm16(8_000, &[1; 100]));
    check("edited");
    fs::remove_file(bench.corpus().join("recordings/0_ann_5.wav")).unwrap();
    check("deleted");
}

#[test]
fn a_recording_that_cannot_be_read_fails_the_node_and_is_no_reject() {
    let bench = Fixture::new(1);
    let manifest = bench.manifest("manifest", 1).unwrap();
    let path = bench.corpus().join("recordings/0_ann_5.wav");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = bench.shards("shards", &manifest, 0, 1).unwrap_err();
    assert!(matches!(&error, StageError::Io { action: "read", path, .. } if path.ends_with("0_ann_5.wav")), "{error}");
}

#[test]
fn too_short_and_too_long_utterances_are_listed_without_counting_as_broken() {
    let bench = Fixture::new(1);
    bench.record("0_ann_0", &write_pcm16(8_000, &[1; 80]));
    bench.record("0_ann_1", &write_pcm16(8_000, &[1; 8_000]));
    let manifest = bench.manifest("manifest", 1).unwrap();
    let inputs = [("manifest", manifest.join("parts/00000")), ("labels", manifest.join("labels.json"))];
    let job = bench.job("shards", &inputs, None);
    let limits = Shards { max_reject_share: 0.0, min_duration_secs: Some(0.02), max_duration_secs: Some(0.9), ..params() };
    run(&limits, &job).unwrap();
    let expected = ["0_ann_0: 0.010 s, shorter than the 0.02 s asked for", "0_ann_1: 1.000 s, longer than the 0.9 s asked for"];
    assert_eq!(rejects(&job.out), expected);
}

#[test]
fn a_label_that_is_not_in_the_list_is_a_reject() {
    let bench = Fixture::new(1);
    let manifest = bench.manifest("manifest", 1).unwrap();
    fs::write(manifest.join("labels.json"), "[\"1\"]").unwrap();
    let error = bench.shards("shards", &manifest, 0, 1).unwrap_err().to_string();
    assert!(error.contains("label `0` is not in labels.json"), "{error}");
}

#[test]
fn a_request_to_stop_is_heard() {
    let bench = Fixture::new(1);
    let manifest = bench.manifest("manifest", 1).unwrap();
    let inputs = [("manifest", manifest.join("parts/00000")), ("labels", manifest.join("labels.json"))];
    let job = bench.job("shards", &inputs, None);
    job.stop.request();
    assert!(matches!(run(&params(), &job).unwrap_err(), StageError::Stopped));
}

#[test]
fn batches_cover_everything_once_and_stay_small() {
    let entry = |size| Entry {
        id: String::new(),
        path: String::new(),
        digest: Digest::of(b""),
        size,
        split: Split::Train,
        row: None,
        annotation: Annotation::default(),
        start: None,
        num_samples: None,
    };
    let sizes = [10, BYTES_PER_BATCH * 3, 5, 5, BYTES_PER_BATCH];
    let entries: Vec<_> = sizes.into_iter().chain([1; 100]).map(entry).collect();
    let lens: Vec<_> = batches(&entries, 1).map(<[Entry]>::len).collect();
    assert_eq!(lens, [1, 1, 2, 1, 32, 32, 32, 4]);
}

#[test]
fn mistakes_in_parameters_are_all_named() {
    let bad = Shards {
        sample_rate: 0,
        max_reject_share: 1.5,
        min_duration_secs: Some(f64::NAN),
        max_duration_secs: Some(-1.0),
        ..params()
    };
    let named: Vec<_> = bad.check().into_iter().map(|mistake| mistake.0).collect();
    assert_eq!(named, ["sample_rate", "max_reject_share", "min_duration_secs", "max_duration_secs"]);
    let crossed = Shards { min_duration_secs: Some(2.0), max_duration_secs: Some(1.0), ..params() };
    assert_eq!(crossed.check()[0].1, "2 is more than max_duration_secs, 1");
}

#[test]
fn row_groups_stay_small_and_audio_is_plain_and_uncompressed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let mut writer = ShardWriter::create(&path, &["a".to_owned()], 16_000).unwrap();
    let clip = |n: usize, len: usize| row(&format!("{n:05}"), &vec![n as i16; len], Annotation::default());
    let short = 1_100;
    for n in 0..short {
        writer.push(clip(n, 1_000 + n)).unwrap();
    }
    for n in short..short + 5 {
        writer.push(clip(n, 3 << 20)).unwrap();
    }
    writer.finish().unwrap();
    let file = ParquetFile::open(&path, "a shard").unwrap();
    let groups: Vec<_> = file.metadata().row_groups().iter().map(parquet::file::metadata::RowGroupMetaData::num_rows).collect();
    assert_eq!(groups, [500, 500, 103, 2]);
    let audio = file.metadata().row_group(0).column(0);
    assert_eq!(audio.compression(), parquet::basic::Compression::UNCOMPRESSED);
    assert!(audio.dictionary_page_offset().is_none());

    let reader = ShardReader::open(&[&path]).unwrap();
    // From several threads, last row group first.
    std::thread::scope(|scope| {
        for first in 0..4 {
            let reader = &reader;
            scope.spawn(move || {
                for at in (first..reader.rows().len()).step_by(4).rev() {
                    let samples = reader.load(at).unwrap();
                    assert_eq!(samples.len(), reader.rows()[at].num_samples);
                    assert!(samples.iter().all(|&sample| (sample * 32_768.0) as usize == at));
                }
            });
        }
    });
    assert_eq!((reader.rows()[0].class, &reader.rows()[0].annotation), (None, &Annotation::default()));
}

/// A row of a clip at 16 kHz.
fn row(id: &str, samples: &[i16], annotation: Annotation) -> Row {
    Row {
        bytes: write_pcm16(16_000, samples),
        path: format!("{id}.wav"),
        split: Split::Train,
        info: RowInfo { id: id.to_owned(), num_samples: samples.len(), sample_rate: 16_000, class: None, annotation },
        source_path: format!("{id}.mp3"),
        source_sample_rate: 44_100,
        source_channels: 2,
    }
}

#[test]
fn rows_are_read_back_without_their_audio() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let tags = [("gender".to_owned(), "female".to_owned())].into();
    let annotation = Annotation { label: Some("yes".to_owned()), tags, ..Annotation::default() };
    let mut full = row("a", &[1; 40], annotation);
    full.info.class = Some(1);
    let bare = row("b", &[1; 50], Annotation::default());
    let classes = ["no".to_owned(), "yes".to_owned()];
    let mut writer = ShardWriter::create(&path, &classes, 16_000).unwrap();
    writer.push(full.clone()).unwrap();
    writer.push(bare.clone()).unwrap();
    writer.finish().unwrap();
    assert_eq!(RowInfo::read(&path, |_| true).unwrap(), (vec![full.info.clone(), bare.info], classes.to_vec()));
    let (rows, _) = RowInfo::read(&path, |column| column == "label").unwrap();
    assert_eq!((rows[0].class, &rows[0].annotation), (Some(1), &Annotation::default()));
}

#[test]
fn the_side_index_names_the_bytes_of_every_clip() {
    let bench = Fixture::new(2);
    let out = bench.shards("shards", &bench.manifest("manifest", 1).unwrap(), 0, 1).unwrap();
    let shard = out.join("dev.parquet");
    let reader = ShardReader::open(&[&shard]).unwrap();
    let (index, bytes) = (fs::read(out.join("dev.clips")).unwrap(), fs::read(&shard).unwrap());
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum: u64, &byte| sum << 8 | u64::from(byte));
    let (header, records) = index.split_at(16);
    assert_eq!(header, [&b"SURECLIP\x01\0\0\0"[..], &(reader.rows().len() as u32).to_le_bytes()].concat());
    assert_eq!(records.len(), 24 * reader.rows().len());
    for (at, (record, row)) in records.chunks_exact(24).zip(reader.rows()).enumerate() {
        let start = number(&record[..8]) as usize;
        assert_eq!(bytes[start..start + number(&record[8..12]) as usize], reader.load_wav(at).unwrap());
        assert_eq!(number(&record[12..16]) as usize, row.num_samples);
        assert_eq!(number(&record[16..]), crate::clips::hash_of(&row.id));
    }
}

#[test]
fn a_summary_is_the_same_however_many_parts_there_are() {
    let bench = Fixture::new(3);
    bench.record("1_ann_3", b"RIFF");
    let summary = |parts: u32| {
        let manifest = bench.manifest(&format!("manifest{parts}"), parts).unwrap();
        let shards: Vec<_> =
            (0..parts).map(|part| bench.shards(&format!("shards{parts}-{part}"), &manifest, part, 1).unwrap()).collect();
        let mut job = bench.job(&format!("summary{parts}"), &[("corpus", manifest.join("corpus.json"))], None);
        let input = |path: &PathBuf| pipeline::Input { path: path.clone(), point: [].into(), partition: None };
        job.inputs.0.insert("shards".to_owned(), shards.iter().map(input).collect());
        crate::summary::run(&crate::summary::Summary {}, &job).unwrap();
        ["statistics.json", "rejects.parquet"].map(|name| fs::read(job.out.join(name)).unwrap())
    };
    let (one, three) = (summary(1), summary(3));
    assert!(one == three);
    let statistics: crate::summary::Statistics = serde_json::from_slice(&one[0]).unwrap();
    assert_eq!((statistics.shards.rejected, statistics.shards.utterances), (1, 72));
    assert_eq!(statistics.shards.splits["train"].labels["2"], 4);
}

#[test]
fn files_that_are_no_shards_are_refused_in_words() {
    let bench = Fixture::new(1);
    let out = bench.shards("shards", &bench.manifest("manifest", 1).unwrap(), 0, 1).unwrap();
    let check = |path: &Path, part: &str| {
        let error = ShardReader::open(&[path]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    check(&out.join("nowhere.parquet"), "cannot read");
    check(&out.join("report.json"), "not a Parquet file");
    check(&out.join("rejects.parquet"), "expected a column `audio.bytes`");

    // Damage the first clip, behind the length of its value.
    let path = out.join("train.parquet");
    let at = fs::read(&path).unwrap().windows(4).position(|four| four == b"RIFF").unwrap();
    File::options().write(true).open(&path).unwrap().write_all_at(b"ROFF", at as u64).unwrap();
    let error = ShardReader::open(&[&path]).unwrap().load(0).unwrap_err();
    assert!(matches!(&error, ReadError::Audio { id, .. } if id == "0_ann_10"), "{error}");
}
