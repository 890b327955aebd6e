//! Packs: the small files of an artifact in one object, since requests cost more than bytes.
//!
//! A pack is 8 bytes of head (the last one says whether zstd follows) and the contents of the files, one after the other, in the order of
//! the artifact's list. Names, sizes and digests are in that list.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use pipeline::Digest;
use pipeline::source::TreeFile;

/// Largest file that is in a pack.
pub(crate) const SMALL: u64 = 1 << 20;

const HEAD: &[u8; 7] = b"SUREPK1";
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Bytes that are compressed to see whether it helps.
const SAMPLE: u64 = 1 << 20;

/// Returns the files of a pack.
pub(crate) fn small(files: &[TreeFile]) -> impl Iterator<Item = &TreeFile> {
    files.iter().filter(|file| file.size <= SMALL)
}

/// Returns the files that are objects of their own.
pub(crate) fn large(files: &[TreeFile]) -> impl Iterator<Item = &TreeFile> {
    files.iter().filter(|file| file.size > SMALL)
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// Writes the pack of an artifact's folder.
///
/// # Errors
/// A file that cannot be read, or is not what the list says.
pub(crate) fn write(folder: &Path, files: &[TreeFile], mut out: impl Write) -> io::Result<()> {
    out.write_all(HEAD)?;
    if compresses(folder, files)? {
        out.write_all(&[ZSTD])?;
        let mut encoder = zstd::Encoder::new(out, 3)?;
        write_files(folder, files, &mut encoder)?;
        encoder.finish()?.flush()
    } else {
        out.write_all(&[PLAIN])?;
        write_files(folder, files, &mut out)?;
        out.flush()
    }
}

/// True if the first bytes become smaller.
fn compresses(folder: &Path, files: &[TreeFile]) -> io::Result<bool> {
    let mut sample = vec![];
    for file in small(files) {
        let room = SAMPLE - sample.len() as u64;
        if room == 0 {
            break;
        }
        File::open(folder.join(&file.path))?.take(room).read_to_end(&mut sample)?;
    }
    Ok(zstd::encode_all(sample.as_slice(), 1)?.len() * 20 < sample.len() * 19)
}

fn write_files(folder: &Path, files: &[TreeFile], out: &mut impl Write) -> io::Result<()> {
    for file in small(files) {
        let bytes = fs::read(folder.join(&file.path))?;
        if Digest::of(&bytes) != file.digest {
            return Err(invalid(format!("`{}` is damaged", file.path)));
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads a pack into a folder.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] or [`io::ErrorKind::UnexpectedEof`] for a pack that is not of these files; others for the disk.
pub(crate) fn read(mut pack: impl Read, files: &[TreeFile], folder: &Path) -> io::Result<()> {
    let mut head = [0; 8];
    pack.read_exact(&mut head)?;
    match (&head[..7] == HEAD, head[7]) {
        (true, PLAIN) => read_files(pack, files, folder),
        (true, ZSTD) => read_files(zstd::Decoder::new(pack)?, files, folder),
        _ => Err(invalid("not a pack")),
    }
}

fn read_files(mut pack: impl Read, files: &[TreeFile], folder: &Path) -> io::Result<()> {
    let mut bytes = vec![];
    for file in small(files) {
        bytes.resize(file.size as usize, 0); // at most `SMALL`
        pack.read_exact(&mut bytes).map_err(|error| invalid(error.to_string()))?;
        if Digest::of(&bytes) != file.digest {
            return Err(invalid(format!("`{}` is damaged", file.path)));
        }
        let path = folder.join(&file.path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, &bytes)?;
    }
    match pack.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(invalid("more bytes than files")),
        Err(error) => Err(invalid(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, Vec<TreeFile>) {
        let dir = tempfile::tempdir().unwrap();
        let mut list = vec![];
        for (path, bytes) in files {
            let full = dir.path().join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, bytes).unwrap();
            list.push(TreeFile { path: (*path).to_owned(), size: bytes.len() as u64, digest: Digest::of(bytes) });
        }
        (dir, list)
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn small_files_come_back_and_any_damage_is_seen() {
        let text = b"the same words again ".repeat(300);
        let files =
            [("a/empty", vec![]), ("a/text", text), ("b", noise(700)), ("large", vec![7; SMALL as usize + 1]), ("z", vec![1])];
        for (files, is_packed) in [(&files[..], true), (&files[2..3], false)] {
            let (source, list) = folder(files);
            let mut pack = vec![];
            write(source.path(), &list, &mut pack).unwrap();
            assert_eq!(pack[7] == ZSTD, is_packed);
            let target = tempfile::tempdir().unwrap();
            read(pack.as_slice(), &list, target.path()).unwrap();
            for file in small(&list) {
                assert_eq!(Digest::of(&fs::read(target.path().join(&file.path)).unwrap()), file.digest);
            }
            assert!(!target.path().join("large").exists());
            for at in 0..pack.len() {
                let mut flipped = pack.clone();
                flipped[at] ^= 4;
                let read_flipped = read(flipped.as_slice(), &list, target.path());
                // Bits of zstd's own head that change nothing in the content may differ.
                assert!(read_flipped.is_err() || is_packed, "byte {at}");
                assert!(read(&pack[..at], &list, target.path()).is_err(), "cut at {at}");
            }
            pack.push(0);
            assert!(read(pack.as_slice(), &list, target.path()).is_err(), "longer");
        }
    }

    #[test]
    fn a_damaged_file_of_this_machine_is_not_packed() {
        let (source, mut list) = folder(&[("a", vec![1, 2, 3])]);
        list[0].digest = Digest::of(b"other");
        assert_eq!(write(source.path(), &list, vec![]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
