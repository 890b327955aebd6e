use std::collections::BTreeMap;

use scoring::random::SplitMix;

use super::*;
use crate::history::Baseline;
use crate::record::tests::{cell, ended};
use crate::record::{Line, OpenAlarm};

/// A made-up history of weekly rebuilds of 42 cells with three seeds, all of which change a little every week.
fn history_of(folder: &Path, rebuilds: i64) -> History {
    let lock = History::lock(folder).unwrap().unwrap();
    let mut history = History::read(folder).unwrap();
    let mut random = SplitMix::new(7);
    for week in 0..rebuilds {
        let id = format!("{}-{week:04x}", Utc(1_800_000_000 + week * 604_800));
        let mut end = ended(&id, 1_800_000_000 + week * 604_800, Outcome::Done, 0.5);
        end.cells = (0..42).map(|number| one(number, week, &id, &mut random)).collect();
        if week > 40 {
            let open = OpenAlarm { since: id.clone(), told: end.at };
            end.open.insert(end.cells.keys().next().unwrap().clone(), open);
        }
        history.append(&lock, Line::Ended(Box::new(end))).unwrap();
    }
    let first = history.log.ended().next().unwrap();
    let base = Baseline { rebuild: first.id.clone(), since: Utc(0), by: "sure".to_owned(), why: "first result".to_owned() };
    let baselines = first.cells.keys().map(|key| (key.clone(), base.clone())).collect();
    history.set_baselines(&lock, baselines).unwrap();
    history
}

fn one(number: usize, week: i64, id: &str, random: &mut SplitMix) -> (String, Cell) {
    let (task, method) = (
        ["speech_recognition", "emotion", "speaker", "intent", "slot_filling", "phoneme_recognition", "keyword_spotting"]
            [number / 6],
        ["finetune", "bottleneck", "prefix", "lora", "convadapter", "head_only"][number % 6],
    );
    let value = |random: &mut SplitMix| 0.1 + 0.005 * random.normal();
    let values: BTreeMap<String, f64> = (1..=3).map(|seed| (seed.to_string(), value(random))).collect();
    let evidence = values.iter().map(|(seed, value)| (seed.clone(), format!("{:032x}", value.to_bits()))).collect();
    let mut cell = Cell { task: task.to_owned(), method: method.to_owned(), values, evidence, ..cell(0.1) };
    cell.since = id.to_owned();
    (cell.last.verdict, cell.causes) = (Verdict::Moved, vec![]);
    if number == 0 && week == 40 {
        (cell.last.verdict, cell.alarm) = (Verdict::Worse, true);
        cell.causes = vec![NamedCause { kind: "settings".to_owned(), text: "train.<b> 1 -> 2".to_owned() }];
    }
    (format!("{task} fsdd {method}"), cell)
}

#[test]
fn a_year_of_42_cells_is_small_and_quick_and_keeps_unchanged_pages() {
    let folder = tempfile::tempdir().unwrap();
    let history = history_of(folder.path(), 52);
    let site = Site { name: "weekly", every: "sunday 02:30".parse().unwrap(), url: "https://e.org", history: &history };
    let begun = std::time::Instant::now();
    let files = pages(&site);
    let secs = begun.elapsed().as_secs_f64();
    let bytes: usize = files.values().map(Vec::len).sum();
    println!("SITE {} files, {bytes} bytes, {secs:.2} s", files.len());
    assert!(bytes <= 1_000_000, "{bytes} bytes");
    assert!(secs <= 5.0, "{secs} s");
    let www = folder.path().join("www");
    assert_eq!(write(&site, &www).unwrap(), files.len());
    assert_eq!(write(&site, &www).unwrap(), 0, "nothing changed");
    fs::write(www.join("cell/emotion-fsdd-lora.html"), "x").unwrap();
    assert_eq!(write(&site, &www).unwrap(), 1);
}

#[test]
fn texts_are_escaped_and_links_lead_to_pages() {
    let folder = tempfile::tempdir().unwrap();
    let history = history_of(folder.path(), 43);
    let site = Site { name: "weekly", every: "sunday 02:30".parse().unwrap(), url: "", history: &history };
    let files = pages(&site);
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    assert!(!text("cell/speech_recognition-fsdd-finetune.html").contains("<b>"));
    assert!(text("feed.xml").contains("train.&lt;b&gt; 1 -&gt; 2") && text("feed.xml").matches("<entry>").count() == 1);
    assert!(text("index.html").contains("Open alarm since 2027-") && text("badge/emotion.svg").contains("worse"));
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".html")) {
        let html = String::from_utf8(bytes.clone()).unwrap();
        for link in html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let from = Path::new(name).parent().unwrap().join(link);
            let mut parts: Vec<&str> = vec![];
            for part in from.to_str().unwrap().split('/') {
                if part == ".." { _ = parts.pop() } else { parts.push(part) }
            }
            assert!(files.contains_key(&parts.join("/")), "{name} links to {link}");
        }
    }
    // An entry stays as it is when later rebuilds follow; the rules of feeds are in tests/rebuild/feed.py.
    let later = tempfile::tempdir().unwrap();
    let history = history_of(later.path(), 45);
    let site = Site { history: &history, ..site };
    let later = String::from_utf8(pages(&site)["feed.xml"].clone()).unwrap();
    let entry = text("feed.xml").split("<entry>").nth(1).unwrap().split("</entry>").next().unwrap().to_owned();
    assert!(entry.contains("<id>urn:uuid:") && later.contains(&entry), "{later}");
    assert_eq!(escape("a\u{1}\u{ffff}\n<é>"), "a\n&lt;é&gt;");
    assert_eq!(slug("a b/c"), format!("a-b-c-{}", pipeline::Digest::of(b"a b/c").short()));
}
