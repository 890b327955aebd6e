use proptest::prelude::*;

use super::*;
use crate::testing::{Copy, reasons, shown_id};

const CORPUS: &str = "fluent_speech_commands";

#[test]
fn intents_are_actions_objects_and_locations() {
    let listing = Copy::of(CORPUS).list("fsc").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [12, 12, 12]);
    let heads: Vec<_> = ["action", "object", "location"].iter().map(|head| listing.classes[*head].len()).collect();
    assert_eq!((listing.labels.len(), heads), (31, vec![6, 14, 4]));
    let row = "kLr0/u001-0 train activate|lights|kitchen kLr0 wavs/speakers/kLr0/u001-0.wav Turn on the lights, in the kitchen";
    assert_eq!(shown_id(&listing, "kLr0/u001-0"), row);
    let slots = &listing.utterances.iter().find(|u| u.id == "kLr0/u001-0").unwrap().annotation.slots;
    let slots: Vec<_> = slots.iter().map(|slot| format!("{}={}", slot.name, slot.value)).collect();
    assert_eq!(slots, ["action=activate", "object=lights", "location=kitchen"]);
    assert!(shown_id(&listing, "V4ej/u002-0").contains("/u002-0.WAV "));
}

#[test]
fn intents_are_made_of_known_classes_and_sorted() {
    assert!(INTENTS.is_sorted());
    for intent in INTENTS {
        let parts: Vec<_> = intent.split('|').collect();
        assert!(ACTIONS.contains(&parts[0]) && OBJECTS.contains(&parts[1]) && LOCATIONS.contains(&parts[2]), "{intent}");
    }
}

#[test]
fn what_is_amiss_is_named() {
    let listing = Copy::of(CORPUS).list("fsc").unwrap();
    let expected = [
        "data/valid_data.csv:14: 3 fields, expected 7",
        "data/valid_data.csv:16: object `piano` is not one of objects of the corpus",
        "data/valid_data.csv:17: path `../../etc/x.wav` leads out of the corpus",
        "data/valid_data.csv:18: intent `bring|lights|none` is not one of the 31",
        "wavs/speakers/kLr0/stray.wav: no row of the three tables names it",
        "wavs/speakers/nobody/gone.wav: row 15 of `data/valid_data.csv` names it, but there is no such recording",
    ];
    assert_eq!(reasons(&listing), expected);
}

#[test]
fn a_missing_table_is_named_and_a_table_without_columns_refused() {
    let copy = Copy::of(CORPUS);
    copy.remove("data/test_data.csv");
    let listing = copy.list("fsc").unwrap();
    assert!(reasons(&listing).contains(&"data/test_data.csv: the table of a split is not there".to_owned()));
    copy.write("data/test_data.csv", "path,speakerId\n");
    let error = copy.list("fsc").unwrap_err().to_string();
    assert!(error.ends_with("cannot be understood: its first row has no column `transcription`"), "{error}");
}

proptest! {
    #[test]
    fn any_table_is_read_or_refused(text in "[a-z0-9\",/.\r\n\\PC]{0,200}") {
        for row in rows(&text, b',') {
            let _ = parse(&row, 6, [0, 1, 2, 3, 4, 5]);
            let _ = parse(&row, 3, [0, 1, 2, 0, 1, 2]);
        }
    }
}
