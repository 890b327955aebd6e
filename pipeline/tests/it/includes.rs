//! Workflow files that include others, settings with types, and texts with mistakes anywhere.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use pipeline::graph::{Settings, build};
use pipeline::spec::{Spec, parse, parse_with};
use proptest::prelude::*;

use crate::{harness, stages};

fn read(files: &[(&str, &str)]) -> Result<Spec, String> {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let load = |path: &str| files.get(path).map(ToString::to_string).ok_or_else(|| "no such file".to_owned());
    parse_with("flows/main.toml", files["flows/main.toml"], &load).map_err(|mistakes| mistakes.to_string())
}

pub(crate) fn built(files: &[(&str, &str)], settings: &[(&str, &str)]) -> String {
    let settings: Settings =
        settings.iter().map(|(name, list)| ((*name).to_owned(), list.split(',').map(str::to_owned).collect())).collect();
    let spec = match read(files) {
        Ok(spec) => spec,
        Err(mistakes) => return mistakes,
    };
    let workflow = match build(&spec, &stages::registry(&harness::toy()), &settings, &[]) {
        Ok(workflow) => workflow,
        Err(mistakes) => return mistakes.to_string(),
    };
    let show = |node: &petgraph::graph::NodeIndex| {
        let node = &workflow.graph[*node];
        format!("{} {}", node.id, node.placed.params())
    };
    workflow.order.iter().map(show).collect::<Vec<_>>().join("\n")
}

const COMMON: &str = r#"
[settings]
word = { default = "one", about = "what is written" }
size = 3
[matrix]
seed = [1, 2]
[stages.text]
run = "toy.text"
text = "{word} {seed} of common"
[stages.join]
run = "toy.join"
inputs.texts = "text"
keep = "{size}"
"#;

#[test]
fn included_files_are_merged_and_the_including_one_wins() {
    let main = r#"
[workflow]
name = "main"
include = ["../common.toml", "more.toml"]
[settings]
seed = 7
[stages.text]
run = "toy.text"
text = "{word} {seed} of main"
"#;
    let more = "[workflow]\ninclude = [\"../common.toml\"]\n[settings]\nsize = 5\n[stages.last]\nrun = \"toy.join\"\ninputs.texts = \"join\"\n";
    let files = [("flows/main.toml", main), ("common.toml", COMMON), ("flows/more.toml", more)];
    assert_snapshot!(built(&files, &[("word", "two")]), @r#"
    text {"text":"two 7 of main"}
    join {"suffix":"","keep":5}
    last {"suffix":""}
    "#);
}

#[test]
fn mistakes_name_the_file_they_are_in() {
    let main = "[workflow]\nname = \"main\"\ninclude = [\"a.toml\", \"gone.toml\", 3]\n[stages.last]\nrun = \"toy.jion\"\n";
    let a = "[workflow]\nabout = \"a\"\nlevel = 1\n[stages.text]\nrun = \"toy.text\"\n\n\ntxt = \"a\"\n[stages.last]\nrun = \"toy.lost\"\n";
    assert_snapshot!(built(&[("flows/main.toml", main), ("flows/a.toml", a)], &[]), @r"
    6 mistakes in `flows/main.toml`
      flows/main.toml:3: cannot include `flows/gone.toml`: no such file
      flows/main.toml:3: `include` should list file names
      flows/main.toml:5: unknown stage kind `toy.jion`
          did you mean `toy.join`?
      flows/a.toml:3: unknown key of `[workflow]` `level`
          there is `about`, `include`, `name`
      flows/a.toml:4: `toy.text` needs the parameter `text`
          text: The text.
      flows/a.toml:8: `toy.text` has no parameter `txt`
          did you mean `text`?
    ");
    assert_snapshot!(built(&[("flows/main.toml", main), ("flows/a.toml", "[stages]\na = \n")], &[]), @r"
    3 mistakes in `flows/main.toml`
      flows/main.toml:3: cannot include `flows/gone.toml`: no such file
      flows/main.toml:3: `include` should list file names
      flows/a.toml:2: not valid TOML: string values must be quoted, expected literal string
    ");
}

#[test]
fn files_that_include_each_other_are_named() {
    let main = "[workflow]\nname = \"main\"\ninclude = [\"./a.toml\"]\n[stages.text]\nrun = \"toy.text\"\ntext = \"\"\n";
    let a = "[workflow]\ninclude = [\"sub/b.toml\"]\n";
    let b = "[workflow]\ninclude = [\"../main.toml\", \"b.toml\"]\n";
    let files = [("flows/main.toml", main), ("flows/a.toml", a), ("flows/sub/b.toml", b)];
    assert_snapshot!(built(&files, &[]), @r"
    2 mistakes in `flows/main.toml`
      flows/sub/b.toml:2: these files include each other: flows/main.toml -> flows/a.toml -> flows/sub/b.toml -> flows/main.toml
      flows/sub/b.toml:2: these files include each other: flows/sub/b.toml -> flows/sub/b.toml
    ");
}

#[test]
fn a_file_without_a_loader_cannot_include() {
    let text = "[workflow]\nname = \"main\"\ninclude = [\"a.toml\"]\n[stages.text]\nrun = \"toy.text\"\ntext = \"\"\n";
    let spec = parse("main.toml", text).unwrap();
    let mistakes = build(&spec, &stages::registry(&harness::toy()), &Settings::new(), &[]).unwrap_err();
    assert_snapshot!(mistakes, @r"
    1 mistake in `main.toml`
      main.toml:3: cannot include `a.toml`: this workflow has no files beside it
    ");
}

const TYPED: &str = r#"
[workflow]
name = "typed"
[settings]
flag = true
plain = "a, b#c"
keep = { default = 3, min = 1, max = 9, about = "how much is kept" }
rate = { default = 1, type = "number", choices = [1, 1.5] }
word = { default = "12", type = "text" }
[matrix]
seed = { values = [1, 2], max = 5, about = "where chance begins" }
mixed = [1, "a"]
[stages.text]
run = "toy.text"
text = "{flag} {rate} {word} {seed} {mixed}"
[stages.join]
run = "toy.join"
inputs.texts = "text"
keep = "{keep}"
"#;

#[test]
fn settings_have_types_limits_and_choices() {
    let files = [("flows/main.toml", TYPED)];
    let good = [("flag", "false"), ("keep", "9"), ("rate", "1.5"), ("word", "7"), ("seed", "4"), ("mixed", "2,b")];
    assert_snapshot!(built(&files, &good), @r#"
    text[mixed=2,seed=4] {"text":"false 1.5 7 4 2"}
    text[mixed=b,seed=4] {"text":"false 1.5 7 4 b"}
    join[mixed=2,seed=4] {"suffix":"","keep":9}
    join[mixed=b,seed=4] {"suffix":"","keep":9}
    "#);
    let wrong = [("flag", "yes"), ("keep", "10"), ("rate", "2"), ("seed", "x,6")];
    assert_snapshot!(built(&files, &wrong), @r"
    5 mistakes in `flows/main.toml`
      flows/main.toml:5: --set flag: expected boolean, found `yes`
      flows/main.toml:7: --set keep: should be at most 9, not 10
      flows/main.toml:8: unknown value of `rate` `2`
          did you mean `1`?
      flows/main.toml:11: --set seed: expected integer, found `x`
      flows/main.toml:11: --set seed: should be at most 5, not 6
    ");
    let spec = parse("typed.toml", TYPED).unwrap();
    let about = |name: &str| spec.axes.iter().find(|axis| axis.name.value == name).unwrap().about.clone();
    assert_eq!(
        (about("keep"), about("seed"), about("flag")),
        ("how much is kept".into(), "where chance begins".into(), String::new())
    );
}

#[test]
fn wrong_settings_and_combinations_are_placed() {
    let text = r#"
[workflow]
name = "wrong"
[settings]
a = { default = 1, type = "text" }
b = { default = 1, type = "int" }
c = { default = 0, min = 1, mix = 3 }
d = { default = "x", min = 1 }
e = { choices = [1, 2] }
f = { default = 1, choices = 2, about = 3 }
g = { default = 1, choices = [1, "x"], max = "y" }
h-h = 1
[matrix]
seed = [1, 2]
method = ["x", "y"]
size = { valeus = [1] }
exclude = [{ sede = 1 }, { seed = 3 }, { a = 1 }, {}, 7]
include = [{ seed = "x" }, { seed = [1] }]
[stages."bad name"]
run = "toy.text"
text = ""
[stages.by]
run = "toy.join"
inputs.texts = "bad name"
keep = { by = ["seed", "method"], 1 = { x = 1, z = 2 }, 3 = 3, "1,y" = 4, "1,x,x" = 5, default = 6 }
suffix = { by = 3, a = "b" }
[stages.other]
run = "toy.join"
inputs.texts = "by"
keep = { by = ["seed", "method"], 1 = { x = 1 }, "2,x" = 2 }
"#;
    assert_snapshot!(built(&[("flows/main.toml", text)], &[]), @r#"
    24 mistakes in `flows/main.toml`
      flows/main.toml:5: the default of `a` should be text, not 1
      flows/main.toml:6: `type` of `b` should be one of `integer`, `number`, `boolean` and `text`
      flows/main.toml:7: the default of `c` should be at least 1, not 0
      flows/main.toml:7: unknown key of `c` `mix`
          did you mean `max`?
      flows/main.toml:8: `min` and `max` of `d` are for numbers, and it is text
      flows/main.toml:9: the setting `e` lacks `default = ...`
      flows/main.toml:10: `choices` of `f` should be a list of values
      flows/main.toml:10: `about` of `f` should be text
      flows/main.toml:11: a choice of `g` should be integer, not "x"
      flows/main.toml:11: `max` of `g` should be a number
      flows/main.toml:12: the name `h-h` should be letters, digits and `_`, so that `{h-h}` can be read
      flows/main.toml:16: the matrix line `size` should be a list of values
      flows/main.toml:16: unknown key of `size` `valeus`
          did you mean `values`?
      flows/main.toml:17: unknown matrix line `sede`
          did you mean `seed`?
      flows/main.toml:17: unknown matrix line `a`
          there is `method`, `seed`, `size`
      flows/main.toml:17: `exclude` of `[matrix]` should be a list of tables such as `{ method = "lora", seed = 2 }`
      flows/main.toml:17: `exclude` of `[matrix]` should be a list of tables such as `{ method = "lora", seed = 2 }`
      flows/main.toml:18: a value of `seed` should be integer, not "x"
      flows/main.toml:18: a value of `seed` should be text, a number or a truth value
      flows/main.toml:19: the name of the stage `bad name` should be letters, digits, `_`, `-` and `.`
      flows/main.toml:25: `1,x,x` names 3 values, but `by` only 2 axes
      flows/main.toml:26: `by` should be the name of a setting or matrix line, or a list of them
      flows/main.toml:30: no value for seed = `1`, method = `y`
          add `"1,y" = ...` here, or `default = ...`
      flows/main.toml:30: no value for seed = `2`, method = `y`
          add `"2,y" = ...` here, or `default = ...`
    "#);
}

#[test]
fn a_matrix_beyond_all_bounds_is_a_mistake() {
    let line = |name: char| format!("{name} = [{}]\n", (0..100).map(|value| format!("{value}, ")).collect::<String>());
    let lines: String = ('a'..='h').map(line).collect();
    let text = format!(
        "[workflow]\nname = \"big\"\n[matrix]\n{lines}[stages.text]\nrun = \"toy.text\"\ntext = \"{{a}}{{b}}{{c}}{{d}}{{e}}{{f}}{{g}}{{h}}\"\n\
         [stages.list]\nrun = \"toy.list\"\npartitions = 4000000000\n\
         [stages.count]\nrun = \"toy.count\"\neach = \"list\"\ninputs.books = \"list\"\nmin_length = 1\n"
    );
    assert_snapshot!(built(&[("flows/main.toml", &text)], &[]), @r"
    2 mistakes in `flows/main.toml`
      flows/main.toml:12: `stages.text` would have 10000000000000000 nodes, and a workflow at most 20000000
      flows/main.toml:18: the workflow would have 4000000001 nodes, most of them here, and can have at most 20000000
    ");
    let spec = parse("big.toml", &text).unwrap();
    let one = "text[a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1]".to_owned();
    let workflow = build(&spec, &stages::registry(&harness::toy()), &Settings::new(), &[one]).unwrap();
    assert_eq!(workflow.order.len(), 1);
}

/// Every feature of workflow files in one.
const ALL: &str = r#"
[workflow]
name = "all"
about = "everything"
include = ["more.toml"]
[settings]
word = { default = "one", choices = ["one", "two"], about = "a word" }
size = { default = 3, type = "integer", min = 1, max = 9 }
[matrix]
method = ["full", "lora"]
seed = [1, 2]
exclude = [{ method = "lora", seed = 2 }]
include = [{ method = "prefix", seed = 9 }]
[derived]
kind = { by = ["method", "word"], full = { one = "a", two = "{other}" }, "lora,one" = "b", default = "c" }
other = "{word}-d"
[stages.list]
run = "toy.list"
partitions = 2
[stages.count]
run = "toy.count"
each = "list"
inputs.books = "list"
min_length = "{size}"
[stages.again]
like = "train"
keep = { by = "kind", a = 1, b = 2, default = 3 }
suffix = "{kind} of {word}"
[stages.train]
run = "toy.join"
inputs.texts = ["count/count.txt", "random"]
inputs.title = { by = "method", full = "random", lora = "train[method=full]/text.txt", default = "list" }
keep = { by = ["method", "word"], full = { one = 1, two = 2 }, "lora,one" = 3, default = 4 }
suffix = "{method} {seed}"
[stages.table]
run = "toy.join"
gather = ["method", "seed"]
inputs.texts = "train/text.txt"
"#;

const MORE: &str = "[stages.random]\nrun = \"toy.text\"\ntext = \"{seed} {word}\"\n";

/// A piece of the text taken out, put elsewhere, or a few characters put in.
fn edits() -> impl Strategy<Value = Vec<(usize, usize, usize, String)>> {
    let signs = "[\\[\\]{}=,.\"'#/*:a-z_ é\n-]{0,3}";
    prop::collection::vec((0..ALL.len(), 0_usize..12, 0..ALL.len(), signs), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if harness::slow() { 20_000 } else { 400 }, ..ProptestConfig::default() })]
    #[test]
    fn no_text_makes_it_panic(edits in edits(), target in prop::option::of("[a-z*]{1,5}(\\[[a-z*=]{0,9}\\])?(#[0-9-]{1,3})?")) {
        let mut text: Vec<char> = ALL.chars().collect();
        for (from, count, to, signs) in edits {
            let end = (from + count).min(text.len());
            let piece: Vec<char> = text.drain(from.min(end)..end).chain(signs.chars()).collect();
            let to = to.min(text.len());
            text.splice(to..to, piece);
        }
        let text: String = text.into_iter().collect();
        let load = |path: &str| if path == "more.toml" { Ok(MORE.to_owned()) } else { Err("no such file".to_owned()) };
        let registry = stages::registry(std::path::Path::new("toy"));
        let targets: Vec<String> = target.into_iter().collect();
        let built = parse_with("all.toml", &text, &load).and_then(|spec| build(&spec, &registry, &Settings::new(), &targets));
        if let Err(mistakes) = built {
            prop_assert!(!mistakes.list.is_empty());
            let lines = text.matches('\n').count() + 1;
            prop_assert!(mistakes.list.iter().all(|found| (1..=lines.max(4)).contains(&found.line)), "{mistakes}");
        }
    }
}

#[test]
fn the_text_with_every_feature_is_right() {
    let load = |_: &str| Ok(MORE.to_owned());
    let spec = parse_with("all.toml", ALL, &load).unwrap();
    let workflow =
        build(&spec, &stages::registry(&harness::toy()), &Settings::new(), &[]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(workflow.find("train").len(), 4);
}

/// A narrowed line knows the values it could have, so that a short name is told from a misspelt one.
#[test]
fn keys_are_choices_of_their_line_or_mistakes() {
    let text = |key: &str| {
        format!(
            "[workflow]\nname = \"short\"\n[matrix]\nway = {{ values = [\"lora\"], choices = [\"lora\", \"dora\"] }}\n[stages.text]\n\
             run = \"toy.text\"\ntext = {{ by = \"way\", {key} = \"second\", default = \"first\" }}\n"
        )
    };
    assert_snapshot!(built(&[("flows/main.toml", &text("dora"))], &[("way", "dora,lora")]), @r#"
    text[way=dora] {"text":"second"}
    text[way=lora] {"text":"first"}
    "#);
    assert_snapshot!(built(&[("flows/main.toml", &text("lara"))], &[]), @r"
    1 mistake in `flows/main.toml`
      flows/main.toml:7: unknown value of `way` `lara`
          did you mean `lora`?
    ");
    let parts = ("flows/part.toml", &*text("dora"));
    let whole = "[workflow]\nname = \"whole\"\n[use]\ntask = [\"./part.toml\"]\n";
    assert_snapshot!(built(&[("flows/main.toml", whole), parts], &[]), @r#"text[way=lora] {"text":"first"}"#);
}
