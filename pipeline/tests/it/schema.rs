//! The JSON Schema of workflow files, as an editor would use it.

use pipeline::spec::schema;
use serde_json::Value;

use crate::{stages, validator};

const GOOD: &str = r#"
[workflow]
name = "good"
about = "everything"
include = ["common.toml"]
[settings]
flag = true
word = { default = "one", choices = ["one", "two"], about = "a word" }
size = { default = 3, type = "integer", min = 1, max = 9 }
[matrix]
method = ["full", "lora"]
seed = { values = [1, 2], max = 9 }
exclude = [{ method = "lora", seed = 2 }]
include = [{ method = "prefix", seed = 9 }]
[derived]
long = { by = ["method", "word"], "full,one" = true, full = { two = "yes" }, default = { by = "seed", 1 = 2, default = "{word}" } }
least = 3
[stages.again]
like = "train"
keep = { by = "long", true = "{least}", default = 2 }
[stages.list]
run = "toy.list"
partitions = 2
[stages.count]
run = "toy.count"
each = "list"
inputs.books = "list"
min_length = "{size}"
[stages.train]
run = "toy.join"
inputs.texts = ["count/count.txt", { by = "method", full = "list", default = ["list"] }]
inputs.title = { by = "method", full = "random", lora = { by = "seed", default = "train[method=full]/text.txt" } }
keep = { by = ["method", "word"], full = { one = 1, two = 2 }, "lora,one" = 3, default = 4 }
suffix = "{method} {seed}"
[stages.table]
run = "toy.join"
gather = ["method", "seed"]
inputs.texts = "train/text.txt"
keep = { by = "word", one = 1, two = "{size}", default = { by = "flag", true = 1, false = 2 } }
[stages.trouble]
run = "toy.trouble"
inputs.texts = "table"
how = "fail"
"#;

/// Where the schema finds something wrong; nothing when it accepts the text.
fn wrong(text: &str) -> Vec<String> {
    let workflow: Value = toml::from_str(text).unwrap();
    validator::wrong(&schema(&stages::registry(std::path::Path::new("toy"))), &workflow)
}

/// After a replacement the schema finds something wrong at a place.
#[track_caller]
fn check(from: &str, to: &str, place: &str) {
    assert!(GOOD.contains(from), "{from}");
    let places = wrong(&GOOD.replacen(from, to, 1));
    assert!(places.iter().any(|found| found == place), "{to}: wrong at {places:?}");
}

#[test]
fn a_workflow_with_every_feature_is_accepted() {
    assert_eq!(wrong(GOOD), [""; 0]);
}

#[test]
fn wrong_names_and_types_are_found() {
    check("[settings]", "[setings]", "");
    check("about = \"everything\"", "abuot = \"\"", "/workflow");
    check("include = [\"common.toml\"]", "include = \"common.toml\"", "/workflow/include");
    check("default = 3, ", "", "/settings/size");
    check("type = \"integer\"", "type = \"int\"", "/settings/size");
    check("method = [\"full\", \"lora\"]", "method = \"full\"", "/matrix/method");
    check("exclude = [{ method = \"lora\", seed = 2 }]", "exclude = [{}]", "/matrix/exclude/0");
    check("least = 3", "least = [3]", "/derived/least");
    check("like = \"train\"", "like = [\"train\"]", "/stages/again/like");
    check("run = \"toy.list\"", "run = \"toy.lits\"", "/stages/list/run");
    check("partitions = 2", "partitions = \"two\"", "/stages/list/partitions");
    check("partitions = 2", "partitions = -2", "/stages/list/partitions");
    check("partitions = 2", "", "/stages/list");
    check("partitions = 2", "partitoins = 2", "/stages/list");
    check("inputs.books", "inputs.boks", "/stages/count/inputs");
    check("inputs.books = \"list\"", "", "/stages/count");
    check("inputs.books = \"list\"", "inputs.books = 3", "/stages/count/inputs/books");
    check("two = \"{size}\"", "two = \"size\"", "/stages/table/keep");
    check("default = [\"list\"]", "default = [3]", "/stages/train/inputs/texts");
    check("how = \"fail\"", "how = \"fall\"", "/stages/trouble/how");
    check("gather = [\"method\", \"seed\"]", "gather = \"method\"", "/stages/table/gather");
}

#[test]
fn what_stands_in_the_schema_is_documented() {
    let schema = schema(&stages::registry(std::path::Path::new("toy")));
    let stage = &schema["$defs"]["stage:toy.join"];
    assert_eq!(stage["description"], "puts texts one after the other");
    assert_eq!(stage["properties"]["keep"]["description"], "How many bytes are kept.");
    assert_eq!(stage["properties"]["inputs"]["properties"]["texts"]["description"], "the texts");
}
