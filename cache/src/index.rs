//! The index: which fingerprints the cache has, and the day of their last use. It saves requests and is trusted in nothing else: what it
//! names is looked up and checked, and what it lacks is made.
//!
//! A base file and newer segments have the same form: 24 bytes an entry.

use std::collections::HashMap;

use pipeline::Digest;
use pipeline::manifest::TOOL;
use pipeline::shared::{SharedResult, Stock};

/// Bytes of an entry.
const ENTRY: usize = 24;
/// 2020-01-01, in days since 1970.
const FIRST_DAY: i64 = 18_262;

/// Facts about a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Beginning of the artifact's digest.
    pub(crate) artifact: [u8; 8],
    /// Binary logarithm of the artifact's bytes.
    pub(crate) size_class: u8,
    /// True if the result depends on the version of an external program.
    pub(crate) has_tools: bool,
    /// Day of the last use, since 2020.
    pub(crate) day: u16,
}

/// Entries by the beginning of the fingerprint.
#[derive(Debug, Default, Clone)]
pub(crate) struct Index(HashMap<[u8; 12], Entry>);

/// Returns the beginning of a fingerprint.
pub(crate) fn name(fingerprint: Digest) -> [u8; 12] {
    let (first, _) = fingerprint.0.split_first_chunk::<12>().expect("digests have 32 bytes");
    *first
}

/// Returns the day of a time.
pub(crate) fn day(ms: i64) -> u16 {
    (ms / 86_400_000 - FIRST_DAY).clamp(0, i64::from(u16::MAX)) as u16
}

/// Returns the end of a day, in milliseconds since 1970.
pub(crate) fn end_of(day: u16) -> i64 {
    (i64::from(day) + FIRST_DAY + 1) * 86_400_000
}

impl Entry {
    pub(crate) fn new(result: &SharedResult, day: u16) -> Self {
        let (first, _) = result.artifact.0.split_first_chunk::<8>().expect("digests have 32 bytes");
        let size_class = (64 - result.bytes().leading_zeros()) as u8;
        let has_tools = result.manifest.0.keys().any(|name| name.starts_with(TOOL));
        Self { artifact: *first, size_class, has_tools, day }
    }
}

impl Index {
    pub(crate) fn get(&self, fingerprint: Digest) -> Option<Entry> {
        self.0.get(&name(fingerprint)).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Says what the cache may have.
    pub(crate) fn stock(&self) -> Stock {
        match () {
            () if self.0.is_empty() => Stock::Nothing,
            () if self.0.values().any(|entry| entry.has_tools) => Stock::WithTools,
            () => Stock::Plain,
        }
    }

    /// Adds an entry; of two for one fingerprint the later day counts.
    pub(crate) fn add(&mut self, name: [u8; 12], entry: Entry) {
        let known = self.0.entry(name).or_insert(entry);
        if known.day <= entry.day {
            *known = entry;
        }
    }

    /// Adds the entries of a file. A torn end is left out.
    pub(crate) fn add_all(&mut self, bytes: &[u8]) {
        for entry in bytes.as_chunks::<ENTRY>().0 {
            let (name, rest) = entry.split_first_chunk::<12>().expect("an entry is longer");
            let (artifact, rest) = rest.split_first_chunk::<8>().expect("an entry is longer");
            let (size_class, has_tools, day) = (rest[0], rest[1] == 1, u16::from_le_bytes([rest[2], rest[3]]));
            self.add(*name, Entry { artifact: *artifact, size_class, has_tools, day });
        }
    }

    /// Writes the entries, sorted.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut all: Vec<(&[u8; 12], &Entry)> = self.0.iter().collect();
        all.sort_unstable_by_key(|(name, _)| **name);
        let mut bytes = Vec::with_capacity(all.len() * ENTRY);
        for (name, entry) in all {
            bytes.extend(name);
            bytes.extend(entry.artifact);
            bytes.extend([entry.size_class, u8::from(entry.has_tools)]);
            bytes.extend(entry.day.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_the_later_day_counts() {
        let mut index = Index::default();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let entry = |day| Entry { artifact: [7; 8], size_class: 10, has_tools: day > 5, day };
        index.add(name(one), entry(7));
        index.add(name(two), entry(3));
        index.add(name(one), entry(5));
        let mut bytes = index.to_bytes();
        assert_eq!(bytes.len(), 2 * ENTRY);
        bytes.truncate(2 * ENTRY - 1);
        let mut again = Index::default();
        again.add_all(&bytes);
        assert_eq!(again.len(), 1, "the torn entry is left out");
        again.add_all(&index.to_bytes());
        assert_eq!((again.get(one), again.get(two)), (Some(entry(7)), Some(entry(3))));
        assert_eq!((Index::default().stock(), again.stock()), (Stock::Nothing, Stock::WithTools));
        let (_, result) = crate::trace::tests::result("a", &[("x", &[1; 1000])]);
        assert_eq!(Entry::new(&result, 3).size_class, 10);
        assert_eq!(day(1_577_836_800_000), 0);
    }
}
