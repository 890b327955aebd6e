use std::fs;

use super::*;
use crate::find;
use crate::testing::Copy;

fn report(copy: &Copy, corpus: &str, protocol: &str) -> Report {
    let corpus = find(corpus).unwrap();
    check(corpus, corpus.protocol(Some(protocol)).unwrap(), &copy.root(), &|_| None).unwrap()
}

fn whats(report: &Report) -> Vec<String> {
    report.findings.iter().map(|finding| format!("{:?}: {}", finding.severity, finding.what)).collect()
}

#[test]
fn a_report_reads_well() {
    let text = report(&Copy::of("meld"), "meld", "meld").to_string();
    let expected = "\
meld as meld (licence: annotations GPL-3.0; clips of a TV series, research use)
  train 8 utterances, 2 speakers, 0.00 h
  dev   7 utterances, 2 speakers, 0.00 h
  test  8 utterances, 2 speakers, 0.00 h
  class      train     dev    test
  neutral        2       1       2
  joy            1       1       1
  sadness        1       1       1
  anger          1       1       1
  surprise       1       1       1
  fear           1       1       1
  disgust        1       1       1
fault: 1: named by label files and not there
  dev_splits_complete/dia9_utt9.mp4: row 10 of `dev_sent_emo.csv` names it, but there is no such clip
warning: 3: left out because it is not as it should be
  dev_sent_emo.csv:11: 3 fields, expected 11
  dev_sent_emo.csv:12: emotion `bored` is not one of the seven
  dev_sent_emo.csv:13: dialogue `x` and utterance `0` are not numbers
warning: 1: there without a label
  output_repeated_splits_test/dia9_utt8.mp4: no row of `test_sent_emo.csv` names it
note: 4: left out because every copy has it wrong
  dev_splits_complete/dia110_utt7.mp4: has a row and never had a clip (issues 22 and 27)
  dev_splits_complete/dia49_utt4.mp4: has a clip and never had a row (issue 22)
  output_repeated_splits_test/final_videos_testdia0_utt0.mp4: has a clip and never had a row (issue 22)
  train_splits/dia125_utt3.mp4: corrupt in every copy (issues 39 and 52)
note: 1 kept, though: cut wrongly: minutes of other dialogue, the text does not match (issue 20)
  test/dia38_utt4
note: 1 kept, though: text and clips of this dialogue are out of step (issue 9)
  train/dia241_utt0
note: 2: speakers that are in several splits
  Chandler
  Joey
not complete
";
    assert_eq!(text, expected);
}

#[test]
fn published_figures_are_held_against_a_copy_that_is_no_miniature() {
    let copy = Copy::of("esd");
    copy.remove(crate::place::MINIATURE);
    let report = report(&copy, "esd", "esd-en");
    assert!(!report.passes());
    let whats = whats(&report);
    let expected = [
        "Fault: train has 150 utterances, as published 15000",
        "Fault: dev has 49 utterances, as published 1000",
        "Fault: test has 51 utterances, as published 1500",
        "Fault: class `Angry` has 30 utterances in train, as published 3000",
    ];
    assert_eq!(whats[..4], expected);
    assert_eq!(report.classes[0].expected, Some([3_000, 200, 300]));
    assert_eq!(report.splits[0].expected, Some(15_000));
}

#[test]
fn published_figures_do_not_apply_to_a_miniature() {
    let of = |corpus: &str, protocol: &str| whats(&report(&Copy::of(corpus), corpus, protocol));
    for (corpus, protocol) in [("esd", "esd-en"), ("vctk", "vctk-0.80"), ("speech_commands", "gsc-v2-11")] {
        assert!(of(corpus, protocol).iter().all(|what| !what.contains("as published")), "{corpus}");
    }
}

#[test]
fn speakers_in_several_splits_are_a_warning_where_they_are_not_meant_to_be() {
    let copy = Copy::of("audio_snips");
    let shared = |protocol: &str| {
        let report = report(&copy, "audio_snips", protocol);
        report
            .findings
            .into_iter()
            .filter(|finding| finding.what.contains("speakers"))
            .map(|finding| (finding.severity, finding.names))
            .collect::<Vec<_>>()
    };
    assert_eq!(shared("snips-superb"), []);
    assert_eq!(shared("snips-all"), [(Severity::Note, ["Aditi", "Brian", "Ivy", "Joanna"].map(str::to_owned).to_vec())]);
    let copy = Copy::of("table");
    let table = report(&copy, "table", "table");
    assert!(whats(&table).contains(&"Warning: 2: speakers that are in several splits".to_owned()), "{:?}", whats(&table));
}

#[test]
fn one_content_in_two_splits_is_found_by_the_callers_digests() {
    let copy = Copy::of("fsdd");
    let digests = BTreeMap::from([
        ("recordings/0_jackson_0.wav", "x"),
        ("recordings/0_jackson_10.wav", "x"),
        ("recordings/5_jackson_10.wav", "y"),
        ("recordings/7_jackson_10.wav", "y"),
        ("recordings/7_jackson_0.wav", "z"),
    ]);
    let corpus = find("fsdd").unwrap();
    let digest = |path: &str| digests.get(path).map(|digest| (*digest).to_owned());
    let report = check(corpus, &corpus.protocols()[0], &copy.root(), &digest).unwrap();
    let named: Vec<_> = report.findings.iter().filter(|finding| finding.what.contains("same recording")).collect();
    assert_eq!((named[0].severity, &named[0].names), (Severity::Warning, &vec!["0_jackson_0 = 0_jackson_10".to_owned()]));
    assert_eq!((named[1].severity, &named[1].names), (Severity::Note, &vec!["5_jackson_10 = 7_jackson_10".to_owned()]));
}

#[test]
fn one_name_in_two_splits_is_found_where_names_are_unique() {
    let listing = |paths: [&str; 2]| Listing {
        utterances: vec![Utterance::new("a", paths[0], Split::Train), Utterance::new("b", paths[1], Split::Test)],
        ..Listing::default()
    };
    let check = |paths, facts, expected: &[&str]| {
        let mut findings = Vec::new();
        compare::splits(&listing(paths), &facts, &|_| None, &mut findings);
        assert_eq!(findings.iter().flat_map(|finding| finding.names.clone()).collect::<Vec<_>>(), expected);
    };
    check(["train/x.wav", "test/x.wav"], Facts::default(), &["x.wav"]);
    check(["train/x.wav", "test/y.wav"], Facts::default(), &[]);
    check(["train/x.wav", "test/x.wav"], Facts { repeats_names: true, ..Facts::default() }, &[]);
}

#[test]
fn lengths_come_from_headers_then_from_label_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x64\0\0\0\x64\0\0\0\x01\0\x08\0data\xd0\x07\0\0".to_vec();
    wav.resize(wav.len() + 2_000, 128);
    fs::write(folder.path().join("a.wav"), wav).unwrap();
    fs::write(folder.path().join("b.mp4"), "no header").unwrap();
    let secs = |path: &str, span, duration_ms| {
        let header = Length::read(&folder.path().join(path));
        length_secs(&Utterance { span, duration_ms, ..Utterance::new("", path, Split::Test) }, header)
    };
    let span = Some(crate::Span { start: 100, num_samples: 50 });
    assert_eq!(secs("a.wav", None, Some(1)), Some(20.0));
    assert_eq!(secs("a.wav", span, None), Some(0.5));
    assert_eq!(secs("b.mp4", None, Some(1_500)), Some(1.5));
    assert_eq!(secs("b.mp4", span, Some(1_500)), None);
    assert_eq!(secs("gone.wav", None, None), None);
}

#[test]
fn a_whole_corpus_passes_with_labels_to_spare() {
    let mut findings = Vec::new();
    let mut listing = Listing { expected: Some([0; 3]), ..Listing::default() };
    listing.missing("x.wav", "gone");
    skipped(&listing, true, &mut findings);
    skipped(&listing, false, &mut findings);
    assert_eq!(findings.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [Severity::Note, Severity::Fault]);
}

#[test]
fn classes_may_differ_by_the_slack_and_hours_by_rounding() {
    let class = |found| ClassReport { label: "joy".to_owned(), utterances: [found, 5, 5], expected: Some([10, 5, 5]) };
    let split = |hours, unknown_lengths| {
        Split::ALL.map(|split| SplitReport { split, utterances: 1, expected: Some(1), speakers: 1, hours, unknown_lengths })
    };
    let check = |found, hours, unknown, expected: &[&str]| {
        let facts = Facts { class_slack: 1, hours: Some([1.0; 3]), ..Facts::default() };
        let mut findings = Vec::new();
        compare::sizes(&split(hours, unknown), &[class(found)], &facts, &mut findings);
        assert_eq!(findings.iter().map(|finding| finding.what.as_str()).collect::<Vec<_>>(), expected);
    };
    check(9, 1.02, 0, &[]);
    check(8, 1.0, 0, &["class `joy` has 8 utterances in train, as published 10"]);
    let hours = |split: &str| format!("{split} has 0.50 hours, as published 1");
    check(10, 0.5, 0, &[&*hours("train"), &*hours("dev"), &*hours("test")]);
    check(10, 0.5, 1, &[]);
}

#[test]
fn damaged_recordings_are_faults_by_name() {
    let copy = Copy::of("fsdd");
    let path = |name: &str| format!("recordings/{name}.wav");
    let whole = fs::read(copy.root().join(path("0_jackson_0"))).unwrap();
    copy.write(&path("0_jackson_0"), &whole[..100]);
    copy.write(&path("5_jackson_0"), "");
    copy.write(&path("7_jackson_0"), &whole[..44]);
    copy.write(&path("7_jackson_5"), "no sound");
    let report = report(&copy, "fsdd", "fsdd");
    assert!(!report.passes());
    let found: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.names[0].starts_with("recordings/") && !finding.names[0].contains(": "))
        .collect();
    let shown: Vec<_> =
        found.iter().map(|finding| format!("{:?}: {} {:?}", finding.severity, finding.what, finding.names)).collect();
    let expected = [
        "Fault: 2: without a sample [\"recordings/5_jackson_0.wav\", \"recordings/7_jackson_0.wav\"]",
        "Fault: 1: shorter than the header says [\"recordings/0_jackson_0.wav\"]",
        "Warning: 1: without a header that says how long it is, as its name promises [\"recordings/7_jackson_5.wav\"]",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn the_last_line_says_what_was_held_against_what() {
    let last = |copy: &Copy, corpus: &str, protocol: &str| {
        report(copy, corpus, protocol).to_string().trim_end().rsplit('\n').next().map(str::to_owned).unwrap()
    };
    let copy = Copy::of("fsdd");
    assert!(last(&copy, "fsdd", "fsdd").ends_with("(synthetic: published sizes do not apply)"));
    copy.remove(crate::place::MINIATURE);
    assert_eq!(last(&copy, "fsdd", "fsdd"), "not complete");
    let copy = Copy::of("table");
    copy.write("table.csv", "path\nclips/a 0.wav\n");
    copy.remove(crate::place::MINIATURE);
    assert!(last(&copy, "table", "table").ends_with("(no published sizes are known to hold it against)"));
    copy.write("table.csv", "path\nclips/a 0.wav\nclips/gone.wav\n");
    assert_eq!(last(&copy, "table", "table"), "not complete");
}

#[test]
fn the_test_archive_of_twelve_classes_has_a_published_size() {
    let copy = Copy::of("speech_commands");
    copy.write("README.md", "# Speech Commands Data Set v0.02\n");
    let report = report(&copy, "speech_commands", "gsc-v2-12");
    assert_eq!(report.splits.each_ref().map(|split| split.expected), [None, None, Some(4_890)]);
    assert!(whats(&report)[0].starts_with("Fault: test has ") && whats(&report)[0].ends_with(", as published 4890"));
}
