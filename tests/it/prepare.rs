//! `sure prepare`, `sure corpus` and `sure synth`: preprocessing alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use tests::{Answer, Project, contents};

const PREPARE: [&str; 7] = ["prepare", "speech_commands", "--root", "corpus", "--out", "out", "--shards=4"];

fn prepare(project: &Project) -> Answer {
    project.sure(&PREPARE)
}

/// Name -> inode of what lies in the folder; the store left out.
fn inodes(folder: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let visible = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino()));
    visible.filter(|(name, _)| !name.starts_with('.')).collect()
}

/// The contents of what lies in the folder; the store left out.
fn visible(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    contents(folder).into_iter().filter(|(path, _)| !path.starts_with(".sure")).collect()
}

/// The numbers of the shards that are other files than before: a shard has a file for each split.
fn shards_that_differ(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeSet<String> {
    let differs = |name: &&String| name.ends_with(".parquet") && name.contains("-of-") && before.get(*name) != after.get(*name);
    after.keys().filter(differs).filter_map(|name| name.split('-').nth(1)).map(str::to_owned).collect()
}

fn a_recording(project: &Project) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(project.path("corpus/stop")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.remove(0)
}

#[test]
fn a_recording_without_permission_is_a_reject_until_it_may_be_read() {
    let project = Project::new();
    let allow = |mode| fs::set_permissions(a_recording(&project), Permissions::from_mode(mode)).unwrap();
    let rows = |answer: &Answer| answer.out.split(" train").next().unwrap().rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    allow(0o000);
    let strict = project.sure_without_privileges(&PREPARE);
    assert!(!strict.ok && strict.err.contains("no permission to read it"), "{}{}", strict.out, strict.err);
    let lenient = [&PREPARE[..], &["--max-rejects=0.2"]].concat();
    let without = project.sure_without_privileges(&lenient);
    assert!(without.ok && without.out.contains("1 broken, see rejects.parquet"), "{}{}", without.out, without.err);
    allow(0o644);
    let with = project.sure_without_privileges(&lenient);
    assert!(with.ok && !with.out.contains("broken"), "{}{}", with.out, with.err);
    assert_eq!(rows(&with), 44, "{} and before {}", with.out, without.out);
}

#[test]
fn recordings_without_permission_are_no_copies_of_each_other() {
    let project = Project::new();
    for entry in fs::read_dir(project.path("corpus/stop")).unwrap() {
        fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(0o000)).unwrap();
    }
    let check = project.sure_without_privileges(&["corpus", "check", "speech_commands", "--root", "corpus"]);
    assert!(!check.ok && check.out.contains("cannot be opened"), "{}{}", check.out, check.err);
    assert!(!check.out.contains("same recording"), "{}", check.out);
}

#[test]
fn a_second_time_does_nothing_and_one_changed_recording_rebuilds_one_shard() {
    let project = Project::new();
    let first = prepare(&project);
    assert!(first.ok, "{}", first.err);
    assert!(first.out.contains("speech_commands as gsc-v2-11: 44 train, 22 dev, 22 test"), "{}", first.out);
    let before = inodes(&project.path("out"));
    for name in ["README.md", "index.html", "statistics.json", "rejects.parquet"] {
        assert!(project.path("out.about").join(name).is_file(), "{name} is not there");
    }
    assert!(before.contains_key("train-00000-of-00004.parquet"));
    assert!(project.path("out.about/clips/train-00000-of-00004.clips").is_file());
    // Readers of Parquet take every file of the folder for a part of the table, also hidden ones.
    assert!(contents(&project.path("out")).iter().all(|(path, _)| path.extension().is_some_and(|ending| ending == "parquet")));
    // What is seen and what the store holds are the same files.
    assert_eq!(fs::metadata(project.path("out/train-00000-of-00004.parquet")).unwrap().nlink(), 2);

    let second = prepare(&project);
    assert!(second.ok && second.out == first.out, "{}{}", second.out, second.err);
    assert_eq!(inodes(&project.path("out")), before);

    let other = fs::read_dir(project.path("corpus/yes")).unwrap().next().unwrap().unwrap().path();
    fs::copy(other, a_recording(&project)).unwrap();
    assert!(prepare(&project).ok);
    let after = inodes(&project.path("out"));
    assert_eq!(shards_that_differ(&before, &after).len(), 1, "{before:?} {after:?}");

    fs::remove_file(project.path("out.about/statistics.json")).unwrap();
    fs::write(project.path("out/notes.txt"), "a user's own").unwrap();
    assert!(prepare(&project).ok);
    assert!(project.path("out.about/statistics.json").is_file() && project.path("out/notes.txt").is_file());
}

#[test]
fn a_shard_that_somebody_edited_is_made_again() {
    let project = Project::new();
    assert!(prepare(&project).ok);
    let shard = project.path("out/train-00000-of-00004.parquet");
    let whole = fs::read(&shard).unwrap();
    fs::set_permissions(&shard, Permissions::from_mode(0o644)).unwrap();
    fs::write(&shard, "EDITED").unwrap();
    let again = prepare(&project);
    assert!(again.ok, "{}", again.err);
    assert!(fs::read(&shard).unwrap() == whole, "the shard is still the edited one");
}

#[test]
fn shards_of_which_some_are_empty_are_read_as_a_table() {
    let project = Project::new();
    let many = project.sure(&[&PREPARE[..6], &["--shards=40"]].concat());
    assert!(many.ok, "{}", many.err);
    assert!(fs::read_dir(project.path("out")).unwrap().count() < 3 * 40, "no shard is empty");
    let again = project.sure(&["prepare", "table", "--root", "out", "--out", "again"]);
    assert!(again.ok && again.out.contains("44 train, 22 dev, 22 test"), "{}{}", again.out, again.err);
}

#[test]
fn killed_at_any_moment_it_ends_with_the_same_bytes() {
    let undisturbed = Project::new();
    let begun = Instant::now();
    assert!(prepare(&undisturbed).ok);
    let whole = begun.elapsed();
    let project = Project::new();
    for round in 0_u32..8 {
        let mut run = project.start(&PREPARE);
        sleep(whole.mul_f64(f64::from(round % 4 + 1) * 0.2));
        let _ = run.kill();
        let _ = run.wait();
    }
    let last = prepare(&project);
    assert!(last.ok, "{}", last.err);
    assert!(visible(&project.path("out")) == visible(&undisturbed.path("out")));
}

#[test]
fn fewer_shards_leave_nothing_of_more_behind() {
    let project = Project::new();
    assert!(prepare(&project).ok);
    assert!(project.sure(&["prepare", "speech_commands", "--root", "corpus", "--out", "out", "--shards=2", "--format=flac"]).ok);
    let names: Vec<String> = inodes(&project.path("out")).into_keys().filter(|name| name.contains("-of-00004")).collect();
    assert_eq!(names, [""; 0]);
    assert!(project.path("out/train-00001-of-00002.parquet").is_file());
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_half_made() {
    let project = Project::new();
    let fails = |args: &[&str], code: i32, texts: &[&str]| {
        let answer = project.sure(args);
        assert_eq!(answer.code, Some(code), "{}", answer.err);
        for text in texts {
            assert!(answer.err.contains(text), "`{text}` is not in:\n{}", answer.err);
        }
        assert!(!answer.err.contains("panicked"), "{}", answer.err);
    };
    let with = |corpus: &'static str, root: &'static str| ["prepare", corpus, "--root", root, "--out", "out"];
    fails(&with("speech_comands", "corpus"), 2, &["speech_comands", "did you mean `speech_commands`?"]);
    fails(&with("speech_commands", "nowhere"), 2, &["no folder `nowhere`"]);
    fails(&with("esd", "corpus"), 1, &["esd", "expected", "this folder looks like the corpus `speech_commands`"]);
    for (option, text) in [("--rate=10", "--rate"), ("--shards=0", "--shards"), ("--max-rejects=2", "a share of 0 to 1")] {
        fails(&[&with("speech_commands", "corpus"), &[option][..]].concat(), 2, &[text]);
    }
    fails(&[&with("speech_commands", "corpus"), &["--table=x.csv"][..]].concat(), 2, &["not read from a table"]);
    let readme = fs::read(project.path("corpus/README.md")).unwrap();
    let into_itself = ["prepare", "speech_commands", "--root", "corpus", "--out", "corpus"];
    fails(&into_itself, 2, &["corpus` contains `README.md`, which `sure prepare` did not make"]);
    assert!(fs::read(project.path("corpus/README.md")).unwrap() == readme && !project.path("corpus.about").exists());
    let protocol = ["prepare", "speech_commands", "--root", "corpus", "--out", "out", "--protocol", "gsc"];
    fails(&protocol, 2, &["no protocol `gsc`", "gsc-v2-11"]);
    project.write("file", "");
    fails(&["prepare", "speech_commands", "--root", "corpus", "--out", "file"], 2, &["`file` is not a folder"]);
    fs::write(a_recording(&project), b"RIFFnothing").unwrap();
    fails(
        &PREPARE,
        2,
        &["1 of 88 recordings of the corpus are broken, more than the allowed share of 0.01", "--max-rejects 0.012"],
    );
    assert_eq!(inodes(&project.path("out")), BTreeMap::new());
    let lenient = [&PREPARE[..], &["--max-rejects=0.2"]].concat();
    let answer = project.sure(&lenient);
    assert!(answer.ok && answer.out.contains("1 broken, see rejects.parquet"), "{}{}", answer.out, answer.err);
}

#[test]
fn a_table_of_ones_own_is_prepared() {
    let project = Project::new();
    assert!(project.sure(&["synth", "table", "own", "--takes=2", "--more-speakers=0"]).ok);
    let usual = project.sure(&["prepare", "table", "--root", "own", "--out", "out"]);
    assert!(usual.ok && usual.out.contains("table as table: "), "{}{}", usual.out, usual.err);
    let skipped = fs::read_to_string(project.path("out.about/skipped.jsonl")).unwrap();
    assert!(usual.out.contains("6 skipped, see skipped.jsonl") && skipped.lines().count() == 6, "{}{skipped}", usual.out);
    fs::rename(project.path("own/table.csv"), project.path("own/mine.csv")).unwrap();
    let check = project.sure(&["corpus", "check", "table", "--root", "own", "--table", "mine.csv"]);
    assert!(
        check.code == Some(1) && check.out.contains("mine.csv:19: `clips/gone.wav` is not there"),
        "{}{}",
        check.out,
        check.err
    );
    let named = project.sure(&["prepare", "table", "--root", "own", "--table", "own/mine.csv", "--out", "named"]);
    assert!(named.ok && named.out.lines().next() == usual.out.lines().next(), "{}{}", named.out, named.err);
    project.write("elsewhere.csv", "path\n");
    let answer = project.sure(&["prepare", "table", "--root", "own", "--table", "elsewhere.csv", "--out", "other"]);
    assert!(!answer.ok && answer.err.contains("is not below `own`"), "{}", answer.err);
}

#[test]
fn the_exit_code_of_a_check_tells_whether_a_copy_is_complete() {
    let project = Project::new();
    let check = |args: &[&str]| project.sure(&[&["corpus", "check", "speech_commands", "--root", "corpus"], args].concat());
    let whole = check(&[]);
    assert!(whole.code == Some(0) && whole.out.contains("published sizes do not apply"), "{}{}", whole.out, whole.err);
    // A list that names what is not there; the same recording in two splits.
    let twice = "corpus/stop/00000000_nohash_0.wav";
    let list = fs::read_to_string(project.path("corpus/testing_list.txt")).unwrap();
    let listed = list.lines().next().unwrap().to_owned();
    fs::copy(project.path("corpus").join(&listed), project.path(twice)).unwrap();
    let answer = check(&["--json"]);
    let report: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((report["protocol"].as_str(), answer.code), (Some("gsc-v2-11"), Some(0)));
    assert!(answer.out.contains("the same recording in several splits"), "{}", answer.out);
    assert!(!check(&["--quick", "--json"]).out.contains("the same recording in several splits"));
    fs::remove_file(project.path("corpus").join(&listed)).unwrap();
    let answer = check(&[]);
    assert!(answer.code == Some(1) && answer.out.contains(&listed), "{}", answer.out);
    assert!(project.sure(&["corpus", "list", "vctk"]).out.contains("vctk-0.92-mic1"));
    assert_eq!(project.sure(&["corpus", "check", "esd", "--root", "nowhere"]).code, Some(2));
}

/// A table of `count` recordings and the given other lines.
fn own_table(project: &Project, folder: &str, header: &str, count: usize, row: impl Fn(usize) -> String) {
    assert!(project.sure(&["synth", "table", "source", "--takes=2", "--more-speakers=0"]).ok);
    fs::create_dir_all(project.path(folder)).unwrap();
    for at in 0..count {
        let from = project.path(&format!("source/clips/a {at}.wav"));
        fs::copy(from, project.path(&format!("{folder}/{at}.wav"))).unwrap();
    }
    let rows: String = (0..count).map(|at| row(at) + "\n").collect();
    project.write(&format!("{folder}/table.csv"), &format!("{header}\n{rows}"));
}

#[test]
fn a_table_says_how_it_was_read_and_its_columns_can_be_named() {
    let project = Project::new();
    own_table(&project, "own", "wo,accent,wer,room", 8, |at| format!("{at}.wav,{},s{},x", ["welsh", "irish"][at % 2], at / 2));
    let prepare = ["prepare", "table", "--root", "own", "--out", "out"];
    let unknown = project.sure(&prepare);
    assert!(!unknown.ok && unknown.err.contains("name it with --path"), "{}", unknown.err);
    let named = project.sure(&[&prepare[..], &["--path=wo", "--label=accent", "--speaker=wer"]].concat());
    assert!(named.ok, "{}", named.err);
    let columns = "columns of table.csv: recording: `wo`; label: `accent`; speaker: `wer`; tags: `room`";
    assert!(named.err.contains(columns), "{}", named.err);
    let statistics = fs::read_to_string(project.path("out.about/statistics.json")).unwrap();
    assert!(statistics.contains("\"irish\"") && statistics.contains("\"welsh\""), "{statistics}");
    // One shard is enough for eight short clips.
    assert!(inodes(&project.path("out")).keys().all(|name| name.ends_with("-of-00001.parquet")));
    let listed = project.sure(&["list", "table"]);
    assert!(listed.out.contains("client_id") && listed.out.contains("path,split,speaker,label,text"), "{}", listed.out);
    let other = project.sure(&["prepare", "fsdd", "--root", "own", "--out", "x", "--label=accent"]);
    assert!(!other.ok && other.err.contains("not read from a table"), "{}", other.err);
}

#[test]
fn a_copy_that_lacks_recordings_is_refused_unless_it_is_accepted() {
    let project = Project::new();
    own_table(&project, "own", "path,label", 8, |at| format!("{}.wav,{}", at + at / 7, at % 2));
    let prepare = ["prepare", "table", "--root", "own", "--out", "out"];
    let refused = project.sure(&prepare);
    assert!(
        !refused.ok && refused.err.contains("lacks 1 of 8 recordings") && refused.err.contains("--allow-incomplete"),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("table.csv:9: `8.wav` is not there"), "{}", refused.err);
    let accepted = project.sure(&[&prepare[..], &["--allow-incomplete"]].concat());
    assert!(accepted.ok && accepted.err.contains("no column of speakers"), "{}", accepted.err);
    assert!(project.sure(&[&prepare[..], &["--max-rejects=0.2"]].concat()).ok);
}

#[test]
fn a_folder_of_another_corpus_is_refused_and_a_colon_is_a_colon() {
    let project = Project::new();
    let colon = ["prepare", "speech_commands", "--root", "corpus", "--out", "out_10:00"];
    let first = project.sure(&colon);
    assert!(first.ok, "{}", first.err);
    own_table(&project, "own", "path,label", 2, |at| format!("{at}.wav,{at}"));
    let other = project.sure(&["prepare", "table", "--root", "own", "--out", "out_10:00"]);
    assert!(!other.ok && other.err.contains("contains the corpus `speech_commands`"), "{}", other.err);
}

#[test]
fn shards_are_a_corpus_again() {
    let project = Project::new();
    assert!(prepare(&project).ok);
    let again = project.sure(&["prepare", "table", "--root", "out", "--out", "again"]);
    assert!(again.ok && again.out.contains("table as table: 44 train, 22 dev, 22 test"), "{}{}", again.out, again.err);
}
