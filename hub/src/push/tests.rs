//! Uploads to a Hub of our own on this machine's loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;

/// Content and behaviour of the server.
#[derive(Default)]
struct State {
    endpoint: String,
    /// Large files by their digest; parts of one by `DIGEST/NUMBER`.
    large: BTreeMap<String, Vec<u8>>,
    /// Content of the model after each commit.
    commits: Vec<BTreeMap<String, Vec<u8>>>,
    /// Method and path of each request.
    asked: Vec<String>,
    /// Bytes of a part; large files are sent whole without it.
    part_size: Option<usize>,
    /// The model exists.
    exists: bool,
    /// The first request whose path contains this is refused with status and body.
    refuses: Option<(&'static str, u16, &'static str)>,
}

struct Server(Arc<Mutex<State>>);

impl Server {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { endpoint, ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (status, tag, body) = answer(&stream, &mut shared.lock().unwrap());
                let tag = tag.map(|tag| format!("ETag: \"{tag}\"\r\n")).unwrap_or_default();
                let head = format!("HTTP/1.1 {status} x\r\n{tag}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = (&stream).write_all(format!("{head}{body}").as_bytes()); // a client that went away
            }
        });
        Self(state)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    fn push(&self, folder: &TempDir) -> Result<(String, Vec<String>), PushError> {
        let pusher = Pusher::new(self.0.lock().unwrap().endpoint.clone(), "secret".to_owned());
        let (mut told, options) = (Vec::new(), PushOptions { message: "New".to_owned(), private: true });
        let files = uploads(folder.path()).unwrap();
        let url = pusher.push(&"hub:org/model".parse().unwrap(), &files, &options, &mut |file| told.push(file.name.clone()))?;
        Ok((url, told))
    }
}

/// Head lines and body of a request.
struct Request {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut request = Self { head: Vec::new(), body: Vec::new() };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            request.head.push(line.trim().to_owned());
        }
        let length = request.header("content-length").expect("S3 takes no body of unknown length");
        request.body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut request.body).unwrap();
        request
    }

    fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.iter().filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

fn answer(stream: &TcpStream, state: &mut State) -> (u16, Option<String>, String) {
    let request = Request::read(stream);
    let header = |name: &str| request.header(name);
    let words: Vec<&str> = request.head[0].split(' ').collect();
    let (method, path, body) = (words[0], words[1], request.body.clone());
    state.asked.push(format!("{method} {path}"));
    if let Some((_, status, said)) = state.refuses.filter(|(part, ..)| path.contains(part)) {
        return (status, None, said.to_owned());
    }
    if method == "PUT" {
        assert_eq!(header("authorization"), None, "the addresses of the storage are signed themselves");
        let name = path.strip_prefix("/storage/").unwrap().to_owned();
        state.large.insert(name.clone(), body);
        return (200, Some(name), String::new());
    }
    assert_eq!(header("authorization").as_deref(), Some("Bearer secret"));
    let text = String::from_utf8(body).unwrap();
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let said = match path {
        "/api/repos/create" => {
            assert_eq!(json(&text), json!({"name": "model", "organization": "org", "type": "model", "visibility": "private"}));
            if std::mem::replace(&mut state.exists, true) {
                return (409, None, "You already created this model repo".to_owned());
            }
            json!({ "url": "x" })
        }
        "/api/models/org/model/preupload/main" => {
            let mode = |file: &Value| {
                let name = file["path"].as_str().unwrap();
                assert!(file["sample"].as_str().unwrap().len() <= 684);
                let mode = if name.ends_with(".safetensors") { "lfs" } else { "regular" };
                json!({"path": name, "uploadMode": mode, "shouldIgnore": name.ends_with(".tmp")})
            };
            json!({ "files": json(&text)["files"].as_array().unwrap().iter().map(mode).collect::<Vec<_>>() })
        }
        "/org/model.git/info/lfs/objects/batch" => {
            assert_eq!(header("content-type").as_deref(), Some(LFS));
            let object = |object: &Value| {
                let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap() as usize);
                if state.large.contains_key(oid) {
                    return json!({ "oid": oid, "size": size });
                }
                let (end, verify) = (&state.endpoint, json!({ "href": format!("{}/verify", state.endpoint) }));
                let upload = match state.part_size {
                    None => json!({ "href": format!("{end}/storage/{oid}") }),
                    Some(part) => {
                        let mut header = json!({ "chunk_size": part.to_string() });
                        for number in 1..=size.div_ceil(part) {
                            header[number.to_string()] = json!(format!("{end}/storage/{oid}/{number}"));
                        }
                        json!({ "href": format!("{end}/complete"), "header": header })
                    }
                };
                json!({ "oid": oid, "size": size, "actions": { "upload": upload, "verify": verify } })
            };
            json!({ "objects": json(&text)["objects"].as_array().unwrap().iter().map(object).collect::<Vec<_>>() })
        }
        "/complete" => {
            let done = json(&text);
            let oid = done["oid"].as_str().unwrap();
            let parts = done["parts"].as_array().unwrap().iter().map(|part| {
                let name = format!("{oid}/{}", part["partNumber"]);
                assert_eq!(part["etag"], format!("\"{name}\""));
                state.large[&name].clone()
            });
            let whole = parts.collect::<Vec<_>>().concat();
            state.large.insert(oid.to_owned(), whole);
            json!({})
        }
        "/verify" => {
            let (oid, size) = (json(&text)["oid"].as_str().unwrap().to_owned(), json(&text)["size"].as_u64().unwrap());
            assert_eq!(state.large[&oid].len() as u64, size);
            return (200, None, String::new());
        }
        "/api/models/org/model/commit/main" => {
            let mut model = BTreeMap::new();
            for line in text.lines().map(json) {
                let value = &line["value"];
                let name = || value["path"].as_str().unwrap().to_owned();
                match line["key"].as_str().unwrap() {
                    "header" => assert_eq!(value["summary"], "New"),
                    "file" => drop(model.insert(name(), bytes(value["content"].as_str().unwrap()))),
                    "lfsFile" => drop(model.insert(name(), state.large[value["oid"].as_str().unwrap()].clone())),
                    other => panic!("{other}"),
                }
            }
            state.commits.push(model);
            json!({ "commitUrl": format!("{}/org/model/commit/{}", state.endpoint, state.commits.len()) })
        }
        other => panic!("no such path: {other}"),
    };
    (200, None, said.to_string())
}

/// Decodes base64 the slow way.
fn bytes(text: &str) -> Vec<u8> {
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |digit: char, at: usize| if digits.find(digit).unwrap() >> (5 - at) & 1 == 1 { '1' } else { '0' };
    let bits: String = text.trim_end_matches('=').chars().flat_map(|digit| (0..6).map(move |at| bit(digit, at))).collect();
    let whole = bits.as_bytes().chunks_exact(8).map(|byte| std::str::from_utf8(byte).unwrap());
    whole.map(|byte| u8::from_str_radix(byte, 2).unwrap()).collect()
}

fn weights() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("more")).unwrap();
    for (name, content) in [
        ("README.md", b"---\nlibrary_name: peft\n---\n".to_vec()),
        ("adapter_model.safetensors", weights()),
        ("empty.safetensors", vec![]),
        ("more/notes.txt", "\u{e4}\n".as_bytes().to_vec()),
        ("more/left.tmp", vec![1]),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// The folder as the model should have it.
fn expected() -> BTreeMap<String, Vec<u8>> {
    let folder = folder();
    let wanted = uploads(folder.path()).unwrap().into_iter().filter(|file| !file.name.ends_with(".tmp"));
    wanted.map(|file| (file.name, fs::read(file.path).unwrap())).collect()
}

#[test]
fn a_folder_becomes_a_commit_and_large_files_are_sent_once() {
    let server = Server::new();
    let (url, told) = server.push(&folder()).unwrap();
    assert!(url.ends_with("/org/model/commit/1"), "{url}");
    assert_eq!(told, ["adapter_model.safetensors"]);
    server.change(|state| assert_eq!(state.commits, [expected()]));
    let oid = check::hex(&Sha256::digest(weights()));
    let sent = format!("PUT /storage/{oid}");
    assert!(server.asked().contains(&sent));

    let (_, told) = server.push(&folder()).unwrap();
    assert!(told.is_empty() && !server.asked().contains(&sent), "the Hub has it, and the model exists");
    server.change(|state| assert_eq!(state.commits, [expected(), expected()]));
}

#[test]
fn a_file_is_sent_in_the_parts_that_the_hub_wants() {
    let server = Server::new();
    server.change(|state| state.part_size = Some(150_000));
    server.push(&folder()).unwrap();
    server.change(|state| assert_eq!(state.commits, [expected()]));
    assert_eq!(server.asked().iter().filter(|request| request.starts_with("PUT")).count(), 3, "400 000 bytes");
}

#[test]
fn a_refusal_is_repeated_and_nothing_is_committed() {
    for (part, status, body, expected) in [
        (
            "create",
            401,
            r#"{"error":"Invalid username or password."}"#,
            "refuses to create `org/model`: 401, Invalid username or password.",
        ),
        ("create", 403, "", "refuses to create `org/model`: 403"),
        (
            "preupload",
            404,
            r#"{"error":"Repository not found"}"#,
            "refuses to take the files of `org/model`: 404, Repository not found",
        ),
        ("storage", 503, "slow down", "refuses to take `adapter_model.safetensors`: 503, slow down"),
        ("verify", 422, "", "refuses to take `adapter_model.safetensors`: 422"),
        ("preupload", 200, "{}", "the Hub's answer lacks `files`"),
        ("batch", 200, "[]", "the Hub's answer lacks `objects`"),
    ] {
        let server = Server::new();
        server.change(|state| state.refuses = Some((part, status, body)));
        let error = server.push(&folder()).unwrap_err().to_string();
        assert!(error.contains(expected), "{part}: {error}");
        server.change(|state| assert!(state.commits.is_empty()));
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // closed again at once
    let server = Server(Arc::new(Mutex::new(State { endpoint: format!("http://{nobody}"), ..State::default() })));
    let error = server.push(&folder()).unwrap_err();
    assert_eq!(error.to_string(), "cannot create `org/model`");
}

#[test]
fn models_have_a_name_without_a_commit() {
    assert_eq!("hub:org/model".parse::<ModelName>().unwrap().to_string(), "org/model");
    for wrong in ["org/model", "hub:model", "hub:org/model@0123", "hub:../x", "hub:org/a/b", "hub:org/"] {
        assert!(matches!(wrong.parse::<ModelName>(), Err(PushError::Name { .. })), "{wrong}");
    }
}

#[test]
fn base64_is_that_of_the_rfc() {
    for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
        assert_eq!(base64(bytes.as_bytes()), expected);
    }
    assert_eq!(base64(&[0xff, 0xfe, 0xfb]), "//77");
}
