//! Upload of a folder to a model of the Hub, as one commit.
//!
//! The Hub says which files it wants in Git LFS. These are stored first, each under its SHA-256; the others are in the commit itself.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hf_hub::Cache;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::{Agent, Body, http::Response};

use crate::{SCHEME, check, is_plain};

/// A model of the Hub without a commit: `hub:ORGANISATION/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    organisation: String,
    name: String,
}

/// A file of a folder that is uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Name in the model, with `/` between folders.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

/// Title of the commit, and who may see a new model.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// Title of the commit.
    pub message: String,
    /// True if a model that does not exist yet is private.
    pub private: bool,
}

/// An upload that failed. Nothing is visible on the Hub before its last step, the commit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The name is not one.
    #[error("`{text}` is no model on the Hub: expected `hub:ORGANISATION/NAME`")]
    Name {
        /// As written.
        text: String,
    },
    /// Nobody says who uploads.
    #[error("no token for the Hub in HF_TOKEN or `{file}`")]
    NoToken {
        /// The file of `hf auth login`.
        file: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The Hub cannot be reached, or the connection broke.
    #[error("cannot {action}")]
    Connection {
        /// Action that was tried.
        action: String,
        /// The cause.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The Hub refuses.
    #[error("the Hub refuses to {action}: {status}{said}")]
    Refused {
        /// Action that was tried.
        action: String,
        /// Status code of HTTP.
        status: u16,
        /// Words of the Hub, after a comma.
        said: String,
    },
    /// The Hub answers something else than its documentation says.
    #[error("the Hub's answer lacks `{missing}` when asked to {action}")]
    Answer {
        /// Action that was tried.
        action: String,
        /// The field.
        missing: &'static str,
    },
}

impl FromStr for ModelName {
    type Err = PushError;

    fn from_str(text: &str) -> Result<Self, PushError> {
        let parts = text.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/'));
        match parts {
            Some((organisation, name)) if is_plain(organisation) && is_plain(name) => {
                Ok(Self { organisation: organisation.to_owned(), name: name.to_owned() })
            }
            _ => Err(PushError::Name { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organisation, self.name)
    }
}

/// Lists the files of a folder and of those inside, in order of their names.
///
/// Errors: [`PushError::Read`].
pub fn uploads(folder: &Path) -> Result<Vec<Upload>, PushError> {
    let (mut found, mut folders) = (Vec::new(), vec![(folder.to_owned(), String::new())]);
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(PushError::read(&folder))? {
            let path = entry.map_err(PushError::read(&folder))?.path();
            let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
            let facts = fs::metadata(&path).map_err(PushError::read(&path))?;
            if facts.is_dir() {
                folders.push((path, format!("{name}/")));
            } else {
                found.push(Upload { name, path, size: facts.len() });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The Hub's address: `HF_ENDPOINT`, or that of Hugging Face.
#[expect(clippy::disallowed_methods, reason = "the variable by which every client of the Hub is told of another one")]
pub fn endpoint() -> String {
    let address = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".to_owned());
    address.trim_end_matches('/').to_owned()
}

/// A client that may write.
pub struct Pusher {
    agent: Agent,
    endpoint: String,
    token: String,
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher").field("endpoint", &self.endpoint).finish_non_exhaustive() // never the token
    }
}

/// Type of the messages of Git LFS.
const LFS: &str = "application/vnd.git-lfs+json";
const JSON: &str = "application/json";
/// Bytes of a file by which the Hub judges whether it is text.
const SAMPLE: u64 = 512;
/// Files in one question to the Hub, as its own client asks.
const FILES_AT_ONCE: usize = 256;

/// A file with the way in which the Hub wants it.
struct Sorted<'a> {
    upload: &'a Upload,
    /// SHA-256 of a file for Git LFS.
    oid: Option<String>,
}

impl Pusher {
    /// Client with the token of `HF_TOKEN`, or of `hf auth login`.
    ///
    /// Errors: [`PushError::NoToken`].
    #[expect(clippy::disallowed_methods, reason = "a token is a secret of its user, and this its usual place")]
    pub fn from_env() -> Result<Self, PushError> {
        let cache = Cache::from_env();
        let given = std::env::var("HF_TOKEN").ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let token = given.or_else(|| cache.token()).ok_or_else(|| PushError::NoToken { file: cache.token_path() })?;
        Ok(Self::new(endpoint(), token))
    }

    fn new(endpoint: String, token: String) -> Self {
        let agent = Agent::config_builder().http_status_as_error(false).build().into();
        Self { agent, endpoint, token }
    }

    /// Uploads files as one commit, and returns the address of the commit. The model is created if it does not exist. `told` hears of each
    /// large file before it is sent.
    ///
    /// Errors: [`PushError`]; the model is as it was before.
    pub fn push(
        &self,
        model: &ModelName,
        files: &[Upload],
        options: &PushOptions,
        told: &mut dyn FnMut(&Upload),
    ) -> Result<String, PushError> {
        self.create(model, options)?;
        let mut sorted = Vec::new();
        for files in files.chunks(FILES_AT_ONCE) {
            sorted.extend(self.sorted(model, files)?);
        }
        self.store(model, &sorted, told)?;
        self.commit(model, &sorted, options)
    }

    /// Creates the model, unless it exists.
    fn create(&self, model: &ModelName, options: &PushOptions) -> Result<(), PushError> {
        let action = format!("create `{model}`");
        let visibility = if options.private { "private" } else { "public" };
        let body = json!({ "name": model.name, "organization": model.organisation, "type": "model", "visibility": visibility });
        let response = self.post(&action, &format!("{}/api/repos/create", self.endpoint), JSON, body.to_string())?;
        if response.status().as_u16() == 409 { Ok(()) } else { accepted(&action, response).map(drop) }
    }

    /// Asks which files the Hub wants in Git LFS, and leaves out those that it wants not at all.
    fn sorted<'a>(&self, model: &ModelName, files: &'a [Upload]) -> Result<Vec<Sorted<'a>>, PushError> {
        let action = format!("take the files of `{model}`");
        let described = files
            .iter()
            .map(|file| Ok(json!({ "path": file.name, "size": file.size, "sample": base64(&beginning(file)?) })))
            .collect::<Result<Vec<_>, _>>()?;
        let url = format!("{}/api/models/{model}/preupload/main", self.endpoint);
        let answer = self.ask(&action, &url, JSON, &json!({ "files": described }))?;
        let answer = answer["files"].as_array().cloned().unwrap_or_default();
        let by_name: BTreeMap<&str, &Value> = answer.iter().filter_map(|file| Some((file["path"].as_str()?, file))).collect();
        let mut sorted = Vec::new();
        for upload in files {
            let said = by_name.get(upload.name.as_str()).ok_or(PushError::Answer { action: action.clone(), missing: "files" })?;
            if said["shouldIgnore"] == true {
                continue;
            }
            let is_large = said["uploadMode"] == "lfs" && upload.size > 0;
            let oid = is_large.then(|| check::checksum(&upload.path, 64)).transpose().map_err(PushError::read(&upload.path))?;
            sorted.push(Sorted { upload, oid: oid.flatten() });
        }
        Ok(sorted)
    }

    /// Sends the large files that the Hub does not have.
    fn store(&self, model: &ModelName, files: &[Sorted], told: &mut dyn FnMut(&Upload)) -> Result<(), PushError> {
        let action = format!("take the large files of `{model}`");
        let large: BTreeMap<&str, &Upload> = files.iter().filter_map(|file| Some((file.oid.as_deref()?, file.upload))).collect();
        if large.is_empty() {
            return Ok(());
        }
        let objects: Vec<Value> = large.iter().map(|(oid, file)| json!({ "oid": oid, "size": file.size })).collect();
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256", "objects": objects,
            "ref": { "name": "main" },
        });
        let answer = self.ask(&action, &format!("{}/{model}.git/info/lfs/objects/batch", self.endpoint), LFS, &body)?;
        let answers: Vec<LfsObject> = serde_json::from_value(answer["objects"].clone())
            .map_err(|_| PushError::Answer { action: action.clone(), missing: "objects" })?;
        for object in answers {
            let Some(file) = large.get(object.oid.as_str()) else { continue };
            if let Some(error) = object.error {
                let action = format!("take `{}`", file.name);
                return Err(PushError::Refused { action, status: error.code, said: format!(", {}", error.message) });
            }
            let Some(actions) = object.actions else { continue }; // the Hub has it
            told(file);
            self.send(file, &object.oid, &actions)?;
        }
        Ok(())
    }

    /// Sends one large file, whole or in the parts that the Hub wants.
    fn send(&self, file: &Upload, oid: &str, actions: &LfsActions) -> Result<(), PushError> {
        let action = format!("take `{}`", file.name);
        let upload = &actions.upload;
        let part_size = upload.header.get("chunk_size").and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok()));
        match part_size {
            None => {
                let opened = File::open(&file.path).map_err(PushError::read(&file.path))?;
                let mut request = self.agent.put(&upload.href);
                for (name, value) in &upload.header {
                    request = request.header(name, value.as_str().unwrap_or_default());
                }
                accepted(&action, request.send(&opened).map_err(PushError::connection(&action))?)?;
            }
            Some(part_size) => {
                // The addresses of the parts are under their numbers, between other headers.
                let parts: BTreeMap<u64, &str> =
                    upload.header.iter().filter_map(|(name, url)| Some((name.parse().ok()?, url.as_str()?))).collect();
                let mut opened = File::open(&file.path).map_err(PushError::read(&file.path))?;
                let mut sent = Vec::new();
                for (number, url) in parts {
                    let mut part = Vec::new();
                    (&mut opened).take(part_size).read_to_end(&mut part).map_err(PushError::read(&file.path))?;
                    let response = self.agent.put(url).send(&part).map_err(PushError::connection(&action))?;
                    let response = accepted(&action, response)?;
                    let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok());
                    let tag = tag.ok_or(PushError::Answer { action: action.clone(), missing: "etag" })?;
                    sent.push(json!({ "partNumber": number, "etag": tag }));
                }
                self.ask(&action, &upload.href, LFS, &json!({ "oid": oid, "parts": sent }))?;
            }
        }
        match &actions.verify {
            Some(verify) => self.ask(&action, &verify.href, LFS, &json!({ "oid": oid, "size": file.size })).map(drop),
            None => Ok(()),
        }
    }

    /// Makes the commit.
    fn commit(&self, model: &ModelName, files: &[Sorted], options: &PushOptions) -> Result<String, PushError> {
        let action = format!("commit to `{model}`");
        let mut lines = vec![json!({ "key": "header", "value": { "summary": options.message, "description": "" } })];
        for Sorted { upload, oid } in files {
            lines.push(match oid {
                Some(oid) => {
                    let value = json!({ "path": upload.name, "algo": "sha256", "oid": oid, "size": upload.size });
                    json!({ "key": "lfsFile", "value": value })
                }
                None => {
                    let content = fs::read(&upload.path).map_err(PushError::read(&upload.path))?;
                    let value = json!({ "path": upload.name, "content": base64(&content), "encoding": "base64" });
                    json!({ "key": "file", "value": value })
                }
            });
        }
        let body = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let url = format!("{}/api/models/{model}/commit/main", self.endpoint);
        let response = accepted(&action, self.post(&action, &url, "application/x-ndjson", body)?)?;
        let answer = content(&action, response)?;
        answer["commitUrl"].as_str().map(str::to_owned).ok_or(PushError::Answer { action, missing: "commitUrl" })
    }

    fn post(&self, action: &str, url: &str, kind: &str, body: String) -> Result<Response<Body>, PushError> {
        let request = self.agent.post(url).header("Authorization", format!("Bearer {}", self.token));
        request.header("Content-Type", kind).header("Accept", kind).send(body).map_err(PushError::connection(action))
    }

    /// Posts JSON and reads JSON; an empty answer is null.
    fn ask(&self, action: &str, url: &str, kind: &str, body: &Value) -> Result<Value, PushError> {
        content(action, accepted(action, self.post(action, url, kind, body.to_string())?)?)
    }
}

/// Answer of the Hub about one large file.
#[derive(Deserialize)]
struct LfsObject {
    oid: String,
    #[serde(default)]
    actions: Option<LfsActions>,
    #[serde(default)]
    error: Option<LfsError>,
}

#[derive(Deserialize)]
struct LfsActions {
    upload: LfsAction,
    #[serde(default)]
    verify: Option<LfsAction>,
}

#[derive(Deserialize)]
struct LfsAction {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct LfsError {
    code: u16,
    message: String,
}

impl PushError {
    fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    fn connection(action: &str) -> impl FnOnce(ureq::Error) -> Self {
        let action = action.replacen("take", "send", 1);
        move |source| Self::Connection { action, source: Box::new(source) }
    }
}

/// Longest refusal that is repeated, in characters.
const SAID: usize = 300;

/// A response of success.
///
/// Errors: [`PushError::Refused`] with the first words of the Hub.
fn accepted(action: &str, mut response: Response<Body>) -> Result<Response<Body>, PushError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let error = serde_json::from_str::<Value>(&text).ok().and_then(|body| body["error"].as_str().map(str::to_owned));
    let words: String = error.unwrap_or(text).trim().chars().take(SAID).collect();
    let said = if words.is_empty() { String::new() } else { format!(", {words}") };
    Err(PushError::Refused { action: action.to_owned(), status: response.status().as_u16(), said })
}

fn content(action: &str, mut response: Response<Body>) -> Result<Value, PushError> {
    let text = response.body_mut().read_to_string().map_err(PushError::connection(action))?;
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// The first bytes of a file.
fn beginning(file: &Upload) -> Result<Vec<u8>, PushError> {
    let mut bytes = Vec::new();
    let opened = File::open(&file.path).map_err(PushError::read(&file.path))?;
    opened.take(SAMPLE).read_to_end(&mut bytes).map_err(PushError::read(&file.path))?;
    Ok(bytes)
}

/// Base64 as in RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let word = group.iter().enumerate().fold(0_u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        let digit =
            move |at: usize| if at > group.len() { '=' } else { char::from(DIGITS[(word >> (18 - 6 * at)) as usize & 63]) };
        [digit(0), digit(1), digit(2), digit(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[cfg(test)]
mod tests;
