//! Uploads a folder as a result, and downloads it into another store.
//!
//! ```sh
//! export SURE_CACHE_KEY=$(sure cache key me --out me.key >/dev/null; cat me.key)
//! cargo run -p cache --example share -- file:///tmp/cache FOLDER STORES [ENDPOINT]
//! ```
#![allow(clippy::print_stdout, reason = "a program")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cache::{Cache, Settings, Upload};
use pipeline::manifest::Manifest;
use pipeline::records::{Provenance, ResultRecord};
use pipeline::shared::{Offer, SharedCache, SharedResult};
use pipeline::store::Store;
use pipeline::{Digest, Stop};

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Puts a folder into a store. Returns its result.
fn publish(store: &Store, folder: &Path) -> Result<(Digest, SharedResult), Box<dyn std::error::Error>> {
    let attempt = store.attempt()?;
    copy(folder, &attempt)?;
    let artifact = store.publish(&attempt)?;
    let mut manifest = Manifest::default();
    manifest.field("stage", "example.folder");
    manifest.field("folder", &artifact.to_string());
    let provenance = Provenance::default();
    store.commit(&ResultRecord { manifest: manifest.clone(), artifact, provenance: provenance.clone() })?;
    let files = store.listing(artifact)?;
    Ok((manifest.fingerprint(), SharedResult { manifest, artifact, files, provenance }))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, folder, stores, rest @ ..] = words.as_slice() else {
        return Err("usage: share URL FOLDER STORES [ENDPOINT]".into());
    };
    let mut settings = Settings { write: true, upload: Upload::All, ..Settings::of(url) };
    settings.endpoint = rest.first().cloned();
    settings.region = rest.first().map(|_| "us-east-1".to_owned());
    let stores = PathBuf::from(stores);
    let open = |store: &Store| Cache::open(&settings, store.root(), |_| false, |text: &str| println!("{text}"));

    let one = Store::open(&stores.join("one"))?;
    let (fingerprint, result) = publish(&one, Path::new(folder))?;
    let (cache, begun) = (open(&one)?, Instant::now());
    cache.offer_anyway(Offer { fingerprint, result: result.clone() });
    let counts = cache.close(&Stop::default());
    println!("upload {:.3} s, {} bytes, {} uploaded", begun.elapsed().as_secs_f64(), result.bytes(), counts.uploaded);

    let two = Store::open(&stores.join("two"))?;
    let (cache, begun) = (open(&two)?, Instant::now());
    let found = cache.find(&[fingerprint]).into_iter().flatten().next().ok_or("the cache does not have it")?;
    let attempt = two.attempt()?;
    let whole = cache.download(found.artifact, &found.files, &attempt) && two.publish(&attempt)? == result.artifact;
    println!("download {:.3} s, {}", begun.elapsed().as_secs_f64(), if whole { "equal" } else { "DIFFERENT" });
    Ok(())
}
