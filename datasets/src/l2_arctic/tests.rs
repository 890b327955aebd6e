use super::*;
use crate::testing::{Copy, reasons, shown_id};

const CORPUS: &str = "l2_arctic";

#[test]
fn speakers_are_splits_and_names_repeat() {
    let listing = Copy::of(CORPUS).list("l2arctic").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [4, 4, 4]);
    assert_eq!(
        shown_id(&listing, "ABA/arctic_a0001"),
        "ABA/arctic_a0001 train - ABA ABA/wav/arctic_a0001.wav Turn left, please."
    );
    assert_eq!(
        shown_id(&listing, "NJS/arctic_a0001"),
        "NJS/arctic_a0001 test - NJS NJS/NJS/wav/arctic_a0001.wav Turn left, please."
    );
    assert_eq!(listing.utterances[0].annotation.tags["first_language"], "Arabic");
}

#[test]
fn the_published_sizes_are_those_of_the_table_of_speakers() {
    let clips = [
        1129, 974, 1130, 1132, 1130, 1131, 1131, 1132, 1131, 1130, 1132, 1131, 1131, 1131, 1131, 1131, 1007, 1132, 1132, 1131,
        1132, 1132, 1132, 1132,
    ];
    let mut sizes = [0; 3];
    for ((.., split), clips) in SPEAKERS.into_iter().zip(clips) {
        sizes[split as usize] += clips;
    }
    assert_eq!(Some(sizes), PROTOCOLS[0].expected);
    assert_eq!(sizes.iter().sum::<u64>(), PROTOCOLS[1].expected.unwrap().iter().sum::<u64>());
}

#[test]
fn a_sentence_is_in_one_split_whoever_says_it() {
    let listing = Copy::of(CORPUS).list(TTS).unwrap();
    let of = |split: Split| {
        let own = listing.utterances.iter().filter(|utterance| utterance.split == split);
        own.filter_map(|utterance| utterance.annotation.transcript.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    let [train, dev, test] = Split::ALL.map(of);
    assert!(train.is_disjoint(&dev) && train.is_disjoint(&test) && dev.is_disjoint(&test), "{listing:?}");
    let said = |text: &String| listing.utterances.iter().filter(|one| one.annotation.transcript.as_ref() == Some(text)).count();
    assert!(test.iter().chain(&dev).chain(&train).any(|text| said(text) > 1), "some are said by several");
}

#[test]
fn annotated_sentences_have_words_and_phones() {
    let listing = Copy::of(CORPUS).list(ANNOTATED).unwrap();
    let ids: Vec<_> = listing.utterances.iter().map(|u| u.id.as_str()).collect();
    assert_eq!(ids, ["ABA/arctic_a0001"]);
    let utterance = &listing.utterances[0];
    assert_eq!(utterance.annotation.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>(), ["turn", "left", "please"]);
    let phones: Vec<_> = utterance.annotation.phones.iter().map(|phone| phone.symbol.as_str()).collect();
    assert_eq!(phones, ["sil", "T", "ER,AH,s", "N", "L", "EH", "F", "T", "P", "L", "IY", "Z"]);
    assert_eq!(utterance.annotation.words[0].times.unwrap().start_us, 100_000);
    let expected = [
        "ABA/wav/arctic_a0002.wav: the annotation has no tier `phones`",
        "ABA/wav/arctic_a0003.wav: the annotation cannot be read: ends before the text of an interval",
        "ABA/wav/arctic_a0099.wav: there is `ABA/transcript/arctic_a0099.txt`, but no recording of this name",
        "ABA/wav/notes.wav: its name is not `arctic_<name>.wav`",
        "YDCK/wav/arctic_a0209.wav: its annotation is broken in the release",
    ];
    assert_eq!(reasons(&listing), expected);
}

#[test]
fn stories_and_held_out_sentences_are_protocols() {
    let copy = Copy::of(CORPUS);
    let stories = copy.list(SUITCASE).unwrap();
    assert_eq!(
        shown_id(&stories, "suitcase_corpus/aba"),
        "suitcase_corpus/aba test - ABA suitcase_corpus/wav/aba.wav Hello. What is it?"
    );
    assert_eq!(reasons(&stories), ["suitcase_corpus/wav/xyz.wav: `xyz` is not a speaker of L2-ARCTIC"]);
    let sure = copy.list(SURE).unwrap();
    assert_eq!(Split::ALL.map(|split| sure.count(split)), [0, 12, 0]);
}
