//! Downloads from a Hub of our own on this machine's loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use hf_hub::api::sync::ApiBuilder;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Files of the server, and the requests it received.
#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Sends other bytes than the checksum is of.
    corrupt: bool,
    /// Closes the connection after so many bytes of a file.
    breaks_after: Option<usize>,
    /// File and first byte of every request but those for one byte.
    asked: Vec<(String, usize)>,
}

struct Server {
    state: Arc<Mutex<State>>,
    endpoint: String,
    cache: TempDir,
}

impl Server {
    fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let state =
            State { files: files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away early is part of what is tried.
                let _ = answer(&stream, &mut shared.lock().unwrap());
            }
        });
        Self { state, endpoint, cache: tempfile::tempdir().unwrap() }
    }

    fn hub(&self) -> Hub {
        let cache = self.cache.path().to_owned();
        let builder = ApiBuilder::from_cache(Cache::new(cache.clone())).with_endpoint(self.endpoint.clone()).with_progress(false);
        Hub::new(builder, cache).unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn asked(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

fn answer(mut stream: &TcpStream, state: &mut State) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.to_lowercase().strip_prefix("range: bytes=") {
            let (from, to) = bytes.split_once('-').unwrap();
            range = Some((from.parse::<usize>().unwrap(), to.parse::<usize>().ok()));
        }
    }
    if path == format!("/api/models/org/model/revision/{COMMIT}") {
        let siblings: Vec<_> = state.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let body = serde_json::json!({ "siblings": siblings, "sha": COMMIT }).to_string();
        return write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }
    let file = path.strip_prefix(&format!("/org/model/resolve/{COMMIT}/")).unwrap_or_default();
    let Some(bytes) = state.files.get(file) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let (from, to) = range.unwrap_or((0, None));
    if from >= bytes.len() {
        return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let to = to.map_or(bytes.len(), |last| last + 1);
    let tag = crate::check::hex(&Sha256::digest(bytes));
    let mut part = bytes[from..to].to_vec();
    if part.len() > 1 {
        state.asked.push((file.to_owned(), from));
        if state.corrupt {
            part[0] ^= 1;
        }
    }
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\nETag: \"{tag}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
        part.len(),
        to - 1,
        bytes.len()
    )?;
    let sent = if part.len() > 1 { state.breaks_after.unwrap_or(part.len()).min(part.len()) } else { part.len() };
    stream.write_all(&part[..sent])
}

fn name() -> Pinned {
    format!("hub:org/model@{COMMIT}").parse().unwrap()
}

fn weights() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn files() -> [(&'static str, Vec<u8>); 4] {
    [(CONFIG, b"{\"a\":1}".to_vec()), ("README.md", b"words".to_vec()), (SINGLE, weights()), (PICKLE, b"pickle".to_vec())]
}

#[test]
fn what_is_needed_is_fetched_once() {
    let server = Server::new(&files());
    let folder = server.hub().fetch(&name()).unwrap();
    assert_eq!(fs::read(folder.join(SINGLE)).unwrap(), weights());
    let asked: Vec<_> = server.asked().into_iter().map(|(file, _)| file).collect();
    assert_eq!(asked, [CONFIG, SINGLE]);
    assert_eq!(server.hub().fetch(&name()).unwrap(), folder);
    assert_eq!(server.asked(), []);
    assert_eq!(folder, name().folder_in(server.cache.path()));
}

#[test]
fn listed_parts_are_fetched() {
    let index = br#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#.to_vec();
    let mut files = vec![(CONFIG, b"{}".to_vec()), (INDEX, index), ("model-1.safetensors", weights())];
    let server = Server::new(&files);
    let error = server.hub().fetch(&name()).unwrap_err().to_string();
    assert!(error.contains("lacks `model-2.safetensors`"), "{error}");
    files.push(("model-2.safetensors", b"22".to_vec()));
    let server = Server::new(&files);
    let folder = server.hub().fetch(&name()).unwrap();
    assert!(folder.join("model-1.safetensors").exists() && folder.join("model-2.safetensors").exists());
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let server = Server::new(&files());
    server.change(|state| state.breaks_after = Some(150_000));
    let error = server.hub().fetch(&name()).unwrap_err().to_string();
    assert!(error.contains(SINGLE), "{error}");
    assert_eq!(server.asked(), [(CONFIG.to_owned(), 0), (SINGLE.to_owned(), 0)]);
    server.change(|state| state.breaks_after = None);
    let folder = server.hub().fetch(&name()).unwrap();
    assert_eq!(server.asked(), [(SINGLE.to_owned(), 150_000)]);
    assert_eq!(fs::read(folder.join(SINGLE)).unwrap(), weights());
}

#[test]
fn a_file_that_was_whole_when_its_download_was_killed_is_no_obstacle() {
    let server = Server::new(&files());
    let tag = crate::check::hex(&Sha256::digest(weights()));
    let blobs = server.cache.path().join("models--org--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{tag}.part")), weights()).unwrap();
    let folder = server.hub().fetch(&name()).unwrap();
    assert_eq!(fs::read(folder.join(SINGLE)).unwrap(), weights());
}

#[test]
fn a_damaged_file_is_deleted_and_fetched_again() {
    let server = Server::new(&files());
    server.hub().fetch(&name()).unwrap();
    let folder = name().folder_in(server.cache.path());
    let blob = fs::canonicalize(folder.join(SINGLE)).unwrap();
    for path in [&folder.join(SINGLE), &blob] {
        fs::remove_file(path).unwrap();
    }
    server.change(|state| state.corrupt = true);
    let error = server.hub().fetch(&name()).unwrap_err();
    assert!(matches!(&error, HubError::Checksum { file, .. } if file == SINGLE), "{error}");
    assert!(!folder.join(SINGLE).exists() && !blob.exists());
    server.change(|state| state.corrupt = false);
    server.hub().fetch(&name()).unwrap();
    assert_eq!(fs::read(folder.join(SINGLE)).unwrap(), weights());
}

#[test]
fn what_is_not_there_and_a_hub_out_of_reach_are_told_apart() {
    let server = Server::new(&files());
    let other: Pinned = format!("hub:org/other@{COMMIT}").parse().unwrap();
    assert!(matches!(server.hub().fetch(&other), Err(HubError::NotThere { .. })));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // closed again at once
    let unreachable = Server { endpoint: format!("http://{nobody}"), ..server };
    let error = unreachable.hub().fetch(&name()).unwrap_err();
    assert!(matches!(&error, HubError::Fetch { what, .. } if what == "the list of files"), "{error}");
    assert!(name().by_hand().contains(&format!("hf download org/model --revision {COMMIT}")));
}

#[test]
fn names_must_be_pinned() {
    assert_eq!(name().to_string(), format!("hub:org/model@{COMMIT}"));
    for wrong in
        ["hub:org/model", "hub:org/model@main", "hub:model@0", "org/model@0", "hub:../x@0123456789abcdef0123456789abcdef01234567"]
    {
        assert!(matches!(wrong.parse::<Pinned>(), Err(HubError::Name { .. })), "{wrong}");
    }
}

#[test]
fn small_files_have_the_checksum_of_git() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "hello\n").unwrap();
    // `echo hello | git hash-object --stdin`
    assert_eq!(check::checksum(&path, 40).unwrap().unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
    assert_eq!(check::checksum(&path, 7).unwrap(), None);
}
