//! Stages that call external programs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use pipeline::toolbox::Toolbox;

use crate::harness::Harness;

const TEXT: &str = "[workflow]\nname = \"loud\"\n\
    [stages.quiet]\nrun = \"toy.shout\"\ntext = \"pst\"\n\
    [stages.loud]\nrun = \"toy.shout\"\ntext = \"hey!\"\n\
    [stages.end]\nrun = \"toy.join\"\ninputs.texts = [\"quiet/text.txt\", \"loud/text.txt\"]\n";

/// Installs a version of the program `shout`, or removes it.
fn install(harness: &mut Harness, version: Option<u32>) {
    let folder = harness.path("bin");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("shout");
    let _ = fs::remove_file(&path);
    if let Some(version) = version {
        let script = format!(
            "#!/bin/sh\necho called >> \"$0.calls\"\n[ \"$1\" = --version ] && echo shout {version} || echo \"$1 by {version}\"\n"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    harness.toolbox = Toolbox::new(folder.as_os_str());
}

#[test]
fn a_result_depends_on_a_program_only_where_the_body_asked_for_it() {
    let mut harness = Harness::new();
    install(&mut harness, None);
    let ended = harness.run(TEXT);
    assert_eq!(ended.ran(), "end loud quiet");
    assert_eq!(harness.text(&ended, "end", "text.txt"), "PSTnobody shouts");
    assert_eq!(harness.run(TEXT).ran(), "", "still missing: the same answer");

    install(&mut harness, Some(1));
    assert_eq!(harness.plan(TEXT), "maybe end\nreuse quiet\nrun loud");
    let ended = harness.run(TEXT);
    assert_eq!(ended.ran(), "end loud");
    assert_eq!(harness.text(&ended, "end", "text.txt"), "PSThey! by 1\n");
    assert_eq!(harness.run(TEXT).ran(), "");

    install(&mut harness, Some(2));
    assert_eq!(harness.run(TEXT).ran(), "end loud", "another version");
    install(&mut harness, Some(1));
    assert_eq!(harness.run(TEXT).ran(), "", "the results of the version before are kept");
    install(&mut harness, None);
    assert_eq!(harness.run(TEXT).ran(), "");
}

#[test]
fn a_program_that_no_result_depends_on_is_not_started() {
    const CALM: &str = "[workflow]\nname = \"calm\"\n[stages.quiet]\nrun = \"toy.shout\"\ntext = \"pst\"\n";
    let mut harness = Harness::new();
    install(&mut harness, Some(1));
    let calls = harness.path("bin").join("shout.calls");
    assert_eq!((harness.run(CALM).ran(), harness.run(CALM).ran()), ("quiet".to_owned(), String::new()));
    assert_eq!(harness.plan(CALM), "reuse quiet");
    assert!(!calls.exists(), "{:?}", fs::read_to_string(&calls));
    harness.run(TEXT);
    assert!(calls.exists());
}

#[test]
fn the_plan_names_the_program_that_changed() {
    let mut harness = Harness::new();
    harness.toolbox = Toolbox::new(OsStr::new("/nonexistent"));
    harness.run(TEXT);
    install(&mut harness, Some(1));
    let workflow = harness.workflow(TEXT);
    let (plan, _) = harness.survey(&workflow);
    let reason = plan.verdicts.iter().find(|(node, _)| workflow.graph[*node].id == "loud").unwrap();
    let expected = r#"Changed { changes: [Change { field: "input.tool shout", old: Some("missing"), new: Some("shout 1") }] }"#;
    assert_eq!(format!("{:?}", reason.1), format!("Run({expected})"));
    let ended = harness.run(TEXT);
    assert_eq!(ended.step("loud").why.as_deref(), Some("changed: input.tool shout"));
}

#[test]
fn a_program_is_found_from_a_worker_process_too() {
    let mut harness = Harness::new();
    install(&mut harness, Some(1));
    harness.own_worker = Some(crate::harness::toy().into());
    let ended = harness.run(TEXT);
    assert_eq!(harness.text(&ended, "loud", "text.txt"), "hey! by 1\n");
    install(&mut harness, Some(2));
    assert_eq!(harness.run(TEXT).ran(), "end loud");
}

#[test]
fn a_body_that_leaves_out_a_promised_file_has_failed() {
    let text = "[workflow]\nname = \"lazy\"\n[stages.a]\nrun = \"toy.shout\"\ntext = \"x\"\nlazy = true\n";
    let (chain, hint, _) = Harness::new().run(text).failure("a");
    assert_eq!(chain, ["the stage reported success, but did not write `text.txt`, which it always writes"]);
    assert!(hint.is_some());
}
