//! Scheduled rebuilds: due, told, judged, explained; and what goes wrong with them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rebuild::history::History;
use rebuild::record::Line;
use serde_json::Value;
use tests::{Answer, Project, contents, slow_tests};

const FILE: &str =
    "name = \"weekly\"\nevery = \"sunday 02:30\"\nruns = [\"./tiny.toml --set seed=1,2,3\"]\n[site]\nfolder = \"www\"\n";
const CANARY: &str = "canary-4f1d";

/// A project with a rebuild file and shorter trainings.
fn project() -> Project {
    let project = Project::new();
    project.write("weekly.toml", FILE);
    project.replace("tiny.toml", "max_steps = 24", "max_steps = 8");
    project
}

/// A rebuild at a moment.
fn rebuild(project: &Project, now: &str, more: &[&str]) -> Answer {
    let args = [&["rebuild", "weekly.toml"], more].concat();
    project.sure_with(&args, &[("SURE_NOW", now), ("HOOK", &format!("http://127.0.0.1:1/{CANARY}"))])
}

#[track_caller]
fn ends(answer: &Answer, code: i32) {
    assert_eq!(answer.code, Some(code), "{}{}", answer.out, answer.err);
    assert!(!answer.err.contains("panicked"), "{}", answer.err);
}

/// Lines of the record of one kind.
fn lines(project: &Project, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(project.path("history/rebuilds.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|line| line["line"] == kind).collect()
}

fn last(project: &Project) -> Value {
    lines(project, "ended").pop().unwrap()
}

fn verdicts(ended: &Value) -> Vec<String> {
    ended["cells"].as_object().unwrap().values().map(|cell| cell["last"]["verdict"].as_str().unwrap().to_owned()).collect()
}

fn causes(ended: &Value) -> String {
    ended["cells"].as_object().unwrap().values().map(|cell| cell["causes"].to_string()).collect()
}

/// Recordings of the training set.
fn recordings(project: &Project) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = contents(&project.path("corpus")).into_iter().map(|(path, _)| path).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "wav"));
    found.into_iter().map(|path| project.path("corpus").join(path)).collect()
}

#[test]
fn a_history_tells_what_happened_to_a_table() {
    let project = project();
    project.write("weekly.toml", &format!("{FILE}[tell]\nwebhook = \"$HOOK\"\npatience = \"1s\"\n"));
    let first = rebuild(&project, "2026-03-01T03:00:00Z", &["--if-due", "--quiet"]);
    ends(&first, 0);
    assert!(first.err.starts_with("notice: 2 new cells: "), "{}", first.err);
    assert!(first.err.contains("waits for `webhook`: it does not accept connections"), "{}", first.err);
    let started = last(&project);
    assert_eq!(verdicts(&started), ["new", "new"]);
    assert!(started["sources"]["corpora.speech_commands"]["files"].as_u64().unwrap() > 80, "{started}");
    for cell in started["cells"].as_object().unwrap().values() {
        let cost = &cell["costs"][format!("train[method={}]", cell["method"].as_str().unwrap())];
        assert!(cost["secs"].as_f64().unwrap() > 0.0 && cost["peak_gib"].as_f64().unwrap() > 0.05, "{cell}");
    }

    // Not due any more, at once and without a word; nothing is opened.
    fs::rename(project.path(".sure"), project.path("moved")).unwrap();
    let begun = Instant::now();
    let idle = rebuild(&project, "2026-03-07T23:59:00Z", &["--if-due"]);
    assert!((idle.code, idle.out.as_str(), idle.err.as_str()) == (Some(0), "", ""), "{idle:?}");
    println!("IDLE {:?}", begun.elapsed());
    assert!(!project.path(".sure").exists());
    fs::rename(project.path("moved"), project.path(".sure")).unwrap();

    // An unchanged week: the same artifacts, nothing judged, nothing told but what waited.
    let begun = Instant::now();
    let same = rebuild(&project, "2026-03-08T02:30:00Z", &["--if-due", "--quiet"]);
    ends(&same, 0);
    println!("UNCHANGED {:?}", begun.elapsed());
    assert_eq!(verdicts(&last(&project)), ["same", "same"]);
    assert_eq!(last(&project)["detail"], started["detail"]);
    assert!(!same.err.contains("notice"), "{}", same.err);

    // A cell that is gone, and one that is back with the result that it had.
    project.replace("weekly.toml", "runs = [\"./tiny.toml", "runs = [\"./tiny.toml --set method=lora");
    let fewer = rebuild(&project, "2026-03-09T03:00:00Z", &["--quiet"]);
    assert!(fewer.err.starts_with("notice: 1 cell gone: tiny, speech_commands, finetune\n"), "{}", fewer.err);
    assert_eq!(verdicts(&last(&project)), ["gone", "same"]);
    project.replace("weekly.toml", " --set method=lora", "");
    let again = rebuild(&project, "2026-03-10T03:00:00Z", &["--quiet"]);
    assert!(again.err.starts_with("notice: 1 cell back: tiny, speech_commands, finetune\n"), "{}", again.err);
    assert_eq!(verdicts(&last(&project)), ["same", "same"]);

    // Another training recording.
    let files = recordings(&project);
    let yes = files.iter().find(|path| path.to_str().unwrap().contains("/yes/")).unwrap();
    let no = files.iter().find(|path| path.to_str().unwrap().contains("/no/")).unwrap();
    fs::copy(no, yes).unwrap();
    ends(&rebuild(&project, "2026-03-15T03:00:00Z", &["--if-due", "--quiet"]), 0);
    let name = yes.file_name().unwrap().to_str().unwrap();
    let told = causes(&last(&project));
    assert!(told.contains("\"data\"") && told.contains("1 file changed") && told.contains(name), "{told}");

    // Another setting: trainings that learn nothing. The loss is intended, so that it needs no confirmation.
    project.replace("tiny.toml", "max_steps = 8", "max_steps = 7");
    let changed = rebuild(&project, "2026-03-22T03:00:00Z", &["--quiet"]);
    assert!(matches!(changed.code, Some(0 | 3)), "{changed:?}");
    let told = causes(&last(&project));
    assert!(told.contains("settings") && told.contains("train.max_steps 8 -> 7") && !told.contains("\"data\""), "{told}");

    // A place that is gone: nothing runs, and it is tried again an hour later.
    fs::rename(project.path("corpus"), project.path("away")).unwrap();
    let gone = rebuild(&project, "2026-03-29T02:40:00Z", &["--if-due"]);
    ends(&gone, 4);
    assert!(gone.err.contains("`corpora.speech_commands` is not there"), "{}", gone.err);
    assert_eq!(rebuild(&project, "2026-03-29T03:34:00Z", &["--if-due"]).err, "");
    fs::rename(project.path("away"), project.path("corpus")).unwrap();
    let back = rebuild(&project, "2026-03-29T03:40:00Z", &["--if-due"]);
    assert!(back.err.contains("the rebuild ended well, after one that failed"), "{}", back.err);

    // The pages tell it, and nothing repeats the secret.
    let index = fs::read_to_string(project.path("www/index.html")).unwrap();
    for text in ["not started", "is not there", "data: speech_commands: 1 file changed", "2026-03-29 03:40"] {
        assert!(index.contains(text), "`{text}` is not on the page:\n{index}");
    }
    let pages = contents(&project.path("www/diff"));
    let differences: String = pages.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
    for text in ["1 file changed", "train.max_steps 8 -&gt; 7"] {
        assert!(differences.contains(text), "`{text}` is on no page of a difference");
    }
    for folder in ["history", "www", ".sure/logs"] {
        for (path, bytes) in contents(&project.path(folder)) {
            assert!(!String::from_utf8_lossy(&bytes).contains(CANARY), "{} contains the secret", path.display());
        }
    }
    let cells = project.sure(&["history", "weekly.toml"]);
    assert!(cells.ok && cells.out.contains("lora"), "{}{}", cells.out, cells.err);
    let one = project.sure(&["history", "weekly.toml", "lora"]);
    assert!(one.out.contains("settings: train.max_steps 8 -> 7") && one.out.contains("baseline: "), "{}", one.out);
    let none = project.sure(&["history", "weekly.toml", "lorra"]);
    assert!(none.code == Some(2) && none.err.contains("did you mean `lora`?"), "{}", none.err);
    let accepted =
        project.sure_with(&["history", "weekly.toml", "accept", "lora", "--why", "shorter on purpose"], &[("USER", "ann")]);
    assert!(accepted.ok && accepted.out.contains("lora"), "{}{}", accepted.out, accepted.err);
    let baseline = fs::read_to_string(project.path("history/baseline.json")).unwrap();
    assert!(baseline.contains("shorter on purpose") && baseline.contains("\"ann\""), "{baseline}");
}

/// Rewrites the last result of the history: as if an earlier program had answered everything right.
fn pretend_that_it_was_better(project: &Project) {
    let folder = project.path("history");
    let mut history = History::read(&folder).unwrap();
    let mut ended = history.log.ended().next_back().unwrap().clone();
    let mut detail = history.detail(ended.detail.as_ref().unwrap()).unwrap();
    for (key, cell) in &mut ended.cells {
        let known = detail.cells.get_mut(key).unwrap();
        "0ldc0mm1t x".clone_into(&mut known.lineage.program);
        for (seed, name) in &mut cell.evidence {
            let mut evidence = history.evidence(name).unwrap();
            let classes = evidence.classes.as_mut().unwrap();
            classes.predictions.clone_from(&classes.labels);
            scoring::evidence::write(&project.path("e.parquet"), &evidence).unwrap();
            *name = history.keep(&fs::read(project.path("e.parquet")).unwrap()).unwrap();
            let seed = known.seeds.get_mut(seed).unwrap();
            (seed.trained, seed.scored) = ("x".to_owned(), "x".to_owned());
        }
        cell.values.values_mut().for_each(|value| *value = 1.0);
    }
    ended.detail = Some(history.keep(&serde_json::to_vec(&detail).unwrap()).unwrap());
    let at = history.log.lines.iter().rposition(|line| matches!(line, Line::Ended(_))).unwrap();
    history.log.lines[at] = Line::Ended(Box::new(ended));
    let text: String = history.log.lines.iter().map(|line| line.text().unwrap()).collect();
    fs::write(folder.join("rebuilds.jsonl"), text).unwrap();
}

#[test]
fn a_loss_without_a_reason_is_confirmed_by_new_seeds_and_is_an_alarm_once() {
    let project = project();
    project.replace("weekly.toml", "runs = [\"./tiny.toml", "runs = [\"./tiny.toml --set method=finetune");
    ends(&rebuild(&project, "2026-03-01T03:00:00Z", &["--quiet"]), 0);
    pretend_that_it_was_better(&project);
    let alarm = rebuild(&project, "2026-03-08T03:00:00Z", &["--quiet"]);
    ends(&alarm, 3);
    assert!(alarm.err.starts_with("alarm: accuracy of finetune on speech_commands (tiny) 100.00 "), "{}", alarm.err);
    assert!(alarm.err.contains("worse; cause: code without a version: commits 0ldc0mm1t.."), "{}", alarm.err);
    let line = last(&project);
    let cell = line["cells"].as_object().unwrap().values().next().unwrap();
    assert_eq!((cell["confirmation"]["confirmed"].as_bool(), cell["alarm"].as_bool()), (Some(true), Some(true)), "{cell}");
    assert_eq!(cell["confirmation"]["values"].as_object().unwrap().keys().collect::<Vec<_>>(), ["4", "5"]);
    assert!(
        fs::read_to_string(project.path("www/feed.xml"))
            .unwrap()
            .contains("<title>alarm: tiny, speech_commands, finetune</title>")
    );
    // It stays open without being told again, until a month is over or somebody accepts it.
    let quiet = rebuild(&project, "2026-03-15T03:00:00Z", &["--quiet"]);
    assert!((quiet.code, quiet.err.as_str()) == (Some(0), ""), "{}", quiet.err);
    assert!(fs::read_to_string(project.path("www/index.html")).unwrap().contains("Open alarm since 2026-03-08"));
    let month = rebuild(&project, "2026-04-12T03:00:00Z", &["--quiet"]);
    ends(&month, 3);
    assert!(month.err.starts_with("alarm: still open: "), "{}", month.err);
    assert!(
        project.sure_with(&["history", "weekly.toml", "accept", "--why", "known"], &[("SURE_NOW", "2026-04-13T03:00:00Z")]).ok
    );
    ends(&rebuild(&project, "2026-04-19T03:00:00Z", &["--quiet"]), 0);
    assert_eq!(last(&project)["open"], Value::Null);
}

#[test]
fn killed_rebuilds_are_told_once_and_leave_a_readable_history() {
    let project = project();
    let rounds = if slow_tests() { 100 } else { 8 };
    let mut random: u64 = 0x9E37_79B9;
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let millis = (random >> 33) % 4_000;
        let now = format!("2026-{:02}-{:02}T03:00:00Z", 1 + round / 28, 1 + round % 28);
        let mut child = project.start_with(&["rebuild", "weekly.toml", "--quiet"], &[("SURE_NOW", &now)]);
        sleep(Duration::from_millis(millis));
        let _ = child.kill();
        let _ = child.wait();
        let history = project.sure(&["history", "weekly.toml"]);
        assert!(history.ok || history.err.contains("no rebuild has ended"), "{}", history.err);
    }
    let begun = lines(&project, "begun").len();
    let ended = lines(&project, "ended").len();
    let answer = rebuild(&project, "2026-12-01T03:00:00Z", &[]);
    assert!(matches!(answer.code, Some(0)), "{}{}", answer.out, answer.err);
    // Each rebuild that did not end is told exactly once over all messages.
    let told: usize =
        lines(&project, "ended").iter().map(|line| line["notices"].to_string().matches("did not end").count()).sum();
    assert_eq!(told, begun - ended, "{begun} began, {ended} ended");
    let next = rebuild(&project, "2026-12-08T03:00:00Z", &[]);
    assert!(!next.err.contains("did not end"), "{}", next.err);
    assert_eq!(verdicts(&last(&project)), ["same", "same"]);
    for line in lines(&project, "ended").iter().filter(|line| line["outcome"] == "done") {
        assert_eq!(line["cells"].as_object().unwrap().len(), 2);
    }
}

#[test]
fn one_rebuild_goes_on_at_a_time_and_a_frozen_one_is_told() {
    let project = project();
    let mut first = project.start_with(&["rebuild", "weekly.toml"], &[("SURE_NOW", "2026-03-01T03:00:00Z")]);
    let begun = Instant::now();
    while lines(&project, "begun").is_empty() && begun.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(5));
    }
    let signal = |name: &str| _ = Command::new("kill").args([name, &first.id().to_string()]).output().unwrap();
    signal("-STOP");
    project.replace("weekly.toml", "[site]", "time_limit = \"2h\"\n[site]");
    let second = rebuild(&project, "2026-03-01T04:00:00Z", &[]);
    ends(&second, 5);
    assert!(second.err.contains("is going on since 2026-03-01T03:00:00Z"), "{}", second.err);
    let late = rebuild(&project, "2026-03-01T06:01:00Z", &["--quiet"]);
    ends(&late, 5);
    assert!(late.err.contains("goes on for 3 h, longer than its limit of 2 h"), "{}", late.err);
    assert_eq!(rebuild(&project, "2026-03-01T07:00:00Z", &["--quiet"]).err, "", "told once");
    signal("-KILL");
    first.wait().unwrap();
    let report = rebuild(&project, "2026-03-01T08:00:00Z", &["--report-failure"]);
    assert!(report.code == Some(1) && report.err.contains("began at 2026-03-01T03:00:00Z did not end"), "{}", report.err);
    let again = rebuild(&project, "2026-03-01T08:00:00Z", &["--report-failure"]);
    assert!(again.ok && again.err.is_empty(), "{}", again.err);
}

#[test]
fn a_fresh_rebuild_repeats_and_a_lock_file_holds_what_went_in() {
    let project = project();
    ends(&rebuild(&project, "2026-03-01T03:00:00Z", &["--quiet"]), 0);
    let fresh = rebuild(&project, "2026-03-08T03:00:00Z", &["--fresh"]);
    ends(&fresh, 0);
    let line = last(&project);
    assert_eq!((line["fresh"].as_bool(), verdicts(&line)), (Some(true), vec!["same".to_owned(); 2]), "{line}");
    assert!(!project.path(".sure.fresh").exists());

    let locked = project.sure(&["lock", "weekly.toml", "-o", "weekly.lock"]);
    assert!(locked.ok && locked.out.contains("1 source, 2 cells"), "{}{}", locked.out, locked.err);
    let text = fs::read_to_string(project.path("weekly.lock")).unwrap();
    assert!(text.contains("[sources.\"corpora.speech_commands\"]") && text.contains("libtorch = "), "{text}");
    // A clean machine: no store and no history.
    for folder in [".sure", "history"] {
        fs::rename(project.path(folder), project.path(&format!("{folder}.old"))).unwrap();
    }
    let clean = rebuild(&project, "2026-03-09T03:00:00Z", &["--locked", "weekly.lock"]);
    ends(&clean, 0);
    assert!(!clean.err.contains("warning") && !clean.err.contains("expected"), "{}", clean.err);
    let of = |word: &str| recordings(&project).into_iter().find(|path| path.to_str().unwrap().contains(word)).unwrap();
    let file = of("/yes/");
    fs::copy(&file, project.path("saved.wav")).unwrap();
    fs::copy(of("/no/"), &file).unwrap();
    let refused = rebuild(&project, "2026-03-10T03:00:00Z", &["--locked", "weekly.lock"]);
    ends(&refused, 4);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(refused.err.contains("`corpora.speech_commands` differs: ") && refused.err.contains(name), "{}", refused.err);
    // A corpus that is missing is named with its size; a value that is not as it should be is no success.
    fs::rename(project.path("corpus"), project.path("away")).unwrap();
    let missing = rebuild(&project, "2026-03-10T03:00:00Z", &["--locked", "weekly.lock"]);
    ends(&missing, 4);
    let reason = missing.err; // the second failure in a row is no message
    assert!(
        reason.starts_with("not started: ")
            && reason.contains("`corpora.speech_commands` is not there")
            && reason.contains(" files, "),
        "{reason}"
    );
    fs::rename(project.path("away"), project.path("corpus")).unwrap();
    fs::copy(project.path("saved.wav"), &file).unwrap();
    let value = text.lines().find(|line| line.starts_with("1 = ")).expect("the value of a seed");
    project.replace("weekly.lock", value, "1 = 0.123");
    let other = rebuild(&project, "2026-03-11T03:00:00Z", &["--locked", "weekly.lock"]);
    ends(&other, 3);
    assert!(other.err.contains("alarm: ") && other.err.contains("with this program they should be equal"), "{}", other.err);
    let bad = rebuild(&project, "2026-03-10T03:00:00Z", &["--locked", "tiny.toml"]);
    assert!(bad.code == Some(2) && bad.err.contains("it is no lock file"), "{}", bad.err);
}

#[test]
fn a_forced_training_that_gives_other_bytes_is_told() {
    let project = project();
    project.replace("weekly.toml", "--set seed=1,2,3", "--set method=finetune");
    ends(&rebuild(&project, "2026-03-01T03:00:00Z", &["--quiet", "--jobs", "2"]), 0);
    project.replace("weekly.toml", "method=finetune", "method=finetune --force train");
    // With another number of threads, sums are rounded otherwise.
    let forced = rebuild(&project, "2026-03-08T03:00:00Z", &["--quiet", "--jobs", "1"]);
    ends(&forced, 0);
    assert!(
        forced.err.starts_with(
            "notice: `sure run ./tiny.toml --set method=finetune --force train`: 1 node gave other bytes than before"
        ),
        "{}",
        forced.err
    );
    assert_eq!(last(&project)["runs"][0]["nodes"]["gave other bytes"], 1);
    assert_eq!(verdicts(&last(&project)), ["same"]);
}

#[test]
fn mistakes_say_what_is_right_and_start_nothing() {
    let project = project();
    let refused = |text: &str, expected: &[&str]| {
        project.write("weekly.toml", text);
        let answer = rebuild(&project, "2026-03-01T03:00:00Z", &[]);
        ends(&answer, 2);
        for part in expected {
            assert!(answer.err.contains(part), "`{part}` is not in\n{}", answer.err);
        }
        assert!(lines(&project, "begun").is_empty());
    };
    refused(&FILE.replace("every", "evry"), &["weekly.toml:2: unknown key `evry`", "did you mean `every`?"]);
    refused(&FILE.replace("sunday", "sonntag"), &["`sonntag` is no day of the week"]);
    refused(
        &FILE.replace("--set seed", "--sett seed"),
        &["weekly.toml:3: `sure run ./tiny.toml --sett seed=1,2,3`: unexpected argument"],
    );
    refused(&FILE.replace("--set seed=1,2,3", "--dry-run"), &["an argument that a rebuild decides by itself"]);
    refused(&FILE.replace("[site]", "history = \".sure/h\"\n[site]"), &["the history `", "/.sure/h` is in the store `"]);
    refused(&FILE.replace("www", ".sure/www"), &["the site `", "is in the store `"]);
    refused(&FILE.replace("www", "."), &["has the rebuild file in it, and everything next to it would be published"]);
    // What is wrong with the runs is said before Sunday.
    let run = "./tiny.toml --set seed=1,2,3";
    for (runs, expected) in [
        ("keyword_spoting", "weekly.toml:3: `sure run keyword_spoting` cannot begin"),
        ("keyword_spoting", "did you mean `keyword_spotting`?"),
        ("./tiny.toml --set sed=1", "did you mean `seed`?"),
        ("./tiny.toml shards", "the runs of this file have no cell"),
        (
            "./tiny.toml --set seed=1,2,3\", \"./tiny.toml --set seed=3,4 --set train.max_steps=7",
            "weekly.toml:3: `sure run ./tiny.toml --set seed=3,4 --set train.max_steps=7` has the cell `tiny speech_commands ",
        ),
    ] {
        project.write("weekly.toml", &FILE.replace(run, runs));
        for command in [&["rebuild", "weekly.toml", "--dry-run"][..], &["schedule", "weekly.toml", "--as", "cron"]] {
            let answer = project.sure(command);
            ends(&answer, 2);
            assert!(answer.err.contains(expected), "`{expected}` is not in\n{}", answer.err);
        }
    }
    project.write("weekly.toml", FILE);
    ends(&project.sure(&["rebuild", "weekly.toml", "--dry-run"]), 0);
    project.replace("sure.toml", "\"corpus\"", "\"nowhere\"");
    let away = project.sure(&["rebuild", "weekly.toml", "--dry-run"]);
    ends(&away, 4);
    assert!(away.out.contains("it would not start: `corpora.speech_commands` is not there"), "{}", away.out);
    project.replace("sure.toml", "\"nowhere\"", "\"corpus\"");
    assert!(lines(&project, "begun").is_empty());
    // A workflow that cannot be read is told as other failures are.
    project.write("weekly.toml", &FILE.replace("./tiny", "./tinny"));
    let gone = rebuild(&project, "2026-03-01T03:00:00Z", &[]);
    ends(&gone, 2);
    assert!(gone.err.contains("cannot read the workflow file `./tinny.toml`"), "{}", gone.err);
    assert_eq!(last(&project)["outcome"], "not_started");
    project.write("weekly.toml", FILE);

    // A history in a newer format, of another file, and a clock that went back.
    fs::create_dir_all(project.path("history")).unwrap();
    let history = |text: &str| project.write("history/rebuilds.jsonl", text);
    history("{\"line\":\"begun\",\"format\":7,\"id\":\"a\",\"name\":\"weekly\",\"at\":\"2026-01-01T00:00:00Z\"}\n");
    for more in [&["--if-due"][..], &[]] {
        let newer = rebuild(&project, "2026-03-01T03:00:00Z", more);
        ends(&newer, 2);
        assert!(newer.err.contains("line 1 has format 7") && newer.err.contains("use that version"), "{}", newer.err);
    }
    history("{\"line\":\"begun\",\"format\":1,\"id\":\"a\",\"name\":\"daily\",\"at\":\"2026-01-01T00:00:00Z\"}\n");
    let other = rebuild(&project, "2026-03-01T03:00:00Z", &[]);
    assert!(other.code == Some(2) && other.err.contains("belongs to `daily`, and this file is named `weekly`"), "{}", other.err);
    for more in [
        &["history", "weekly.toml"][..],
        &["history", "weekly.toml", "accept", "--why", "x"],
        &["lock", "weekly.toml"],
        &["schedule", "weekly.toml", "--as", "cron"],
    ] {
        let other = project.sure(more);
        assert!(other.code == Some(2) && other.err.contains("belongs to `daily`"), "{}", other.err);
    }
    assert!(!project.path("weekly.lock").exists() && !project.path("history/baseline.json").exists());
    // A copy of the file with another schedule, which both think is theirs.
    fs::create_dir(project.path("copy")).unwrap();
    project.write("copy/weekly.toml", &FILE.replace("[site]", "history = \"../history\"\n[site]"));
    let copy = project.path("copy/weekly.toml").canonicalize().unwrap().display().to_string();
    history(&format!(
        "{{\"line\":\"begun\",\"format\":1,\"id\":\"a\",\"name\":\"weekly\",\"file\":\"{copy}\",\"at\":\"2026-01-01T00:00:00Z\"}}\n"
    ));
    let both = rebuild(&project, "2026-03-01T03:00:00Z", &["--if-due"]);
    assert!(both.code == Some(2) && both.err.contains(&format!("is that of `{copy}`")), "{}", both.err);
    history("{\"line\":\"begun\",\"format\":1,\"id\":\"a\",\"name\":\"weekly\",\"at\":\"2027-01-01T00:00:00Z\"}\n");
    let back = rebuild(&project, "2026-03-01T03:00:00Z", &["--if-due"]);
    assert!(back.code == Some(2) && back.err.contains("the clock says 2026-03-01T03:00:00Z"), "{}", back.err);
}

#[test]
fn schedules_are_printed_and_written_and_pass_their_checkers() {
    let project = project();
    let print = |kind: &str| {
        let answer = project.sure(&["schedule", "weekly.toml", "--as", kind]);
        assert!(answer.ok, "{}", answer.err);
        answer.out
    };
    let file = project.path("weekly.toml").canonicalize().unwrap().display().to_string();
    let cron = print("cron");
    assert!(cron.contains(&format!(" rebuild --if-due --quiet {file} --config ")) && cron.contains("\n17 * * * * /"), "{cron}");
    assert!(print("scrontab").contains("#SCRON --time=170:00:00"));
    assert!(print("github").contains("cron: \"30 2 * * 0\"") && print("gitlab").contains("resource_group: sure-weekly"));
    project.write("away.toml", &FILE.replace("[site]", "history = \"/srv/history\"\n[site]"));
    let away = project.sure(&["schedule", "away.toml", "--as", "github"]);
    assert!(away.code == Some(2) && away.err.contains("the history `/srv/history` is not in the repository `"), "{}", away.err);
    let written = project.sure(&["schedule", "weekly.toml", "--as", "systemd", "--write", "units"]);
    assert!(written.ok, "{}", written.err);
    let units: Vec<String> = ["sure-weekly.timer", "sure-weekly.service", "sure-weekly-failed.service"]
        .map(|name| project.path(&format!("units/{name}")).display().to_string())
        .to_vec();
    let verify =
        Command::new("systemd-analyze").args(["verify", "--user"]).args(&units).env("XDG_RUNTIME_DIR", project.path("")).output();
    match verify {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && text.trim().is_empty(), "{text}"); // unknown keys are told there, with exit code 0
        }
        Err(_) => println!("note: systemd-analyze is not installed"),
    }
}

#[test]
fn a_rebuild_that_takes_too_long_ends_in_part_and_the_next_one_goes_on() {
    let project = project();
    project.replace("weekly.toml", "[site]", "time_limit = \"1s\"\n[site]");
    let late = rebuild(&project, "2026-03-01T03:00:00Z", &["--quiet"]);
    ends(&late, 1);
    assert!(late.err.starts_with("failed: the time limit of "), "{}", late.err);
    let line = last(&project);
    assert_eq!((line["outcome"].as_str(), verdicts(&line)), (Some("partial"), vec!["failed".to_owned(); 2]), "{line}");
    assert!(line["cells"].to_string().contains("not reached before the end"), "{line}");
    assert_eq!(rebuild(&project, "2026-03-01T09:00:00Z", &["--if-due"]).err, "", "it counts for its week");
    project.replace("weekly.toml", "time_limit = \"1s\"\n", "");
    let next = rebuild(&project, "2026-03-08T03:00:00Z", &["--if-due", "--quiet"]);
    ends(&next, 0);
    assert!(next.err.starts_with("recovered: the rebuild ended well, after one that failed"), "{}", next.err);
    assert_eq!(verdicts(&last(&project)), ["new", "new"]);
}
