//! The worker as a process: killed, asked to stop, asked for what it does not know.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use neural_spec::{Evaluate, RandomEncoder};
use pipeline::Stage;
use pipeline::protocol::FORMAT;
use serde_json::{Value, json};

fn start(command: &str) -> Child {
    let program = env!("CARGO_BIN_EXE_sure-neural");
    Command::new(program).arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn request(kind: &str, version: u32, params: &Value, out: &std::path::Path) -> String {
    let site = json!({
        "objects": out, "places": {}, "tools": {}, "out": out, "resume": out.join("resume"), "threads": 1, "gpu": null,
    });
    let request = json!({
        "format": FORMAT, "kind": kind, "version": version, "environment": {"libtorch": neural_spec::LIBTORCH},
        "params": params, "inputs": {}, "sources": {}, "partition": null, "site": site,
    });
    format!("{request}\n")
}

/// Sends one request and returns the last message.
fn answer(line: &str) -> Value {
    let mut worker = start("run");
    worker.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    let lines: Vec<String> = BufReader::new(worker.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    worker.wait().unwrap();
    serde_json::from_str(lines.last().unwrap()).unwrap()
}

#[test]
fn probe_tells_what_libtorch_can_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_sure-neural")).arg("probe").output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["libtorch"], neural_spec::LIBTORCH);
    assert!(found["threads"].as_u64().unwrap() > 0);
    assert_eq!(found["cuda"].as_bool().unwrap(), !found["devices"].as_array().unwrap().is_empty());
}

#[test]
fn help_is_no_mistake_and_a_mistake_gets_help() {
    let ask = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sure-neural")).args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    for arguments in [&["--help"][..], &["-h"], &["help"], &["merge", "--help"]] {
        let (code, out, error) = ask(arguments);
        assert!(code == 0 && out.contains("merge ADAPTER ENCODER OUT") && error.is_empty(), "{arguments:?}: {out}{error}");
    }
    assert_eq!(ask(&["--version"]), (0, format!("sure-neural {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    let (code, out, error) = ask(&["device"]); // standard input is empty
    assert!(code == 2 && out.is_empty() && error.contains("a training starts this command"), "{out}{error}");
    for arguments in [&[][..], &["bake"], &["merge", "adapter"]] {
        let (code, out, error) = ask(arguments);
        assert!(code == 2 && out.is_empty() && error.contains("merge ADAPTER ENCODER OUT"), "{arguments:?}: {out}{error}");
    }
}

#[test]
fn an_encoder_is_made_on_request() {
    let out = tempfile::tempdir().unwrap();
    let shape = json!({
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
        "conv_dim": [4], "conv_kernel": [10], "conv_stride": [5], "conv_bias": true,
        "feat_extract_norm": "layer", "do_stable_layer_norm": true,
        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
        "hidden_dropout": 0, "attention_dropout": 0, "activation_dropout": 0, "feat_proj_dropout": 0,
        "layerdrop": 0, "mask_time_prob": 0,
    });
    let last = answer(&request("encoder.random", RandomEncoder::VERSION, &json!({"shape": shape, "seed": 1}), out.path()));
    assert_eq!(last["event"], "done", "{last}");
    assert!(out.path().join("model.safetensors").is_file());
}

#[test]
fn unknown_stages_and_parameters_are_named() {
    let out = tempfile::tempdir().unwrap();
    let last = answer(&request("peft.bake", 1, &json!({}), out.path()));
    assert!(last.to_string().contains("peft.bake"), "{last}");
    let last = answer(&request("peft.evaluate", Evaluate::VERSION, &json!({"batch_secs": 1, "batch_size": 2}), out.path()));
    assert!(last.to_string().contains("batch_size"), "{last}");
}

#[test]
fn the_first_message_names_versions_and_a_request_for_another_one_is_refused() {
    let mut worker = start("run");
    let out = tempfile::tempdir().unwrap();
    let line = request("peft.evaluate", Evaluate::VERSION + 1, &json!({}), out.path());
    worker.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    let lines: Vec<String> = BufReader::new(worker.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert_eq!(worker.wait().unwrap().code(), Some(2));
    let hello: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&hello["event"], &hello["kinds"]["peft.evaluate"]), (&json!("hello"), &json!(Evaluate::VERSION)));
    assert_eq!(hello["environment"]["libtorch"], neural_spec::LIBTORCH);
    assert!(lines[1].contains("and the plan expects version"), "{lines:?}");
}
