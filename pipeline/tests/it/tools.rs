//! Stages that call external programs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use pipeline::toolbox::Toolbox;

use crate::house::House;

const TEXT: &str = "[workflow]\nname = \"loud\"\n\
    [stages.quiet]\nrun = \"toy.shout\"\ntext = \"pst\"\n\
    [stages.loud]\nrun = \"toy.shout\"\ntext = \"hey!\"\n\
    [stages.end]\nrun = \"toy.join\"\ninputs.texts = [\"quiet/text.txt\", \"loud/text.txt\"]\n";

/// Installs a version of the program `shout`, or removes it.
fn install(house: &mut House, version: Option<u32>) {
    let folder = house.path("bin");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("shout");
    let _ = fs::remove_file(&path);
    if let Some(version) = version {
        let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo shout {version} || echo \"$1 by {version}\"\n");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    house.toolbox = Toolbox::new(folder.as_os_str());
}

#[test]
fn a_result_depends_on_a_program_only_where_the_body_asked_for_it() {
    let mut house = House::new();
    install(&mut house, None);
    let ended = house.run(TEXT);
    assert_eq!(ended.ran(), "end loud quiet");
    assert_eq!(house.text(&ended, "end", "text.txt"), "PSTnobody shouts");
    assert_eq!(house.run(TEXT).ran(), "", "still missing: the same answer");

    install(&mut house, Some(1));
    assert_eq!(house.plan(TEXT), "maybe end\nreuse quiet\nrun loud");
    let ended = house.run(TEXT);
    assert_eq!(ended.ran(), "end loud");
    assert_eq!(house.text(&ended, "end", "text.txt"), "PSThey! by 1\n");
    assert_eq!(house.run(TEXT).ran(), "");

    install(&mut house, Some(2));
    assert_eq!(house.run(TEXT).ran(), "end loud", "another version");
    install(&mut house, Some(1));
    assert_eq!(house.run(TEXT).ran(), "", "the results of the version before are kept");
    install(&mut house, None);
    assert_eq!(house.run(TEXT).ran(), "");
}

#[test]
fn the_plan_names_the_program_that_changed() {
    let mut house = House::new();
    house.toolbox = Toolbox::new(OsStr::new("/nonexistent"));
    house.run(TEXT);
    install(&mut house, Some(1));
    let workflow = house.workflow(TEXT);
    let (plan, _) = house.survey(&workflow);
    let reason = plan.verdicts.iter().find(|(node, _)| workflow.graph[*node].id == "loud").unwrap();
    let expected = r#"Changed { changes: [Change { field: "input.tool shout", old: Some("missing"), new: Some("shout 1") }] }"#;
    assert_eq!(format!("{:?}", reason.1), format!("Run({expected})"));
    let ended = house.run(TEXT);
    assert_eq!(ended.step("loud").why.as_deref(), Some("changed: input.tool shout"));
}

#[test]
fn a_program_is_found_from_a_worker_process_too() {
    let mut house = House::new();
    install(&mut house, Some(1));
    house.own_worker = Some(crate::house::toy().into());
    let ended = house.run(TEXT);
    assert_eq!(house.text(&ended, "loud", "text.txt"), "hey! by 1\n");
    install(&mut house, Some(2));
    assert_eq!(house.run(TEXT).ran(), "end loud");
}

#[test]
fn a_body_that_leaves_out_a_promised_file_has_failed() {
    let text = "[workflow]\nname = \"lazy\"\n[stages.a]\nrun = \"toy.shout\"\ntext = \"x\"\nlazy = true\n";
    let (chain, hint, _) = House::new().run(text).failure("a");
    assert_eq!(chain, ["the stage reported success, but did not write `text.txt`, which it always writes"]);
    assert!(hint.is_some());
}
