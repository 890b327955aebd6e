//! Contract of all readers, tested on every miniature and every protocol.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::place::MINIATURE;
use crate::synthetic::{MINIATURES, Miniature, write_mute};
use crate::testing::files;
use crate::{ALL, Corpus, CorpusError, Listing, Protocol, recognise};

/// Protocols whose part of the corpus no miniature has.
const ELSEWHERE: [&str; 4] = ["librispeech-mini", "gsc-v1-11", "gsc-v1-12", "gsc-v1-30"];

#[test]
fn there_is_a_miniature_of_every_corpus() {
    assert_eq!(MINIATURES.to_vec(), ALL.iter().map(|corpus| corpus.name()).collect::<Vec<_>>());
}

/// One test for all, because writing the miniatures takes longest.
#[test]
fn every_reader_keeps_the_contract() {
    for &corpus in ALL {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        write_mute(corpus.name(), &root, Miniature::default()).unwrap();
        let seen = recognise(&root, "");
        assert_eq!(seen, Some(corpus.name()).filter(|name| *name != "table"), "by its layout");
        for protocol in corpus.protocols().iter().filter(|protocol| !ELSEWHERE.contains(&protocol.name)) {
            let listing = corpus.list(&root, protocol).unwrap();
            ids_are_unique_and_sorted_and_labels_known(protocol, &listing);
            what_is_listed_is_there_and_wanted(&root, corpus, protocol, &listing);
            no_recording_that_is_wanted_goes_unmentioned(&root, corpus, protocol, &listing);
            neither_what_is_not_wanted_nor_the_order_on_disk_matters(&root, corpus, protocol, &listing);
            published_sizes_apply_to_what_is_no_miniature(&root, corpus, protocol, &listing);
        }
        damaged_label_files_are_read_or_refused(&root, corpus);
    }
}

fn ids_are_unique_and_sorted_and_labels_known(protocol: &Protocol, listing: &Listing) {
    let ids: Vec<_> = listing.utterances.iter().map(|u| &u.id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{}: {ids:?}", protocol.name);
    for utterance in &listing.utterances {
        let label = utterance.annotation.label.as_ref();
        assert!(label.is_none_or(|label| listing.labels.contains(label)), "{}: {label:?}", protocol.name);
    }
}

fn what_is_listed_is_there_and_wanted(root: &Path, corpus: &dyn Corpus, protocol: &Protocol, listing: &Listing) {
    for utterance in &listing.utterances {
        assert!(root.join(&utterance.path).is_file(), "{}: {}", protocol.name, utterance.path);
        assert!(corpus.wants(protocol, &utterance.path), "{}: {}", protocol.name, utterance.path);
    }
}

fn no_recording_that_is_wanted_goes_unmentioned(root: &Path, corpus: &dyn Corpus, protocol: &Protocol, listing: &Listing) {
    let listed = listing.utterances.iter().map(|u| u.path.as_str());
    let named: BTreeSet<&str> = listed.chain(listing.skipped.iter().map(|s| s.path.as_str())).collect();
    let is_recording = |path: &str| [".wav", ".flac", ".mp4"].iter().any(|ending| path.to_lowercase().ends_with(ending));
    let is_hidden = |path: &str| path.split('/').any(|part| part.starts_with('.'));
    let mut silent = files(root);
    silent
        .retain(|path| is_recording(path) && !is_hidden(path) && corpus.wants(protocol, path) && !named.contains(path.as_str()));
    assert!(silent.len() as u64 <= listing.unused.values().sum(), "{}: {silent:?}", protocol.name);
}

fn neither_what_is_not_wanted_nor_the_order_on_disk_matters(
    root: &Path,
    corpus: &dyn Corpus,
    protocol: &Protocol,
    listing: &Listing,
) {
    let copy = tempfile::tempdir().unwrap();
    for path in files(root).iter().rev().filter(|path| corpus.wants(protocol, path)) {
        let to = copy.path().join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::hard_link(root.join(path), to).unwrap();
    }
    assert_eq!(&corpus.list(copy.path(), protocol).unwrap(), listing, "{}", protocol.name);
}

fn published_sizes_apply_to_what_is_no_miniature(root: &Path, corpus: &dyn Corpus, protocol: &Protocol, listing: &Listing) {
    assert_eq!(listing.expected, None, "{}", protocol.name);
    if corpus.name() == "speech_commands" {
        return; // Whether that is synthetic its own README says.
    }
    let aside = root.with_file_name("aside");
    fs::rename(root.join(MINIATURE), &aside).unwrap();
    assert_eq!(corpus.list(root, protocol).unwrap().expected, protocol.expected, "{}", protocol.name);
    fs::rename(aside, root.join(MINIATURE)).unwrap();
}

/// A reader may refuse or skip, but neither panic nor run for ever.
fn damaged_label_files_are_read_or_refused(root: &Path, corpus: &dyn Corpus) {
    let is_label = |path: &String| {
        let endings = [".txt", ".csv", ".tsv", ".textgrid", ".md"];
        !path.contains("._") && endings.iter().any(|ending| path.to_lowercase().ends_with(ending))
    };
    let labels: Vec<String> = files(root).into_iter().filter(is_label).collect();
    let protocols: Vec<_> = corpus.protocols().iter().filter(|protocol| !ELSEWHERE.contains(&protocol.name)).collect();
    // Not all of the many files that hold one sentence each.
    for (number, path) in labels.iter().step_by(labels.len().div_ceil(12)).enumerate() {
        let (path, protocol) = (root.join(path), protocols[number % protocols.len()]);
        let whole = fs::read(&path).unwrap();
        for round in 0..8 {
            let at = whole.len() * (round * 5 % 8 + number % 3) / 11;
            let mut damaged = whole.clone();
            match round % 4 {
                0 => damaged.truncate(at),
                1 => drop(damaged.splice(at..at, *b"\t\"\xff\0,\n\"|[")),
                2 => damaged.iter_mut().skip(at).step_by(7).for_each(|byte| *byte = byte.wrapping_mul(31) ^ 0x95),
                _ => drop(damaged.drain(at..(at + whole.len() / 5).min(whole.len()))),
            }
            fs::write(&path, damaged).unwrap();
            if let Ok(listing) = corpus.list(root, protocol) {
                ids_are_unique_and_sorted_and_labels_known(protocol, &listing);
            }
        }
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_folder_with_nothing_in_it_is_refused_with_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    for &corpus in ALL {
        let protocol = &corpus.protocols()[0];
        for root in [folder.path().to_owned(), folder.path().join("nowhere")] {
            let error = corpus.list(&root, protocol).unwrap_err();
            assert!(matches!(error, CorpusError::Missing { .. } | CorpusError::NoRoot { .. }), "{}: {error}", corpus.name());
            assert!(error.to_string().contains("expected"), "{error}");
        }
    }
}
