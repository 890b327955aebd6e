//! What every reader keeps to, tried on every miniature and every protocol.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::place::MINIATURE;
use crate::synthetic::{MINIATURES, write_mute};
use crate::testing::files;
use crate::{ALL, Corpus, CorpusError, Listing, Protocol};

/// Protocols whose part of the corpus no miniature has.
const ELSEWHERE: [&str; 4] = ["librispeech-mini", "gsc-v1-11", "gsc-v1-12", "gsc-v1-30"];

/// Tries something with every listing: the root, the reader, the protocol and what was found.
fn each(body: impl Fn(&Path, &dyn Corpus, &Protocol, &Listing)) {
    for &corpus in ALL {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        write_mute(corpus.name(), &root).unwrap();
        for protocol in corpus.protocols().iter().filter(|protocol| !ELSEWHERE.contains(&protocol.name)) {
            body(&root, corpus, protocol, &corpus.list(&root, protocol).unwrap());
        }
    }
}

#[test]
fn there_is_a_miniature_of_every_corpus() {
    assert_eq!(MINIATURES.to_vec(), ALL.iter().map(|corpus| corpus.name()).collect::<Vec<_>>());
}

#[test]
fn ids_are_unique_and_sorted_and_labels_known_and_published_sizes_do_not_apply() {
    each(|_, _, protocol, listing| {
        let ids: Vec<_> = listing.utterances.iter().map(|u| &u.id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{}: {ids:?}", protocol.name);
        for utterance in &listing.utterances {
            let label = utterance.label.as_ref();
            assert!(label.is_none_or(|label| listing.labels.contains(label)), "{}: {label:?}", protocol.name);
        }
        assert_eq!(listing.expected, None, "{}", protocol.name);
    });
}

#[test]
fn what_is_listed_is_there_and_wanted() {
    each(|root, corpus, protocol, listing| {
        for utterance in &listing.utterances {
            assert!(root.join(&utterance.path).is_file(), "{}: {}", protocol.name, utterance.path);
            assert!(corpus.wants(protocol, &utterance.path), "{}: {}", protocol.name, utterance.path);
        }
    });
}

#[test]
fn no_recording_that_is_wanted_goes_unmentioned() {
    each(|root, corpus, protocol, listing| {
        let named: BTreeSet<&str> =
            listing.utterances.iter().map(|u| u.path.as_str()).chain(listing.skipped.iter().map(|s| s.path.as_str())).collect();
        let is_recording = |path: &String| [".wav", ".flac", ".mp4"].iter().any(|ending| path.to_lowercase().ends_with(ending));
        let is_hidden = |path: &String| path.split('/').any(|part| part.starts_with('.'));
        let silent: Vec<_> = files(root)
            .into_iter()
            .filter(|path| {
                is_recording(path) && !is_hidden(path) && corpus.wants(protocol, path) && !named.contains(path.as_str())
            })
            .collect();
        assert!(silent.len() as u64 <= listing.unused.values().sum(), "{}: {silent:?}", protocol.name);
    });
}

#[test]
fn what_is_not_wanted_changes_nothing() {
    each(|root, corpus, protocol, listing| {
        let copy = tempfile::tempdir().unwrap();
        for path in files(root).iter().filter(|path| corpus.wants(protocol, path)) {
            let to = copy.path().join(path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::hard_link(root.join(path), to).unwrap();
        }
        assert_eq!(&corpus.list(copy.path(), protocol).unwrap(), listing, "{}", protocol.name);
    });
}

#[test]
fn the_order_of_files_on_disk_changes_nothing() {
    each(|root, corpus, protocol, listing| {
        let copy = tempfile::tempdir().unwrap();
        for path in files(root).iter().rev() {
            let to = copy.path().join(path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::hard_link(root.join(path), to).unwrap();
        }
        assert_eq!(&corpus.list(copy.path(), protocol).unwrap(), listing, "{}", protocol.name);
    });
}

#[test]
fn published_sizes_apply_where_nothing_says_that_it_is_a_miniature() {
    each(|root, corpus, protocol, _| {
        // Whether Speech Commands is synthetic its own README says.
        if root.join(MINIATURE).is_file() && corpus.name() != "speech_commands" {
            let aside = root.with_file_name("aside");
            fs::rename(root.join(MINIATURE), &aside).unwrap();
            assert_eq!(corpus.list(root, protocol).unwrap().expected, protocol.expected, "{}", protocol.name);
            fs::rename(aside, root.join(MINIATURE)).unwrap();
        }
    });
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
