use std::fs;

use tempfile::TempDir;

use super::*;

/// A corpus folder with the given files (empty) and lists.
fn corpus(files: &[&str], testing: &str, validation: &str, readme: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }
    fs::write(root.path().join(TESTING_LIST), testing).unwrap();
    fs::write(root.path().join(VALIDATION_LIST), validation).unwrap();
    if !readme.is_empty() {
        fs::write(root.path().join(README), readme).unwrap();
    }
    root
}

fn list(root: &TempDir, protocol: &str) -> Result<Listing, CorpusError> {
    SpeechCommands.list(root.path(), SpeechCommands.protocol(Some(protocol)).unwrap())
}

fn ids(listing: &Listing) -> Vec<(String, Split, String)> {
    listing.utterances.iter().map(|u| (u.id.clone(), u.split, u.annotation.label.clone().unwrap())).collect()
}

fn row(id: &str, split: Split, label: &str) -> (String, Split, String) {
    (id.to_owned(), split, label.to_owned())
}

const FILES: &[&str] = &[
    "yes/0a7c2a8d_nohash_0.wav",
    "yes/0a7c2a8d_nohash_1.wav",
    "no/ffffffff_nohash_0.wav",
    "cat/0a7c2a8d_nohash_0.wav",
    "four/0a7c2a8d_nohash_0.wav",
    "_background_noise_/README.md",
    "LICENSE",
];

/// A background recording of `seconds` at 100 Hz, 8 bit.
fn background(root: &TempDir, seconds: u32) {
    let mut wav = Vec::new();
    wav.extend_from_slice(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x64\0\0\0\x64\0\0\0\x01\0\x08\0data");
    wav.extend_from_slice(&(seconds * 100).to_le_bytes());
    wav.resize(44 + seconds as usize * 100, 128);
    fs::create_dir_all(root.path().join(BACKGROUND)).unwrap();
    fs::write(root.path().join(BACKGROUND).join("tap.wav"), wav).unwrap();
}

#[test]
fn lists_decide_the_split_and_other_words_stay_out() {
    let root = corpus(FILES, "yes/0a7c2a8d_nohash_1.wav\r\n", "four/0a7c2a8d_nohash_0.wav\n\n", "");
    let listing = list(&root, "gsc-v2-11").unwrap();
    let expected = [
        row("four/0a7c2a8d_nohash_0", Split::Dev, "four"),
        row("no/ffffffff_nohash_0", Split::Train, "no"),
        row("yes/0a7c2a8d_nohash_0", Split::Train, "yes"),
        row("yes/0a7c2a8d_nohash_1", Split::Test, "yes"),
    ];
    assert_eq!(ids(&listing), expected);
    assert_eq!(listing.labels, ELEVEN);
    assert_eq!(listing.utterances[3].annotation.speaker.as_deref(), Some("0a7c2a8d"));
    assert_eq!(listing.skipped, []);
}

#[test]
fn bad_entries_are_skipped_one_by_one_with_their_reason() {
    let files = ["yes/0a7c2a8d_nohash_0.wav", "yes/hello.wav", "yes/._0a7c2a8d_nohash_0.wav", "bananas/0a7c2a8d_nohash_0.wav"];
    let both = "yes/0a7c2a8d_nohash_9.wav\ncat/0a7c2a8d_nohash_9.wav\nnonsense\n";
    let root = corpus(&files, both, "yes/hello.wav\n", "");
    fs::create_dir(root.path().join("yes/0a7c2a8d_nohash_3.wav")).unwrap();
    let listing = list(&root, "gsc-v2-11").unwrap();
    assert_eq!(ids(&listing), [row("yes/0a7c2a8d_nohash_0", Split::Train, "yes")]);
    let skipped: Vec<_> = listing.skipped.iter().map(|s| format!("{}: {}", s.path, s.reason)).collect();
    let expected = [
        "bananas/0a7c2a8d_nohash_0.wav: label `bananas` is not a word of Speech Commands",
        "nonsense: `testing_list.txt` names it, but it is not of the form `<word>/<file>`",
        "yes/0a7c2a8d_nohash_3.wav: a folder, not a file",
        "yes/0a7c2a8d_nohash_9.wav: `testing_list.txt` names it, but there is no such file",
        "yes/hello.wav: its name is not `<8 hexadecimal digits>_nohash_<number>.wav`",
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn a_file_in_both_lists_is_skipped() {
    let line = "yes/0a7c2a8d_nohash_0.wav\n";
    let listing = list(&corpus(FILES, line, line, ""), "gsc-v2-11").unwrap();
    assert_eq!(listing.skipped[0].reason, "named in both the testing and the validation list");
}

#[test]
fn a_protocol_of_the_other_version_is_refused() {
    let check = |testing: &str, readme: &str, protocol: &str, part: &str| {
        let error = list(&corpus(FILES, testing, "", readme), protocol).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let new = "learn/0a7c2a8d_nohash_0.wav";
    check(new, "", "gsc-v1-11", "made for version 0.01, but");
    check(new, "", "gsc-v1-30", "holds version 0.02 (its lists name `learn`)");
    check("", "# Speech Commands Data Set v0.01\n", "gsc-v2-11", "holds version 0.01 (`README.md` says so)");
    let old = WORDS[..30].iter().map(|word| format!("{word}/0a7c2a8d_nohash_0.wav")).collect::<Vec<_>>().join("\n");
    check(&old, "", "gsc-v2-12", "its lists name none of backward, forward");
}

#[test]
fn twelve_classes_have_unknown_words_and_seconds_of_silence() {
    let root = corpus(FILES, "cat/0a7c2a8d_nohash_0.wav", "", "");
    background(&root, 10);
    let listing = list(&root, "gsc-v2-12").unwrap();
    let of = |label: &str| ids(&listing).into_iter().filter(|row| row.2 == label).collect::<Vec<_>>();
    let unknown = [row("cat/0a7c2a8d_nohash_0", Split::Test, UNKNOWN), row("four/0a7c2a8d_nohash_0", Split::Train, UNKNOWN)];
    assert_eq!(of(UNKNOWN), unknown);
    let splits: Vec<_> = of(SILENCE).into_iter().map(|row| row.1).collect();
    assert_eq!(splits, [&[Split::Train; 8][..], &[Split::Dev, Split::Test]].concat());
    let last = listing.utterances.iter().find(|u| u.id == "_silence_/tap_0009").unwrap();
    assert_eq!(
        (last.span, last.path.as_str()),
        (Some(crate::Span { start: 900, num_samples: 100 }), "_background_noise_/tap.wav")
    );
}

#[test]
fn the_test_archive_replaces_the_test_split() {
    let mut files = FILES.to_vec();
    let archive = [
        "speech_commands_test_set_v0.02/yes/0a7c2a8d_nohash_1.wav",
        "speech_commands_test_set_v0.02/_silence_/0.wav",
        "speech_commands_test_set_v0.02/maybe/0.wav",
    ];
    files.extend(archive);
    let listing = list(&corpus(&files, "yes/0a7c2a8d_nohash_1.wav", "", ""), "gsc-v2-12").unwrap();
    let test: Vec<_> = ids(&listing).into_iter().filter(|row| row.1 == Split::Test).collect();
    let expected = [row("test_set/_silence_/0", Split::Test, SILENCE), row("test_set/yes/0a7c2a8d_nohash_1", Split::Test, "yes")];
    assert_eq!(test, expected);
    assert_eq!(listing.unused.values().copied().collect::<Vec<_>>(), [1]);
    assert!(listing.skipped.iter().any(|s| s.reason == "label `maybe` is not one of the twelve"));
}

#[test]
fn all_that_is_listed_is_wanted_and_useless_words_are_not() {
    let eleven = SpeechCommands.protocol(None).unwrap();
    let twelve = SpeechCommands.protocol(Some("gsc-v2-12")).unwrap();
    let check = |path: &str, in_eleven: bool, in_twelve: bool| {
        let wants = (SpeechCommands.wants(eleven, path), SpeechCommands.wants(twelve, path));
        assert_eq!(wants, (in_eleven, in_twelve), "{path}");
    };
    check("testing_list.txt", true, true);
    check("README.md", true, true);
    check("LICENSE", false, false);
    check("yes/a.wav", true, true);
    check("cat/a.wav", false, true);
    check("bananas/a.wav", true, true);
    check("_background_noise_/tap.wav", false, true);
    check("speech_commands_test_set_v0.02/yes/a.wav", false, true);
    check("speech_commands_test_set_v0.01/yes/a.wav", false, false);
}

#[test]
fn missing_lists_and_missing_words_are_errors() {
    let root = tempfile::tempdir().unwrap();
    let error = list(&root, "gsc-v2-11").unwrap_err().to_string();
    assert!(error.contains("`testing_list.txt` is not there"), "{error}");
    let error = list(&corpus(&["LICENSE"], "", "", ""), "gsc-v2-11").unwrap_err().to_string();
    assert!(error.contains("has no recording that can be used"), "{error}");
    let error = SpeechCommands.list(Path::new("/nowhere/at/all"), &PROTOCOLS[0]).unwrap_err().to_string();
    assert!(
        error.starts_with("no speech_commands corpus at `/nowhere/at/all`: expected a folder with `<word>/*.wav`"),
        "{error}"
    );
}

#[test]
fn lists_that_an_editor_saved_with_a_byte_order_mark_are_read() {
    let files = ["yes/0a7c2a8d_nohash_0.wav", "yes/0a7c2a8e_nohash_0.wav", "yes/0a7c2a8f_nohash_0.wav"];
    let root = corpus(&files, "\u{feff}yes/0a7c2a8d_nohash_0.wav\r\n", "\u{feff}yes/0a7c2a8e_nohash_0.wav\n", "");
    let listing = list(&root, "gsc-v2-11").unwrap();
    assert_eq!(Split::ALL.map(|split| listing.count(split)), [1, 1, 1]);
    assert_eq!(listing.skipped.len(), 0);
}
