use super::*;
use crate::testing::{Copy, reasons, shown};

#[test]
fn number_decides_emotion_and_split_as_the_folders_do() {
    let check = |number, expected| assert_eq!(place_of(number), expected);
    check(1, ("Neutral", Split::Dev));
    check(20, ("Neutral", Split::Dev));
    check(21, ("Neutral", Split::Test));
    check(50, ("Neutral", Split::Test));
    check(51, ("Neutral", Split::Train));
    check(351, ("Angry", Split::Dev));
    check(1_750, ("Surprise", Split::Train));
    let mut counts = [0; 3];
    for number in 1..=1_750 {
        counts[place_of(number).1 as usize] += 10;
    }
    assert_eq!(counts, [15_000, 1_000, 1_500]);
}

#[test]
fn both_layouts_and_every_encoding_are_read() {
    let copy = Copy::of("esd");
    let listing = copy.list("esd-en").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [150, 49, 51]);
    assert_eq!(listing.labels, EMOTIONS);
    assert_eq!(listing.classes["speaker"], SPEAKERS[10..]);
    for speaker in listing.classes["speaker"].clone() {
        let of_speaker = |u: &&Utterance| u.annotation.speaker.as_deref() == Some(&speaker);
        let texts: Vec<_> =
            listing.utterances.iter().filter(of_speaker).filter_map(|u| u.annotation.transcript.as_deref()).collect();
        assert!(texts.contains(&"It\u{2019}s good, is it?"), "{speaker}: {texts:?}");
        assert!(texts.iter().all(|text| !text.contains(['\u{fffd}', '\u{feff}', '\0'])), "{speaker}: {texts:?}");
    }
    let layout_b = listing.utterances.iter().find(|u| u.id == "0020_000021").unwrap();
    let row = "0020_000021 test Neutral 0020 0020/Neutral/0020_000021.wav It\u{2019}s good, is it?";
    assert_eq!(shown(layout_b), row);
    let mandarin = copy.list("esd-zh").unwrap();
    let texts = mandarin.names_of(|u| u.annotation.transcript.as_deref());
    assert_eq!(texts, ["停下", "很好"]);
    assert_eq!(mandarin.classes["speaker"], ["0001", "0003"]);
}

#[test]
fn what_is_amiss_is_named() {
    let listing = Copy::of("esd").list("esd-en").unwrap();
    let expected = [
        "0011/0011_000399.wav: `0011.txt` names it, but it is in no folder of an emotion",
        "0011/Sad/Thumbs.db: not a .wav file",
        "0011/Sad/train/hello.wav: its name is not `<speaker>_<number>.wav`",
        "0015/0015.txt:2: not a clip, a sentence and an emotion, parted by tabs",
    ];
    assert_eq!(reasons(&listing), expected);
    let flagged: Vec<_> =
        listing.utterances.iter().filter(|u| !u.annotation.flags.is_empty()).map(|u| (&*u.id, &*u.annotation.flags[0])).collect();
    assert_eq!(flagged, [("0013_000001", "no transcript"), ("0014_000351", "in the folder of test, by its number in dev")]);
}

#[test]
fn the_published_code_loses_the_first_utterance_of_utf_16_files() {
    let copy = Copy::of("esd");
    let (all, lossy) = (copy.list("esd-en").unwrap(), copy.list(SURE_ASR).unwrap());
    assert_eq!(lossy.unused.values().copied().collect::<Vec<_>>(), [4]);
    assert_eq!(all.utterances.len(), lossy.utterances.len() + 4);
    assert!(!lossy.utterances.iter().any(|u| u.id == "0012_000001"));
}
