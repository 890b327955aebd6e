use proptest::prelude::*;

use super::*;
use crate::Cause::{Extra, Known, Missing, Unusable};
use crate::testing::{Copy, reasons, shown_id};

#[test]
fn rows_and_clips_meet() {
    let listing = Copy::of("meld").list("meld").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [8, 7, 8]);
    assert_eq!(listing.labels, EMOTIONS);
    let joy = listing.utterances.iter().find(|u| u.id == "test/dia0_utt1").unwrap();
    assert_eq!(
        shown_id(&listing, "test/dia0_utt1"),
        "test/dia0_utt1 test joy Joey output_repeated_splits_test/dia0_utt1.mp4 It\u{2019}s good\u{2026} \u{201c}more\u{201d}, please!"
    );
    assert_eq!(
        (joy.annotation.tags["sentiment"].as_str(), joy.annotation.tags["season"].as_str(), joy.duration_ms),
        ("positive", "8", Some(1_250))
    );
    assert!(shown_id(&listing, "dev/dia0_utt2").contains("/dia0_utt2.MP4 "));
}

#[test]
fn what_is_amiss_is_named_and_known_defects_are_told_apart() {
    let listing = Copy::of("meld").list("meld").unwrap();
    let expected = [
        "dev_sent_emo.csv:11: 3 fields, expected 11",
        "dev_sent_emo.csv:12: emotion `bored` is not one of the seven",
        "dev_sent_emo.csv:13: dialogue `x` and utterance `0` are not numbers",
        "dev_splits_complete/dia110_utt7.mp4: has a row and never had a clip (issues 22 and 27)",
        "dev_splits_complete/dia49_utt4.mp4: has a clip and never had a row (issue 22)",
        "dev_splits_complete/dia9_utt9.mp4: row 10 of `dev_sent_emo.csv` names it, but there is no such clip",
        "output_repeated_splits_test/dia9_utt8.mp4: no row of `test_sent_emo.csv` names it",
        "output_repeated_splits_test/final_videos_testdia0_utt0.mp4: has a clip and never had a row (issue 22)",
        "train_splits/dia125_utt3.mp4: corrupt in every copy (issues 39 and 52)",
    ];
    assert_eq!(reasons(&listing), expected);
    let causes: Vec<_> = listing.skipped.iter().map(|skipped| skipped.cause).collect();
    assert_eq!(causes, [Unusable, Unusable, Unusable, Known, Known, Missing, Extra, Known, Known]);
    let flagged: Vec<_> = listing.utterances.iter().filter(|u| !u.annotation.flags.is_empty()).map(|u| u.id.as_str()).collect();
    assert_eq!(flagged, ["test/dia38_utt4", "train/dia241_utt0"]);
}

#[test]
fn the_clean_protocol_leaves_out_what_is_known_to_be_wrong() {
    let listing = Copy::of("meld").list(CLEAN).unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [7, 7, 7]);
    assert_eq!(listing.skipped.iter().filter(|skipped| skipped.cause == Cause::Known).count(), 6);
}

#[test]
fn clips_are_found_in_every_layout() {
    let copy = Copy::of("meld");
    let before = copy.list("meld").unwrap();
    let root = copy.root();
    for (split, own) in [("train", "train_splits"), ("dev", "dev_splits_complete"), ("test", "output_repeated_splits_test")] {
        std::fs::create_dir(root.join(split)).unwrap();
        std::fs::rename(root.join(own), root.join(split).join(own)).unwrap();
        std::fs::rename(root.join(format!("{split}_sent_emo.csv")), root.join(format!("{split}/{split}_sent_emo.csv"))).unwrap();
    }
    let nested = copy.list("meld").unwrap();
    let ids = |listing: &Listing| listing.utterances.iter().map(|u| u.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&nested), ids(&before));
    assert!(nested.utterances.iter().all(|u| Meld.wants(&PROTOCOLS[0], &u.path)));
    copy.remove("dev");
    let partial = copy.list("meld").unwrap();
    assert_eq!(reasons(&partial)[0], "dev_sent_emo.csv: the table of a split is not there");
}

#[test]
fn times_have_one_or_two_digits_of_hours() {
    assert_eq!(millis("00:16:16,059"), Some(976_059));
    assert_eq!(millis("1:00:00,001"), Some(3_600_001));
    for bad in ["", "16:16,059", "00:16:16", "00:16:16,5", "a:b:c,000"] {
        assert_eq!(millis(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn any_table_is_read_or_refused(text in "[a-z0-9\",:\r\n\\PC]{0,200}", time in "[0-9:,]{0,20}") {
        let header = "Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,StartTime,EndTime\n";
        let rows = rows(&format!("{header}{text}"), b',');
        let columns = Columns::find(&rows[0]).unwrap();
        for row in &rows[1..] {
            let _ = columns.parse(row);
        }
        millis(&time);
    }
}
