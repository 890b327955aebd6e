use std::fs;

use super::*;
use crate::testing::Fixture;

fn folder_bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn every_utterance_is_in_the_part_of_its_id() {
    let bench = Fixture::new(10);
    let out = bench.manifest("manifest", 4).unwrap();
    let mut ids = Vec::new();
    for part in 0..4 {
        let entries = read_entries(&out.join(part_folder(part))).unwrap();
        assert!(entries.is_sorted_by(|a, b| a.id < b.id));
        assert!(entries.iter().all(|entry| partition_of(&entry.id, 4) == part));
        ids.extend(entries.into_iter().map(|entry| entry.id));
    }
    ids.sort();
    assert_eq!(ids.len(), 240);
    assert_eq!(ids[0], "0_ann_0");
    assert_eq!(read_labels(&out.join("labels.json")).unwrap(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let summary: Summary = serde_json::from_slice(&fs::read(out.join("corpus.json")).unwrap()).unwrap();
    assert_eq!(summary.splits, BTreeMap::from([("dev", 100), ("test", 100), ("train", 40)].map(|(k, v)| (k.to_owned(), v))));
    assert_eq!(summary.labels["3"]["train"], 4);
}

#[test]
fn partition_of_an_id_never_changes() {
    assert_eq!(partition_of("7_jackson_32", 16), 2);
    assert_eq!(partition_of("yes/0a7c2a8d_nohash_0", 16), 6);
}

#[test]
fn a_changed_recording_changes_its_part_only() {
    let bench = Fixture::new(10);
    let before = bench.manifest("before", 4).unwrap();
    bench.record("3_bob_7", &crate::wav::write_pcm16(8_000, &[5; 300]));
    let after = bench.manifest("after", 4).unwrap();
    let own = partition_of("3_bob_7", 4);
    for part in 0..4 {
        let same = folder_bytes(&before.join(part_folder(part))) == folder_bytes(&after.join(part_folder(part)));
        assert_eq!(same, part != own, "part {part}");
    }
    assert_eq!(folder_bytes(&before), folder_bytes(&after));
}

#[test]
fn more_parts_than_utterances_leave_some_empty() {
    let bench = Fixture::new(1);
    let out = bench.manifest("manifest", 100).unwrap();
    let counts: Vec<_> = (0..100).map(|part| read_entries(&out.join(part_folder(part))).unwrap().len()).collect();
    assert_eq!((counts.iter().sum::<usize>(), counts.contains(&0)), (24, true));
}

#[test]
fn a_file_that_was_not_hashed_means_that_the_source_changed() {
    let bench = Fixture::new(1);
    let params = Manifest {
        corpus: "fsdd".to_owned(),
        protocol: None,
        tables: Vec::new(),
        columns: ColumnNames::default(),
        max_missing_share: None,
        partitions: 1,
    };
    let job = bench.job("manifest", &[], Some(bench.tree()));
    bench.record("0_new_1", b"");
    let error = run(&params, &job).unwrap_err();
    assert!(matches!(&error, StageError::SourceChanged { path } if path.ends_with("recordings/0_new_1.wav")), "{error}");
}

#[test]
fn a_corpus_that_cannot_be_read_is_explained() {
    let bench = Fixture::new(0);
    let StageError::Failed { source, hint, .. } = bench.manifest("manifest", 1).unwrap_err() else { panic!("another error") };
    assert!(source.to_string().contains("has no recording that can be used"), "{source}");
    let hint = hint.unwrap_or_default();
    assert!(hint.contains("`--root` (sure prepare)") && hint.contains("`--corpus fsdd=FOLDER`"), "{hint}");
}

#[test]
fn mistakes_in_parameters_are_all_named() {
    let mut params = Manifest {
        corpus: "fsd".to_owned(),
        protocol: None,
        tables: Vec::new(),
        columns: ColumnNames::default(),
        max_missing_share: None,
        partitions: 0,
    };
    let named: Vec<_> = params.check().into_iter().map(|mistake| mistake.0).collect();
    assert_eq!(named, ["corpus", "partitions"]);
    assert!(params.sources().is_empty());
    params = Manifest { corpus: "fsdd".to_owned(), protocol: Some("gsc".to_owned()), partitions: 1, ..params };
    assert_eq!(params.check()[0].1, "corpus `fsdd` has no protocol `gsc`, only fsdd");
}

#[test]
fn the_place_and_its_files_follow_from_the_corpus() {
    let params = Manifest {
        corpus: "fsdd".to_owned(),
        protocol: None,
        tables: Vec::new(),
        columns: ColumnNames::default(),
        max_missing_share: None,
        partitions: 1,
    };
    let needs = params.sources();
    assert_eq!(needs[0].place, "corpora.fsdd");
    assert!((needs[0].wants)("recordings/0_ann_0.wav") && !(needs[0].wants)("README.md"));
}

#[test]
fn a_copy_with_an_empty_split_is_refused_unless_that_is_accepted() {
    let bench = Fixture::new(1);
    // Published sizes do not apply to a miniature. Indices 0 to 4 are the test set of FSDD, 5 to 9 its dev set.
    std::fs::write(bench.corpus().join("MINIATURE.md"), "").unwrap();
    let run_with = |max_missing_share| {
        let params = Manifest {
            corpus: "fsdd".to_owned(),
            protocol: None,
            tables: Vec::new(),
            columns: ColumnNames::default(),
            max_missing_share,
            partitions: 1,
        };
        run(&params, &bench.job("manifest", &[], Some(bench.tree())))
    };
    run_with(Some(0.0)).unwrap();
    for index in 0..5 {
        for speaker in ["ann", "bob"] {
            std::fs::remove_file(bench.corpus().join(format!("recordings/0_{speaker}_{index}.wav"))).unwrap();
        }
    }
    run_with(None).unwrap();
    let error = run_with(Some(1.0)).unwrap_err().to_string();
    assert!(error.contains("the test set of `fsdd` is empty"), "{error}");
}
