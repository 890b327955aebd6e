use std::path::{Path, PathBuf};

use datasets::shard::RowInfo;
use pipeline::{Input, Stage, StageError};

use super::{Join, RECORDINGS, Strings, natural, run};
use crate::reader::ShardReader;
use crate::testing::Fixture;

fn strings(passes: u32, recordings: [u32; 2]) -> Strings {
    Strings { passes, recordings, max_strings: None, takes: None, texts: Vec::new() }
}

fn params(strings: Strings) -> Join {
    let json = serde_json::json!({"sample_rate": 16_000, "seed": 7});
    Join { test: Some(strings), ..serde_json::from_value(json).unwrap() }
}

/// Two parts of the shards of a corpus of three digits.
fn shards(bench: &Fixture) -> Vec<PathBuf> {
    let manifest = bench.manifest("manifest", 2).unwrap();
    (0..2).map(|part| bench.shards(&format!("shards{part}"), &manifest, part, 1).unwrap()).collect()
}

fn join(bench: &Fixture, params: &Join, out: &str, like: Option<&Path>) -> Result<PathBuf, StageError> {
    assert_eq!(params.check(), []);
    let input = |path: &Path| Input { path: path.to_owned(), point: [].into(), partition: None };
    let mut job = bench.job(out, &[], None);
    job.inputs.0.insert("shards".to_owned(), shards(bench).iter().map(|path| input(path)).collect());
    job.inputs.0.extend(like.map(|like| ("like".to_owned(), vec![input(like)])));
    run(params, &job)?;
    Ok(job.out)
}

fn rows(folder: &Path) -> Vec<RowInfo> {
    RowInfo::read(&folder.join("test.parquet"), |_| true).unwrap().0
}

fn recordings(row: &RowInfo) -> Vec<&str> {
    row.annotation.tags[RECORDINGS].split(' ').collect()
}

fn speaker(row: &RowInfo) -> &str {
    row.annotation.speaker.as_deref().unwrap()
}

#[test]
fn strings_have_the_words_of_their_recordings_with_times() {
    let bench = Fixture::new(3);
    let out = join(&bench, &params(strings(2, [2, 3])), "joined", None).unwrap();
    let rows = rows(&out);
    // Three digits, five test recordings, two speakers, two passes.
    assert_eq!(rows.iter().map(|row| row.annotation.words.len()).sum::<usize>(), 3 * 5 * 2 * 2);
    let reader = ShardReader::open(&[out.join("test.parquet")]).unwrap();
    for (at, row) in rows.iter().enumerate() {
        let text: Vec<&str> = row.annotation.words.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(row.annotation.transcript.as_deref(), Some(text.join(" ").as_str()));
        let samples = reader.load(at).unwrap();
        let sample = |us: u64| us as usize * 16 / 1000;
        let mut end = 0;
        for word in &row.annotation.words {
            let times = word.times.unwrap();
            let silence = &samples[end..sample(times.start_us)];
            assert!(silence.len() >= 790 && silence.iter().all(|x| x.abs() < 1e-3), "{}: {} samples", row.id, silence.len());
            let sound = &samples[sample(times.start_us)..sample(times.end_us)];
            let rms = (sound.iter().map(|x| x * x).sum::<f32>() / sound.len() as f32).sqrt();
            assert!((rms - 0.08).abs() < 0.02, "{rms}");
            end = sample(times.end_us) + 1;
        }
    }
    let of_ann = rows.iter().filter(|row| speaker(row) == "ann");
    assert_eq!(of_ann.map(|row| row.annotation.words.len()).sum::<usize>(), 3 * 5 * 2);
    for file in ["train.parquet", "dev.parquet"] {
        assert!(RowInfo::read(&out.join(file), |_| true).unwrap().0.is_empty());
    }
}

#[test]
fn the_seed_alone_decides_and_speakers_do_not_depend_on_each_other() {
    let bench = Fixture::new(2);
    let read = |folder: PathBuf| std::fs::read(folder.join("test.parquet")).unwrap();
    let both = join(&bench, &params(strings(1, [1, 4])), "both", None).unwrap();
    let again = join(&bench, &params(strings(1, [1, 4])), "again", None).unwrap();
    assert_eq!(read(both.clone()), read(again));
    let other = join(&bench, &Join { seed: 8, ..params(strings(1, [1, 4])) }, "other", None).unwrap();
    assert_ne!(read(both.clone()), read(other));
    let bob = Join { speakers: vec!["bob".to_owned()], ..params(strings(1, [1, 4])) };
    let alone = join(&bench, &bob, "bob", None).unwrap();
    let of_bob: Vec<RowInfo> = rows(&both).into_iter().filter(|row| speaker(row) == "bob").collect();
    assert_eq!(rows(&alone), of_bob);
}

#[test]
fn few_takes_and_texts_can_be_chosen() {
    let bench = Fixture::new(3);
    let few = Strings { takes: Some(2), texts: vec!["zero".to_owned(), "two".to_owned()], ..strings(1, [1, 1]) };
    let rows = rows(&join(&bench, &params(few), "few", None).unwrap());
    let mut ids: Vec<&str> = rows.iter().flat_map(recordings).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["0_ann_0", "0_ann_1", "0_bob_0", "0_bob_1", "2_ann_0", "2_ann_1", "2_bob_0", "2_bob_1"]);
    let most = Strings { max_strings: Some(3), ..strings(9, [2, 2]) };
    assert_eq!(self::rows(&join(&bench, &params(most), "most", None).unwrap()).len(), 6);
}

#[test]
fn strings_can_be_spoken_again_by_other_recordings() {
    let bench = Fixture::new(3);
    let first = join(&bench, &params(strings(1, [3, 3])), "first", None).unwrap();
    let twin = join(&bench, &params(strings(1, [1, 1])), "twin", Some(&first)).unwrap();
    let (first, twin) = (rows(&first), rows(&twin));
    let key = |row: &RowInfo| (row.id.clone(), row.annotation.speaker.clone(), row.annotation.transcript.clone());
    assert_eq!(first.iter().map(key).collect::<Vec<_>>(), twin.iter().map(key).collect::<Vec<_>>());
    for (row, other) in first.iter().zip(&twin) {
        assert!(recordings(row).iter().all(|id| !recordings(other).contains(id)));
    }
}

#[test]
fn what_cannot_be_joined_is_named() {
    let bench = Fixture::new(2);
    let fails = |params: &Join, out: &str| join(&bench, params, out, None).unwrap_err().to_string();
    let unknown = Join { speakers: vec!["carl".to_owned()], ..params(strings(1, [1, 1])) };
    assert_eq!(fails(&unknown, "carl"), "the test set has no recording of the speaker `carl`");
    let texts = Strings { texts: vec!["nine".to_owned()], ..strings(1, [1, 1]) };
    assert_eq!(fails(&params(texts), "nine"), "the test set has no recording of these texts");
    let rate = Join { sample_rate: 8_000, ..params(strings(1, [1, 1])) };
    assert!(fails(&rate, "rate").ends_with("has 16000 Hz, expected 8000 Hz"), "{}", fails(&rate, "rate2"));
    let wrong = Join { noise: -1.0, pause_secs: [0.2, 0.1], ..params(strings(0, [2, 1])) };
    let parameters: Vec<&str> = wrong.check().iter().map(|(name, _)| *name).collect();
    assert_eq!(parameters, ["pause_secs", "noise", "test", "test"]);
}

#[test]
fn silent_recordings_are_left_out_and_listed() {
    let bench = Fixture::new(2);
    bench.record("0_ann_1", &crate::wav::write_pcm16(8_000, &[0; 900]));
    let out = join(&bench, &params(strings(1, [2, 2])), "joined", None).unwrap();
    let rows = rows(&out);
    assert!(rows.iter().flat_map(recordings).all(|id| id != "0_ann_1"));
    let counts: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("joined.json")).unwrap()).unwrap();
    assert_eq!(counts["test"]["silent"], serde_json::json!(["0_ann_1"]));
}

#[test]
fn numbers_in_ids_sort_by_value() {
    let mut ids = ["7_jackson_10", "7_jackson_9", "10_ann_1", "7_bob_11"];
    ids.sort_by(|a, b| natural(a).cmp(&natural(b)));
    assert_eq!(ids, ["7_bob_11", "7_jackson_9", "7_jackson_10", "10_ann_1"]);
}
