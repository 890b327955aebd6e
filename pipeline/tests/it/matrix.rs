//! From a workflow file to nodes: matrix, `by`, `{axis}`, gather, pins, targets, partitions.

use insta::assert_snapshot;
use pipeline::graph::{Workflow, matches};

use crate::harness::Harness;

/// Node and inputs, a line each.
fn show(workflow: &Workflow) -> String {
    let mut lines: Vec<String> = workflow
        .order
        .iter()
        .map(|index| {
            let node = &workflow.graph[*index];
            let input = |edge: &pipeline::graph::Edge| {
                let part = edge.part.as_ref().map_or(String::new(), |part| format!("/{part}"));
                format!(" {}={}{part}", edge.field(), workflow.graph[edge.from].id)
            };
            format!("{} {}:{}", node.id, node.placed.params(), node.inputs.iter().map(input).collect::<String>())
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

const TRAINING: &str = r#"
[workflow]
name = "training"
[settings]
language = { default = "en", choices = ["en", "fr"] }
[matrix]
method = ["finetune", "lora", "probe"]
seed = [1, 2]
[stages.random]
run = "toy.text"
text = "random {seed} in {language};"
[stages.train]
run = "toy.join"
inputs.texts = { by = "method", finetune = "random", lora = "train[method=finetune]/text.txt", probe = "train[method=lora]/text.txt" }
suffix = "{method};"
keep = { by = "language", en = 99, fr = 9 }
[stages.table]
run = "toy.join"
gather = ["method", "language"]
inputs.texts = "train/text.txt"
"#;

#[test]
fn matrix_by_braces_gather_and_pins() {
    assert_snapshot!(show(&Harness::new().workflow(TRAINING)), @r#"
    random[seed=1] {"text":"random 1 in en;"}:
    random[seed=2] {"text":"random 2 in en;"}:
    table[seed=1] {"suffix":""}: texts[language=en,method=finetune]=train[method=finetune,seed=1]/text.txt texts[language=en,method=lora]=train[method=lora,seed=1]/text.txt texts[language=en,method=probe]=train[method=probe,seed=1]/text.txt
    table[seed=2] {"suffix":""}: texts[language=en,method=finetune]=train[method=finetune,seed=2]/text.txt texts[language=en,method=lora]=train[method=lora,seed=2]/text.txt texts[language=en,method=probe]=train[method=probe,seed=2]/text.txt
    train[method=finetune,seed=1] {"suffix":"finetune;","keep":99}: texts=random[seed=1]
    train[method=finetune,seed=2] {"suffix":"finetune;","keep":99}: texts=random[seed=2]
    train[method=lora,seed=1] {"suffix":"lora;","keep":99}: texts=train[method=finetune,seed=1]/text.txt
    train[method=lora,seed=2] {"suffix":"lora;","keep":99}: texts=train[method=finetune,seed=2]/text.txt
    train[method=probe,seed=1] {"suffix":"probe;","keep":99}: texts=train[method=lora,seed=1]/text.txt
    train[method=probe,seed=2] {"suffix":"probe;","keep":99}: texts=train[method=lora,seed=2]/text.txt
    "#);
}

#[test]
fn a_stage_may_read_itself_at_another_point() {
    let mut harness = Harness::new();
    let ended = harness.run(TRAINING);
    let table = harness.text(&ended, "table[seed=2]", "text.txt");
    assert_snapshot!(table, @"language=en: method=finetune: 15random 2 in en;finetune;language=en: method=lora: 15random 2 in en;finetune;lora;language=en: method=probe: 15random 2 in en;finetune;lora;probe;");
}

#[test]
fn set_restricts_the_matrix_and_pinned_dependencies_are_still_built() {
    let mut harness = Harness::new().set("method", &["probe"]).set("seed", &["2"]).set("language", &["fr"]);
    let ended = harness.run(TRAINING);
    assert_snapshot!(ended.ran(), @"random[seed=2] table[seed=2] train[method=finetune,seed=2] train[method=lora,seed=2] train[method=probe,seed=2]");
    assert_snapshot!(harness.text(&ended, "table[seed=2]", "text.txt"), @"language=fr: method=probe: 15random");
}

#[test]
fn set_takes_values_the_file_does_not_list() {
    let workflow = Harness::new().set("seed", &["7"]).workflow(TRAINING);
    assert_eq!(workflow.find("random").len(), 1);
    assert_eq!(workflow.graph[workflow.find("random")[0]].placed.params()["text"], "random 7 in en;");
}

#[test]
fn settings_keep_their_type() {
    let text = "[workflow]\nname = \"types\"\n[settings]\nkeep = 3\nword = \"12\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"{word}\"\n\
                [stages.b]\nrun = \"toy.join\"\ninputs.texts = \"a\"\nkeep = \"{keep}\"\n";
    let workflow = Harness::new().set("keep", &["5"]).set("word", &["34"]).workflow(text);
    assert_eq!(workflow.graph[workflow.find("b")[0]].placed.params()["keep"], 5);
    assert_eq!(workflow.graph[workflow.find("a")[0]].placed.params()["text"], "34");
}

#[track_caller]
fn check_targets(targets: &[&str], expected: &str) {
    let mut harness = Harness::with_books();
    harness.targets = targets.iter().map(ToString::to_string).collect();
    let workflow = harness.workflow(crate::harness::BOOKS);
    let mut ids: Vec<&str> = workflow.order.iter().map(|node| workflow.graph[*node].id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids.join(" "), expected);
}

#[test]
fn targets_are_stages_partitions_and_patterns() {
    check_targets(&["count"], "count#0 count#1 count#2 count#3 list");
    check_targets(&["count#2"], "count#2 list");
    check_targets(&["na*"], "list names");
    check_targets(&["names", "count#0"], "count#0 list names");
    check_targets(&["*"], "count#0 count#1 count#2 count#3 list names sum");
}

#[test]
fn targets_are_points() {
    let mut harness = Harness::new();
    harness.targets = vec!["train[method=lora,seed=1]".to_owned()];
    let ended = harness.run(TRAINING);
    assert_snapshot!(ended.ran(), @"random[seed=1] train[method=finetune,seed=1] train[method=lora,seed=1]");
    harness.targets = vec!["train[method=lora]".to_owned()];
    assert_snapshot!(harness.run(TRAINING).ran(), @"random[seed=2] train[method=finetune,seed=2] train[method=lora,seed=2]");
}

#[track_caller]
fn check_pattern(pattern: &str, id: &str, expected: bool) {
    assert_eq!(matches(pattern, id), expected, "{pattern} and {id}");
}

#[test]
fn patterns_match_names_points_and_partitions() {
    check_pattern("train", "train[method=lora,seed=1]", true);
    check_pattern("train", "train2", false);
    check_pattern("train[seed=1]", "train[method=lora,seed=1]", true);
    check_pattern("train[seed=1]", "train[method=lora,seed=12]", false);
    check_pattern("train[ seed=1 , method=lora ]", "train[method=lora,seed=1]", true);
    check_pattern("count", "count#3", true);
    check_pattern("count#3", "count#3", true);
    check_pattern("count#3", "count#13", false);
    check_pattern("count#3", "count", false);
    check_pattern("*rai*", "train[seed=1]", true);
    check_pattern("t*n", "train", true);
    check_pattern("t*n", "trainer", false);
    check_pattern("a*ab", "aab", true);
    check_pattern("ab*b", "ab", false);
    check_pattern("*[seed=2]#1", "count[seed=2]#1", true);
}

const PARTS: &str = r#"
[workflow]
name = "parts"
[matrix]
min = [1, 2]
[stages.list]
run = "toy.list"
partitions = 2
[stages.count]
run = "toy.count"
each = "list"
inputs.books = "list"
min_length = "{min}"
[stages.again]
run = "toy.join"
each = "count"
inputs.texts = ["count/count.txt", "list"]
inputs.title = "list/names.txt"
[stages.all]
run = "toy.join"
gather = ["min"]
inputs.texts = "again/text.txt"
"#;

#[test]
fn each_follows_each_and_a_whole_artifact_reaches_every_partition() {
    assert_snapshot!(show(&Harness::with_books().workflow(PARTS)), @r#"
    again[min=1]#0 {"suffix":""}: texts=count[min=1]#0/count.txt texts=list/parts/00000 title=list/names.txt
    again[min=1]#1 {"suffix":""}: texts=count[min=1]#1/count.txt texts=list/parts/00001 title=list/names.txt
    again[min=2]#0 {"suffix":""}: texts=count[min=2]#0/count.txt texts=list/parts/00000 title=list/names.txt
    again[min=2]#1 {"suffix":""}: texts=count[min=2]#1/count.txt texts=list/parts/00001 title=list/names.txt
    all {"suffix":""}: texts[min=1]#0=again[min=1]#0/text.txt texts[min=1]#1=again[min=1]#1/text.txt texts[min=2]#0=again[min=2]#0/text.txt texts[min=2]#1=again[min=2]#1/text.txt
    count[min=1]#0 {"min_length":1}: books=list/parts/00000
    count[min=1]#1 {"min_length":1}: books=list/parts/00001
    count[min=2]#0 {"min_length":2}: books=list/parts/00000
    count[min=2]#1 {"min_length":2}: books=list/parts/00001
    list {"partitions":2}:
    "#);
}

/// Only the partitions that a target needs are made; they are those of the whole graph.
#[test]
fn a_target_makes_of_a_split_stage_what_it_needs_and_nothing_else_differs() {
    let text = PARTS.replace("partitions = 2", "partitions = 9");
    let whole = show(&Harness::with_books().workflow(&text));
    for (target, parts) in [("count#4", 1), ("again[min=1]#3-5", 3), ("again#8", 1), ("count", 9), ("all", 9)] {
        let mut harness = Harness::with_books();
        harness.targets = vec![target.to_owned()];
        let workflow = harness.workflow(&text);
        let made = show(&workflow);
        assert!(made.lines().all(|line| whole.lines().any(|other| other == line)), "{target}:\n{made}");
        let counts = workflow.graph.node_weights().filter(|node| &*node.stage == "count" && node.point.get("min") != Some("2"));
        assert_eq!(counts.count(), parts, "{target}");
    }
}

#[test]
fn workflow_order_puts_every_producer_first() {
    let workflow = Harness::new().workflow(TRAINING);
    for (place, index) in workflow.order.iter().enumerate() {
        let producers = workflow.graph[*index].inputs.iter().map(|edge| edge.from);
        producers.for_each(|from| assert!(workflow.order[..place].contains(&from)));
    }
}
