use proptest::prelude::*;

use super::*;
use crate::testing::{Copy, reasons, shown_id};

const CORPUS: &str = "audio_snips";

#[test]
fn voices_are_disjoint_by_default_and_everywhere_in_sure() {
    let copy = Copy::of(CORPUS);
    let listing = copy.list("snips-superb").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [6, 3, 3]);
    let voices = |listing: &Listing, split| {
        let of_split = |u: &Utterance| u.split == split;
        let names: BTreeSet<_> =
            listing.utterances.iter().filter(|u| of_split(u)).filter_map(|u| u.annotation.speaker.clone()).collect();
        names.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(voices(&listing, Split::Train), ["Ivy", "Joanna"]);
    assert_eq!(voices(&listing, Split::Test), ["Brian"]);
    assert_eq!(listing.unused.values().sum::<u64>(), 24);
    let all = copy.list(ALL).unwrap();
    assert_eq!(Split::ALL.map(|split| all.count(split)), [12; 3]);
    assert_eq!(voices(&all, Split::Test), ["Aditi", "Brian", "Ivy", "Joanna"]);
}

#[test]
fn words_have_slots_and_runs_of_one_slot_are_one_value() {
    let listing = Copy::of(CORPUS).list("snips-superb").unwrap();
    let row = "Ivy-snips-train-1 train GetWeather Ivy train/Ivy-snips-train-1.wav WHAT IS THE WEATHER IN HAPPY HOUSE \u{201c}";
    assert_eq!(shown_id(&listing, "Ivy-snips-train-1"), row);
    let utterance = listing.utterances.iter().find(|u| u.id == "Ivy-snips-train-1").unwrap();
    assert_eq!(utterance.annotation.slots, [Slot { name: "city".to_owned(), value: "HAPPY HOUSE".to_owned() }]);
    assert_eq!((utterance.annotation.words.len(), utterance.annotation.words[5].slot.as_deref()), (8, Some("city")));
    assert_eq!(listing.classes["slot"], ["city", "genre", "restaurant_type"]);
}

#[test]
fn what_is_amiss_is_named() {
    let listing = Copy::of(CORPUS).list("snips-superb").unwrap();
    let expected = [
        "all.iob.snips.txt:39: no tab between words and slots",
        "all.iob.snips.txt:40: 2 words and 1 slots",
        "all.iob.snips.txt:41: intent `Dance` is not one of the seven",
        "all.iob.snips.txt:42: split `dev` of `Ivy-snips-dev-9` is not train, valid or test",
        "test/notes.txt: not a .wav file",
        "train/Ivy-snips-train-77.wav: line 43 of `all.iob.snips.txt` names it, but there is no such recording",
        "train/Ivy-snips-train-88.wav: no line of `all.iob.snips.txt` is about `Ivy-snips-train-88`",
    ];
    assert_eq!(reasons(&listing), expected);
    let flagged: Vec<_> =
        listing.utterances.iter().filter(|u| !u.annotation.flags.is_empty()).map(|u| u.annotation.flags[0].clone()).collect();
    assert_eq!(flagged, ["slot `party_size` is not in `slots.txt`"; 4]);
}

#[test]
fn without_slots_there_is_no_corpus() {
    let copy = Copy::of(CORPUS);
    copy.remove("slots.txt");
    let error = copy.list(ALL).unwrap_err().to_string();
    assert!(error.contains("`slots.txt` is not there"), "{error}");
}

proptest! {
    #[test]
    fn any_line_is_read_or_refused(line in "(A-snips-(train|x)-1)?( BOS)?[A-Z ]{0,9}( EOS)?\t?(O )?[a-zO ]{0,9}( PlayMusic)?|\\PC{0,60}") {
        if let Ok((_, utterance)) = parse(&line) {
            prop_assert!(utterance.annotation.slots.len() <= utterance.annotation.words.len());
        }
    }
}
