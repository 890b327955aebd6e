//! Text of `sure.toml`: what it says, and every mistake in it with line and key. No file is opened here.

mod executor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hub::Pinned;
use pipeline::mistake::suggest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::sharing::CacheSettings;
pub(crate) use executor::SlurmSection;

/// Content of a `sure.toml`.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) store: Option<PathBuf>,
    pub(crate) results: Option<PathBuf>,
    pub(crate) worker: Option<PathBuf>,
    pub(crate) isolate: bool,
    /// Folders by place: `corpora.fsdd`.
    pub(crate) places: BTreeMap<String, PathBuf>,
    /// Checkpoints on the Hub, by name.
    pub(crate) hub: BTreeMap<String, Pinned>,
    pub(crate) cpu: Option<usize>,
    pub(crate) gpus: Option<Vec<u32>>,
    pub(crate) memory_mib: Option<u64>,
    pub(crate) slurm: Option<SlurmSection>,
    pub(crate) cache: Option<CacheSettings>,
    pub(crate) mistakes: Vec<Mistake>,
}

impl Written {
    /// Content of a file that cannot be read.
    pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let mistake = Mistake {
            at: path.display().to_string(),
            key: String::new(),
            message: format!("cannot be read: {error}"),
            hint: "`ls -l` shows who may read it; --config names another file".to_owned(),
        };
        Self { mistakes: vec![mistake], ..Self::default() }
    }

    /// Adds the mistake that the file is not UTF-8 from the end of `before` on.
    pub(crate) fn not_text(&mut self, path: &Path, before: &[u8]) {
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let mistake = Mistake {
            at: format!("{}:{line}", path.display()),
            key: String::new(),
            message: "not UTF-8, as TOML must be".to_owned(),
            hint: "save the file as UTF-8: the editor wrote it in another encoding".to_owned(),
        };
        self.mistakes.insert(0, mistake);
    }
}

/// A mistake in `sure.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// File and line: `sure.toml:3`.
    pub(crate) at: String,
    /// The key, `corpora.fsdd`; empty for text that is not TOML.
    pub(crate) key: String,
    /// Sentence for people.
    pub(crate) message: String,
    /// Advice for the user.
    pub(crate) hint: String,
}

impl Mistake {
    /// True if the mistake concerns only what needs this place: another command may ignore it.
    pub(crate) fn is_of_place(&self) -> bool {
        PLACES.iter().any(|section| self.key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')))
    }

    /// File, line and sentence.
    pub(crate) fn text(&self) -> String {
        format!("{}: {}", self.at, self.message)
    }
}

const KEYS: [&str; 11] = [
    "store",
    "results",
    "worker",
    "isolate",
    "corpora",
    "checkpoints",
    "lexicons",
    "language_models",
    "pools",
    "executor",
    "cache",
];
/// Sections that name folders.
const PLACES: [&str; 4] = ["corpora", "checkpoints", "lexicons", "language_models"];
const POOLS: [&str; 3] = ["cpu", "gpus", "memory_mib"];

/// Reads the text of the file `path`. `variable` returns the value of an environment variable.
pub(crate) fn read(path: &Path, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Written {
    let mut reader = Reader { path, text, variable, written: Written::default() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.mistake(at, "", format!("not valid TOML: {}", error.message().trim()), hint_of_syntax(error.message()));
    }
    for (key, value) in table.get_ref() {
        reader.top(key.get_ref(), key.span().start, value);
    }
    reader.written.mistakes.sort_by_key(|mistake| mistake.at.rsplit(':').next().and_then(|line| line.parse::<usize>().ok()));
    reader.written
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
    written: Written,
}

impl Reader<'_> {
    fn mistake(&mut self, at: usize, key: &str, message: String, hint: impl Into<String>) {
        let line = 1 + self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count();
        let at = format!("{}:{line}", self.path.display());
        self.written.mistakes.push(Mistake { at, key: key.to_owned(), message, hint: hint.into() });
    }

    fn top(&mut self, key: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        match key {
            "store" => self.written.store = self.folder(key, value),
            "results" => self.written.results = self.folder(key, value),
            "worker" => self.written.worker = self.folder(key, value),
            "isolate" => match value.get_ref() {
                DeValue::Boolean(isolate) => self.written.isolate = *isolate,
                _ => self.mistake(
                    value.span().start,
                    key,
                    "`isolate` should be true or false".to_owned(),
                    "write `isolate = true`",
                ),
            },
            "pools" => self.section(key, value, Self::pool),
            "executor" => self.section(key, value, Self::executor),
            "cache" => self.cache(value),
            _ if PLACES.contains(&key) => self.section(key, value, Self::place),
            _ => {
                let hint = suggest(key, KEYS);
                self.mistake(at, key, format!("unknown key `{key}`"), hint);
            }
        }
    }

    fn section(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        read: fn(&mut Self, &str, &str, usize, &Spanned<DeValue<'_>>),
    ) {
        let DeValue::Table(entries) = value.get_ref() else {
            return self.mistake(value.span().start, key, format!("`{key}` should be a section"), format!("write `[{key}]`"));
        };
        for (name, value) in entries {
            read(self, key, name.get_ref(), name.span().start, value);
        }
    }

    fn pool(&mut self, section: &str, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        let key = format!("{section}.{name}");
        match name {
            "cpu" => self.written.cpu = self.number(&key, value).map(|number| number as usize),
            "memory_mib" => self.written.memory_mib = self.number(&key, value),
            "gpus" => {
                let ids = if let DeValue::Array(items) = value.get_ref() {
                    items.iter().map(|item| integer(item.get_ref()).and_then(|id| u32::try_from(id).ok())).collect()
                } else {
                    None
                };
                if ids.is_none() {
                    let hint = "write `gpus = [0, 1]`, or `gpus = []` for none";
                    self.mistake(value.span().start, &key, format!("`{key}` should be a list of device numbers"), hint);
                }
                self.written.gpus = ids;
            }
            _ => self.mistake(at, &key, format!("unknown key `{key}`"), suggest(name, POOLS)),
        }
    }

    #[cfg(feature = "cache")]
    fn cache(&mut self, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(entries) = value.get_ref() else {
            return self.mistake(value.span().start, "cache", "`cache` should be a section".to_owned(), "write `[cache]`");
        };
        let fields = entries.iter().map(|(name, value)| (name.get_ref().to_string(), cache_value(value.get_ref())));
        match cache::Settings::read(fields) {
            Ok(settings) => self.written.cache = Some(settings),
            Err(mistakes) => {
                for mistake in mistakes {
                    let at = entries.iter().find(|(name, _)| *name.get_ref() == mistake.key.as_str());
                    let at = at.map_or(value.span().start, |(name, _)| name.span().start);
                    self.mistake(at, &format!("cache.{}", mistake.key), mistake.message, mistake.hint);
                }
            }
        }
    }

    #[cfg(not(feature = "cache"))]
    fn cache(&mut self, value: &Spanned<DeValue<'_>>) {
        let message = "this build of `sure` has no shared cache".to_owned();
        self.mistake(value.span().start, "cache", message, "build it with `--features cache`, or remove `[cache]`");
    }

    fn place(&mut self, section: &str, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        let key = format!("{section}.{name}");
        if section == "corpora" && datasets::find(name).is_none() {
            let hint = suggest(name, datasets::ALL.iter().map(|corpus| corpus.name()));
            return self.mistake(at, &key, format!("no reader for a corpus `{name}`"), hint);
        }
        let Some(text) = self.string(&key, value) else { return };
        if section == "checkpoints" && text.starts_with(hub::SCHEME) {
            match text.parse::<Pinned>() {
                Ok(pinned) => {
                    self.written.places.insert(key, pinned.folder());
                    self.written.hub.insert(name.to_owned(), pinned);
                }
                Err(error) => self.mistake(value.span().start, &key, error.to_string(), PINNED),
            }
        } else if let Some(folder) = self.expand(&key, value.span().start, &text) {
            self.written.places.insert(key, folder);
        }
    }

    fn folder(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<PathBuf> {
        let text = self.string(key, value)?;
        self.expand(key, value.span().start, &text)
    }

    fn string(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        if let DeValue::String(text) = value.get_ref()
            && !text.is_empty()
        {
            return Some(text.to_string());
        }
        self.mistake(
            value.span().start,
            key,
            format!("`{key}` should be a path in quotation marks"),
            format!("write `{} = \"/a/folder\"`", key.rsplit('.').next().unwrap_or(key)),
        );
        None
    }

    fn expand(&mut self, key: &str, at: usize, text: &str) -> Option<PathBuf> {
        match expand(text, self.variable) {
            Ok(path) => Some(path),
            Err(message) => {
                self.mistake(at, key, format!("`{key}`: {message}"), "write the path in full");
                None
            }
        }
    }

    fn number(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<u64> {
        let number = integer(value.get_ref()).filter(|number| *number > 0);
        if number.is_none() {
            let message = format!("`{key}` should be a whole number, at least 1");
            self.mistake(value.span().start, key, message, format!("write `{} = 8`", key.rsplit('.').next().unwrap_or(key)));
        }
        number
    }
}

#[cfg(feature = "cache")]
fn cache_value(value: &DeValue<'_>) -> cache::Value {
    let text = |value: &DeValue<'_>| if let DeValue::String(text) = value { Some(text.to_string()) } else { None };
    match value {
        DeValue::String(text) => cache::Value::Text(text.to_string()),
        DeValue::Boolean(switch) => cache::Value::Switch(*switch),
        DeValue::Integer(_) => integer(value).map_or(cache::Value::Other, cache::Value::Number),
        DeValue::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(|item| text(item.get_ref())).collect();
            items.map_or(cache::Value::Other, cache::Value::List)
        }
        _ => cache::Value::Other,
    }
}

/// Hint for text that is not TOML, by the message of the parser.
fn hint_of_syntax(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "write each section and each key of it once"
    } else if message.contains("unclosed table") {
        "a section is one line: `[corpora]`"
    } else if message.contains("quote") || message.contains("string") {
        "strings need quotation marks: `store = \".sure\"`"
    } else {
        "each line is a section `[corpora]` or a key with a value: `fsdd = \"/a/folder\"`"
    }
}

/// Hint for the name of a checkpoint without its commit.
pub(crate) const PINNED: &str = "the page of a model on the Hub lists its commits under `Files and versions`, `History`; a branch would be another model tomorrow";

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let DeValue::Integer(number) = value else { return None };
    u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

/// Replaces `~`, `$NAME` and `${NAME}` in a path; `$$` is a dollar sign.
///
/// Errors: a variable that is not set, and the home folder of another user.
pub(crate) fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, String> {
    let get =
        |name: &str| variable(name).filter(|value| !value.is_empty()).ok_or_else(|| format!("the variable `{name}` is not set"));
    let mut path = String::new();
    let mut rest = text;
    if let Some(after) = text.strip_prefix('~') {
        if !after.is_empty() && !after.starts_with('/') {
            return Err(format!("the home folder `{}` of another user is not looked up", text.split('/').next().unwrap_or(text)));
        }
        path += &get("HOME")?;
        rest = after;
    }
    while let Some(at) = rest.find('$') {
        path += &rest[..at];
        rest = &rest[at + 1..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if let Some(after) = rest.strip_prefix('$') {
            path.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            path += &get(name)?;
            rest = after;
        } else {
            let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
            if name.is_empty() {
                path.push('$');
            } else {
                path += &get(name)?;
            }
            rest = &rest[name.len()..];
        }
    }
    Ok((path + rest).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        [("HOME", "/home/ann"), ("DATA", "/data"), ("EMPTY", "")]
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.to_owned())
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mistakes = read(Path::new("sure.toml"), text, &variable).mistakes;
        let shown: Vec<String> = mistakes.iter().map(|mistake| format!("{} [{}]", mistake.text(), mistake.hint)).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn every_mistake_is_named_with_line_and_key() {
        check("store = \"a\"\n[pools]\ncpu = 2\n", &[]);
        check(
            "strore = \"a\"\nresults = 3\n[pools]\ncpu = 0\ngpus = 1\ncores = 2\n",
            &[
                "sure.toml:1: unknown key `strore` [did you mean `store`?]",
                "sure.toml:2: `results` should be a path in quotation marks [write `results = \"/a/folder\"`]",
                "sure.toml:4: `pools.cpu` should be a whole number, at least 1 [write `cpu = 8`]",
                "sure.toml:5: `pools.gpus` should be a list of device numbers [write `gpus = [0, 1]`, or `gpus = []` for none]",
                "sure.toml:6: unknown key `pools.cores` [there is `cpu`, `gpus`, `memory_mib`]",
            ],
        );
        check("[corpora]\n\ntabel = \"/t\"\n", &["sure.toml:3: no reader for a corpus `tabel` [did you mean `table`?]"]);
        check("[corpora]\nFSDD = \"/f\"\n", &["sure.toml:2: no reader for a corpus `FSDD` [did you mean `fsdd`?]"]);
        check(
            "[corpora]\nesd = \"/e\"\n[corpora]\nfsdd = /f\n",
            &[
                "sure.toml:3: not valid TOML: duplicate key [write each section and each key of it once]",
                "sure.toml:4: not valid TOML: string values must be quoted, expected literal string [strings need quotation marks: `store = \".sure\"`]",
            ],
        );
        check("corpora = \"/t\"\n", &["sure.toml:1: `corpora` should be a section [write `[corpora]`]"]);
    }

    #[test]
    fn a_section_of_a_cluster_is_read_whole() {
        let text = "[executor.slurm]\nfolder = \"$DATA/sure\"\npartition = \"gpu\"\ngres = \"\"\ntime = \"4h\"\ncpus = 8\n\
                    extra = [\"--nice\"]\nplaces = { \"corpora.fsdd\" = \"/scratch/fsdd\" }\nverify = \"all\"\n";
        check(text, &[]);
        let slurm = read(Path::new("sure.toml"), text, &variable).slurm.unwrap();
        assert_eq!((slurm.folder, slurm.options["partition"].as_str()), (Some("/data/sure".into()), "gpu"));
        assert_eq!((slurm.gres.as_deref(), slurm.time.map(|time| time.as_secs()), slurm.cpus), (Some(""), Some(14_400), Some(8)));
        assert_eq!((slurm.extra, slurm.verify_all), (vec!["--nice".to_owned()], true));
        assert_eq!(slurm.places["corpora.fsdd"], PathBuf::from("/scratch/fsdd"));
        check(
            "[executor.slrm]\nfolder = \"/s\"\n",
            &["sure.toml:1: unknown executor `slrm` [there is `slurm`: write `[executor.slurm]`]"],
        );
        check(
            "[executor.slurm]\npartitions = \"gpu\"\ntime = 3\nverify = \"none\"\n",
            &[
                "sure.toml:1: `executor.slurm` names no `folder` [write `folder = \"/shared/sure\"`: a folder that this machine and the compute nodes share]",
                "sure.toml:2: unknown key `executor.slurm.partitions` [did you mean `partition`?]",
                "sure.toml:3: `executor.slurm.time` should be a duration such as \"90s\", \"30m\", \"2h\" or \"1d\" [write `time = \"4h\"`]",
                "sure.toml:4: `executor.slurm.verify` should be \"some\" or \"all\" [write `verify = \"all\"` to hash every byte of a result, or `verify = \"some\"`]",
            ],
        );
    }

    #[test]
    fn options_and_places_that_cannot_work_on_a_cluster_are_refused() {
        let text = |line: &str| format!("[executor.slurm]\nfolder = \"/s\"\n{line}\n");
        check(&text("extra = [\"--nice\", \"-x\", \"n1\", \"--mail-type=END\"]"), &[]);
        for word in ["--requeue", "--array=0-5", "-a", "-N2", "--output=x"] {
            check(
                &text(&format!("extra = [\"{word}\"]")),
                &[&format!(
                    "sure.toml:3: `executor.slurm.extra` may not have `{word}`: what it sets is part of how jobs are followed \
                     [remove it; `docs/cluster.md` lists the keys]"
                )],
            );
        }
        check(
            &text("extra = \"--nice\"\ncpus = -1\nmax_array = \"5\"\nplaces = \"/x\""),
            &[
                "sure.toml:3: `executor.slurm.extra` should be a list of options of sbatch [write `extra = [\"--reservation=speech\"]`]",
                "sure.toml:4: `executor.slurm.cpus` should be a whole number, at least 1 [write `cpus = 8`]",
                "sure.toml:5: `executor.slurm.max_array` should be a whole number, at least 1 [write `max_array = 8`]",
                "sure.toml:6: `executor.slurm.places` should be a table of folders [write `places = { \"corpora.fsdd\" = \"/scratch/fsdd\" }`]",
            ],
        );
        for place in ["corpora.fsd", "corpra.fsdd", "fsdd"] {
            check(
                &text(&format!("places = {{ \"{place}\" = \"/x\" }}")),
                &[&format!(
                    "sure.toml:3: no place `{place}` [a place is a section and a name of sure.toml: `\"corpora.fsdd\"`, `\"checkpoints.base\"`]"
                )],
            );
        }
    }

    #[test]
    fn what_is_right_counts_beside_mistakes() {
        let text = "worker = 1\nstore = \"$DATA/store\"\n[corpora]\nfsdd = \"~/fsdd\"\nesd = \"$NONE/esd\"\n[checkpoints]\nbase = \"hub:a/b\"\nlarge = \"/large\"\nthis is no TOML\n";
        let written = read(Path::new("sure.toml"), text, &variable);
        assert_eq!(written.store, Some("/data/store".into()));
        let places = [("checkpoints.large", "/large"), ("corpora.fsdd", "/home/ann/fsdd")];
        assert_eq!(written.places, places.map(|(name, path)| (name.to_owned(), path.into())).into());
        let keys: Vec<(&str, bool)> = written.mistakes.iter().map(|mistake| (&*mistake.key, mistake.is_of_place())).collect();
        assert_eq!(keys, [("worker", false), ("corpora.esd", true), ("checkpoints.base", true), ("", false)]);
    }

    #[test]
    fn home_and_variables_are_expanded_or_refused() {
        let expanded = |text: &str| expand(text, &variable).map(|path| path.display().to_string());
        for (text, path) in [
            ("~", "/home/ann"),
            ("~/a", "/home/ann/a"),
            ("a/~", "a/~"),
            ("${DATA}b/$DATA/c", "/datab//data/c"),
            ("$$DATA$", "$DATA$"),
            ("a b:c", "a b:c"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(path), "{text}");
        }
        assert_eq!(expanded("$NONE/a").unwrap_err(), "the variable `NONE` is not set");
        assert_eq!(expanded("${EMPTY}").unwrap_err(), "the variable `EMPTY` is not set");
        assert_eq!(expanded("~bob/a").unwrap_err(), "the home folder `~bob` of another user is not looked up");
    }
}
