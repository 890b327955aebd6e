//! Compact forms of the columns of the index. Digests are most of their bytes.
//!
//! A manifest becomes a list of pairs, each a name and a value. A name is a word number, with the number that it ends with, as in
//! `input.texts#17`. A value is a digest (32 bytes), an artifact in the index (its row), a short text as it is or a long one as
//! a word number. Words are texts that many rows share.

use crate::Digest;
use crate::manifest::Manifest;
use crate::source::TreeFile;

/// Numbers of words and artifacts, for writing.
pub(super) trait Numbers {
    type Error;
    /// Returns the number of a text that many rows share.
    fn word(&mut self, text: &str) -> Result<u64, Self::Error>;
    /// Returns the row of an artifact, when the index has it.
    fn artifact(&mut self, digest: Digest) -> Result<Option<u64>, Self::Error>;
}

/// Words and artifacts by their numbers, for reading.
pub(super) trait Names {
    type Error;
    /// Returns the text of a word; none when the index is damaged.
    fn word(&mut self, number: u64) -> Result<Option<String>, Self::Error>;
    /// Returns the digest of an artifact; none when its row is gone.
    fn artifact(&mut self, row: u64) -> Result<Option<Digest>, Self::Error>;
}

const WORD: u8 = 0;
const DIGEST: u8 = 1;
const ARTIFACT: u8 = 2;
/// A text of `tag - INLINE` bytes follows.
const INLINE: u8 = 3;
/// Longer texts become words.
const INLINE_MOST: usize = 20;

pub(super) fn pack_manifest<N: Numbers>(manifest: &Manifest, numbers: &mut N) -> Result<Vec<u8>, N::Error> {
    let mut out = vec![];
    for (name, value) in &manifest.0 {
        let (name, ending) = split_number(name);
        put(&mut out, numbers.word(name)? << 1 | u64::from(ending.is_some()));
        if let Some(ending) = ending {
            put(&mut out, ending);
        }
        if let Some(digest) = Digest::parse(value) {
            if let Some(row) = numbers.artifact(digest)? {
                out.push(ARTIFACT);
                put(&mut out, row);
            } else {
                out.push(DIGEST);
                out.extend(digest.0);
            }
        } else if value.len() <= INLINE_MOST {
            out.push(INLINE + value.len() as u8);
            out.extend(value.as_bytes());
        } else {
            out.push(WORD);
            put(&mut out, numbers.word(value)?);
        }
    }
    Ok(out)
}

/// Returns none when the bytes are damaged or an artifact they refer to is forgotten.
pub(super) fn unpack_manifest<N: Names>(mut bytes: &[u8], names: &mut N) -> Result<Option<Manifest>, N::Error> {
    let mut manifest = Manifest::default();
    while !bytes.is_empty() {
        let Some(name) = take(&mut bytes) else { return Ok(None) };
        let ending = if name & 1 == 1 { take(&mut bytes).map(|number| number.to_string()) } else { Some(String::new()) };
        let Some((name, ending)) = names.word(name >> 1)?.zip(ending) else { return Ok(None) };
        let Some(tag) = bytes.split_off_first().copied() else { return Ok(None) };
        let value = match tag {
            WORD | ARTIFACT => {
                let Some(number) = take(&mut bytes) else { return Ok(None) };
                if tag == WORD { names.word(number)? } else { names.artifact(number)?.map(|digest| digest.to_string()) }
            }
            DIGEST => bytes.split_off(..32).and_then(|digest| digest.try_into().ok()).map(|digest| Digest(digest).to_string()),
            length => {
                let text = bytes.split_off(..usize::from(length - INLINE));
                text.and_then(|text| std::str::from_utf8(text).ok()).map(str::to_owned)
            }
        };
        let Some(value) = value else { return Ok(None) };
        manifest.field(&(name + &ending), &value);
    }
    Ok(Some(manifest))
}

/// Splits the number off that a name ends with.
fn split_number(name: &str) -> (&str, Option<u64>) {
    let head = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = &name[head.len()..];
    match number.parse::<u64>() {
        Ok(value) if value.to_string() == number => (head, Some(value)),
        _ => (name, None),
    }
}

pub(super) fn pack_listing(files: &[TreeFile]) -> Vec<u8> {
    let mut out = vec![];
    for file in files {
        out.extend(file.digest.0);
        put(&mut out, file.size);
        put(&mut out, file.path.len() as u64);
        out.extend(file.path.as_bytes());
    }
    out
}

/// Returns none when the bytes are damaged.
pub(super) fn unpack_listing(mut bytes: &[u8]) -> Option<Vec<TreeFile>> {
    let mut files = vec![];
    while !bytes.is_empty() {
        let digest = Digest(bytes.split_off(..32)?.try_into().ok()?);
        let size = take(&mut bytes)?;
        let length = usize::try_from(take(&mut bytes)?).ok()?;
        let path = std::str::from_utf8(bytes.split_off(..length)?).ok()?.to_owned();
        files.push(TreeFile { path, size, digest });
    }
    Some(files)
}

/// Pairs sorted by their first number, each as the difference to the one before.
pub(super) fn pack_pairs(pairs: &[(u64, u64)]) -> Vec<u8> {
    let mut out = vec![];
    let (mut last, mut last_second) = (0, 0);
    for (first, second) in pairs {
        put(&mut out, first.wrapping_sub(last));
        put(&mut out, zigzag(second.wrapping_sub(last_second) as i64));
        (last, last_second) = (*first, *second);
    }
    out
}

/// Returns none when the bytes are damaged.
pub(super) fn unpack_pairs(mut bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    let mut pairs = vec![];
    let (mut first, mut second) = (0_u64, 0_u64);
    while !bytes.is_empty() {
        first = first.wrapping_add(take(&mut bytes)?);
        second = second.wrapping_add(unzigzag(take(&mut bytes)?) as u64);
        pairs.push((first, second));
    }
    Some(pairs)
}

/// Maps small numbers of either sign to small numbers.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Writes seven bits a byte, the lowest first; the highest bit says that more follow (LEB128).
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// Words and artifacts by their place in two lists.
    #[derive(Default)]
    struct Lists {
        words: Vec<String>,
        artifacts: Vec<Digest>,
    }

    impl Numbers for Lists {
        type Error = Infallible;
        fn word(&mut self, text: &str) -> Result<u64, Infallible> {
            let at = self.words.iter().position(|word| word == text);
            Ok(at.unwrap_or_else(|| {
                self.words.push(text.to_owned());
                self.words.len() - 1
            }) as u64)
        }
        fn artifact(&mut self, digest: Digest) -> Result<Option<u64>, Infallible> {
            Ok(self.artifacts.iter().position(|known| *known == digest).map(|at| at as u64))
        }
    }

    impl Names for Lists {
        type Error = Infallible;
        fn word(&mut self, number: u64) -> Result<Option<String>, Infallible> {
            Ok(self.words.get(number as usize).cloned())
        }
        fn artifact(&mut self, row: u64) -> Result<Option<Digest>, Infallible> {
            Ok(self.artifacts.get(row as usize).copied())
        }
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![".{0,40}", any::<u8>().prop_map(|byte| Digest::of(&[byte]).to_string())]
    }

    proptest! {
        #[test]
        fn manifests_come_back_as_they_were(fields in proptest::collection::btree_map(".{0,30}", value(), 0..8)) {
            let mut lists = Lists { artifacts: (0..128_u8).map(|byte| Digest::of(&[byte])).collect(), ..Lists::default() };
            let manifest = Manifest(fields);
            let Ok(bytes) = pack_manifest(&manifest, &mut lists);
            let Ok(back) = unpack_manifest(&bytes, &mut lists);
            prop_assert_eq!(back, Some(manifest));
        }

        #[test]
        fn names_with_numbers_come_back_as_they_were(fields in proptest::collection::btree_map("[a#]{0,2}[0-9]{0,21}", value(), 0..8)) {
            let mut lists = Lists::default();
            let manifest = Manifest(fields);
            let Ok(bytes) = pack_manifest(&manifest, &mut lists);
            let Ok(back) = unpack_manifest(&bytes, &mut lists);
            prop_assert_eq!(back, Some(manifest));
        }

        #[test]
        fn listings_come_back_as_they_were(files in proptest::collection::vec((".{1,20}", any::<u64>(), any::<u8>()), 0..8)) {
            let file = |(path, size, byte): (String, u64, u8)| TreeFile { path, size, digest: Digest::of(&[byte]) };
            let files: Vec<TreeFile> = files.into_iter().map(file).collect();
            prop_assert_eq!(unpack_listing(&pack_listing(&files)), Some(files));
        }

        #[test]
        fn pairs_come_back_as_they_were(pairs in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..20)) {
            prop_assert_eq!(unpack_pairs(&pack_pairs(&pairs)), Some(pairs));
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut lists = Lists { words: vec!["a".to_owned(); 50], ..Lists::default() };
            let _ = unpack_manifest(&bytes, &mut lists);
            let _ = unpack_listing(&bytes);
            let _ = unpack_pairs(&bytes);
        }
    }
}
