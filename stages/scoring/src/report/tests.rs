use super::*;
use crate::evidence::{Classes, Evidence, Ratio};
use crate::metric::{Direction, Metric};
use crate::score::{Detail, Parameters, Score};
use crate::significance::{Interval, Resampling};

const PARAMS: ReportTable = ReportTable { title: String::new(), published: false, anchors: Vec::new(), rounds: 1000 };

fn run(task: &str, corpus: &str, method: &str, seed: &str, metric: Metric, evidence: Evidence) -> Run {
    let score = |(metric, value): (Metric, f64)| {
        (metric, Score { value, direction: metric.direction(), interval: Some(Interval { low: value - 0.1, high: value + 0.1 }) })
    };
    let scores = Scores {
        task: None,
        corpus: None,
        primary: metric,
        metrics: evidence.values().into_iter().map(score).collect(),
        utterances: evidence.ids.len() as u64,
        interval: Resampling::default(),
        utterance_set: pipeline::Digest::of(evidence.ids.join("\n").as_bytes()),
        chance: BTreeMap::new(),
        notes: Vec::new(),
        parameters: Some(Parameters { trainable: 10, total: 1000 }),
        detail: Detail::Text { edits: Vec::new(), empty_references: 0, worst: Vec::new() },
        training: None,
    };
    let own = str::to_owned;
    Run {
        task: own(task),
        corpus: own(corpus),
        method: own(method),
        seed: own(seed),
        others: BTreeMap::new(),
        telling: BTreeMap::new(),
        scores,
        evidence: Some(evidence),
    }
}

/// Runs of spaces as one.
fn narrow(text: &str) -> String {
    text.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("u{at:03}")).collect()
}

/// Twenty utterances of two classes.
fn keywords(method: &str, seed: &str, wrong: &[usize]) -> Run {
    let labels: Vec<u32> = (0..20).map(|at| at % 2).collect();
    let predictions = (0..20).map(|at| (at as u32 + u32::from(wrong.contains(&at))) % 2).collect();
    let classes = Some(Classes { count: 2, labels, predictions });
    run("keywords", "tones", method, seed, Metric::Accuracy, Evidence { ids: ids(20), classes, ..Evidence::default() })
}

/// Forty utterances of ten words, of which every `one_in` has three errors.
fn words(corpus: &str, method: &str, one_in: usize) -> Run {
    let share = |at: usize| Ratio { part: if at.is_multiple_of(one_in) { 3.0 } else { 0.0 }, whole: 10.0 };
    let ratios = BTreeMap::from([(Metric::Wer, (0..40).map(share).collect())]);
    run("recognition", corpus, method, "1", Metric::Wer, Evidence { ids: ids(40), ratios, ..Evidence::default() })
}

#[test]
fn runs_that_differ_by_seed_share_a_row() {
    let runs = [keywords("lora", "1", &[0, 1]), keywords("full", "1", &[0]), keywords("lora", "2", &[0, 1, 2, 3])];
    let groups = group::groups(&runs);
    assert_eq!(groups.iter().map(|group| group.runs.len()).collect::<Vec<_>>(), [2, 1]);
    assert!((groups[0].mean(Metric::Accuracy) - 0.85).abs() < 1e-12);
    assert!((groups[0].deviation(Metric::Accuracy).unwrap() - 0.1 / 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(groups[0].print(Metric::Accuracy), "85.00 ± 7.07");
    assert!(groups[1].deviation(Metric::Accuracy).is_none());
    let board = Board::new(&groups, &PARAMS);
    assert_eq!((board.is_best(&groups[0]), board.is_best(&groups[1])), (false, true));
}

#[test]
fn anchors_are_shown_and_not_ranked() {
    let runs = [keywords("real", "1", &[]), keywords("lora", "1", &[0, 1]), keywords("full", "1", &[0])];
    let groups = group::groups(&runs);
    let board = Board::new(&groups, &ReportTable { anchors: vec!["real".to_owned()], ..PARAMS });
    assert_eq!(groups.iter().map(|group| board.is_best(group)).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(board.methods, ["real", "lora", "full"]);
    let contests: Vec<_> = board.rows[0].contests.iter().map(|contest| (&contest.best[..], &contest.other[..])).collect();
    assert_eq!(contests, [("full", "lora")]);
}

#[test]
fn an_anchor_is_named_by_its_axis() {
    let folder = tempfile::tempdir().unwrap();
    let scores = keywords("x", "1", &[]).scores;
    std::fs::write(folder.path().join(score::FILE_NAME), serde_json::to_vec(&scores).unwrap()).unwrap();
    let named = |point: &[(&str, &str)]| {
        let point = point.iter().map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned())).collect();
        let run = read_run(&Input { path: folder.path().to_owned(), point, partition: None }).unwrap();
        (run.method, run.others)
    };
    assert_eq!(named(&[("anchor", "twin")]), ("twin".to_owned(), BTreeMap::new()));
    assert_eq!(named(&[("method", "lora"), ("anchor", "twin")]), ("lora".to_owned(), BTreeMap::new()));
}

#[test]
fn only_seeds_in_common_are_compared() {
    let runs = [keywords("lora", "1", &[0, 1]), keywords("full", "1", &[1, 2, 3]), keywords("lora", "2", &[0])];
    let groups = group::groups(&runs);
    let board = Board::new(&groups, &PARAMS);
    assert_eq!(
        board.rows[0].contests[0].sentence(),
        "lora against full: not decided, one seed (ahead on 2, behind on 1 of 20; utterances alone: p = 1.000, McNemar's exact test)"
    );
    let runs = [keywords("lora", "1", &[0]), keywords("full", "2", &[0, 1])];
    let groups = group::groups(&runs);
    let sentence = Board::new(&groups, &PARAMS).rows[0].contests[0].sentence();
    assert_eq!(sentence, "lora against full: not compared, no seed in common");
}

#[test]
fn the_lowest_error_rate_is_the_best_and_marked_when_seeds_and_utterances_show_it() {
    let seeds = |corpus: &str, method: &str, one_in: [usize; 3]| {
        let run = |(seed, one_in): (usize, usize)| Run { seed: seed.to_string(), ..words(corpus, method, one_in) };
        one_in.into_iter().enumerate().map(run).collect::<Vec<_>>()
    };
    let all = [("a", "lora", [2; 3]), ("a", "full", [40; 3]), ("b", "lora", [8, 3, 20]), ("b", "full", [7, 5, 7])];
    let runs: Vec<Run> = all.into_iter().flat_map(|(corpus, method, one_in)| seeds(corpus, method, one_in)).collect();
    let groups = group::groups(&runs);
    let board = Board::new(&groups, &PARAMS);
    assert_eq!(board.methods, ["lora", "full"]);
    assert!(board.rows[0].is_best(1) && board.rows[0].is_clear());
    assert!(board.rows[1].is_best(1) && !board.rows[1].is_clear());
    let text = text::plain("A title", &board, &table::details(&groups, &board));
    assert!(narrow(&text).contains("15.00 ± 0.00 0.75 ± 0.00**"), "{text}");
    assert!(narrow(&text).contains("5.25 ± 4.68 5.00 ± 0.87*"), "{text}");
    assert!(text.contains("tested over seeds and utterances together") && !text.contains("One seed"), "{text}");
    assert!(text.contains("recognition, b: full against lora"), "{text}");
    let contest = text.lines().find(|line| line.starts_with("recognition, a: full against lora")).unwrap();
    assert!(contest.contains("full against lora: better, p = 0.004 over 3 seeds and the utterances"), "{contest}");
    assert!(contest.contains(", approximate randomisation, matched pairs p "), "both tests over utterances: {contest}");
    let markdown = text::markdown("A title", &board, &table::details(&groups, &board));
    assert!(markdown.contains("| 15.00 ± 0.00 | **0.75 ± 0.00** \\* |"), "{markdown}");
}

#[test]
fn one_seed_decides_nothing_and_the_table_says_so() {
    let runs = [words("a", "lora", 2), words("a", "full", 40)];
    let groups = group::groups(&runs);
    let board = Board::new(&groups, &PARAMS);
    assert!(board.rows[0].is_best(1) && !board.rows[0].is_clear());
    let text = text::plain("A title", &board, &table::details(&groups, &board));
    assert!(text.contains("0.75*") && !text.contains("**"), "{text}");
    assert!(text.contains("One seed: a difference may come from the seed"), "{text}");
    assert!(
        text.contains("full against lora: not decided, one seed (ahead on 19, behind on 0 of 40; utterances alone: p < 0.001"),
        "{text}"
    );
}

#[test]
fn chance_is_shown_and_a_model_with_one_answer_is_flagged() {
    let mut runs = [keywords("lora", "1", &[0]), keywords("stuck", "1", &[1, 3, 5, 7, 9, 11, 13, 15, 17, 19])];
    for run in &mut runs {
        let evidence = run.evidence.as_ref().unwrap();
        let classes = evidence.classes.as_ref().unwrap();
        let pairs = classes.labels.iter().zip(&classes.predictions).map(|(label, found)| (i64::from(*label), i64::from(*found)));
        let confusion = crate::Confusion::count(2, pairs).unwrap();
        let labels = ["no", "yes"].map(str::to_owned).to_vec();
        run.scores.chance = evidence.chance();
        run.scores.detail = Detail::Classification(crate::score::ClassDetail {
            classes: confusion.classes(),
            mistakes: Vec::new(),
            labels,
            confusion,
        });
    }
    let groups = group::groups(&runs);
    let board = Board::new(&groups, &PARAMS);
    let text = text::plain("A title", &board, &table::details(&groups, &board));
    assert!(narrow(&text).contains("accuracy ↑ 50.00 95.00* 50.00 †"), "{text}");
    let note = "†: the model answers one class to every utterance.";
    assert_eq!(text.matches(note).count(), 1, "{text}");
    // One method has no board whose notes could say so.
    let groups = group::groups(&runs[1..]);
    let board = Board::new(&groups, &PARAMS);
    let text = text::plain("A title", &board, &table::details(&groups, &board));
    assert!(text.contains("50.00 †") && text.matches(note).count() == 1, "{text}");
}

#[test]
fn what_is_drawn_for_an_interval_is_what_was_scored() {
    let mut runs = [words("a", "lora", 2), words("a", "full", 2), keywords("lora", "1", &[0])];
    let note = |runs: &[Run]| interval_note(&group::groups(runs));
    assert_eq!(note(&runs), "95 % interval: bootstrap over utterances, 2000 draws");
    runs[2].scores.detail = Detail::Verification { targets: 10, others: 10 };
    assert_eq!(note(&runs[2..]), "95 % interval: bootstrap over speakers and their recordings, 2000 draws");
    assert_eq!(note(&runs), "95 % interval: bootstrap over utterances or speakers and their recordings, 2000 draws");
    runs[2].scores.interval.confidence = 0.9;
    let both = "95 % interval: bootstrap over utterances, 2000 draws; 90 % interval: bootstrap over speakers and their recordings, 2000 draws";
    assert_eq!(note(&runs), both);
    runs[0].scores.interval.by = Units::Speaker;
    assert!(note(&runs[..1]).contains("bootstrap over speakers"), "{}", note(&runs[..1]));
}

#[test]
fn other_utterances_are_not_compared() {
    let mut runs = [words("a", "lora", 2), words("a", "full", 40)];
    let evidence = runs[1].evidence.as_mut().unwrap();
    evidence.ids[39] = "elsewhere".to_owned();
    let groups = group::groups(&runs);
    let board = Board::new(&groups, &PARAMS);
    let sentence = board.rows[0].contests[0].sentence();
    assert!(sentence.contains("not compared, the two were tested on other utterances"), "{sentence}");
    assert!(!board.rows[0].is_clear());
    runs[1].evidence = None;
    let groups = group::groups(&runs);
    assert!(!Board::new(&groups, &PARAMS).rows[0].is_clear());
}

#[test]
fn published_cells_stand_beside_ours_when_asked_for() {
    let evidence = || Evidence { ratios: words("x", "y", 2).evidence.unwrap().ratios, ids: ids(40), ..Evidence::default() };
    let runs = ["finetune", "convadapter", "lora"]
        .map(|method| run("speech_recognition", "librispeech", method, "1", Metric::Wer, evidence()));
    let groups = group::groups(&runs);
    let shown = Board::new(&groups, &ReportTable { published: true, ..PARAMS });
    let text = text::plain("A title", &shown, &[]);
    assert!(narrow(&text).contains("published 9.03 P 10.14 L"), "{text}");
    assert!(narrow(&text).contains("15.00* 15.00* 15.00*"), "none is better than an equal: {text}");
    assert!(text.contains("arXiv:2303.03267"));
    let mut runs = runs;
    for run in &mut runs {
        run.others.insert("backbone".to_owned(), "published".to_owned());
    }
    let groups_of_the_same_checkpoint = group::groups(&runs);
    let shown = text::plain("A title", &Board::new(&groups_of_the_same_checkpoint, &PARAMS), &[]);
    assert!(narrow(&shown).contains("published 9.03 P 10.14 L"), "{shown}");
    for run in &mut runs {
        run.others.insert("backbone".to_owned(), "scratch".to_owned());
    }
    let groups = group::groups(&runs);
    let hidden = text::plain("A title", &Board::new(&groups, &PARAMS), &[]);
    assert!(!hidden.contains("9.03") && !hidden.contains("arXiv"), "{hidden}");
}

#[test]
fn curves_are_of_the_score_or_else_of_what_a_training_was_judged_by() {
    let mut runs = [words("a", "lora", 2), words("a", "full", 4)];
    let curve = serde_json::json!([{"step": 10, "dev_wer": 0.5, "dev_loss": 2.0}]);
    runs[0].scores.training = Some(serde_json::json!({"metric": "loss", "curve": curve}));
    runs[1].scores.training = Some(serde_json::json!({"metric": "accuracy", "curve": [{"step": 10, "dev_accuracy": 0.25}]}));
    let panels = curves(&group::groups(&runs));
    let shown: Vec<_> = panels.iter().map(|panel| (panel.metric, panel.curves[0].points.clone())).collect();
    assert_eq!(shown, [(Metric::Wer, vec![(10.0, 0.5)]), (Metric::Accuracy, vec![(10.0, 0.25)])]);
}

#[test]
fn names_leave_out_what_all_runs_share() {
    let mut runs = [keywords("lora", "1", &[0]), keywords("lora", "1", &[1]), keywords("full", "1", &[2])];
    for (run, layers) in runs.iter_mut().zip(["4", "8", "4"]) {
        run.others.insert("backbone".to_owned(), "scratch".to_owned());
        run.others.insert("layers".to_owned(), layers.to_owned());
    }
    tell_apart(&mut runs);
    assert_eq!(runs[1].name(), "keywords, tones, lora, layers 8, seed 1");
    let groups = group::groups(&runs);
    let names: Vec<String> = Board::new(&groups, &PARAMS).rows.iter().map(board::BoardRow::name).collect();
    assert_eq!(names, ["keywords, tones, layers 4", "keywords, tones, layers 8"]);
    let labels: Vec<String> = scatter(&groups)[0].points.iter().map(|point| point.label.clone()).collect();
    assert_eq!(labels, ["lora, 4", "lora, 8", "full, 4"]);
}

#[test]
fn tables_name_every_column_in_text_and_markdown() {
    let runs = [keywords("lora", "1", &[0, 1]), keywords("full|x", "1", &[0]), keywords("lora", "2", &[0, 1, 2, 3])];
    let groups = group::groups(&runs);
    let board = Board::new(&groups, &PARAMS);
    let tables = table::details(&groups, &board);
    let alone = Board { methods: Vec::new(), rows: Vec::new() };
    let text = text::plain("A title", &alone, &tables);
    let lines: Vec<&str> = text.lines().skip(2).take(5).collect();
    assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
    assert!(text.contains("85.00 ± 7.07") && text.contains("2 seeds") && text.contains("1.00 %"), "{text}");
    let markdown = text::markdown("A title", &alone, &tables);
    assert!(markdown.contains("**95.00**") && markdown.contains("full\\|x"), "{markdown}");
}

#[test]
fn tasks_of_several_kinds_get_a_table_each() {
    let runs = [keywords("lora", "1", &[0]), words("a", "lora", 2), words("b", "lora", 4)];
    let groups = group::groups(&runs);
    let board = Board::new(&groups, &PARAMS);
    let tables = table::details(&groups, &board);
    assert_eq!(tables.iter().map(|table| table.title.as_str()).collect::<Vec<_>>(), ["keywords", "recognition"]);
    assert_eq!(tables[1].rows.len(), 2);
    assert_eq!(Metric::Wer.direction(), Direction::LowerIsBetter);
}

#[test]
fn the_dev_set_chooses_the_value_of_a_sweep() {
    let mut runs = [("4", "1", 0.5), ("4", "2", 0.7), ("8", "1", 0.75), ("8", "2", 0.65)].map(|(rank, seed, dev)| {
        let mut run = keywords("lora", seed, &[0]);
        run.others.insert("rank".to_owned(), rank.to_owned());
        run.scores.training = Some(serde_json::json!({"metric": "accuracy", "best_value": dev}));
        run
    });
    tell_apart(&mut runs);
    let groups = group::groups(&runs);
    let board = Board::new(&groups, &PARAMS);
    let text = text::plain("A title", &board, &table::details(&groups, &board));
    assert!(text.contains("dev accuracy") && text.contains("60.00  ") && text.contains("70.00 ◂"), "{text}");
    assert!(text.contains("◂ best of its sweep on the dev set."), "{text}");
    let panels = sweep::panels(&groups);
    assert_eq!((panels.len(), panels[0].along.clone(), panels[0].curves.len()), (1, Along::Values("rank".to_owned()), 4));
    assert_eq!(panels[0].curves[2].points, [(8.0, 0.75)]);

    // A name is no value of a sweep.
    for (run, name) in runs.iter_mut().zip(["a", "a", "b", "b"]) {
        run.others.insert("rank".to_owned(), name.to_owned());
    }
    tell_apart(&mut runs);
    let groups = group::groups(&runs);
    let board = Board::new(&groups, &PARAMS);
    let text = text::plain("A title", &board, &table::details(&groups, &board));
    assert!(!text.contains("dev accuracy") && sweep::panels(&groups).is_empty(), "{text}");
}
