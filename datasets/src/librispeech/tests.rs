use proptest::prelude::*;

use super::*;
use crate::testing::{Copy, reasons, shown_id};

const CORPUS: &str = "librispeech";

#[test]
fn subsets_are_splits() {
    let listing = Copy::of(CORPUS).list("librispeech-100").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [8, 4, 4]);
    let row = "103-1240-0000 train - 103 LibriSpeech/train-clean-100/103/1240/103-1240-0000.flac IT'S GOOD IS IT";
    assert_eq!(shown_id(&listing, "103-1240-0000"), row);
    let tags: Vec<_> = listing.utterances[0].annotation.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(tags, ["chapter=1240", "gender=female", "subset=train-clean-100"]);
    assert_eq!(listing.classes["speaker"].len(), 4);
}

#[test]
fn what_is_amiss_is_named() {
    let copy = Copy::of(CORPUS);
    let base = "LibriSpeech/train-clean-100/103";
    let expected = [
        format!("{base}/1240/103-1240-9998.flac: `103-1240.trans.txt` names it, but there is no such recording"),
        format!("{base}/1240/103-1240-9999.flac: `103-1240.trans.txt` does not name it"),
        format!("{base}/1240/103-1240.trans.txt:5: not an id, a space and a text"),
        format!("{base}/1240/cover.jpg: not a .flac or .wav file"),
        format!("{base}/notes: not the folder of a chapter"),
    ];
    assert_eq!(reasons(&copy.list("librispeech-100").unwrap()), expected);
    copy.remove(&format!("{base}/1240/103-1240.trans.txt"));
    let listing = copy.list("librispeech-100").unwrap();
    assert!(reasons(&listing).contains(&format!("{base}/1240/103-1240.trans.txt: the transcripts of a chapter are not there")));
    copy.remove("LibriSpeech/dev-clean");
    assert_eq!(reasons(&copy.list("librispeech-100").unwrap())[0], "LibriSpeech/dev-clean: a subset is not there");
}

#[test]
fn a_recording_without_a_text_is_named() {
    let copy = Copy::of(CORPUS);
    let chapter = "LibriSpeech/test-clean/121/9";
    copy.write(&format!("{chapter}/121-9.trans.txt"), "121-9-0000 \n121-9-0001 YES\n");
    let listing = copy.list("librispeech-100").unwrap();
    assert!(reasons(&listing).contains(&format!("{chapter}/121-9-0000.flac: `121-9.trans.txt` names it, without a text")));
    assert!(listing.utterances.iter().any(|utterance| utterance.id == "121-9-0001"));
}

#[test]
fn long_recordings_are_left_out_by_name_only() {
    let copy = Copy::of(CORPUS);
    let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x64\0\0\0\x64\0\0\0\x01\0\x08\0data\xd0\x07\0\0".to_vec();
    wav.resize(wav.len() + 2_000, 128);
    copy.write("LibriSpeech/test-clean/121/9/121-9-0000.flac", &wav);
    copy.write("LibriSpeech/test-clean/121/9/121-9-0001.flac", "no header");
    let listing = copy.list(SHORT).unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [8, 4, 2]);
    assert_eq!(listing.unused["lasts 20 s or longer"], 1);
    assert!(reasons(&listing).iter().any(|reason| reason.contains("121-9-0001.flac: its header does not say")));
    assert_eq!(copy.list("librispeech-100").unwrap().count(Split::Test), 4);
}

#[test]
fn without_any_subset_there_is_no_corpus() {
    let error = Copy::of(CORPUS).list("librispeech-mini").unwrap_err().to_string();
    assert!(error.contains("`train-clean-5` or `dev-clean-2` is not there"), "{error}");
}

proptest! {
    #[test]
    fn any_line_is_read_or_refused(line in "([0-9]{1,3}-?){0,4} ?[A-Z ']{0,9}|\\PC{0,40}") {
        parse(&line);
    }
}
