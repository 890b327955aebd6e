//! The object store behind a cache: its requests, as few kinds as the cache needs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};
use pipeline::Digest;
use pipeline::run::now_ms;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::error::CacheError;
use crate::settings::{Place, Settings};
use crate::transfer::{Limiter, Stalled};

/// Bytes of a part of a large upload.
const PART: u64 = 16 << 20;
/// Largest file that is uploaded by one request.
const WHOLE: u64 = 64 << 20;
/// Parts of one upload that travel at the same time.
const PARTS_AT_ONCE: usize = 4;
/// Age at which an upload that was not finished is begun again.
const STALE_MS: i64 = 24 * 3_600_000;
/// Time without a byte after which a download is taken up again.
const STALL: Duration = Duration::from_secs(1);

/// Bytes that make an attempt at a download worth another one.
const WORTH_GOING_ON: u64 = 1 << 20;
/// Attempts that may bring less.
const SHORT_ATTEMPTS: u32 = 1;

/// An object store, with the prefix of the cache.
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    /// For uploads that a later process can go on with.
    parts: Option<Arc<dyn MultipartStore>>,
    prefix: String,
    /// URL, for people.
    pub(crate) name: String,
    up: Limiter,
    down: Limiter,
}

/// An object in a listing.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// Key without the prefix of the cache.
    pub(crate) key: String,
    pub(crate) size: u64,
    /// Milliseconds since 1970, by the clock of the server.
    pub(crate) modified_ms: i64,
}

/// Answer to the creation of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Created {
    /// With its tag.
    Yes(Option<String>),
    Exists,
}

/// A download that ended early.
#[derive(Debug)]
pub(crate) enum Broken {
    Missing,
    Remote(Error),
    /// The object is longer than anything that was asked for.
    TooLong,
    /// The disk of this machine failed, or a file of it is not what it should be.
    Disk(io::Error),
}

impl Remote {
    /// Connects nowhere: an object store is asked when there is something to ask.
    pub(crate) fn open(settings: &Settings) -> Result<Self, CacheError> {
        let refuse =
            |error: Error| CacheError::Settings(format!("the cache {}: {}", settings.url, crate::error::shorten(&error)));
        let place = Place::of(&settings.url);
        let place = place.ok_or_else(|| CacheError::Settings(format!("`cache.url`: `{}` is no URL of a cache", settings.url)))?;
        let (store, parts, prefix): (Arc<dyn ObjectStore>, Option<Arc<dyn MultipartStore>>, String) = match place {
            Place::Folder(folder) => {
                if settings.write {
                    let io = |source| CacheError::Io { action: "create", path: folder.display().to_string(), source };
                    fs::create_dir_all(&folder).map_err(io)?;
                }
                if !folder.is_dir() {
                    let text = format!("the cache {}: there is no such folder", settings.url);
                    return Err(CacheError::Settings(text));
                }
                (Arc::new(object_store::local::LocalFileSystem::new_with_prefix(&folder).map_err(refuse)?), None, String::new())
            }
            Place::S3 { bucket, prefix } => {
                let mut builder = object_store::aws::AmazonS3Builder::from_env()
                    .with_bucket_name(bucket)
                    .with_retry(retry())
                    .with_client_options(client(settings));
                if let Some(endpoint) = &settings.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                if let Some(region) = &settings.region {
                    builder = builder.with_region(region);
                }
                let store = Arc::new(builder.build().map_err(refuse)?);
                (Arc::clone(&store) as _, Some(store), prefix)
            }
            #[cfg(feature = "gcp")]
            Place::Gcs { bucket, prefix } => {
                let builder = object_store::gcp::GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                let store = builder.with_retry(retry()).with_client_options(client(settings)).build().map_err(refuse)?;
                let store = Arc::new(store);
                (Arc::clone(&store) as _, Some(store), prefix)
            }
            #[cfg(feature = "azure")]
            Place::Azure { container, prefix } => {
                let builder = object_store::azure::MicrosoftAzureBuilder::from_env().with_container_name(container);
                let store = builder.with_retry(retry()).with_client_options(client(settings)).build().map_err(refuse)?;
                let store = Arc::new(store);
                (Arc::clone(&store) as _, Some(store), prefix)
            }
            #[cfg(not(feature = "gcp"))]
            Place::Gcs { .. } => return Err(not_built("gs://", "gcp")),
            #[cfg(not(feature = "azure"))]
            Place::Azure { .. } => return Err(not_built("az://", "azure")),
        };
        Ok(Self::of(store, parts, &prefix, settings))
    }

    pub(crate) fn of(
        store: Arc<dyn ObjectStore>,
        parts: Option<Arc<dyn MultipartStore>>,
        prefix: &str,
        settings: &Settings,
    ) -> Self {
        let (up, down) = (Limiter::new(settings.up_limit), Limiter::new(settings.down_limit));
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { store, parts, prefix, name: settings.url.clone(), up, down }
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}{key}", self.prefix))
    }

    /// Returns a small object with its tag; none when it is not there.
    pub(crate) async fn get(&self, key: &str, largest: u64) -> Result<Option<(Bytes, ObjectMeta)>, Error> {
        let got = match self.store.get(&self.path(key)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            got => got?,
        };
        let meta = got.meta.clone();
        if meta.size > largest {
            return Ok(None); // nothing that this program wrote
        }
        Ok(Some((got.bytes().await?, meta)))
    }

    pub(crate) async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, Error> {
        match self.store.head(&self.path(key)).await {
            Err(Error::NotFound { .. }) => Ok(None),
            meta => meta.map(Some),
        }
    }

    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<Option<String>, Error> {
        self.up.take(bytes.len()).await;
        Ok(self.store.put(&self.path(key), PutPayload::from_bytes(bytes)).await?.e_tag)
    }

    /// Writes an object that must not exist. Some servers refuse without having an object (a conflict of two writers): then once more.
    pub(crate) async fn create(&self, key: &str, bytes: Bytes) -> Result<Created, Error> {
        let path = self.path(key);
        for _ in 0..3 {
            let payload = PutPayload::from_bytes(bytes.clone());
            match self.store.put_opts(&path, payload, PutOptions::from(PutMode::Create)).await {
                Ok(put) => return Ok(Created::Yes(put.e_tag)),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) if self.head(key).await?.is_some() => {
                    return Ok(Created::Exists);
                }
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Created::Exists)
    }

    /// Replaces an object whose tag is known. Returns the new tag; none when it is another object by now.
    pub(crate) async fn replace(&self, key: &str, tag: &str, bytes: Bytes) -> Result<Option<String>, Error> {
        let version = UpdateVersion { e_tag: Some(tag.to_owned()), version: None };
        let options = PutOptions::from(PutMode::Update(version));
        match self.store.put_opts(&self.path(key), PutPayload::from_bytes(bytes.clone()), options).await {
            Ok(put) => Ok(Some(put.e_tag.unwrap_or_default())),
            Err(Error::Precondition { .. } | Error::NotFound { .. } | Error::AlreadyExists { .. }) => Ok(None),
            // A folder cannot compare and replace in one step.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => match self.head(key).await? {
                Some(meta) if meta.e_tag.as_deref() == Some(tag) => Ok(Some(self.put(key, bytes).await?.unwrap_or_default())),
                _ => Ok(None),
            },
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(key)).await {
            Err(Error::NotFound { .. }) => Ok(()),
            deleted => deleted,
        }
    }

    /// Deletes many objects. Returns the number of those that are gone.
    pub(crate) async fn delete_all(&self, keys: Vec<String>) -> Result<usize, Error> {
        let paths: Vec<Result<Path, Error>> = keys.iter().map(|key| Ok(self.path(key))).collect();
        let deleted = self.store.delete_stream(futures_util::stream::iter(paths).boxed());
        let is_gone = |deleted: Result<Path, Error>| match deleted {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        Ok(deleted.map(is_gone).try_collect::<Vec<()>>().await?.len())
    }

    /// Lists the objects of a folder, and of those in it.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<Listed>, Error> {
        let path = self.path(folder);
        let cut = self.prefix.len();
        let listed = |meta: ObjectMeta| Listed {
            key: meta.location.as_ref().get(cut..).unwrap_or_default().to_owned(),
            size: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        };
        self.store.list(Some(&path)).map_ok(listed).try_collect().await
    }

    /// Passes an object on in pieces. A download that breaks off goes on where it was, as long as each attempt gets further.
    pub(crate) async fn stream(
        &self,
        key: &str,
        longest: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()> + Send,
    ) -> Result<u64, Broken> {
        let path = self.path(key);
        let (mut done, mut size, mut tag) = (0_u64, None, None::<String>);
        let mut short = 0;
        loop {
            let before = done;
            let mut options = GetOptions { if_match: tag.clone(), ..GetOptions::default() };
            options.range = (done > 0).then(|| (done..size.unwrap_or(u64::MAX)).into());
            let ended: Result<(), Error> = async {
                let got = timeout(STALL, self.store.get_opts(&path, options)).await.map_err(stall)??;
                size = Some(got.meta.size);
                tag.clone_from(&got.meta.e_tag);
                if got.meta.size > longest {
                    return Ok(());
                }
                let mut stream = got.into_stream();
                while let Some(bytes) = timeout(STALL, stream.next()).await.map_err(stall)?.transpose()? {
                    self.down.take(bytes.len()).await;
                    take(&bytes).map_err(|error| Error::Generic { store: "disk", source: Box::new(error) })?;
                    done += bytes.len() as u64;
                }
                Ok(())
            }
            .await;
            match ended {
                Ok(()) if size.is_some_and(|size| size > longest) => return Err(Broken::TooLong),
                Ok(()) if size == Some(done) => return Ok(done),
                Err(Error::NotFound { .. }) => return Err(Broken::Missing),
                Err(Error::Generic { store: "disk", source }) => {
                    let error = source.downcast::<io::Error>().map_or_else(io::Error::other, |error| *error);
                    return Err(Broken::Disk(error));
                }
                // It came to its end too early, or broke off.
                ended => {
                    short += u32::from(done - before < WORTH_GOING_ON);
                    if done == 0 || short > SHORT_ATTEMPTS {
                        return Err(Broken::Remote(ended.err().unwrap_or_else(|| stall(()))));
                    }
                }
            }
        }
    }

    /// Uploads a file whose digest is known. A large one goes in parts, which `state` remembers for a later process.
    pub(crate) async fn put_file(
        &self,
        key: &str,
        file: &FilePath,
        digest: Option<Digest>,
        state: &FilePath,
    ) -> Result<u64, Broken> {
        let open = File::open(file).map_err(Broken::Disk)?;
        let size = open.metadata().map_err(Broken::Disk)?.len();
        if size <= WHOLE {
            let bytes = read_at(open, 0, size).await?;
            if digest.is_some_and(|digest| Digest::of(&bytes) != digest) {
                return Err(damaged());
            }
            self.put(key, bytes).await.map_err(Broken::Remote)?;
        } else if let Some(parts) = &self.parts {
            self.put_parts(parts, key, &open, size, digest, state).await?;
        } else {
            self.put_stream(key, &open, size, digest).await?;
        }
        Ok(size)
    }

    /// Uploads a large file where uploads cannot be continued.
    async fn put_stream(&self, key: &str, open: &File, size: u64, digest: Option<Digest>) -> Result<(), Broken> {
        let mut upload = self.store.put_multipart(&self.path(key)).await.map_err(Broken::Remote)?;
        let mut hasher = blake3::Hasher::new();
        for at in (0..size).step_by(PART as usize) {
            let bytes = read_at(open.try_clone().map_err(Broken::Disk)?, at, PART.min(size - at)).await?;
            hasher.update(&bytes);
            self.up.take(bytes.len()).await;
            upload.put_part(PutPayload::from_bytes(bytes)).await.map_err(Broken::Remote)?;
        }
        if digest.is_some_and(|digest| hasher.finalize().as_bytes() != &digest.0) {
            let _ = upload.abort().await; // what stays behind is invisible
            return Err(damaged());
        }
        upload.complete().await.map_err(Broken::Remote)?;
        Ok(())
    }

    async fn put_parts(
        &self,
        store: &Arc<dyn MultipartStore>,
        key: &str,
        open: &File,
        size: u64,
        digest: Option<Digest>,
        state: &FilePath,
    ) -> Result<(), Broken> {
        let path = self.path(key);
        let known: Option<Parts> = fs::read(state).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let known = known.filter(|parts| parts.key == key && parts.size == size && now_ms() - parts.begun_ms < STALE_MS);
        let mut parts = match known {
            Some(parts) => parts,
            None => {
                let id = store.create_multipart(&path).await.map_err(Broken::Remote)?;
                let count = size.div_ceil(PART) as usize;
                Parts { key: key.to_owned(), size, id, begun_ms: now_ms(), done: vec![None; count] }
            }
        };
        parts.save(state);
        let id = parts.id.clone();
        let count = parts.done.len();
        let mut hasher = blake3::Hasher::new();
        let mut travelling = futures_util::stream::FuturesUnordered::new();
        let mut next = 0;
        while next < count || !travelling.is_empty() {
            if next < count && travelling.len() < PARTS_AT_ONCE {
                let at = next as u64 * PART;
                let bytes = read_at(open.try_clone().map_err(Broken::Disk)?, at, PART.min(size - at)).await?;
                hasher.update(&bytes);
                if parts.done[next].is_none() {
                    let (number, path, id) = (next, &path, &id);
                    travelling.push(async move {
                        self.up.take(bytes.len()).await;
                        (number, store.put_part(path, id, number, PutPayload::from_bytes(bytes)).await)
                    });
                }
                next += 1;
            } else if let Some((number, put)) = travelling.next().await {
                match put {
                    Ok(part) => parts.done[number] = Some(part.content_id),
                    Err(error) => {
                        if matches!(error, Error::NotFound { .. }) {
                            let _ = fs::remove_file(state); // the server has forgotten the upload: from the beginning next time
                        }
                        return Err(Broken::Remote(error));
                    }
                }
                parts.save(state);
            }
        }
        drop(travelling);
        let _ = fs::remove_file(state);
        if digest.is_some_and(|digest| hasher.finalize().as_bytes() != &digest.0) {
            let _ = store.abort_multipart(&path, &id).await; // what stays behind is invisible
            return Err(damaged());
        }
        let all = parts.done.into_iter().flatten().map(|content_id| PartId { content_id }).collect();
        store.complete_multipart(&path, &id, all).await.map_err(Broken::Remote)?;
        Ok(())
    }
}

/// An upload in parts that was begun.
#[derive(Serialize, Deserialize)]
struct Parts {
    key: String,
    size: u64,
    id: String,
    begun_ms: i64,
    /// Tag of each part that is there.
    done: Vec<Option<String>>,
}

impl Parts {
    fn save(&self, path: &FilePath) {
        let _ = fs::write(path, serde_json::to_vec(self).expect("plain data")); // without it, the upload begins again
    }
}

async fn read_at(file: File, at: u64, length: u64) -> Result<Bytes, Broken> {
    let read = move || {
        let mut bytes = BytesMut::zeroed(length as usize);
        file.read_exact_at(&mut bytes, at).map(|()| bytes.freeze())
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(Broken::Disk)
}

fn damaged() -> Broken {
    Broken::Disk(io::Error::new(io::ErrorKind::InvalidData, "the file is damaged"))
}

fn stall<E>(_: E) -> Error {
    Error::Generic { store: "cache", source: Box::new(Stalled) }
}

/// Retries of one request, within the library.
fn retry() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(50), max_backoff: Duration::from_millis(500), base: 2.0 };
    RetryConfig { backoff, max_retries: 2, retry_timeout: Duration::from_secs(10) }
}

fn client(settings: &Settings) -> ClientOptions {
    // Whoever set another provider before has set one that works, too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let is_plain = settings.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new()
        .with_allow_http(is_plain)
        .with_connect_timeout(Duration::from_secs(1))
        .with_timeout(Duration::from_secs(60))
}

#[cfg(not(all(feature = "gcp", feature = "azure")))]
fn not_built(scheme: &str, feature: &str) -> CacheError {
    CacheError::Settings(format!("`cache.url`: this build has no {scheme}; build it with `--features {feature}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_a_build_lacks_are_named_with_their_feature() {
        let open = |url: &str| Remote::open(&Settings::of(url)).map(|remote| remote.name).map_err(|error| error.to_string());
        let lacks = |scheme: &str, feature: &str| {
            Err(format!("`cache.url`: this build has no {scheme}; build it with `--features {feature}`"))
        };
        let google = if cfg!(feature = "gcp") { Ok("gs://bucket/sure".to_owned()) } else { lacks("gs://", "gcp") };
        assert_eq!(open("gs://bucket/sure"), google);
        // Azure's accounts are named by the environment, which has none here.
        let azure = open("az://container/sure").unwrap_err();
        if cfg!(feature = "azure") {
            assert!(azure.starts_with("the cache az://container/sure: ") && azure.contains("ccount"), "{azure}");
        } else {
            assert_eq!(Err(azure), lacks("az://", "azure"));
        }
        assert_eq!(open("s3://bucket/sure"), Ok("s3://bucket/sure".to_owned()));
        assert_eq!(open("file:///no/such/folder"), Err("the cache file:///no/such/folder: there is no such folder".to_owned()));
    }
}
