use proptest::prelude::*;

use super::*;
use crate::testing::{Copy, reasons, shown_id};

const CORPUS: &str = "libritts";

#[test]
fn texts_come_from_the_table_or_from_files_of_their_own() {
    let listing = Copy::of(CORPUS).list("libritts-100").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [9, 4, 4]);
    let row = "103_1241_000000_000001 train - 103 LibriTTS/train-clean-100/103/1241/103_1241_000000_000001.wav Turn left \u{2014} & stop!";
    assert_eq!(shown_id(&listing, "103_1241_000000_000001"), row);
    let text = |id: &str| listing.utterances.iter().find(|u| u.id == id).unwrap().annotation.normalised.clone();
    assert_eq!(text("103_1241_000000_000001").as_deref(), Some("Turn left {and} stop!"));
    assert_eq!(text("103_1241_000000_000002").as_deref(), Some("It's good, is it?"));
}

#[test]
fn what_is_amiss_is_named() {
    let listing = Copy::of(CORPUS).list("libritts-100").unwrap();
    let base = "LibriTTS/train-clean-100/103/1241";
    let expected = [
        format!("{base}/103_1241.trans.tsv:4: not an id and two texts, parted by tabs"),
        format!("{base}/103_1241.trans.tsv:6: a second line of `103_1241_000000_000000`"),
        format!("{base}/103_1241_000099_000000.wav: the table of its chapter names it, but there is no such recording"),
    ];
    assert_eq!(reasons(&listing), expected);
    let flagged: Vec<_> = listing.utterances.iter().filter(|u| !u.annotation.flags.is_empty()).map(|u| u.id.as_str()).collect();
    assert_eq!(flagged, ["103_1241_000000_000004"]);
}

#[test]
fn sure_holds_out_of_the_training_subset_alone() {
    let listing = Copy::of(CORPUS).list(SURE).unwrap();
    assert!(listing.utterances.iter().all(|u| u.annotation.tags["subset"] == "train-clean-100"));
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [0, 9, 0]);
}

#[test]
fn voices_are_tested_on_sentences_that_they_never_learned() {
    let listing = Copy::of(CORPUS).list(TTS).unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)).iter().sum::<u64>(), 9);
    let of = |split: Split| {
        let own = listing.utterances.iter().filter(|utterance| utterance.split == split);
        own.map(|utterance| utterance.annotation.normalised.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    let [train, dev, test] = Split::ALL.map(of);
    assert!(!train.is_empty() && !dev.is_empty() && !test.is_empty(), "{listing:?}");
    assert!(train.is_disjoint(&dev) && train.is_disjoint(&test) && dev.is_disjoint(&test));
}

proptest! {
    #[test]
    fn any_line_is_read_or_refused(line in "([0-9]{1,3}_?){0,4}\t?[a-z{}\t]{0,9}|\\PC{0,40}") {
        parse(&line);
    }
}
