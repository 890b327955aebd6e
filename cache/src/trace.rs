//! Traces: signed results.
//!
//! ```text
//! sure-trace 1 ci BASE64\n        writer and signature over what follows
//! zstd of JSON: format, fingerprint, time, result (manifest, artifact, files, provenance)
//! ```
//!
//! The signature is checked before anything else is read: nobody but a trusted writer can feed the parser.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pipeline::Digest;
use pipeline::shared::SharedResult;
use serde::{Deserialize, Serialize};

use crate::key::{Key, TrustedKey};

const HEAD: &str = "sure-trace 1";
/// Format of the JSON.
const FORMAT: u32 = 1;
/// Most bytes of the JSON: a list of a million files.
const LARGEST: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
struct Body {
    format: u32,
    fingerprint: Digest,
    time_ms: i64,
    result: SharedResult,
}

/// A trace that can be used.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// Name of the writer.
    pub(crate) writer: String,
    /// Time of the upload, in milliseconds since 1970.
    pub(crate) time_ms: i64,
    pub(crate) result: SharedResult,
}

/// Reason why a trace does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// A writer that is not trusted here signed it.
    Untrusted,
    /// It is not what its writer signed, or not of this fingerprint.
    Damaged,
}

/// Writes a trace.
pub(crate) fn encode(fingerprint: Digest, result: &SharedResult, time_ms: i64, key: &Key) -> Vec<u8> {
    let body = Body { format: FORMAT, fingerprint, time_ms, result: result.clone() };
    let json = serde_json::to_vec(&body).expect("results hold nothing that JSON cannot");
    let packed = zstd::encode_all(json.as_slice(), 3).expect("memory can be written");
    let signature = STANDARD.encode(key.sign(&signed(&packed)));
    let mut bytes = format!("{HEAD} {} {signature}\n", key.name).into_bytes();
    bytes.extend(packed);
    bytes
}

/// Bytes that a writer signs: a signature for anything else is none for this.
fn signed(packed: &[u8]) -> Vec<u8> {
    [HEAD.as_bytes(), b"\n", packed].concat()
}

/// Reads a trace.
///
/// # Errors
/// [`Bad`]
pub(crate) fn decode(bytes: &[u8], fingerprint: Digest, trusted: &[TrustedKey]) -> Result<Trace, Bad> {
    let (writer, signature, packed) = split(bytes).ok_or(Bad::Damaged)?;
    let signature = STANDARD.decode(signature).map_err(|_| Bad::Damaged)?;
    let mut keys = trusted.iter().filter(|key| key.name == writer).peekable();
    if keys.peek().is_none() {
        return Err(Bad::Untrusted);
    }
    let signed = signed(packed);
    if !keys.any(|key| key.verifies(&signed, &signature)) {
        return Err(Bad::Damaged);
    }
    read(bytes, fingerprint)
}

/// Reads a trace without a check of its writer, to count or remove it.
///
/// # Errors
/// [`Bad::Damaged`]
pub(crate) fn read(bytes: &[u8], fingerprint: Digest) -> Result<Trace, Bad> {
    let (writer, _, packed) = split(bytes).ok_or(Bad::Damaged)?;
    let mut json = vec![];
    let decoder = zstd::Decoder::new(packed).map_err(|_| Bad::Damaged)?;
    decoder.take(LARGEST).read_to_end(&mut json).map_err(|_| Bad::Damaged)?;
    let body: Body = serde_json::from_slice(&json).map_err(|_| Bad::Damaged)?;
    if body.format != FORMAT || body.fingerprint != fingerprint || !body.result.is_of(fingerprint) {
        return Err(Bad::Damaged);
    }
    Ok(Trace { writer: writer.to_owned(), time_ms: body.time_ms, result: body.result })
}

/// Splits a trace into writer, signature and what is signed.
fn split(bytes: &[u8]) -> Option<(&str, &str, &[u8])> {
    let end = bytes.iter().take(256).position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut words = head.strip_prefix(HEAD)?.split_ascii_whitespace();
    Some((words.next()?, words.next()?, &bytes[end + 1..]))
}

#[cfg(test)]
pub(crate) mod tests {
    use pipeline::manifest::Manifest;
    use pipeline::records::Provenance;
    use pipeline::source::TreeFile;

    use super::*;

    /// Returns a result with these files, and its fingerprint. The artifact is the digest of the list of files.
    pub(crate) fn result(name: &str, files: &[(&str, &[u8])]) -> (Digest, SharedResult) {
        let manifest = Manifest([("stage".to_owned(), name.to_owned())].into());
        let file = |(path, bytes): &(&str, &[u8])| TreeFile {
            path: (*path).to_owned(),
            size: bytes.len() as u64,
            digest: Digest::of(bytes),
        };
        let files: Vec<TreeFile> = files.iter().map(file).collect();
        let artifact = pipeline::source::listing_digest(files.iter().map(|file| (&*file.path, file.size, file.digest)));
        let provenance = Provenance { secs: 100.0, ..Provenance::default() };
        (manifest.fingerprint(), SharedResult { manifest, artifact, files, provenance })
    }

    #[test]
    fn only_what_a_trusted_writer_signed_counts() {
        let (fingerprint, result) = result("a", &[("x", b"1"), ("y", b"22")]);
        let (key, _) = Key::generate("ci").unwrap();
        let (other, _) = Key::generate("other").unwrap();
        let bytes = encode(fingerprint, &result, 7, &key);
        let trusted = [key.public()];
        let trace = decode(&bytes, fingerprint, &trusted).unwrap();
        assert_eq!((trace.writer.as_str(), trace.time_ms, trace.result), ("ci", 7, result));
        assert_eq!(decode(&bytes, Digest::of(b"x"), &trusted).unwrap_err(), Bad::Damaged, "under another name");
        assert_eq!(decode(&bytes, fingerprint, &[other.public()]).unwrap_err(), Bad::Untrusted);
        let impostor = Key::generate("ci").unwrap().0;
        assert_eq!(decode(&bytes, fingerprint, &[impostor.public()]).unwrap_err(), Bad::Damaged);
        for at in 0..bytes.len() {
            for bit in [1, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= bit;
                assert!(decode(&flipped, fingerprint, &trusted).is_err(), "byte {at}");
            }
            assert!(decode(&bytes[..at], fingerprint, &trusted).is_err(), "cut at {at}");
        }
    }
}
