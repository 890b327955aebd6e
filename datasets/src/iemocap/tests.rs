use super::*;
use crate::testing::{Copy, reasons, shown_id};

const CORPUS: &str = "iemocap";

#[test]
fn excited_is_happy_in_four_classes() {
    let listing = Copy::of(CORPUS).list("iemocap-4").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [15, 5, 5]);
    let path = "IEMOCAP_full_release/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav";
    let row = format!("Ses01F_impro01_F001 train hap Ses01F {path} It\u{2019}s good\u{2026}");
    assert_eq!(shown_id(&listing, "Ses01F_impro01_F001"), row);
    let happy = listing.utterances.iter().filter(|u| u.annotation.label.as_deref() == Some("hap")).count();
    assert_eq!((happy, listing.unused["emotion `xxx` is not one of four"]), (10, 5));
    assert_eq!(listing.names_of(|u| u.annotation.speaker.as_deref()).len(), 10);
    let first = listing.utterances.iter().find(|u| u.id == "Ses01F_impro01_F001").unwrap();
    assert_eq!((first.annotation.tags["valence"].as_str(), first.duration_ms), ("2.5000", Some(1_250)));
}

#[test]
fn what_is_amiss_is_named() {
    let listing = Copy::of(CORPUS).list("iemocap-4").unwrap();
    let base = "IEMOCAP_full_release/Session2";
    let expected = [
        format!("{base}/dialog/EmoEvaluation/Ses02F_impro01.txt:14: 2 fields, expected 4"),
        format!(
            "{base}/sentences/wav/Ses02F_impro01/Ses02F_impro01_F998.wav: line 15 of `Ses02F_impro01.txt` names it, but there is no such recording"
        ),
        format!("{base}/sentences/wav/Ses02F_impro01/Ses02F_impro01_F999.wav: no line of the labels names it"),
    ];
    assert_eq!(reasons(&listing), expected);
    let flagged: Vec<_> = listing.utterances.iter().filter(|u| !u.annotation.flags.is_empty()).map(|u| u.id.as_str()).collect();
    assert_eq!(flagged, ["Ses03F_impro01_M000"]);
}

#[test]
fn sessions_and_folds_are_splits() {
    let copy = Copy::of(CORPUS);
    let all = copy.list("iemocap-sure").unwrap();
    assert_eq!((all.utterances.len(), all.labels.len()), (30, 11));
    let fold = copy.list("iemocap-4-fold2").unwrap();
    let in_test = |u: &&Utterance| u.split == Split::Test;
    assert!(fold.utterances.iter().filter(in_test).all(|u| u.id.starts_with("Ses02")));
    assert_eq!(fold.count(Split::Test), 5);
    assert!(fold.count(Split::Dev) > 0 && fold.count(Split::Train) > fold.count(Split::Dev));
    copy.remove("IEMOCAP_full_release/Session5");
    assert_eq!(
        reasons(&copy.list("iemocap-4").unwrap()).last().unwrap(),
        "IEMOCAP_full_release/Session5: a session is not there"
    );
}
