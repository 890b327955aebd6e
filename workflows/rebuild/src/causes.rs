//! Causes in words: which file, parameter, version, library, commit or machine differs.

use std::collections::{BTreeMap, BTreeSet};

use scoring::history::{Cause, Lineage};

use crate::history::History;
use crate::record::{NamedCause, Source};

/// Fields and files named before the rest is only counted.
const NAMED: usize = 5;

type Side<'a> = (&'a Lineage, &'a BTreeMap<String, Source>);

/// Puts causes into words. Lists of files come from the history; where one is gone, files are not named.
pub(crate) fn name_causes(causes: &[Cause], before: Side<'_>, after: Side<'_>, history: &History) -> Vec<NamedCause> {
    if causes.is_empty() {
        return vec![NamedCause { kind: "unexplained".to_owned(), text: String::new() }];
    }
    let name = |cause: &Cause| {
        let text = match cause {
            Cause::Data { fields } => data(fields, before, after, history),
            Cause::Settings { fields } | Cause::Code { fields } | Cause::Environment { fields } => {
                fields_text(fields, before.0, after.0)
            }
            Cause::CodeWithoutVersion => programs(&before.0.program, &after.0.program),
            Cause::Hardware => format!("{} -> {}", before.0.machine, after.0.machine),
            Cause::NotRepeatable => "the same program on the same machine gave another value".to_owned(),
        };
        NamedCause { kind: cause.title().to_owned(), text }
    };
    causes.iter().map(name).collect()
}

/// `train.learning_rate 0.001 -> 0.1, and 3 more`
fn fields_text(fields: &[String], before: &Lineage, after: &Lineage) -> String {
    let value =
        |lineage: &Lineage, field: &String| lineage.fields.get(field).map_or_else(|| "none".to_owned(), |value| shorten(value));
    let mut texts: Vec<String> = vec![];
    for field in fields {
        let (stage, name) = field.split_once('/').unwrap_or(("", field));
        let name = match name.split_once('.') {
            Some(("param", name)) => format!("{stage}.{name}"),
            Some(("environment", name)) => name.to_owned(),
            _ => format!("{stage} {name}"),
        };
        let text = format!("{name} {} -> {}", value(before, field), value(after, field));
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    listed(&texts)
}

fn shorten(value: &str) -> String {
    const MOST: usize = 40;
    let value = value.trim_matches('"');
    if value.chars().count() > MOST { format!("{}…", value.chars().take(MOST).collect::<String>()) } else { value.to_owned() }
}

fn listed(texts: &[String]) -> String {
    let shown = texts.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if texts.len() > NAMED { format!("{shown}, and {} more", texts.len() - NAMED) } else { shown }
}

/// `fsdd: 1 file changed (0_theo_1.wav)`
fn data(fields: &[String], before: Side<'_>, after: Side<'_>, history: &History) -> String {
    let places: BTreeSet<&str> = fields.iter().filter_map(|field| field.split_once("/source.").map(|(_, place)| place)).collect();
    let text = |place: &&str| {
        let name = place.rsplit('.').next().unwrap_or(place);
        let files = |side: Side<'_>| files(history, side.1.get(*place)?);
        let Some((old, new)) = files(before).zip(files(after)) else { return format!("{name}: other files") };
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|path| old.get(*path) != new.get(*path)).collect();
        if names.is_empty() {
            return format!("{name}: other files");
        }
        let kind = match (names.iter().all(|path| !old.contains_key(*path)), names.iter().all(|path| !new.contains_key(*path))) {
            (true, _) => "new",
            (_, true) => "gone",
            _ => "changed",
        };
        let count = names.len();
        let names: Vec<String> = names.into_iter().cloned().collect();
        format!("{name}: {count} file{} {kind} ({})", if count == 1 { "" } else { "s" }, listed(&names))
    };
    places.iter().map(text).collect::<Vec<_>>().join("; ")
}

fn files(history: &History, source: &Source) -> Option<BTreeMap<String, String>> {
    let text = String::from_utf8(history.blob(source.list.as_ref()?).ok()?).ok()?;
    let line = |line: &str| line.split_once(' ').map(|(digest, path)| (path.to_owned(), digest.to_owned()));
    Some(text.lines().filter_map(line).collect())
}

/// `commits 5c5606e12ab3..0d4fad8eb1c2`
fn programs(before: &str, after: &str) -> String {
    let commit = |text: &str| text.split_once(' ').map_or(text, |(commit, _)| commit).to_owned();
    match (commit(before), commit(after)) {
        (old, new) if old == new => format!("another build of {old}"),
        (old, new) => format!("commits {old}..{new}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_name_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let _lock = History::lock(folder.path()).unwrap().unwrap();
        let history = History::read(folder.path()).unwrap();
        let list = |text: &str| Some(history.keep(text.as_bytes()).unwrap());
        let source = |text: &str| Source { digest: text.to_owned(), files: 2, bytes: 3, list: list(text) };
        let sources = |text: &str| BTreeMap::from([("corpora.fsdd".to_owned(), source(text))]);
        let lineage = |rate: &str, program: &str| Lineage {
            fields: BTreeMap::from([
                ("train/param.learning_rate".to_owned(), rate.to_owned()),
                ("train/environment.libtorch".to_owned(), rate.to_owned()),
            ]),
            program: program.to_owned(),
            machine: "m".to_owned(),
        };
        let (old, new) = (lineage("1", "aaa x"), lineage("2", "bbb y"));
        let (one, two) = (sources("aa a.wav\nbb b.wav\n"), sources("aa a.wav\ncc b.wav\n"));
        let text = |cause: Cause| name_causes(&[cause], (&old, &one), (&new, &two), &history)[0].print();
        let fields = |name: &str| vec![name.to_owned()];
        assert_eq!(text(Cause::Data { fields: fields("shards/source.corpora.fsdd") }), "data: fsdd: 1 file changed (b.wav)");
        assert_eq!(text(Cause::Settings { fields: fields("train/param.learning_rate") }), "settings: train.learning_rate 1 -> 2");
        assert_eq!(text(Cause::Environment { fields: fields("train/environment.libtorch") }), "library: libtorch 1 -> 2");
        assert_eq!(text(Cause::CodeWithoutVersion), "code without a version: commits aaa..bbb");
        assert_eq!(name_causes(&[], (&old, &one), (&new, &two), &history)[0].print(), "unexplained");
    }
}
