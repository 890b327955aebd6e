//! Reads speech corpora as their makers distribute them.
//!
//! A reader lists utterances with their labels and splits. It decodes no audio and hashes no recording. [`check`] reports whether
//! a copy is complete. [`synthetic`] writes miniatures in the layout of every corpus, so that everything can be tried without a
//! download. [`annotation`] is the one struct for what is known of an utterance, [`parquet_file`] the one module that opens
//! Parquet files, [`shard`] the rows of a shard without their audio.
//!
//! Where the code published with SURE did something that a sound experiment would not, there are two protocols: the sound
//! one, which is the default, and one that repeats SURE, with a name of its own that shows in every result.

pub mod annotation;
pub mod check;
mod corpus;
mod error;
pub mod esd;
pub mod fleurs;
pub mod fluent;
mod folder;
pub mod fsdd;
mod header;
pub mod iemocap;
pub mod l2_arctic;
pub mod librispeech;
pub mod libritts;
mod listing;
pub mod meld;
pub mod parquet_file;
mod place;
pub mod random;
pub mod shard;
pub mod snips;
pub mod speech_commands;
pub mod synthetic;
pub mod table;
mod text;
mod textgrid;
mod utterance;
pub mod vctk;

pub use annotation::{Annotation, Phone, Slot, Times, Word};
pub use corpus::{Corpus, Defect, Facts, Protocol};
pub use error::CorpusError;
pub use header::Length;
pub use listing::{Cause, Listing, Skipped};
pub use utterance::{Span, Split, Utterance};

/// All readers, in order of name.
pub static ALL: &[&dyn Corpus] = &[
    &snips::AudioSnips,
    &esd::Esd,
    &fleurs::Fleurs,
    &fluent::FluentSpeechCommands,
    &fsdd::Fsdd,
    &iemocap::Iemocap,
    &l2_arctic::L2Arctic,
    &librispeech::LibriSpeech,
    &libritts::LibriTts,
    &meld::Meld,
    &speech_commands::SpeechCommands,
    &table::Table,
    &vctk::Vctk,
];

/// Finds the reader of a name, for example `fsdd`.
pub fn find(name: &str) -> Option<&'static dyn Corpus> {
    ALL.iter().copied().find(|corpus| corpus.name() == name)
}

/// Name of the corpus that a folder contains, among all but `other`: the one whose reader finds something in it.
pub fn recognise(root: &std::path::Path, other: &str) -> Option<&'static str> {
    let is_it = |corpus: &&&dyn Corpus| {
        let is_candidate = corpus.name() != other && corpus.name() != table::Table.name();
        is_candidate && corpus.list(root, &corpus.protocols()[0]).is_ok_and(|listing| !listing.utterances.is_empty())
    };
    ALL.iter().find(is_it).map(|corpus| corpus.name())
}

#[cfg(test)]
mod contract;
#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_is_found_by_its_name_and_names_are_sorted() {
        for corpus in ALL {
            assert_eq!(find(corpus.name()).map(Corpus::name), Some(corpus.name()));
            assert!(!corpus.protocols().is_empty(), "{} has no protocol", corpus.name());
        }
        assert!(ALL.is_sorted_by_key(|corpus| corpus.name()));
        assert!(find("nonesuch").is_none());
    }

    #[test]
    fn a_folder_is_recognised_as_the_corpus_it_contains() {
        let esd = testing::Copy::of("esd");
        assert_eq!((recognise(&esd.root(), "fsdd"), recognise(&esd.root(), "esd")), (Some("esd"), None));
    }

    #[test]
    fn an_unknown_protocol_is_named_with_the_known_ones() {
        let error = speech_commands::SpeechCommands.protocol(Some("gsc-v3")).unwrap_err().to_string();
        assert!(error.contains("`gsc-v3`") && error.contains("gsc-v2-11, gsc-v1-11"), "{error}");
    }
}
