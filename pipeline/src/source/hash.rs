//! Content digests of files, as fast as memory allows and in bounded memory.
//!
//! A large file is read in pieces by all threads at once, each into a buffer that stays in its core's cache; BLAKE3 is a
//! tree, so the pieces' values join to the digest of the whole. Mapping the file would save no time (it was slower where
//! it was measured) and a mapped file that is truncated meanwhile kills the process.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use rayon::prelude::*;

use crate::Digest;

/// Bytes read at once. A power of two of BLAKE3's chunks (1 kB), so that a piece is a whole subtree.
const PIECE: usize = 256 * 1024;
/// Pieces that one thread takes at once, one after the other, as the disk likes it.
const RUN: u64 = 16;
/// Files up to this size are hashed by one thread, in a few hundredths of a second: while all cores work, others would come too late.
const SMALL: u64 = 32 << 20;

/// A buffer that does not begin at the start of a cache line makes the kernel's copies a quarter slower.
const CACHE_LINE: usize = 64;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE + CACHE_LINE]);
}

fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        let start = buffer.as_ptr().align_offset(CACHE_LINE);
        work(&mut buffer[start..start + PIECE])
    })
}

/// Computes BLAKE3 of a file, in memory that does not depend on its size.
///
/// Errors: whatever reading gives; a file that shrinks meanwhile gives [`io::ErrorKind::UnexpectedEof`].
pub(crate) fn hash_file(file: &File) -> io::Result<Digest> {
    let length = file.metadata()?.len();
    if length <= SMALL { hash_in_order(file) } else { hash_in_pieces(file, length) }
}

fn hash_in_order(mut file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    with_buffer(|buffer| {
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(Digest(*hasher.finalize().as_bytes())),
                Ok(count) => _ = hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    })
}

fn hash_in_pieces(file: &File, length: u64) -> io::Result<Digest> {
    let num_pieces = length.div_ceil(PIECE as u64);
    let run = |run: u64| {
        let pieces = run * RUN..num_pieces.min((run + 1) * RUN);
        pieces.map(|piece| hash_piece(file, piece * PIECE as u64, length)).collect::<io::Result<Vec<_>>>()
    };
    let runs = (0..num_pieces.div_ceil(RUN)).into_par_iter().map(run).collect::<io::Result<Vec<_>>>()?;
    let pieces: Vec<ChainingValue> = runs.into_iter().flatten().collect();
    Ok(join(&pieces))
}

fn hash_piece(file: &File, start: u64, length: u64) -> io::Result<ChainingValue> {
    with_buffer(|buffer| {
        let piece = &mut buffer[..(length - start).min(PIECE as u64) as usize];
        file.read_exact_at(piece, start)?;
        Ok(Hasher::new().set_input_offset(start).update(piece).finalize_non_root())
    })
}

/// The digest of a whole from the values of two or more pieces.
///
/// In BLAKE3's tree the left side of every node holds the largest power of two of pieces that leaves some for the right.
fn join(pieces: &[ChainingValue]) -> Digest {
    let (last, before) = pieces.split_last().expect("a file in pieces has several");
    // Subtrees that are complete, largest first: their sizes are the binary digits of how many pieces there were.
    let mut whole: Vec<ChainingValue> = vec![];
    for (count, piece) in (1_u64..).zip(before) {
        let mut right = *piece;
        for _ in 0..count.trailing_zeros() {
            let left = whole.pop().expect("as many subtrees as binary digits");
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        whole.push(right);
    }
    let first = whole.remove(0);
    let right = whole.iter().rfold(*last, |right, left| merge_subtrees_non_root(left, &right, Mode::Hash));
    Digest(*merge_subtrees_root(&first, &right, Mode::Hash).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Bytes that repeat nowhere near.
    fn bytes(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        Hasher::new().update(b"pieces").finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn pieces_join_to_the_digest_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let all = bytes((2 * RUN as usize + 3) * PIECE);
        let lengths = [2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 35].map(|pieces| pieces * PIECE);
        for length in lengths.into_iter().flat_map(|length| [length - 1024, length - 1, length, length - PIECE + 1]) {
            fs::write(&path, &all[..length]).unwrap();
            let file = File::open(&path).unwrap();
            let expected = Digest::of(&all[..length]);
            assert_eq!(hash_in_pieces(&file, length as u64).unwrap(), expected, "{length} bytes in pieces");
            assert_eq!(hash_file(&file).unwrap(), expected, "{length} bytes");
        }
    }

    #[test]
    fn files_on_both_sides_of_the_limit_have_the_digest_of_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for length in [SMALL, SMALL + 1] {
            fs::write(&path, bytes(length as usize)).unwrap();
            let file = File::open(&path).unwrap();
            assert_eq!(hash_file(&file).unwrap(), hash_in_order(&File::open(&path).unwrap()).unwrap(), "{length} bytes");
        }
    }

    #[test]
    fn small_files_have_the_digest_of_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1] {
            let all = bytes(length);
            fs::write(&path, &all).unwrap();
            assert_eq!(hash_file(&File::open(&path).unwrap()).unwrap(), Digest::of(&all), "{length} bytes");
        }
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, bytes(3 * PIECE)).unwrap();
        let error = hash_in_pieces(&File::open(&path).unwrap(), 4 * PIECE as u64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
