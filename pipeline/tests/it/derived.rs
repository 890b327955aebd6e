//! `[derived]` and `like`: choices that a file makes once.

use insta::assert_snapshot;

use crate::includes::built;

const HEAD: &str = r#"
[workflow]
name = "main"
[settings]
size = { default = "full", choices = ["full", "tiny"] }
corpus = { default = "esd", choices = ["esd", "digits"] }
[matrix]
method = ["head", "all"]
"#;

/// The nodes of a file that begins with [`HEAD`].
fn nodes(rest: &str, settings: &[(&str, &str)]) -> String {
    built(&[("flows/main.toml", &format!("{HEAD}{rest}"))], settings)
}

const SHORT: &str = r#"
[derived]
scale = { by = ["size", "corpus"], tiny = "small", "full,digits" = "small", default = "large" }
length = { by = "method", head = 1, all = { by = "scale", small = 2, large = "{most}" } }
most = 3
source = { by = "scale", small = "text", large = "other" }
label = "{scale}, {corpus}"
[stages.text]
run = "toy.text"
text = "{scale}: {label}"
[stages.other]
like = "text"
text = { by = "label", "small, {corpus}" = "never", default = "{size} of {method}" }
[stages.copy]
like = "join"
suffix = { by = "corpus", esd = "{scale}", digits = { by = "length", 1 = "one", 2 = "two", default = "more" } }
inputs.title = "text"
[stages.join]
run = "toy.join"
inputs.texts = "{source}/text.txt"
keep = "{length}"
"#;

const LONG: &str = r#"
[stages.text]
run = "toy.text"
text = { by = ["size", "corpus"], tiny = "small: small, {corpus}", "full,digits" = "small: small, {corpus}", default = "large: large, {corpus}" }
[stages.other]
run = "toy.text"
text = { by = ["size", "corpus"], default = "{size} of {method}" }
[stages.copy]
run = "toy.join"
inputs.texts = { by = ["size", "corpus"], tiny = "text/text.txt", "full,digits" = "text/text.txt", default = "other/text.txt" }
inputs.title = "text"
keep = { by = "method", head = 1, all = { by = ["size", "corpus"], tiny = 2, "full,digits" = 2, default = 3 } }
suffix = { by = "corpus", esd = { by = "size", tiny = "small", full = "large" }, digits = { by = "method", head = "one", all = "two" } }
[stages.join]
run = "toy.join"
inputs.texts = { by = ["size", "corpus"], tiny = "text/text.txt", "full,digits" = "text/text.txt", default = "other/text.txt" }
keep = { by = "method", head = 1, all = { by = ["size", "corpus"], tiny = 2, "full,digits" = 2, default = 3 } }
"#;

#[test]
fn a_short_file_has_the_nodes_of_the_long_one() {
    for size in ["full", "tiny"] {
        for corpus in ["esd", "digits"] {
            let settings = [("size", size), ("corpus", corpus)];
            assert_eq!(nodes(SHORT, &settings), nodes(LONG, &settings), "{settings:?}");
        }
    }
    assert_snapshot!(nodes(SHORT, &[("method", "all")]), @r#"
    text {"text":"large: large, esd"}
    other[method=all] {"text":"full of all"}
    copy[method=all] {"suffix":"large","keep":3}
    join[method=all] {"suffix":"","keep":3}
    "#);
}

#[test]
fn an_including_file_changes_derived_values_and_what_stages_are_like() {
    let main = r#"
[workflow]
name = "changed"
include = ["part.toml"]
[derived]
scale = "huge"
[stages.text]
text = "of {scale}"
[stages.join]
keep = 9
"#;
    let part = format!("{HEAD}{SHORT}")
        .replace("large = \"{most}\"", "large = 3, huge = 5")
        .replace("large = \"other\"", "huge = \"other\", large = \"text\"");
    let all = |main: &str| built(&[("flows/main.toml", main), ("flows/part.toml", &part)], &[("method", "all")]);
    assert_snapshot!(all(main), @r#"
    text {"text":"of huge"}
    other[method=all] {"text":"full of all"}
    copy[method=all] {"suffix":"huge","keep":9}
    join[method=all] {"suffix":"","keep":9}
    "#);
    // As a line of the matrix, every value of it makes nodes.
    assert_snapshot!(all(&main.replace("[derived]\nscale = \"huge\"", "[matrix]\nscale = [\"huge\", \"small\"]")), @r#"
    text[scale=huge] {"text":"of huge"}
    text[scale=small] {"text":"of small"}
    other[method=all] {"text":"full of all"}
    copy[method=all,scale=huge] {"suffix":"huge","keep":9}
    copy[method=all,scale=small] {"suffix":"small","keep":9}
    join[method=all,scale=huge] {"suffix":"","keep":9}
    join[method=all,scale=small] {"suffix":"","keep":9}
    "#);
}

#[test]
fn used_workflows_keep_their_own_derived_values() {
    let part = |word: &str| {
        format!(
            "[settings]\nsize = \"full\"\ncorpus = \"{word}\"\n[derived]\nname = {{ by = \"corpus\", esd = \"e\", default = \"{{size}} {word}\" }}\n\
             [stages.text]\nrun = \"toy.text\"\ntext = \"{{name}}\"\n[stages.join]\nlike = \"last\"\nkeep = 1\n\
             [stages.last]\nrun = \"toy.join\"\ninputs.texts = \"text\"\nsuffix = {{ by = \"name\", e = \"short\", default = \"{{name}}\" }}\n"
        )
    };
    let (first, second) = (part("esd"), part("meld"));
    let main = r#"
[workflow]
name = "main"
[use]
task = ["first.toml", "second.toml"]
[derived]
word = { by = "task", first = "one", default = "two" }
[stages.end]
like = "join"
inputs.texts = "last"
suffix = "{word}"
"#;
    let files = [("flows/main.toml", main), ("flows/first.toml", &*first), ("flows/second.toml", &*second)];
    assert_snapshot!(built(&files, &[]), @r#"
    text[task=first] {"text":"e"}
    text[task=second] {"text":"full meld"}
    join[task=first] {"suffix":"short","keep":1}
    join[task=second] {"suffix":"full meld","keep":1}
    last[task=first] {"suffix":"short"}
    last[task=second] {"suffix":"full meld"}
    end[task=first] {"suffix":"one","keep":1}
    end[task=second] {"suffix":"two","keep":1}
    "#);
}

#[test]
fn mistakes_in_derived_values_are_placed() {
    let text = r#"
[derived]
size = "tiny"
a = "{b} x"
b = { by = "size", full = "{a}", tiny = 1 }
bad-name = 1
list = [1]
table = { by = "method", head = { x = 1 }, all = "y" }
unused = { by = "methd", head = 1 }
scale = { by = "method", head = "small", all = "large" }
[stages.text]
run = "toy.text"
text = { by = "scale", smal = "s", large = "l" }
[stages.more]
run = "toy.text"
text = "{scael} {a}"
[stages.join]
run = "toy.join"
inputs.texts = "text"
gather = ["scale"]
keep = { by = ["scale", "method"], small = 1, default = 2 }
"#;
    assert_snapshot!(nodes(text, &[]), @r#"
    11 mistakes in `flows/main.toml`
      flows/main.toml:11: `size` is given in `[settings]` and in `[derived]`
      flows/main.toml:12: derived values: these follow from each other: a -> b -> a
      flows/main.toml:14: the name `bad-name` should be letters, digits and `_`, so that `{bad-name}` can be read
      flows/main.toml:15: the derived value `list` should be text, a number, a truth value, or a `by` table of these
      flows/main.toml:16: the derived value `table` should be text, a number, a truth value, or a `by` table of these
      flows/main.toml:17: unknown setting or matrix line `methd`
          did you mean `method`?
      flows/main.toml:21: no value for scale = `small`
          add `small = ...` here, or `default = ...`
      flows/main.toml:21: unknown value of `scale` `smal`
          did you mean `small`?
      flows/main.toml:24: unknown setting or matrix line `scael`
          did you mean `scale`?
      flows/main.toml:28: `scale`: a derived value, where a setting or matrix line is expected
          it follows from `method`
      flows/main.toml:29: `scale` is a derived value, which `by` takes alone
          write one table in the other: `{ by = "scale", <value> = { by = ..., ... } }`
    "#);
    assert_snapshot!(nodes(text, &[("scale", "small")]), @r"
    1 mistake in `flows/main.toml`
      flows/main.toml:18: --set scale: a derived value, where a setting or matrix line is expected
          it follows from `method`
    ");
}

#[test]
fn mistakes_in_like_are_placed() {
    let text = r#"
[stages.a]
like = "b"
[stages.b]
like = "c"
[stages.c]
like = "b"
keep = 1
[stages.text]
run = "toy.text"
text = "t"
[stages.two]
run = "toy.text"
like = "text"
[stages.lost]
like = "txet"
[stages.number]
like = 3
[stages.self]
like = "self"
[stages.wrong]
like = "text"
txt = "u"
"#;
    assert_snapshot!(nodes(text, &[]), @r"
    6 mistakes in `flows/main.toml`
      flows/main.toml:12: these stages are like each other: b -> c -> b
      flows/main.toml:22: `stages.two` has `run` and `like`, which takes over the kind of `text`
      flows/main.toml:24: unknown stage `txet`
          did you mean `text`?
      flows/main.toml:26: `like` should name a stage
      flows/main.toml:27: these stages are like each other: self -> self
      flows/main.toml:31: `toy.text` has no parameter `txt`
          did you mean `text`?
    ");
}

#[test]
fn derived_values_cannot_grow_beyond_all_bounds() {
    let line =
        |number: u32| format!("v{number} = {{ by = \"method\", head = \"{{v{0}}}{{v{0}}}\", all = \"{{v{0}}}\" }}\n", number + 1);
    let text = |count: u32| {
        let lines: String = (0..count).map(line).collect();
        format!("[derived]\n{lines}v{count} = \"x\"\n[stages.text]\nrun = \"toy.text\"\ntext = \"{{v0}}\"\n")
    };
    assert_snapshot!(nodes(&text(3), &[]), @r#"
    text[method=head] {"text":"xxxxxxxx"}
    text[method=all] {"text":"x"}
    "#);
    assert_snapshot!(nodes(&text(12), &[]), @r"
    2 mistakes in `flows/main.toml`
      flows/main.toml:23: `toy.text` needs the parameter `text`
          text: The text.
      flows/main.toml:25: derived values make this workflow larger than 1000000 bytes
    ");
    assert_snapshot!(nodes(&text(20), &[]), @r"
    1 mistake in `flows/main.toml`
      flows/main.toml:26: derived values: too many follow from each other: v0 -> v1 -> v2 -> v3 -> v4 -> v5 -> v6 -> v7 -> v8 -> v9 -> v10 -> v11 -> v12 -> v13 -> v14 -> v15 -> v16
    ");
}
