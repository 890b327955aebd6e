//! The rebuild file: what is rebuilt, when, and who is told. Reads text; opens no other file.
//!
//! ```toml
//! name  = "weekly"
//! every = "sunday 02:30"            # UTC
//! runs  = ["benchmark --set seed=1,2,3"]
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline::mistake::suggest;
use scoring::Metric;
use scoring::history::Rule;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::time::{Every, SCHEDULES};

/// Content of a rebuild file.
#[derive(Debug, Clone, PartialEq)]
pub struct RebuildFile {
    /// Path of the file, in full.
    pub path: PathBuf,
    /// Name, for messages and for the history.
    pub name: String,
    /// Schedule.
    pub every: Every,
    /// Arguments of each `sure run`, in order.
    pub runs: Vec<Request>,
    /// True to go on with what does not depend on a failed node.
    pub keep_going: bool,
    /// Time that all runs together may take.
    pub time_limit: Duration,
    /// Every so many rebuilds one starts from an empty store; 0: never.
    pub fresh_every: u32,
    /// Folder of the history.
    pub history: PathBuf,
    /// Bytes that must be free where the store is.
    pub free_at_least: Option<u64>,
    /// Bytes that the store may have after a rebuild.
    pub store_at_most: Option<u64>,
    /// Rule by which a change becomes an alarm.
    pub rule: Rule,
    /// Seeds with which a loss is confirmed.
    pub confirm_seeds: u32,
    /// Channels of messages.
    pub tell: Tell,
    /// Site.
    pub site: Option<SitePlace>,
}

/// Arguments of one `sure run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// As it is in the file.
    pub text: String,
    /// Words of it.
    pub words: Vec<String>,
    /// Line in the file.
    pub line: usize,
}

/// Channels of messages. Secrets come from the environment: a web address here is the name of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tell {
    /// Addresses that get mail.
    pub mail: Vec<String>,
    /// Variable with the address that gets each event.
    pub webhook: Option<String>,
    /// Program with arguments that gets each event on standard input.
    pub command: Vec<String>,
    /// Variable with the address that is asked for after every rebuild that ended.
    pub alive: Option<String>,
    /// Time that a channel gets, over all tries.
    pub patience: Duration,
}

impl Default for Tell {
    fn default() -> Self {
        Self { mail: vec![], webhook: None, command: vec![], alive: None, patience: Duration::from_secs(30) }
    }
}

/// Place of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SitePlace {
    /// Folder that is written.
    pub folder: PathBuf,
    /// Address at which people read it; empty where there is none.
    pub url: String,
}

/// A mistake in a rebuild file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// File and line: `weekly.toml:3`.
    pub at: String,
    /// Sentence for people.
    pub message: String,
    /// Advice for the user.
    pub hint: String,
}

const KEYS: [&str; 11] =
    ["name", "every", "runs", "keep_going", "time_limit", "fresh_every", "history", "disk", "alarm", "tell", "site"];
const DISK: [&str; 2] = ["free_at_least", "store_at_most"];
const ALARM: [&str; 3] = ["false_discovery", "at_least", "confirm_seeds"];
const TELL: [&str; 5] = ["mail", "webhook", "command", "alive", "patience"];
const SITE: [&str; 2] = ["folder", "url"];

/// Reads the text of a rebuild file. Paths in it are relative to its folder.
///
/// Errors: every mistake, in the order of lines.
pub fn read(path: &Path, text: &str) -> Result<RebuildFile, Vec<Mistake>> {
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let file = RebuildFile {
        path: path.to_owned(),
        name: String::new(),
        every: Every::Hours(24),
        runs: vec![],
        keep_going: true,
        time_limit: Duration::from_secs(7 * 86_400),
        fresh_every: 0,
        history: base.join("history"),
        free_at_least: None,
        store_at_most: None,
        rule: Rule::default(),
        confirm_seeds: 2,
        tell: Tell::default(),
        site: None,
    };
    let mut reader = Reader { path, base, text, file, mistakes: vec![] };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.mistake(
            at,
            format!("not valid TOML: {}", error.message().trim()),
            "each line is a section `[tell]` or a key with a value",
        );
    }
    for (key, value) in table.get_ref() {
        reader.top(key.get_ref(), key.span().start, value);
    }
    for (key, hint) in [("name", "write `name = \"weekly\"`"), ("every", SCHEDULES), ("runs", RUNS)] {
        if !table.get_ref().iter().any(|(known, _)| known.get_ref() == key) {
            reader.mistakes.push((
                usize::MAX,
                Mistake { at: path.display().to_string(), message: format!("`{key}` is missing"), hint: hint.to_owned() },
            ));
        }
    }
    if let Some(site) = reader.file.site.as_ref().filter(|site| site.folder.starts_with(&reader.file.history)) {
        let message = format!("the site `{}` is in the history", site.folder.display());
        let hint = "give it a folder of its own: `folder = \"www\"`".to_owned();
        reader.mistakes.push((usize::MAX, Mistake { at: path.display().to_string(), message, hint }));
    }
    if reader.mistakes.is_empty() {
        return Ok(reader.file);
    }
    reader.mistakes.sort_by_key(|(line, _)| *line);
    Err(reader.mistakes.into_iter().map(|(_, mistake)| mistake).collect())
}

const RUNS: &str = "each run is what follows `sure run`: `runs = [\"benchmark --set seed=1,2,3\"]`";

struct Reader<'a> {
    path: &'a Path,
    base: PathBuf,
    text: &'a str,
    file: RebuildFile,
    mistakes: Vec<(usize, Mistake)>,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count()
    }

    fn mistake(&mut self, at: usize, message: String, hint: impl Into<String>) {
        let line = self.line(at);
        let name =
            self.path.file_name().map_or_else(|| self.path.display().to_string(), |name| name.to_string_lossy().into_owned());
        self.mistakes.push((line, Mistake { at: format!("{name}:{line}"), message, hint: hint.into() }));
    }

    fn unknown(&mut self, at: usize, key: &str, name: &str, known: &[&'static str]) {
        self.mistake(at, format!("unknown key `{key}`"), suggest(name, known.iter().copied()));
    }

    fn top(&mut self, key: &str, at: usize, value: &Value<'_>) {
        match key {
            "name" => {
                if let Some(name) = self.string(key, value, "\"weekly\"") {
                    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                    if name.chars().all(is_plain) {
                        self.file.name = name;
                    } else {
                        let hint = "use letters, digits, `-` and `_`: units and files are named by it";
                        self.mistake(value.span().start, format!("`name` should be one word, not `{name}`"), hint);
                    }
                }
            }
            "every" => {
                if let Some(text) = self.string(key, value, "\"sunday 02:30\"") {
                    match text.parse() {
                        Ok(every) => self.file.every = every,
                        Err(why) => self.mistake(value.span().start, format!("`every`: {why}"), SCHEDULES),
                    }
                }
            }
            "runs" => self.runs(value),
            "keep_going" => match value.get_ref() {
                DeValue::Boolean(keep_going) => self.file.keep_going = *keep_going,
                _ => self.mistake(
                    value.span().start,
                    "`keep_going` should be true or false".to_owned(),
                    "write `keep_going = true`",
                ),
            },
            "time_limit" => {
                if let Some(limit) = self.duration(key, value) {
                    self.file.time_limit = limit;
                }
            }
            "fresh_every" => match self.count(key, value) {
                Some(1) => self.mistake(
                    value.span().start,
                    "`fresh_every` should be 0, or at least 2".to_owned(),
                    "a fresh rebuild is compared with those before it and keeps no result, so not every one can be fresh",
                ),
                Some(count) => self.file.fresh_every = count,
                None => {}
            },
            "history" => {
                if let Some(folder) = self.string(key, value, "\"history\"") {
                    self.file.history = self.base.join(folder);
                }
            }
            "disk" => self.section(key, value, Self::disk),
            "alarm" => self.section(key, value, Self::alarm),
            "tell" => self.section(key, value, Self::tell),
            "site" => {
                self.section(key, value, Self::site);
                if self.file.site.as_ref().is_some_and(|site| site.folder.as_os_str().is_empty()) {
                    self.mistake(at, "`site.folder` is missing".to_owned(), "write `folder = \"/srv/www/sure\"`");
                }
            }
            _ => self.unknown(at, key, key, &KEYS),
        }
    }

    fn section(&mut self, key: &str, value: &Value<'_>, read: fn(&mut Self, &str, usize, &Value<'_>)) {
        let DeValue::Table(entries) = value.get_ref() else {
            return self.mistake(value.span().start, format!("`{key}` should be a section"), format!("write `[{key}]`"));
        };
        for (name, value) in entries {
            read(self, name.get_ref(), name.span().start, value);
        }
    }

    fn runs(&mut self, value: &Value<'_>) {
        let Some(texts) = self.strings("runs", value, RUNS) else { return };
        if texts.is_empty() {
            return self.mistake(value.span().start, "`runs` is empty".to_owned(), RUNS);
        }
        for (at, text) in texts {
            let line = self.line(at);
            match words(&text) {
                Some(words) if !words.is_empty() => {
                    let text = text.trim().trim_start_matches("sure run ").to_owned();
                    let words =
                        if words.starts_with(&["sure".to_owned(), "run".to_owned()]) { words[2..].to_vec() } else { words };
                    self.file.runs.push(Request { text, words, line });
                }
                Some(_) => self.mistake(at, "a run is empty".to_owned(), RUNS),
                None => self.mistake(at, format!("`{text}` has a quotation mark without its other"), RUNS),
            }
        }
    }

    fn disk(&mut self, name: &str, at: usize, value: &Value<'_>) {
        let key = format!("disk.{name}");
        match name {
            "free_at_least" => self.file.free_at_least = self.size(&key, value),
            "store_at_most" => self.file.store_at_most = self.size(&key, value),
            _ => self.unknown(at, &key, name, &DISK),
        }
    }

    fn alarm(&mut self, name: &str, at: usize, value: &Value<'_>) {
        let key = format!("alarm.{name}");
        match name {
            "false_discovery" => {
                if let Some(rate) = self.share(&key, value) {
                    self.file.rule.false_discovery = rate;
                }
            }
            "at_least" => match value.get_ref() {
                DeValue::Table(entries) => {
                    let mut of = BTreeMap::new();
                    for (metric, value) in entries {
                        let Some(share) = self.share(&format!("{key}.{}", metric.get_ref()), value) else { continue };
                        if metric.get_ref() == "default" {
                            self.file.rule.at_least = share;
                            continue;
                        }
                        match Metric::ALL.iter().find(|known| known.name() == metric.get_ref()) {
                            Some(known) => _ = of.insert(*known, share),
                            None => self.unknown(
                                metric.span().start,
                                &format!("{key}.{}", metric.get_ref()),
                                metric.get_ref(),
                                &Metric::ALL.map(Metric::name),
                            ),
                        }
                    }
                    self.file.rule.at_least_of = of;
                }
                _ => {
                    if let Some(share) = self.share(&key, value) {
                        self.file.rule.at_least = share;
                    }
                }
            },
            "confirm_seeds" => {
                if let Some(count) = self.count(&key, value) {
                    self.file.confirm_seeds = count;
                }
            }
            _ => self.unknown(at, &key, name, &ALARM),
        }
    }

    fn tell(&mut self, name: &str, at: usize, value: &Value<'_>) {
        let key = format!("tell.{name}");
        match name {
            "mail" => {
                let hint = "write `mail = [\"lab@example.org\"]`";
                for (at, address) in self.strings(&key, value, hint).unwrap_or_default() {
                    let is_address = |text: &str| {
                        text.contains('@')
                            && !text.starts_with('-')
                            && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',')
                    };
                    if is_address(&address) {
                        self.file.tell.mail.push(address);
                    } else {
                        self.mistake(at, format!("`{key}`: `{address}` is no address"), hint);
                    }
                }
            }
            "webhook" => self.file.tell.webhook = self.secret(&key, value, "SURE_WEBHOOK"),
            "alive" => self.file.tell.alive = self.secret(&key, value, "SURE_ALIVE_URL"),
            "command" => {
                let hint = "write `command = [\"/usr/local/bin/tell\"]`: a program and its arguments, without a shell";
                let words: Vec<String> =
                    self.strings(&key, value, hint).unwrap_or_default().into_iter().map(|(_, word)| word).collect();
                if words.first().is_some_and(|program| !program.starts_with('/')) {
                    self.mistake(value.span().start, format!("`{key}` should begin with the path of a program in full"), hint);
                }
                self.file.tell.command = words;
            }
            "patience" => {
                if let Some(patience) = self.duration(&key, value) {
                    self.file.tell.patience = patience;
                }
            }
            _ => self.unknown(at, &key, name, &TELL),
        }
    }

    fn site(&mut self, name: &str, at: usize, value: &Value<'_>) {
        let key = format!("site.{name}");
        if !SITE.contains(&name) {
            return self.unknown(at, &key, name, &SITE);
        }
        let Some(text) = self.string(&key, value, "\"/srv/www/sure\"") else { return };
        let folder = self.base.join(&text);
        let site = self.file.site.get_or_insert_with(|| SitePlace { folder: PathBuf::new(), url: String::new() });
        if name == "folder" {
            site.folder = folder;
            return;
        }
        text.trim_end_matches('/').clone_into(&mut site.url);
        if !is_public_address(&text) {
            let hint = "write `url = \"https://example.org/sure\"`: links begin with it, so it contains no password";
            self.mistake(value.span().start, format!("`{key}` should be the web address of the site"), hint);
        }
    }

    fn string(&mut self, key: &str, value: &Value<'_>, example: &str) -> Option<String> {
        if let DeValue::String(text) = value.get_ref()
            && !text.is_empty()
        {
            return Some(text.to_string());
        }
        let name = key.rsplit('.').next().unwrap_or(key);
        self.mistake(
            value.span().start,
            format!("`{key}` should be a text in quotation marks"),
            format!("write `{name} = {example}`"),
        );
        None
    }

    fn strings(&mut self, key: &str, value: &Value<'_>, hint: &str) -> Option<Vec<(usize, String)>> {
        let texts = if let DeValue::Array(items) = value.get_ref() {
            let text = |item: &Value<'_>| match item.get_ref() {
                DeValue::String(text) => Some((item.span().start, text.to_string())),
                _ => None,
            };
            items.iter().map(text).collect()
        } else {
            None
        };
        if texts.is_none() {
            self.mistake(value.span().start, format!("`{key}` should be a list of texts"), hint);
        }
        texts
    }

    /// Name of a variable. The value itself is refused without repeating it: it may be a secret.
    fn secret(&mut self, key: &str, value: &Value<'_>, example: &str) -> Option<String> {
        let text = self.string(key, value, &format!("\"${example}\""))?;
        let name =
            text.strip_prefix('$').map(|name| name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name));
        let is_name = |name: &&str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let name = name.filter(is_name).map(str::to_owned);
        if name.is_none() {
            let field = key.rsplit('.').next().unwrap_or(key);
            let hint = format!("write `{field} = \"${example}\"` and set the variable where the rebuild starts");
            self.mistake(
                value.span().start,
                format!("`{key}` should be the name of a variable, since the address may be a secret"),
                hint,
            );
        }
        name
    }

    fn duration(&mut self, key: &str, value: &Value<'_>) -> Option<Duration> {
        let found = match value.get_ref() {
            DeValue::String(text) => pipeline::duration::parse(text),
            _ => None,
        };
        if found.is_none() {
            let name = key.rsplit('.').next().unwrap_or(key);
            self.mistake(
                value.span().start,
                format!("`{key}` should be a time such as \"30s\", \"90m\" or \"36h\""),
                format!("write `{name} = \"{}\"`", if name == "patience" { "30s" } else { "36h" }),
            );
        }
        found
    }

    fn size(&mut self, key: &str, value: &Value<'_>) -> Option<u64> {
        let found = match value.get_ref() {
            DeValue::String(text) => size(text).ok(),
            _ => None,
        };
        if found.is_none() {
            let name = key.rsplit('.').next().unwrap_or(key);
            self.mistake(
                value.span().start,
                format!("`{key}` should be a size such as \"500M\" or \"20G\""),
                format!("write `{name} = \"20G\"`"),
            );
        }
        found
    }

    fn count(&mut self, key: &str, value: &Value<'_>) -> Option<u32> {
        let found = match value.get_ref() {
            DeValue::Integer(number) => number.as_str().replace('_', "").parse::<u32>().ok().filter(|count| *count <= 1000),
            _ => None,
        };
        if found.is_none() {
            let name = key.rsplit('.').next().unwrap_or(key);
            self.mistake(
                value.span().start,
                format!("`{key}` should be a whole number from 0 to 1000"),
                format!("write `{name} = 2`"),
            );
        }
        found
    }

    fn share(&mut self, key: &str, value: &Value<'_>) -> Option<f64> {
        let number = match value.get_ref() {
            DeValue::Float(number) => number.as_str().replace('_', "").parse::<f64>().ok(),
            DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
            _ => None,
        };
        let found = number.filter(|share| (0.0..=1.0).contains(share));
        if found.is_none() {
            let name = key.rsplit('.').next().unwrap_or(key);
            self.mistake(
                value.span().start,
                format!("`{key}` should be a number from 0 to 1"),
                match name {
                    "false_discovery" => "write `false_discovery = 0.05`".to_owned(),
                    _ => format!("write `{name} = 0.005` for half a point"),
                },
            );
        }
        found
    }
}

/// True for a web address that pages and messages may repeat: one without a user and a password.
fn is_public_address(text: &str) -> bool {
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let is_foreign = |c: char| c.is_whitespace() || c.is_control() || "?#\"<>\\^`{|}".contains(c);
    !host.is_empty() && !host.contains('@') && !text.contains(is_foreign)
}

/// Splits a line into words as a shell does: quotation marks keep spaces. None when a mark has no other.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut all, mut word, mut mark) = (vec![], None::<String>, None);
    for c in text.chars() {
        match (mark, c) {
            (Some(open), _) if c == open => mark = None,
            (None, '"' | '\'') => {
                mark = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => all.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    mark.is_none().then_some(all)
}

/// Reads `500M`, `20G`, `1.5TB`, `1000`: bytes, in powers of a thousand.
///
/// Errors: a sentence about what was expected.
pub fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 5] = [("", 1.0), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)];
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = text[number.len()..].trim().to_ascii_uppercase();
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim_end_matches('B')).map(|(_, factor)| *factor);
    let value = number.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
    let found = factor.zip(value).map(|(factor, value)| (value * factor) as u64);
    found.ok_or_else(|| "expected a size such as 500M, 20G or 1.5T".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "name = \"weekly\"\nevery = \"sunday 02:30\"\nruns = [\"sure --set seed=1,2\", \"speaker --set 'a=b c'\"]\n\
        keep_going = false\ntime_limit = \"36h\"\nfresh_every = 8\n[disk]\nfree_at_least = \"20G\"\nstore_at_most = \"200G\"\n\
        [alarm]\nfalse_discovery = 0.1\nat_least = { default = 0.01, eer = 0.0025 }\nconfirm_seeds = 3\n\
        [tell]\nmail = [\"a@b\"]\nwebhook = \"$HOOK\"\ncommand = [\"/bin/tell\", \"x\"]\nalive = \"${ALIVE}\"\n\
        [site]\nfolder = \"www\"\nurl = \"https://example.org/sure/\"\n";

    #[test]
    fn a_whole_file_is_read() {
        let file = read(Path::new("/p/weekly.toml"), FULL).unwrap();
        assert_eq!((file.name.as_str(), file.every.to_string().as_str()), ("weekly", "sunday 02:30"));
        assert_eq!(file.runs[1].words, ["speaker", "--set", "a=b c"]);
        assert_eq!((file.runs[0].line, file.keep_going, file.fresh_every, file.confirm_seeds), (3, false, 8, 3));
        assert_eq!((file.free_at_least, file.store_at_most), (Some(20_000_000_000), Some(200_000_000_000)));
        assert_eq!(file.rule.at_least_of, BTreeMap::from([(Metric::Eer, 0.0025)]));
        assert_eq!((file.tell.webhook.as_deref(), file.tell.alive.as_deref()), (Some("HOOK"), Some("ALIVE")));
        assert_eq!(file.site, Some(SitePlace { folder: "/p/www".into(), url: "https://example.org/sure".to_owned() }));
        assert_eq!(file.history, Path::new("/p/history"));
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: &str) {
        assert!(FULL.contains(old), "{old}");
        let mistakes = read(Path::new("/p/weekly.toml"), &FULL.replace(old, new)).unwrap_err();
        let shown: Vec<String> =
            mistakes.iter().map(|mistake| format!("{}: {} [{}]", mistake.at, mistake.message, mistake.hint)).collect();
        assert_eq!(shown.join("\n"), expected);
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        check(
            "\nevery =",
            "\nevry =",
            "weekly.toml:2: unknown key `evry` [did you mean `every`?]\n/p/weekly.toml: `every` is missing [write `every = \"sunday 02:30\"`, `\"day 03:00\"`, `\"month 1 05:00\"` or `\"hours 6\"`; times are in UTC]",
        );
        check(
            "sunday 02:30",
            "month 31 05:00",
            "weekly.toml:2: `every`: `month 31` should be a day from 1 to 28, which every month has [write `every = \"sunday 02:30\"`, `\"day 03:00\"`, `\"month 1 05:00\"` or `\"hours 6\"`; times are in UTC]",
        );
        check(
            "\"$HOOK\"",
            "\"https://secret\"",
            "weekly.toml:16: `tell.webhook` should be the name of a variable, since the address may be a secret [write `webhook = \"$SURE_WEBHOOK\"` and set the variable where the rebuild starts]",
        );
        check("eer =", "err =", "weekly.toml:12: unknown key `alarm.at_least.err` [did you mean `eer`?]");
        check("a@b", "a b", "weekly.toml:15: `tell.mail`: `a b` is no address [write `mail = [\"lab@example.org\"]`]");
        check(
            "\"36h\"",
            "36",
            "weekly.toml:5: `time_limit` should be a time such as \"30s\", \"90m\" or \"36h\" [write `time_limit = \"36h\"`]",
        );
        check(
            "'a=b c'",
            "'a=b c",
            "weekly.toml:3: `speaker --set 'a=b c` has a quotation mark without its other [each run is what follows `sure run`: `runs = [\"benchmark --set seed=1,2,3\"]`]",
        );
        check(
            "fresh_every = 8",
            "fresh_every = 1",
            "weekly.toml:6: `fresh_every` should be 0, or at least 2 [a fresh rebuild is compared with those before it and keeps no result, so not every one can be fresh]",
        );
        for (old, new) in [("https://example.org/sure/", "javascript:alert(1)"), ("https://", "https://ann:canary@")] {
            check(
                old,
                new,
                "weekly.toml:21: `site.url` should be the web address of the site [write `url = \"https://example.org/sure\"`: links begin with it, so it contains no password]",
            );
        }
        check(
            "\"www\"",
            "\"history/www\"",
            "/p/weekly.toml: the site `/p/history/www` is in the history [give it a folder of its own: `folder = \"www\"`]",
        );
        for broken in ["${ALIVE", "$ALIVE}", "$1ALIVE", "$"] {
            check(
                "${ALIVE}",
                broken,
                "weekly.toml:18: `tell.alive` should be the name of a variable, since the address may be a secret [write `alive = \"$SURE_ALIVE_URL\"` and set the variable where the rebuild starts]",
            );
        }
        check(
            "/bin/tell",
            "tell",
            "weekly.toml:17: `tell.command` should begin with the path of a program in full [write `command = [\"/usr/local/bin/tell\"]`: a program and its arguments, without a shell]",
        );
    }
}
