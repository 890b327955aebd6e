//! Every mistake at once, with file, line and the nearest right name.

use insta::assert_snapshot;
use pipeline::graph::{Settings, build};
use pipeline::spec::parse;

use crate::{harness, stages};

fn mistakes_with(text: &str, settings: &[(&str, &[&str])], targets: &[&str]) -> String {
    let values = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let settings: Settings = settings.iter().map(|(name, list)| ((*name).to_owned(), values(list))).collect();
    let spec = match parse("toy.toml", text) {
        Ok(spec) => spec,
        Err(mistakes) => return mistakes.to_string(),
    };
    let built = build(&spec, &stages::registry(&harness::toy()), &settings, &values(targets));
    built.map_or_else(|mistakes| mistakes.to_string(), |workflow| format!("no mistake: {} nodes", workflow.order.len()))
}

fn mistakes(text: &str) -> String {
    mistakes_with(text, &[], &[])
}

#[test]
fn all_kinds_of_mistakes_at_once() {
    let text = r#"
[workflow]
name = "wrong"
abuot = "a typo"
[setings]
a = 1
[settings]
language = ["en", "fr"]
[matrix]
seed = [1, 2, 1]
language = ["en"]
empty = []
[stages.list]
run = "toy.lits"
partitions = 4
[stages.text]
run = "toy.text"
txet = "a typo"
[stages.count]
run = "toy.count"
each = "lisst"
inputs.bookks = "list"
min_length = "many"
[stages.join]
run = "toy.join"
gather = ["sed"]
inputs.texts = ["tex/text.txt", "text[sede=1]", "text[seed=3]", "text/../x", "text[seed"]
suffix = "{sede}"
keep = { by = "sead", 1 = 2 }
[stages.some]
run = "toy.join"
inputs.texts = "text"
keep = { by = "seed", 1 = 2 }
[stages.both]
run = "toy.join"
gather = ["seed"]
inputs.texts = "text"
suffix = "{seed}"
[stages.title]
run = "toy.join"
inputs.texts = "text"
inputs.title = ["text/text.txt", "text/length.txt"]
[stages.none]
partitions = 4
[stages.a]
run = "toy.join"
inputs.texts = "c"
[stages.b]
run = "toy.join"
inputs.texts = "a"
[stages.c]
run = "toy.join"
inputs.texts = ["b", "text/text.txt"]
"#;
    assert_snapshot!(mistakes(text), @r#"
    26 mistakes in `toy.toml`
      toy.toml:4: unknown key of `[workflow]` `abuot`
          did you mean `about`?
      toy.toml:5: unknown section `setings`
          did you mean `settings`?
      toy.toml:8: the setting `language` should be one value
          several values belong into `[matrix]`
      toy.toml:10: `seed` has the value 1 twice
      toy.toml:11: `language` is given in `[settings]` and in `[matrix]`
      toy.toml:12: the matrix line `empty` has no value
      toy.toml:14: unknown stage kind `toy.lits`
          did you mean `toy.list`?
      toy.toml:16: `toy.text` needs the parameter `text`
          text: The text.
      toy.toml:18: `toy.text` has no parameter `txet`
          did you mean `text`?
      toy.toml:19: `stages.count` lacks `inputs.books`
          books: a part of a list of books
      toy.toml:21: unknown stage `lisst`
          did you mean `list`?
      toy.toml:22: unknown input of `toy.count` `bookks`
          did you mean `books`?
      toy.toml:23: `min_length` should be a whole number, not "many"
      toy.toml:26: unknown setting or matrix line `sed`
          did you mean `seed`?
      toy.toml:27: unknown stage `tex`
          did you mean `text`?
      toy.toml:27: unknown setting or matrix line `sede`
          did you mean `seed`?
      toy.toml:27: unknown value of `seed` `3`
          did you mean `1`?
      toy.toml:27: `text/../x`: the part after `/` should be a relative path
      toy.toml:27: `text[seed`: a `[` without its `]`
      toy.toml:28: unknown setting or matrix line `sede`
          did you mean `seed`?
      toy.toml:29: unknown setting or matrix line `sead`
          did you mean `seed`?
      toy.toml:33: no value for seed = `2`
          add `2 = ...` here, or `default = ...`
      toy.toml:38: `stages.both` gathers `seed`, so that has no single value here
      toy.toml:42: `inputs.title` of `title` takes one artifact, not 2
      toy.toml:43: `stages.none` lacks `run = "<stage kind>"`
          a stage without `run` and `like` changes one of an included or used workflow, and there is none of this name
      toy.toml:45: these stages wait for each other: a -> b -> c -> a
    "#);
}

#[test]
fn text_that_is_not_toml_is_placed() {
    assert_snapshot!(mistakes("[workflow]\nname = \"a\n[stages.a]\nrun = toy\n[stages.a]\n"), @r#"
    3 mistakes in `toy.toml`
      toy.toml:2: not valid TOML: invalid basic string, expected `"`
      toy.toml:4: not valid TOML: invalid boolean, expected `true`
      toy.toml:5: not valid TOML: duplicate key
    "#);
    assert_snapshot!(mistakes("[workflow]\nname = \"a\"\nname = \"b\"\n[matrix]\nseed = [1]\nseed = [2]\n"), @r"
    2 mistakes in `toy.toml`
      toy.toml:3: not valid TOML: duplicate key
      toy.toml:6: not valid TOML: duplicate key
    ");
    assert_snapshot!(mistakes(""), @r#"
    1 mistake in `toy.toml`
      no name: expected `[workflow]` with `name = "..."`
    "#);
}

const STAGE: &str =
    "[workflow]\nname = \"w\"\n[matrix]\nseed = [1, 2]\n[stages.text]\nrun = \"toy.text\"\ntext = \"seed {seed}\"\n";

#[test]
fn cycles_are_shown_whole_and_once() {
    let round = |n: usize| -> String {
        let stage =
            |i: usize| format!("[stages.s{i}]\nrun = \"toy.join\"\ninputs.texts = [\"s{}\", \"text\"]\n", (i + n - 1) % n);
        (0..n).map(stage).collect()
    };
    assert_snapshot!(mistakes(&format!("{STAGE}{}", round(1))), @r"
    1 mistake in `toy.toml`
      toy.toml:8: these stages wait for each other: s0[seed=1] -> s0[seed=1]
    ");
    assert_snapshot!(mistakes(&format!("{STAGE}{}", round(4))), @r"
    1 mistake in `toy.toml`
      toy.toml:8: these stages wait for each other: s0[seed=1] -> s1[seed=1] -> s2[seed=1] -> s3[seed=1] -> s0[seed=1]
    ");
    let each = "[stages.a]\nrun = \"toy.join\"\neach = \"b\"\ninputs.texts = \"text\"\n\
                [stages.b]\nrun = \"toy.join\"\neach = \"a\"\ninputs.texts = \"text\"\n";
    assert_snapshot!(mistakes(&format!("{STAGE}{each}")), @r"
    1 mistake in `toy.toml`
      toy.toml:8: these stages wait for each other: a[seed=1] -> b[seed=1] -> a[seed=1]
    ");
    let pinned = "[stages.a]\nrun = \"toy.join\"\ninputs.texts = \"a[seed=1]\"\nsuffix = \"seed {seed}\"\n";
    assert_snapshot!(mistakes(&format!("{STAGE}{pinned}")), @r"
    1 mistake in `toy.toml`
      toy.toml:8: these stages wait for each other: a[seed=1] -> a[seed=1]
    ");
}

#[test]
fn a_cycle_is_a_path_of_the_graph_even_with_shortcuts() {
    let text = "[workflow]\nname = \"w\"\n\
                [stages.a]\nrun = \"toy.join\"\ninputs.texts = [\"d\", \"b\"]\n[stages.b]\nrun = \"toy.join\"\ninputs.texts = \"a\"\n\
                [stages.c]\nrun = \"toy.join\"\ninputs.texts = \"b\"\n[stages.d]\nrun = \"toy.join\"\ninputs.texts = \"c\"\n";
    assert_snapshot!(mistakes(text), @r"
    1 mistake in `toy.toml`
      toy.toml:3: these stages wait for each other: a -> b -> a
    ");
}

#[test]
fn each_of_a_stage_without_parts() {
    let text = "[stages.a]\nrun = \"toy.join\"\neach = \"text\"\ninputs.texts = \"text\"\n";
    assert_snapshot!(mistakes(&format!("{STAGE}{text}")), @r#"
    1 mistake in `toy.toml`
      toy.toml:10: `each = "text"`: that stage is not partitioned
          its kind should take a parameter `partitions`
    "#);
}

#[test]
fn wrong_settings_and_targets() {
    let text = STAGE.replace("[matrix]", "[settings]\nsize = { default = 1, choices = [1, 2] }\n[matrix]");
    let settings: &[(&str, &[&str])] = &[("sead", &["1"]), ("size", &["3"])];
    assert_snapshot!(mistakes_with(&text, settings, &[]), @r"
    2 mistakes in `toy.toml`
      unknown setting in --set: `sead`
          did you mean `seed`?
      toy.toml:4: unknown value of `size` `3`
          did you mean `1`?
    ");
    assert_snapshot!(mistakes_with(&text, &[("size", &["1", "2"])], &[]), @r"
    1 mistake in `toy.toml`
      toy.toml:4: --set size: a setting takes one value, not 2
          several values belong into `[matrix]`
    ");
    assert_snapshot!(mistakes_with(&text, &[("sead", &["1"])], &["tex"]), @r"
    1 mistake in `toy.toml`
      unknown setting in --set: `sead`
          did you mean `seed`?
    ");
    assert_snapshot!(mistakes_with(&text, &[], &["text", "tex", "text[seed=3]", "text#1"]), @r"
    3 mistakes in `toy.toml`
      target `text#1`: `text` has no such point or partition
      target `text[seed=3]`: `text` has no such point or partition
      unknown target `tex`
          did you mean `text`?
    ");
}

#[test]
fn wrong_values_name_what_was_expected() {
    let text = "[workflow]\nname = \"w\"\n[stages.a]\nrun = \"toy.list\"\npartitions = -1\n[stages.b]\nrun = \"toy.trouble\"\n\
                how = \"fial\"\ninputs.texts = \"a\"\n[stages.c]\nrun = \"toy.count\"\nmin_length = \"x\"\nmore = 1\n";
    assert_snapshot!(mistakes(text), @r#"
    5 mistakes in `toy.toml`
      toy.toml:5: `partitions` should be a whole number of at least 0, not -1
      toy.toml:8: `how` cannot be `fial`
          did you mean `fail`?
      toy.toml:10: `stages.c` lacks `inputs.books`
          books: a part of a list of books
      toy.toml:12: `min_length` should be a whole number, not "x"
      toy.toml:13: `toy.count` has no parameter `more`
          there is `min_length`
    "#);
}
