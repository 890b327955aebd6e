//! `sure push`: what would be uploaded, and the upload to a Hub of our own on this machine's loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tests::{Answer, Project, executable};

/// Paths that were asked for, and the files of the commit.
type Seen = Arc<Mutex<(Vec<String>, Vec<String>)>>;

/// Serves the Hub's paths for a model whose files are all small.
fn serve() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(&stream, &shared)));
    (endpoint, seen)
}

fn answer(mut stream: &TcpStream, seen: &Seen) {
    let mut reader = BufReader::new(stream);
    let (mut lines, mut line) = (Vec::new(), String::new());
    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
        lines.push(std::mem::take(&mut line).trim().to_owned());
    }
    let header = |name: &str| {
        let own = lines.iter().filter_map(|line| line.split_once(": ")).find(|(own, _)| own.eq_ignore_ascii_case(name));
        own.map_or_else(String::new, |(_, value)| value.to_owned())
    };
    let mut body = vec![0; header("content-length").parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let path = lines[0].split(' ').nth(1).unwrap().to_owned();
    let (status, said) = if header("authorization") != "Bearer good" {
        (401, json!({ "error": "Invalid username or password." }))
    } else if path.ends_with("/preupload/main") {
        let files = serde_json::from_str::<Value>(&body).unwrap();
        let mode = |file: &Value| json!({ "path": file["path"], "uploadMode": "regular", "shouldIgnore": false });
        (200, json!({ "files": files["files"].as_array().unwrap().iter().map(mode).collect::<Vec<_>>() }))
    } else if path.ends_with("/commit/main") {
        let names = body.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap()["value"]["path"].to_string());
        seen.lock().unwrap().1.extend(names);
        (200, json!({ "commitUrl": "http://hub/org/model/commit/1" }))
    } else {
        (200, json!({}))
    };
    seen.lock().unwrap().0.push(path);
    let said = said.to_string();
    let _ = write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}", said.len());
}

/// Runs `sure` with a Hub and a token of its own.
fn sure(project: &Project, endpoint: &str, token: &str, args: &[&str]) -> Answer {
    let mut command = Command::new(executable("sure"));
    command.args(args).current_dir(project.path("")).stdin(Stdio::null());
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", project.path("no-home")).env_remove("HF_TOKEN");
    if !token.is_empty() {
        command.env("HF_TOKEN", token);
    }
    command.output().unwrap().into()
}

#[test]
fn a_model_is_listed_first_and_uploaded_when_asked_to() {
    let project = Project::new();
    let brief = ["--set", "method=lora", "--set", "train.max_steps=2", "--set", "train.eval_every=2"];
    let ran = project.sure(&[&["run", "./tiny.toml", "-q"], &brief[..]].concat());
    assert!(ran.ok, "{}", ran.err);
    let (endpoint, seen) = serve();
    let model = "train[method=lora]";
    let listed = sure(&project, &endpoint, "", &["push", model, "hub:org/model"]);
    assert!(listed.ok, "{listed:?}");
    for expected in ["README.md", "adapter_config.json", "adapter_model.safetensors", "task.json", "nothing was uploaded"] {
        assert!(listed.out.contains(expected), "{expected}: {}", listed.out);
    }
    assert!(seen.lock().unwrap().0.is_empty(), "nothing is asked before `--upload`");

    let pushed = sure(&project, &endpoint, "good", &["push", model, "hub:org/model", "--upload"]);
    assert!(pushed.ok && pushed.out.contains("http://hub/org/model/commit/1"), "{pushed:?}");
    let names = |lines: &str| lines.lines().filter_map(|line| line.split("  ").next()).map(str::to_owned).collect::<Vec<_>>();
    let uploaded: Vec<String> = seen.lock().unwrap().1.iter().map(|name| name.trim_matches('"').to_owned()).collect();
    let expected = names(&listed.out);
    assert_eq!(uploaded, expected[..expected.len() - 1], "the last line is the sum");

    std::fs::create_dir(project.path("bare")).unwrap();
    project.write("bare/adapter_config.json", "{}");
    let nobody = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()); // closed again at once
    for (endpoint, token, args, expected) in [
        (&endpoint, "", &["push", model, "hub:org/model", "--upload"][..], "no token for the Hub in HF_TOKEN or `"),
        (&endpoint, "bad", &["push", model, "hub:org/model", "--upload"], "refuses to create `org/model`: 401, Invalid username"),
        (
            &endpoint,
            "good",
            &["push", model, "org/model"],
            "`org/model` is no model on the Hub: expected `hub:ORGANISATION/NAME`",
        ),
        (&endpoint, "good", &["push", "evaluate", "hub:org/model"], "`evaluate` trains no model"),
        (&endpoint, "good", &["push", "bare", "hub:org/model"], "has no model card (`README.md`)"),
        (&endpoint, "good", &["push", "corpus", "hub:org/model"], "contains no model"),
        (&nobody, "good", &["push", model, "hub:org/model", "--upload"], "cannot create `org/model`: "),
    ] {
        let refused = sure(&project, endpoint, token, args);
        assert!(
            refused.code == Some(2) && refused.err.contains(expected) && refused.err.contains("hint: "),
            "{args:?}: {refused:?}"
        );
    }
}
