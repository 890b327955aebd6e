//! Workflows that use others, change parts of them, and narrow them.

use insta::assert_snapshot;

use crate::includes::built;

/// A task whose words and length are its own, on stages that tasks share.
const COMMON: &str = r#"
[settings]
size = 3
language = "en"
[matrix]
method = ["full", "lora"]
[stages.source]
run = "toy.text"
text = "source of {language}"
[stages.data]
run = "toy.text"
text = "{language} {corpus}"
[stages.train]
run = "toy.join"
inputs.texts = ["data", "source"]
keep = "{size}"
suffix = "{method}"
[stages.score]
run = "toy.join"
inputs.texts = "train"
[stages.table]
run = "toy.join"
gather = ["corpus", "*"]
inputs.texts = "score"
suffix = "one task"
"#;

const SPEAK: &str = "[workflow]\nname = \"speak\"\ninclude = [\"../common.toml\"]\n[settings]\ncorpus = { default = \"esd\", choices = [\"esd\", \"vctk\"] }\n";

/// Another size for one method, its own corpus, no score of the common kind, a stage more, fewer methods.
const TALK: &str = r#"
[workflow]
name = "talk"
include = ["../common.toml"]
[settings]
corpus = "libri"
[matrix]
method = ["lora"]
[stages.extra]
run = "toy.text"
text = "extra of {corpus}"
[stages.train]
keep = { by = "method", full = 1, lora = { by = "size", 3 = 7, 4 = 8 } }
inputs.title = "extra"
[stages.score]
run = "toy.join"
gather = ["method"]
inputs.texts = "train"
suffix = "score of {corpus}"
"#;

fn all(main: &str, settings: &[(&str, &str)]) -> String {
    built(&[("flows/main.toml", main), ("flows/speak.toml", SPEAK), ("flows/talk.toml", TALK), ("common.toml", COMMON)], settings)
}

#[test]
fn parts_are_gathered_and_keep_what_is_their_own() {
    let main = r#"
[workflow]
name = "both"
[use.task]
speak = "speak.toml"
vctk = { workflow = "speak.toml", corpus = "vctk" }
talk = "talk.toml"
[stages.table]
run = "toy.join"
gather = ["*"]
inputs.texts = ["score", "talk.score"]
"#;
    assert_snapshot!(all(main, &[]), @r#"
    source {"text":"source of en"}
    data[task=speak] {"text":"en esd"}
    data[task=vctk] {"text":"en vctk"}
    data[task=talk] {"text":"en libri"}
    train[method=full,task=speak] {"suffix":"full","keep":3}
    train[method=full,task=vctk] {"suffix":"full","keep":3}
    train[method=lora,task=speak] {"suffix":"lora","keep":3}
    train[method=lora,task=vctk] {"suffix":"lora","keep":3}
    score[method=full,task=speak] {"suffix":""}
    score[method=full,task=vctk] {"suffix":""}
    score[method=lora,task=speak] {"suffix":""}
    score[method=lora,task=vctk] {"suffix":""}
    extra[task=talk] {"text":"extra of libri"}
    train[method=lora,task=talk] {"suffix":"lora","keep":7}
    talk.score[task=talk] {"suffix":"score of libri"}
    table {"suffix":""}
    "#);
    assert_snapshot!(all(main, &[("task", "talk"), ("size", "4")]), @r#"
    source {"text":"source of en"}
    data[task=talk] {"text":"en libri"}
    extra[task=talk] {"text":"extra of libri"}
    train[method=lora,task=talk] {"suffix":"lora","keep":8}
    talk.score[task=talk] {"suffix":"score of libri"}
    table {"suffix":""}
    "#);
    assert_snapshot!(all(&main.replace(", \"talk.score\"", ""), &[("method", "lora"), ("language", "fr")]), @r#"
    source {"text":"source of fr"}
    data[task=speak] {"text":"fr esd"}
    data[task=vctk] {"text":"fr vctk"}
    data[task=talk] {"text":"fr libri"}
    train[method=lora,task=speak] {"suffix":"lora","keep":3}
    train[method=lora,task=vctk] {"suffix":"lora","keep":3}
    score[method=lora,task=speak] {"suffix":""}
    score[method=lora,task=vctk] {"suffix":""}
    extra[task=talk] {"text":"extra of libri"}
    train[method=lora,task=talk] {"suffix":"lora","keep":7}
    talk.score[task=talk] {"suffix":"score of libri"}
    table {"suffix":""}
    "#);
}

#[test]
fn a_setting_with_several_values_in_a_part_is_a_line_of_the_matrix() {
    let main = r#"
[workflow]
name = "both"
[use.task]
speak = { workflow = "speak.toml", corpus = ["esd", "vctk"], method = "lora" }
talk = { workflow = "talk.toml", corpus = ["libri"] }
[stages.table]
run = "toy.join"
gather = ["*"]
inputs.texts = "score"
"#;
    assert_snapshot!(all(main, &[]), @r#"
    source {"text":"source of en"}
    data[corpus=esd] {"text":"en esd"}
    data[corpus=vctk] {"text":"en vctk"}
    data[corpus=libri] {"text":"en libri"}
    train[corpus=esd,method=lora,task=speak] {"suffix":"lora","keep":3}
    train[corpus=vctk,method=lora,task=speak] {"suffix":"lora","keep":3}
    score[corpus=esd,method=lora,task=speak] {"suffix":""}
    score[corpus=vctk,method=lora,task=speak] {"suffix":""}
    extra[corpus=libri,task=talk] {"text":"extra of libri"}
    train[corpus=libri,method=lora,task=talk] {"suffix":"lora","keep":7}
    talk.score[corpus=libri,task=talk] {"suffix":"score of libri"}
    table {"suffix":""}
    "#);
    let alone = main.replace("talk = { workflow = \"talk.toml\", corpus = [\"libri\"] }\n", "");
    let one = all(&alone, &[("corpus", "vctk")]);
    assert!(one.contains("score[corpus=vctk,method=lora") && !one.contains("esd"), "{one}");
}

#[test]
fn a_stage_of_the_using_file_replaces_those_of_all_parts() {
    let main = "[workflow]\nname = \"both\"\n[use.task]\nspeak = \"speak.toml\"\ntalk = \"talk.toml\"\n\
        [stages.table]\nrun = \"toy.join\"\ngather = [\"*\"]\ninputs.texts = [\"score\", \"talk.score\"]\n";
    let other = TALK.to_owned() + "[stages.table]\nrun = \"toy.join\"\ngather = [\"method\"]\ninputs.texts = \"score\"\n";
    let files = |main: &'static str| {
        [("flows/main.toml", main), ("flows/speak.toml", SPEAK), ("flows/talk.toml", other.as_str()), ("common.toml", COMMON)]
    };
    let replaced = built(&files(main), &[]);
    assert!(replaced.contains("\ntable {") && !replaced.contains("talk.table"), "{replaced}");
    let narrow = built(&files(main), &[("task", "speak")]);
    assert!(narrow.contains("\ntable {") && !narrow.contains("talk"), "{narrow}");
    let kept = built(&files(main.split_once("[stages").unwrap().0), &[]);
    assert!(kept.contains("talk.table[task=talk]"), "{kept}");
}

#[test]
fn a_stage_that_some_parts_share_is_made_once_for_them() {
    let sing = "[workflow]\nname = \"sing\"\n[settings]\ncorpus = \"opera\"\n[matrix]\nmethod = [\"lora\"]\n\
        [stages.score]\nrun = \"toy.text\"\ntext = \"sung in {corpus}\"\n";
    let main = "[workflow]\nname = \"all\"\n[use.task]\nspeak = \"speak.toml\"\nvctk = { workflow = \"speak.toml\", corpus = \"vctk\" }\n\
        sing = \"sing.toml\"\n[stages.table]\nrun = \"toy.join\"\ngather = [\"*\"]\ninputs.texts = [\"score\", \"sing.score\"]\n";
    let files = [("flows/main.toml", main), ("flows/speak.toml", SPEAK), ("flows/sing.toml", sing), ("common.toml", COMMON)];
    let found = built(&files, &[("method", "lora")]);
    assert!(
        found.contains("source {") && found.contains("data[task=speak] {") && found.contains("sing.score[task=sing] {"),
        "{found}"
    );
    let narrow = built(&files, &[("task", "sing")]);
    assert!(narrow.contains("sing.score[task=sing] {") && !narrow.contains("source"), "{narrow}");
}

#[test]
fn a_workflow_used_alone_changes_nothing() {
    let alone = all(&SPEAK.replace("speak", "main"), &[]);
    let used = all("[workflow]\nname = \"main\"\n[use]\ntask = [\"speak.toml\"]\n", &[]);
    assert!(alone.contains("table {") && used.contains("table {"), "{alone}\n{used}");
    assert_eq!(used, alone);
}

#[test]
fn what_cannot_be_used_is_told_apart() {
    let main = r#"
[workflow]
name = "wrong"
[use]
task = ["gone.toml", "main.toml", 3, "again.toml", "talk.toml"]
other = ["speak.toml"]
"#;
    let again = "[workflow]\nname = \"again\"\n[use.task]\nspeak = { workflow = \"speak.toml\", corpsu = \"x\" }\n";
    let files = [("flows/main.toml", main), ("flows/again.toml", again), ("flows/speak.toml", SPEAK), ("flows/talk.toml", TALK)];
    assert_snapshot!(built(&files, &[]), @r#"
    9 mistakes in `flows/main.toml`
      flows/main.toml:5: cannot include `flows/gone.toml`: no such file
      flows/main.toml:5: a workflow cannot use itself
      flows/main.toml:5: a part of `use.task` should be a workflow: `"NAME"`, or `{ workflow = "NAME", <setting> = ... }`
      flows/main.toml:5: `again` has no matrix line `method`, and other parts have one
          `[matrix] method = [...]` here gives it to all
      flows/main.toml:5: `flows/again.toml` uses other workflows itself: name them here
      flows/main.toml:6: `[use]` takes one line: the workflows of a second one cannot be combined with it
      flows/talk.toml:4: cannot include `common.toml`: no such file
      flows/talk.toml:12: `stages.train` lacks `run = "<stage kind>"`
          a stage without `run` and `like` changes one of an included or used workflow, and there is none of this name
      flows/talk.toml:13: unknown setting or matrix line `size`
          there is `corpus`, `method`, `task`
    "#);
    assert_snapshot!(all(&again.replace("again", "main"), &[]), @r"
    1 mistake in `flows/main.toml`
      flows/main.toml:4: unknown setting of `flows/speak.toml` `corpsu`
          did you mean `corpus`?
    ");
    assert_snapshot!(all(&again.replace("corpsu", "corpus"), &[]), @r"
    1 mistake in `flows/main.toml`
      flows/main.toml:4: the default of `corpus` is not one of its choices
    ");
}

#[test]
fn a_stage_without_a_kind_changes_parts_of_an_included_one() {
    let main = r#"
[workflow]
name = "mine"
include = ["talk.toml"]
[settings]
language = "{corpus}"
corpus = "own"
[stages.train]
keep.lora.3 = 9
suffix = "mine"
[stages.data]
only.method = ["full"]
"#;
    assert_snapshot!(all(main, &[]), @r"
    1 mistake in `flows/main.toml`
      common.toml:15: `train` reads `data[method=lora]`, and that stage does not exist there
    ");
    assert_snapshot!(all(&main.replace("only.method = [\"full\"]", "text = { name = 1 }"), &[("language", "fr")]), @r#"
    1 mistake in `flows/main.toml`
      flows/main.toml:12: `text` should be text, not {"name":1}
    "#);
    let circle = main.replace("corpus = \"own\"", "corpus = \"{language}\"");
    assert_snapshot!(all(&circle, &[]), @r"
    3 mistakes in `flows/main.toml`
      flows/main.toml:6: the setting `language` takes its value from settings that take theirs from it
      flows/main.toml:7: the setting `corpus` takes its value from settings that take theirs from it
      common.toml:15: `train` reads `data[method=lora]`, and that stage does not exist there
    ");
}

#[test]
fn a_matrix_can_be_narrowed_and_slips_are_still_found() {
    let main =
        |rest: &str| format!("[workflow]\nname = \"narrow\"\ninclude = [\"../common.toml\"]\n[settings]\ncorpus = \"a\"\n{rest}");
    let keep = "[matrix]\nmethod = [\"lora\"]\nexclude = [{ method = \"full\" }]\n[stages.train]\nkeep = { by = \"method\", full = 1, prefix = 2, lora = 3 }\n";
    assert_snapshot!(all(&main(keep), &[]), @r#"
    source {"text":"source of en"}
    data {"text":"en a"}
    train[method=lora] {"suffix":"lora","keep":3}
    score[method=lora] {"suffix":""}
    table {"suffix":"one task"}
    "#);
    assert_snapshot!(all(&main(&keep.replace("lora = 3", "lorra = 3, default = 4")), &[]), @r"
    1 mistake in `flows/main.toml`
      flows/main.toml:10: unknown value of `method` `lorra`
          did you mean `lora`?
    ");
}
