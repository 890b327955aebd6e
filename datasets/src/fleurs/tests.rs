use proptest::prelude::*;

use super::*;
use crate::testing::{Copy, reasons, shown_id};

#[test]
fn quotation_marks_are_literal_and_a_sentence_may_have_several_readers() {
    let listing = Copy::of("fleurs").list("fleurs-en_us").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [5, 4, 4]);
    let row = "train/1001 train - - data/en_us/audio/train/1001.wav \"It\u{2019}s good\", is it?";
    assert_eq!(shown_id(&listing, "train/1001"), row);
    let both: Vec<_> =
        listing.utterances.iter().filter(|u| u.annotation.tags["sentence"] == "1" && u.split == Split::Dev).collect();
    assert_eq!(both.iter().map(|u| u.id.as_str()).collect::<Vec<_>>(), ["dev/2001", "dev/2003"]);
    assert_eq!(both[0].annotation.normalised.as_deref(), Some("it's good is it"));
    assert_eq!((both[0].annotation.tags["gender"].as_str(), both[0].duration_ms), ("female", Some(1_500)));
}

#[test]
fn what_is_amiss_is_named() {
    let listing = Copy::of("fleurs").list("fleurs-en_us").unwrap();
    let expected = [
        "data/en_us/audio/test/9.wav: no line of `test.tsv` names it",
        "data/en_us/audio/train/8.wav: line 7 of `train.tsv` names it, but there is no such recording",
        "data/en_us/train.tsv:6: 2 fields, expected 7",
        "data/en_us/train.tsv:8: `many` is not a number of samples",
        "data/en_us/train.tsv:9: `../x.wav` is not the name of a recording",
    ];
    assert_eq!(reasons(&listing), expected);
    let flagged: Vec<_> = listing.utterances.iter().filter(|u| !u.annotation.flags.is_empty()).map(|u| u.id.as_str()).collect();
    assert_eq!(flagged, ["train/1005"]);
}

#[test]
fn long_recordings_are_left_out_by_name_only() {
    let listing = Copy::of("fleurs").list(SHORT).unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [5, 4, 3]);
    assert_eq!(listing.unused["lasts 20 s or longer"], 1);
}

#[test]
fn an_archive_that_was_not_unpacked_is_named() {
    let copy = Copy::of("fleurs");
    copy.remove("data/en_us/audio/dev");
    let listing = copy.list("fleurs-en_us").unwrap();
    assert!(reasons(&listing)[0].ends_with("`audio/dev.tar.gz` has to be unpacked"), "{:?}", reasons(&listing));
}

proptest! {
    #[test]
    fn any_line_is_read_or_refused(line in "([a-z0-9./\"]{0,8}\t){0,7}[A-Z0-9]{0,8}|\\PC{0,60}") {
        if let Ok(row) = parse(&line) {
            row.utterance(String::new(), Split::Train);
        }
    }
}
