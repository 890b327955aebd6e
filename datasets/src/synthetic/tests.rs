use super::*;
use crate::speech_commands::SpeechCommands;
use crate::{Corpus, Split};

fn small() -> Options {
    Options { speakers: 4, takes: 2, words: vec!["yes".to_owned(), "no".to_owned(), "stop".to_owned()], ..Options::quickstart() }
}

/// A hash over all names and bytes.
fn digest(root: &Path) -> String {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file.strip_prefix(root).unwrap().to_string_lossy().as_bytes());
        hasher.update(&fs::read(file).unwrap());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[test]
fn the_same_options_give_the_same_bytes_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, options: &Options| {
        write_speech_commands(&folder.path().join(name), options).unwrap();
        digest(&folder.path().join(name))
    };
    assert_eq!(write("first", &small()), "be7b2a810f235438");
    assert_ne!(write("other", &Options { seed: 2, ..small() }), "be7b2a810f235438");
}

#[test]
fn the_reader_of_the_real_corpus_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("words");
    let written = write_speech_commands(&root, &small()).unwrap();
    assert_eq!(written.clips, 24);
    let listing = SpeechCommands.list(&root, SpeechCommands.protocol(None).unwrap()).unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [12, 6, 6]);
    assert_eq!((listing.skipped.len(), listing.expected), (0, None));
    let speakers = |split: Split| {
        let mut names: Vec<_> =
            listing.utterances.iter().filter(|u| u.split == split).filter_map(|u| u.annotation.speaker.clone()).collect();
        names.dedup();
        names.sort();
        names.dedup();
        names
    };
    assert!(speakers(Split::Test).iter().all(|name| !speakers(Split::Train).contains(name)));

    let twelve = SpeechCommands.list(&root, SpeechCommands.protocol(Some("gsc-v2-12")).unwrap()).unwrap();
    assert_eq!(twelve.utterances.iter().filter(|u| u.annotation.label.as_deref() == Some("_silence_")).count(), 30);
    let wrong = SpeechCommands.list(&root, SpeechCommands.protocol(Some("gsc-v1-11")).unwrap()).unwrap_err().to_string();
    assert!(wrong.contains("`README.md` says so"), "{wrong}");
}

#[test]
fn clips_are_short_audible_and_all_different() {
    let mut clips = Vec::new();
    for speaker in 0..6 {
        for word in WORDS {
            let voice = Voice::of(7, speaker);
            for take in 0..2 {
                let clip = voice.say(word, take, 16_000);
                assert!((3_200..16_000).contains(&clip.len()), "{word}: {} samples", clip.len());
                let peak = clip.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
                assert!((6_000..=32_767).contains(&peak), "{word}: peak {peak}");
                let clipped = clip.iter().filter(|sample| sample.unsigned_abs() >= 32_767).count();
                assert!(clipped < 5, "{word}: {clipped} samples at full scale");
                clips.push(clip);
            }
        }
    }
    let num_clips = clips.len();
    clips.sort();
    clips.dedup();
    assert_eq!(clips.len(), num_clips);
}

#[test]
fn speakers_have_names_of_their_own() {
    let mut names: Vec<_> = (0..1_000).map(|number| Voice::of(1, number).name()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 1_000);
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("words");
    fs::create_dir(&root).unwrap();
    write_speech_commands(&root, &small()).unwrap();
    let before = digest(&root);
    let error = write_speech_commands(&root, &Options { seed: 2, ..small() }).unwrap_err().to_string();
    assert!(error.ends_with("is there and not an empty folder"), "{error}");
    assert_eq!(digest(&root), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_an_interrupted_run_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let aside = folder.path().join(".words.partial");
    fs::create_dir(&aside).unwrap();
    fs::write(aside.join("debris"), b"").unwrap();
    write_speech_commands(&folder.path().join("words"), &small()).unwrap();
    assert!(!folder.path().join("words/debris").exists() && !aside.exists());
}

#[test]
fn options_that_make_no_corpus_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), b"").unwrap();
    let check = |options: Options, message: &str| {
        let error = write_speech_commands(&folder.path().join("file/words"), &options).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    };
    check(Options { speakers: 2, ..small() }, "expected 3 speakers or more");
    check(Options { takes: 0, ..small() }, "expected 1 take or more, found 0");
    check(Options { words: Vec::new(), ..small() }, "expected 1 word or more");
    check(Options { words: vec!["maybe".to_owned()], ..small() }, "no way to say `maybe`, only yes, no, up");
    check(Options { sample_rate: 100, ..small() }, "expected a sample rate of 8000 to 192000 Hz, found 100");
    check(small(), "cannot write");
}
