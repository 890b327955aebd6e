//! Keys of writers (ed25519). A writer signs its traces; a reader counts only traces of writers whose public key it trusts.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::error::CacheError;

/// Variable with a key, as in the file.
pub(crate) const VARIABLE: &str = "SURE_CACHE_KEY";

/// Secret key of a writer.
pub struct Key {
    /// Name of the writer.
    pub name: String,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for Key {
    /// Shows the name alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

/// Public key of a writer: `NAME:BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// Name of the writer.
    pub name: String,
    key: [u8; 32],
}

impl FromStr for TrustedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').filter(|(name, _)| is_name(name));
        let key = parts.and_then(|(name, key)| Some((name, STANDARD.decode(key).ok()?.try_into().ok()?)));
        let (name, key) = key.ok_or_else(|| "expected NAME:BASE64 of 32 bytes".to_owned())?;
        Ok(Self { name: name.to_owned(), key })
    }
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.key))
    }
}

impl TrustedKey {
    /// True if this writer signed the bytes.
    pub(crate) fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.key).verify(bytes, signature).is_ok()
    }
}

/// True if a text can be the name of a writer.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}

impl Key {
    /// Makes a key.
    ///
    /// # Errors
    /// A name that is not made of letters, digits, `-`, `_` and `.`.
    pub fn generate(name: &str) -> Result<(Self, String), CacheError> {
        let fault = |message: &str| CacheError::Key { place: name.to_owned(), message: message.to_owned() };
        if !is_name(name) {
            return Err(fault("a name has 1 to 64 letters, digits, `-`, `_` and `.`"));
        }
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| fault("the system gives no random bytes"))?;
        let text = format!("{name}:{}", STANDARD.encode(seed));
        Ok((Self::parse(&text).ok_or_else(|| fault("the key cannot be used"))?, text))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, seed) = text.trim().split_once(':').filter(|(name, _)| is_name(name))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&STANDARD.decode(seed).ok()?).ok()?;
        Some(Self { name: name.to_owned(), pair })
    }

    /// Writes a new key into a file that only its owner may read. Returns the public key.
    ///
    /// # Errors
    /// [`CacheError::Key`] when the file exists or cannot be written.
    pub fn create(name: &str, path: &Path) -> Result<TrustedKey, CacheError> {
        let (key, text) = Self::generate(name)?;
        let fault = |error: std::io::Error| {
            let message = if error.kind() == std::io::ErrorKind::AlreadyExists {
                "it exists, and signs what this machine uploads: another file, or remove it first".to_owned()
            } else {
                error.to_string()
            };
            CacheError::Key { place: path.display().to_string(), message }
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(fault)?;
        }
        let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
        file.and_then(|mut file| writeln!(file, "{text}")).map_err(fault)?;
        Ok(key.public())
    }

    /// Finds the key of this machine: in the variable `SURE_CACHE_KEY`, else in a file.
    ///
    /// # Errors
    /// A key that cannot be read, and a file that others may read.
    pub fn find(path: Option<&Path>) -> Result<Option<Self>, CacheError> {
        if let Some(text) = std::env::var_os(VARIABLE) {
            let key = text.to_str().and_then(Self::parse);
            let fault =
                || CacheError::Key { place: format!("${VARIABLE}"), message: "expected NAME:BASE64 of 32 bytes".to_owned() };
            return key.ok_or_else(fault).map(Some);
        }
        let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
        let fault = |message: String| CacheError::Key { place: path.display().to_string(), message };
        let mode = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(fault("others may read it: `chmod 600` it".to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        Self::parse(&text).map(Some).ok_or_else(|| fault("expected NAME:BASE64 of 32 bytes".to_owned()))
    }

    /// Returns the file of the key of this user.
    pub fn file() -> Option<PathBuf> {
        let of = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let folder = of("XDG_CONFIG_HOME").or_else(|| Some(of("HOME")?.join(".config")))?;
        Some(folder.join("sure/cache.key"))
    }

    /// Public key.
    pub fn public(&self) -> TrustedKey {
        let key = self.pair.public_key().as_ref().try_into().expect("public keys have 32 bytes");
        TrustedKey { name: self.name.clone(), key }
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(bytes).as_ref().to_vec()
    }
}

/// Returns random hexadecimal digits.
pub(crate) fn random_name() -> String {
    let mut bytes = [0; 8];
    let _ = SystemRandom::new().fill(&mut bytes); // names of zero would clash, and lose an index entry
    format!("{:016x}", u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_signs_what_its_public_key_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/cache.key");
        let public = Key::create("ci", &path).unwrap();
        assert!(Key::create("ci", &path).unwrap_err().to_string().contains("it exists"));
        let key = Key::find(Some(&path)).unwrap().unwrap();
        let signature = key.sign(b"abc");
        assert_eq!(public.to_string().parse::<TrustedKey>().unwrap(), public);
        assert!(public.verifies(b"abc", &signature) && !public.verifies(b"abd", &signature));
        assert!(!Key::generate("ci").unwrap().0.public().verifies(b"abc", &signature), "another key of the same name");
        assert_eq!(format!("{key:?}"), "Key(ci)");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(Key::find(Some(&path)).unwrap_err().to_string().contains("others may read it"));
    }
}
