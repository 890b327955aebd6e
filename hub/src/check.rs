//! The Hub's checksums: SHA-256 for large files; for small ones the hash that Git gives to their content.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The checksum of a file of that many hexadecimal digits; none when there is no such kind.
pub(crate) fn checksum(path: &Path, digits: usize) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    match digits {
        64 => hash(Sha256::new(), &mut file).map(Some),
        40 => {
            let header = format!("blob {}\0", file.metadata()?.len());
            hash(Sha1::new_with_prefix(header), &mut file).map(Some)
        }
        _ => Ok(None),
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

fn hash(mut hasher: impl Digest, file: &mut File) -> io::Result<String> {
    let mut block = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&block[..count]);
    }
}
