//! Which points there are: `exclude`, `include`, `by` of several axes, settings beside the matrix, targets.

use std::collections::{BTreeMap, BTreeSet};

use insta::assert_snapshot;
use pipeline::graph::{Settings, Workflow, build, matches};
use pipeline::spec::parse;
use proptest::prelude::*;

use crate::harness::{self, Harness, toy};
use crate::stages;

fn ids(workflow: &Workflow) -> String {
    workflow.order.iter().map(|node| workflow.graph[*node].id.as_str()).collect::<Vec<_>>().join(" ")
}

/// The ids for some `--set` and targets, or the mistakes.
fn built(text: &str, settings: &[(&str, &str)], targets: &[&str]) -> String {
    let values = |list: &str| list.split(',').map(str::to_owned).collect::<Vec<_>>();
    let settings: Settings = settings.iter().map(|(name, list)| ((*name).to_owned(), values(list))).collect();
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let spec = parse("toy.toml", text).unwrap();
    build(&spec, &stages::registry(&toy()), &settings, &targets)
        .map_or_else(|mistakes| mistakes.to_string(), |workflow| ids(&workflow))
}

const SWEEP: &str = r#"
[workflow]
name = "sweep"
[settings]
corpus = { default = "small", choices = ["small", "large"] }
[matrix]
method = ["full", "lora"]
seed = [1, 2]
exclude = [{ method = "lora", seed = 2 }]
include = [{ method = "prefix", seed = 9 }]
[stages.random]
run = "toy.text"
text = "{corpus} {seed}"
[stages.train]
run = "toy.join"
inputs.texts = "random"
suffix = "{method}"
[stages.best]
run = "toy.join"
gather = ["seed"]
inputs.texts = "train"
[stages.table]
run = "toy.join"
gather = ["corpus", "method", "seed"]
inputs.texts = "train"
"#;

#[test]
fn exclude_drops_points_and_include_adds_some() {
    assert_snapshot!(built(SWEEP, &[], &["table"]), @"random[seed=1] random[seed=2] random[seed=9] train[method=full,seed=1] train[method=full,seed=2] train[method=lora,seed=1] train[method=prefix,seed=9] table");
    let workflow = Harness::new().workflow(SWEEP);
    let of = |id: &str| {
        let node = &workflow.graph[workflow.find(id)[0]];
        node.inputs.iter().map(|edge| format!("{} ", edge.field())).collect::<String>()
    };
    assert_snapshot!(of("table"), @"texts[corpus=small,method=full,seed=1] texts[corpus=small,method=full,seed=2] texts[corpus=small,method=lora,seed=1] texts[corpus=small,method=prefix,seed=9]");
    assert_snapshot!(of("best[method=lora]"), @"texts[seed=1]");
    assert_snapshot!(of("best[method=prefix]"), @"texts[seed=9]");
    assert_snapshot!(of("best[method=full]"), @"texts[seed=1] texts[seed=2]");
}

#[test]
fn set_restricts_exclude_and_include_too() {
    let train = |settings: &[(&str, &str)]| built(SWEEP, settings, &["train"]);
    assert_snapshot!(train(&[("method", "lora")]), @"random[seed=1] train[method=lora,seed=1]");
    assert_snapshot!(train(&[("seed", "2,9")]), @"random[seed=2] random[seed=9] train[method=full,seed=2] train[method=full,seed=9] train[method=lora,seed=9] train[method=prefix,seed=9]");
    assert_snapshot!(train(&[("method", "prefix")]), @"random[seed=1] random[seed=2] random[seed=9] train[method=prefix,seed=1] train[method=prefix,seed=2] train[method=prefix,seed=9]");
    assert_snapshot!(train(&[("method", "lora"), ("seed", "2")]), @r"
    1 mistake in `toy.toml`
      target `train`: `train` has no such point or partition
    ");
    assert_snapshot!(built(SWEEP, &[("method", "lora"), ("seed", "2")], &["table"]), @r"
    1 mistake in `toy.toml`
      toy.toml:25: `table` gathers nothing here: the matrix has no such point
    ");
}

#[test]
fn a_matrix_that_leaves_no_point_is_a_mistake() {
    let text = SWEEP[..SWEEP.find("[stages.best]").unwrap()].to_owned();
    assert_snapshot!(built(&text, &[("method", "lora"), ("seed", "2")], &[]), @r"
    1 mistake in `toy.toml`
      toy.toml:14: `stages.train`: the matrix leaves no point for it
    ");
}

#[test]
fn include_comes_after_exclude_and_names_part_of_a_point() {
    let text = SWEEP.replace("{ method = \"prefix\", seed = 9 }", "{ method = \"lora\", seed = 2 }, { method = \"probe\" }");
    assert_snapshot!(built(&text, &[], &["train"]), @"random[seed=1] random[seed=2] train[method=full,seed=1] train[method=full,seed=2] train[method=lora,seed=1] train[method=lora,seed=2] train[method=probe,seed=1] train[method=probe,seed=2]");
}

#[test]
fn an_excluded_point_cannot_be_pinned() {
    let text = format!("{SWEEP}[stages.last]\nrun = \"toy.join\"\ninputs.texts = \"train[method=lora]\"\n");
    assert_snapshot!(built(&text, &[], &["last"]), @r"
    1 mistake in `toy.toml`
      toy.toml:28: `train[method=lora,seed=2]` is left out by `exclude` of `[matrix]`
    ");
}

#[test]
fn settings_stay_out_of_ids_but_not_out_of_what_is_gathered() {
    let one = built(SWEEP, &[], &[]);
    assert_eq!(one, built(SWEEP, &[("corpus", "large")], &[]));
    assert!(!one.contains("corpus"), "{one}");
    let workflow = Harness::new().set("corpus", &["large"]).workflow(SWEEP);
    let table = &workflow.graph[workflow.find("table")[0]];
    assert!(table.inputs.iter().all(|edge| edge.point.get("corpus") == Some("large")));
    let train = &workflow.graph[workflow.find("train")[0]];
    assert_eq!(train.point.iter().collect::<Vec<_>>(), [("method", "full"), ("seed", "1")]);
    assert!(workflow.axes.contains(&("corpus".to_owned(), vec!["large".to_owned()])));
}

#[test]
fn a_pinned_setting_has_the_value_in_force() {
    let text = format!("{SWEEP}[stages.last]\nrun = \"toy.join\"\ninputs.texts = \"random[corpus=small]\"\n");
    assert_snapshot!(built(&text, &[], &["last[seed=1]"]), @"random[seed=1] last[seed=1]");
    assert_snapshot!(built(&text, &[("corpus", "large")], &["last[seed=1]"]), @r"
    1 mistake in `toy.toml`
      toy.toml:28: `random[corpus=small]`: `corpus` is a setting, and its value here is `large`
          `--set corpus=small`, or a line `corpus = [...]` in `[matrix]`
    ");
}

#[test]
fn by_chooses_by_several_axes() {
    let text = r#"
[workflow]
name = "by"
[settings]
corpus = { default = "small", choices = ["small", "large"] }
[matrix]
method = ["full", "lora", "probe"]
seed = [1, 2]
[stages.text]
run = "toy.text"
text = "seed {seed}"
[stages.train]
run = "toy.join"
inputs.texts = "text"
suffix = "{method}"
[stages.train.keep]
by = ["method", "corpus", "seed"]
full = { small = { 1 = 11, 2 = 12 }, large = 13, default = 14 }
"lora,small" = { by = "seed", 1 = 21, 2 = 22 }
"lora,large,2" = 23
default = 99
"#;
    let keeps = |corpus: &str| {
        let workflow = Harness::new().set("corpus", &[corpus]).workflow(text);
        let nodes = workflow.find("train");
        nodes.iter().map(|node| workflow.graph[*node].placed.params()["keep"].to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(keeps("small"), "11 12 21 22 99 99");
    assert_eq!(keeps("large"), "13 13 99 23 99 99");
}

#[test]
fn targets_are_patterns_with_globs_ranges_and_the_workflow() {
    let check = |targets: &[&str], expected: &str| assert_eq!(built(SWEEP, &[], targets), expected, "{targets:?}");
    check(&["train[method=l*]"], "random[seed=1] train[method=lora,seed=1]");
    check(&["sweep:train[method=f*,seed=2]"], "random[seed=2] train[method=full,seed=2]");
    check(&["r*m[corpus=small,seed=*]"], "random[seed=1] random[seed=2] random[seed=9]");
    check(&["train[method=prefix]"], "random[seed=9] train[method=prefix,seed=9]");
    let books = |target: &str| {
        let mut harness = Harness::with_books();
        harness.targets = vec![target.to_owned()];
        ids(&harness.workflow(crate::harness::BOOKS))
    };
    assert_eq!(books("count#1-2"), "list count#1 count#2");
    assert_eq!(books("books:count#3"), "list count#3");
}

#[test]
fn wrong_targets_say_why() {
    let targets = [
        "other:train",
        "train[corpus=large]",
        "train[sead=1]",
        "train[seed=3]",
        "train[seed]",
        "train[seed=1",
        "train[seed=1]x",
        "train#1-x",
        "trian",
        "train#1",
    ];
    assert_snapshot!(built(SWEEP, &[], &targets), @r"
    6 mistakes in `toy.toml`
      target `other:train`: this is the workflow `sweep`, not `other`
      target `train#1-x`: `#1-x` should be a number or `3-7`
      target `train[corpus=large]`: `corpus` is a setting, and its value here is `small`
      target `train[seed=1]x`: after `]` only `#` and a partition can follow, not `x`
      target `train[seed=1`: a `[` without its `]`
      target `train[seed]`: expected `[axis=value,...]`
    ");
    assert_snapshot!(built(SWEEP, &[], &["trian", "train[sead=1]", "train[seed=3]", "train#1"]), @r"
    4 mistakes in `toy.toml`
      target `train#1`: `train` has no such point or partition
      target `train[seed=3]`: `train` has no such point or partition
      unknown axis in target `train[sead=1]`: `sead`
          did you mean `seed`?
      unknown target `trian`
          did you mean `train`?
    ");
}

#[test]
fn stages_that_no_target_reaches_are_checked() {
    let text = format!(
        "{SWEEP}[stages.spoilt]\nrun = \"toy.join\"\ninputs.texts = \"train\"\nkeep = {{ by = \"seed\", 1 = 1 }}\n\
         [stages.typed]\nrun = \"toy.join\"\ninputs.texts = []\nkeep = {{ by = \"method\", full = 1, default = \"{{method}}\" }}\n\
         [stages.parts]\nrun = \"toy.join\"\neach = \"random\"\ninputs.texts = \"random\"\n\
         [stages.whole]\nrun = \"toy.join\"\ngather = [\"seed\"]\neach = \"parts\"\ninputs.texts = \"random\"\n"
    );
    assert_snapshot!(built(&text, &[], &["random[seed=1]"]), @r#"
    5 mistakes in `toy.toml`
      toy.toml:29: no value for seed = `2`
          add `2 = ...` here, or `default = ...`
      toy.toml:32: `inputs.texts` of `typed` takes one artifact or more, not none
      toy.toml:33: `keep` should be a whole number, not "lora"
      toy.toml:36: `each = "random"`: that stage is not partitioned
          its kind should take a parameter `partitions`
      toy.toml:41: `each = "parts"`: that stage varies over `seed`, which is gathered here
    "#);
}

/// A small matrix with combinations left out and added; values from 7 on are those that only `include` may name.
#[derive(Debug, Clone)]
struct Matrix {
    lines: BTreeMap<&'static str, Vec<u32>>,
    exclude: Vec<BTreeMap<&'static str, u32>>,
    include: Vec<BTreeMap<&'static str, u32>>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn matrices() -> impl Strategy<Value = Matrix> {
    let combination = |greatest: u32| {
        let value = prop::option::of(1..=greatest);
        (value.clone(), value.clone(), value).prop_map(|(a, b, c)| {
            NAMES.into_iter().zip([a, b, c]).filter_map(|(name, value)| Some((name, value?))).collect::<BTreeMap<_, _>>()
        })
    };
    let some = |greatest| prop::collection::vec(combination(greatest).prop_filter("names an axis", |it| !it.is_empty()), 0..4);
    (1_u32..4, 1_u32..4, 1_u32..3, some(2), some(8)).prop_map(|(a, b, c, exclude, include)| {
        let lines: BTreeMap<_, Vec<u32>> =
            NAMES.into_iter().zip([a, b, c]).map(|(name, last)| (name, (1..=last).collect())).collect();
        let known = |pairs: &BTreeMap<&'static str, u32>| pairs.iter().all(|(name, value)| lines[name].contains(value));
        let exclude = exclude.into_iter().filter(known).collect();
        Matrix { lines, exclude, include }
    })
}

impl Matrix {
    fn text(&self) -> String {
        let table = |pairs: &BTreeMap<&str, u32>| {
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            format!("{{ {} }}", pairs.join(", "))
        };
        let tables = |list: &[BTreeMap<&str, u32>]| list.iter().map(table).collect::<Vec<_>>().join(", ");
        let lines: String = self.lines.iter().map(|(name, values)| format!("{name} = {values:?}\n")).collect();
        format!(
            "[workflow]\nname = \"random\"\n[matrix]\n{lines}exclude = [{}]\ninclude = [{}]\n\
             [stages.two]\nrun = \"toy.text\"\ntext = \"{{a}} {{b}}\"\n\
             [stages.three]\nrun = \"toy.join\"\ninputs.texts = \"two\"\nsuffix = \"c{{c}}\"\n\
             [stages.all]\nrun = \"toy.join\"\ngather = [\"a\", \"c\"]\ninputs.texts = [\"three\", \"two\"]\n",
            tables(&self.exclude),
            tables(&self.include)
        )
    }

    /// The points of some axes, worked out as the documentation says it.
    fn points(&self, axes: &[&'static str]) -> BTreeSet<BTreeMap<&'static str, u32>> {
        let combine = |fixed: &BTreeMap<&'static str, u32>| {
            let mut points = vec![BTreeMap::new()];
            for axis in axes {
                let values = fixed.get(axis).map_or_else(|| self.lines[axis].clone(), |value| vec![*value]);
                let with = |point: &BTreeMap<&'static str, u32>, value: u32| {
                    point.iter().map(|(axis, value)| (*axis, *value)).chain([(*axis, value)]).collect::<BTreeMap<_, _>>()
                };
                points = points.iter().flat_map(|point| values.iter().map(move |value| with(point, *value))).collect();
            }
            points
        };
        let has = |point: &BTreeMap<&str, u32>, pairs: &BTreeMap<&str, u32>| pairs.iter().all(|(a, v)| point.get(a) == Some(v));
        let mut points: BTreeSet<_> = combine(&BTreeMap::new()).into_iter().collect();
        points.retain(|point| !self.exclude.iter().any(|pairs| has(point, pairs)));
        for pairs in self.include.iter().filter(|pairs| axes.iter().any(|axis| pairs.contains_key(axis))) {
            points.extend(combine(pairs));
        }
        points
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if harness::slow() { 5_000 } else { 200 }, ..ProptestConfig::default() })]
    #[test]
    fn points_are_those_of_the_documentation_and_targets_choose_among_them(matrix in matrices(), value in 1_u32..9) {
        let spec = parse("random.toml", &matrix.text()).unwrap();
        let registry = stages::registry(std::path::Path::new("toy"));
        let build = |target: &str| build(&spec, &registry, &Settings::new(), &[target.to_owned()]);
        let id = |stage: &str, point: &BTreeMap<&str, u32>| {
            let pairs: Vec<String> = point.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
            format!("{stage}[{}]", pairs.join(","))
        };
        let all = match build("three") {
            Ok(all) => all,
            Err(mistakes) => {
                prop_assert!(matrix.points(&NAMES).is_empty(), "{mistakes}");
                return Ok(());
            }
        };
        let found: BTreeSet<&str> = all.find("three").iter().map(|node| all.graph[*node].id.as_str()).collect();
        let points = matrix.points(&NAMES);
        let expected: BTreeSet<String> = points.iter().map(|point| id("three", point)).collect();
        prop_assert_eq!(&found, &expected.iter().map(String::as_str).collect());

        // One value pinned by a target: the same nodes as picked from all of them.
        let pattern = format!("three[b={value}]");
        let picked: Vec<&str> = found.iter().copied().filter(|id| matches(&pattern, id)).collect();
        match build(&pattern) {
            Ok(some) => {
                let mut ids: Vec<&str> = some.find("three").iter().map(|node| some.graph[*node].id.as_str()).collect();
                ids.sort_unstable();
                prop_assert_eq!(ids, picked);
            }
            Err(_) => prop_assert!(picked.is_empty()),
        }

        // Gathering takes the points that agree in what is not gathered.
        let Ok(all) = build("all") else { return Ok(()) };
        for node in all.find("all") {
            let node = &all.graph[node];
            let own: u32 = node.point.get("b").unwrap().parse().unwrap();
            let agreeing = |stage: &str, axes: &[&'static str]| -> Vec<String> {
                matrix.points(axes).iter().filter(|point| point["b"] == own).map(|point| id(stage, point)).collect()
            };
            let expected: BTreeSet<String> =
                agreeing("three", &NAMES).into_iter().chain(agreeing("two", &["a", "b"])).collect();
            let found: BTreeSet<String> = node.inputs.iter().map(|edge| all.graph[edge.from].id.clone()).collect();
            prop_assert_eq!(node.inputs.len(), expected.len());
            prop_assert_eq!(found, expected);
        }
    }
}
