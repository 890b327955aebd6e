use proptest::prelude::*;

use super::*;
use crate::testing::{Copy, reasons, shown_id};

#[test]
fn each_speaker_is_split_in_order_of_name_whatever_the_order_of_the_folder() {
    let listing = Copy::of("vctk").list("vctk-0.92-mic1").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [25, 3, 3]);
    assert_eq!(listing.labels.len(), 107);
    assert_eq!(listing.names_of(|u| u.annotation.speaker.as_deref()), ["p225", "p226", "p376"]);
    let of_one: Vec<_> = listing.utterances.iter().filter(|u| u.id.starts_with("p225")).map(|u| u.split).collect();
    assert_eq!(of_one, [&[Split::Train; 8][..], &[Split::Dev, Split::Test]].concat());
    let first = "p225_001_mic1 train p225 p225 wav48_silence_trimmed/p225/p225_001_mic1.flac Please, go left.";
    assert_eq!(shown_id(&listing, "p225_001_mic1"), first);
    let tags: Vec<_> = listing.utterances[0].annotation.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(tags, ["accent=English", "age=23", "gender=female", "region=Southern England"]);
}

#[test]
fn microphones_and_versions_are_protocols() {
    let copy = Copy::of("vctk");
    let second = copy.list("vctk-0.92-mic2").unwrap();
    assert_eq!(second.utterances.len(), 30);
    assert!(second.utterances.iter().all(|u| u.id.ends_with("_mic2")));
    let old = copy.list("vctk-0.80").unwrap();
    assert_eq!(shown_id(&old, "p226_002"), "p226_002 train p226 p226 wav48/p226/p226_002.wav No, it\u{2019}s not.");
    assert_eq!((old.utterances.len(), old.expected), (20, None));
}

#[test]
fn what_is_amiss_is_named() {
    let listing = Copy::of("vctk").list("vctk-0.92-mic1").unwrap();
    let expected = [
        "wav48_silence_trimmed/log.txt: not the folder of a speaker of VCTK",
        "wav48_silence_trimmed/p225/p225_999_mic1.flac: `txt/p225` has its text, but there is no recording",
        "wav48_silence_trimmed/p226/p226_hello_mic1.flac: its name is not `p226_<number>_mic1`",
        "wav48_silence_trimmed/p226/p999_001_mic1.flac: its name is not `p226_<number>_mic1`",
    ];
    assert_eq!(reasons(&listing), expected);
    let flagged: Vec<_> = listing.utterances.iter().filter(|u| !u.annotation.flags.is_empty()).map(|u| u.id.as_str()).collect();
    assert_eq!(flagged, ["p376_011_mic1"]);
}

#[test]
fn texts_may_have_any_case_and_be_unreadable() {
    let copy = Copy::of("vctk");
    copy.remove("txt/p225/p225_001.txt");
    copy.write("txt/p225/p225_001.TXT", "\n Again. \nmore\n");
    copy.remove("txt/p225/p225_002.txt");
    copy.write("txt/p225/p225_002.txt", "");
    let listing = copy.list("vctk-0.80").unwrap();
    assert!(shown_id(&listing, "p225_001").ends_with(" Again."));
    assert_eq!(listing.utterances.iter().find(|u| u.id == "p225_002").unwrap().annotation.flags, ["no transcript"]);
}

#[test]
fn two_recordings_of_one_sentence_are_not_both_taken() {
    let copy = Copy::of("vctk");
    copy.write("wav48/p225/p225_001_mic2.wav", "");
    let listing = copy.list("vctk-0.80").unwrap();
    assert_eq!(reasons(&listing)[0], "wav48/p225/p225_001_mic2.wav: the same sentence as `wav48/p225/p225_001.wav`");
    assert_eq!(listing.utterances.len(), 20);
}

#[test]
fn texts_that_no_copy_has_recordings_of_are_known() {
    let copy = Copy::of("vctk");
    copy.write("wav48_silence_trimmed/p362/p362_001_mic1.flac", "");
    copy.write("txt/p362/p362_001.txt", "Yes.");
    copy.write("txt/p362/p362_002.txt", "No.");
    let listing = copy.list("vctk-0.92-mic1").unwrap();
    let of_speaker: Vec<_> = listing.skipped.iter().filter(|skipped| skipped.path.contains("p362")).collect();
    assert_eq!(of_speaker.len(), 1);
    assert_eq!((&*of_speaker[0].path, of_speaker[0].cause), ("wav48_silence_trimmed/p362/p362_002_mic1.flac", Cause::Known));
}

proptest! {
    #[test]
    fn any_speaker_info_is_read(text in "[A-Z0-9p( )\n\\PC]{0,200}", stem in "[p0-9_mic]{0,20}") {
        speaker_info(&text);
        let _ = prompt(&stem, "p225", None);
        let _ = prompt(&stem, "p225", Some("_mic1"));
    }
}
