//! Settings of a cache: the section `[cache]` of `sure.toml`, without anything secret.

use std::fmt;
use std::path::PathBuf;

use crate::key::TrustedKey;

/// Settings of a cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`.
    pub url: String,
    /// URL of the server, for S3 servers other than Amazon's.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// True if this machine uploads results.
    pub write: bool,
    /// Results that are uploaded.
    pub upload: Upload,
    /// True if artifacts that contain recordings may be uploaded.
    pub recordings: bool,
    /// Writers whose results count.
    pub trusted: Vec<TrustedKey>,
    /// Most bytes per second that are uploaded.
    pub up_limit: Option<u64>,
    /// Most bytes per second that are downloaded.
    pub down_limit: Option<u64>,
}

/// Results that are uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Upload {
    /// Those that took at least 10 seconds, and longer than their bytes take to travel.
    #[default]
    Dear,
    /// All.
    All,
}

/// A mistake in the section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Key below `[cache]`.
    pub key: String,
    /// Sentence for people.
    pub message: String,
    /// Advice.
    pub hint: String,
}

/// Value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// Number.
    Number(u64),
    /// Switch.
    Switch(bool),
    /// List of texts.
    List(Vec<String>),
    /// Anything else.
    Other,
}

/// Keys of the section.
pub const KEYS: [&str; 9] = ["url", "endpoint", "region", "write", "upload", "recordings", "trusted", "up_limit", "down_limit"];

/// Parts of names that are given to secrets.
const SECRET: [&str; 7] = ["secret", "password", "passwd", "token", "access_key", "credential", "account_key"];

/// Advice about secrets.
const NO_SECRETS: &str = "remove it here: secrets come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...) or the platform, \
                          and the signing key from `sure cache key`";

impl Settings {
    /// Settings of a URL; the rest as if it were not set.
    pub fn of(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            endpoint: None,
            region: None,
            write: false,
            upload: Upload::Dear,
            recordings: false,
            trusted: vec![],
            up_limit: None,
            down_limit: None,
        }
    }

    /// Reads the keys of the section.
    ///
    /// # Errors
    /// Every mistake.
    pub fn read(fields: impl IntoIterator<Item = (String, Value)>) -> Result<Self, Vec<Mistake>> {
        let (mut settings, mut mistakes) = (Self::of(""), vec![]);
        for (key, value) in fields {
            let mut wrong = |message: String, hint: &str| {
                mistakes.push(Mistake { key: key.clone(), message, hint: hint.to_owned() });
            };
            match (key.as_str(), value) {
                ("url", Value::Text(url)) => match check_url(&url) {
                    Ok(()) => settings.url = url,
                    Err((message, hint)) => wrong(message, hint),
                },
                ("endpoint", Value::Text(url)) => match check_endpoint(&url) {
                    Ok(()) => settings.endpoint = Some(url),
                    Err((message, hint)) => wrong(message, hint),
                },
                ("region", Value::Text(region)) => settings.region = Some(region),
                ("write", Value::Switch(write)) => settings.write = write,
                ("recordings", Value::Switch(recordings)) => settings.recordings = recordings,
                ("upload", Value::Text(upload)) if upload == "dear" => settings.upload = Upload::Dear,
                ("upload", Value::Text(upload)) if upload == "all" => settings.upload = Upload::All,
                ("upload", _) => wrong("`cache.upload` should be \"dear\" or \"all\"".to_owned(), "write `upload = \"dear\"`"),
                ("trusted", Value::List(keys)) => {
                    for (number, key) in keys.iter().enumerate() {
                        match key.parse() {
                            Ok(key) => settings.trusted.push(key),
                            // The text is not shown: it may be a secret key in the wrong place.
                            Err(message) => wrong(
                                format!("key {} of `cache.trusted` is no key: {message}", number + 1),
                                "`sure cache key NAME` prints the line to write here",
                            ),
                        }
                    }
                }
                ("up_limit" | "down_limit", Value::Number(number)) if number > 0 => {
                    let limit = if key == "up_limit" { &mut settings.up_limit } else { &mut settings.down_limit };
                    *limit = Some(number);
                }
                ("up_limit" | "down_limit", Value::Text(size)) if bytes(&size).is_some() => {
                    let limit = if key == "up_limit" { &mut settings.up_limit } else { &mut settings.down_limit };
                    *limit = bytes(&size);
                }
                ("up_limit" | "down_limit", _) => {
                    wrong(format!("`cache.{key}` should be a number of bytes per second"), "write `up_limit = \"20M\"`");
                }
                (name, _) if SECRET.iter().any(|secret| name.to_lowercase().contains(secret)) => {
                    wrong(format!("`cache.{name}`: secrets do not belong in sure.toml"), NO_SECRETS);
                }
                ("write" | "recordings", _) => wrong(format!("`cache.{key}` should be true or false"), "write `write = true`"),
                ("trusted", _) => wrong(
                    "`cache.trusted` should be a list of keys".to_owned(),
                    "`sure cache key NAME` prints the line to write here",
                ),
                (name, _) if KEYS.contains(&name) => {
                    wrong(format!("`cache.{name}` should be a text in quotation marks"), "write `url = \"s3://bucket/prefix\"`");
                }
                (name, _) => wrong(format!("unknown key `cache.{name}`"), &pipeline::mistake::suggest(name, KEYS)),
            }
        }
        if settings.url.is_empty() && mistakes.is_empty() {
            let (message, hint) = ("`[cache]` has no `url`".to_owned(), "write `url = \"s3://bucket/prefix\"`".to_owned());
            mistakes.push(Mistake { key: "url".to_owned(), message, hint });
        }
        for (key, is_set) in [("endpoint", settings.endpoint.is_some()), ("region", settings.region.is_some())] {
            if is_set && !settings.url.is_empty() && !settings.url.starts_with("s3://") {
                let message = format!("`cache.{key}` is for s3:// only, and `cache.url` is `{}`", settings.url);
                mistakes.push(Mistake { key: key.to_owned(), message, hint: "remove it, or correct `url`".to_owned() });
            }
        }
        if mistakes.is_empty() { Ok(settings) } else { Err(mistakes) }
    }
}

/// Place of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Folder(PathBuf),
    S3 { bucket: String, prefix: String },
    Gcs { bucket: String, prefix: String },
    Azure { container: String, prefix: String },
}

impl Place {
    pub(crate) fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (bucket, prefix) = (name.to_owned(), prefix.trim_matches('/').to_owned());
        let has_name = !name.is_empty();
        match scheme {
            "file" if rest.starts_with('/') && rest.len() > 1 => Some(Self::Folder(rest.into())),
            "s3" if has_name => Some(Self::S3 { bucket, prefix }),
            "gs" if has_name => Some(Self::Gcs { bucket, prefix }),
            "az" if has_name => Some(Self::Azure { container: bucket, prefix }),
            _ => None,
        }
    }
}

fn check_url(url: &str) -> Result<(), (String, &'static str)> {
    let place = Place::of(url);
    // In the name of a folder they mean nothing.
    if !matches!(place, Some(Place::Folder(_))) && url.contains(['@', '?']) {
        return Err(("`cache.url` contains a user or parameters".to_owned(), NO_SECRETS));
    }
    match place {
        Some(_) => Ok(()),
        None => Err((
            format!("`cache.url` should begin with s3://, gs://, az:// or file:///, and is `{url}`"),
            "write `url = \"s3://bucket/prefix\"` or `url = \"file:///folder\"`",
        )),
    }
}

fn check_endpoint(url: &str) -> Result<(), (String, &'static str)> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        _ if url.contains(['@', '?']) => Err(("`cache.endpoint` contains a user or parameters".to_owned(), NO_SECRETS)),
        Some(rest) if !rest.is_empty() => Ok(()),
        _ => Err((format!("`cache.endpoint` should be a URL, and is `{url}`"), "write `endpoint = \"https://host:port\"`")),
    }
}

/// `500K`, `20M`, `1G`
fn bytes(text: &str) -> Option<u64> {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text[number.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return None,
    };
    number.trim().parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

impl fmt::Display for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dear => "dear",
            Self::All => "all",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, value: Value, expected: &str) {
        let url = ("url".to_owned(), Value::Text("s3://bucket".to_owned()));
        let fields = if key == "url" { vec![] } else { vec![url] };
        let read = Settings::read(fields.into_iter().chain([(key.to_owned(), value)]));
        let shown = read.map_or_else(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect(), |_| String::new());
        assert_eq!(shown, expected, "{key}");
    }

    #[test]
    fn secrets_and_mistakes_are_refused_by_name() {
        let text = |text: &str| Value::Text(text.to_owned());
        check("url", text("s3://bucket/prefix"), "");
        check("url", text("file:///srv/cache"), "");
        check("url", text("s3://key:secret@bucket"), "`cache.url` contains a user or parameters");
        check("url", text("s3://bucket/a?token=1"), "`cache.url` contains a user or parameters");
        check("url", text("http://h"), "`cache.url` should begin with s3://, gs://, az:// or file:///, and is `http://h`");
        check(
            "url",
            text("file://relative"),
            "`cache.url` should begin with s3://, gs://, az:// or file:///, and is `file://relative`",
        );
        check("endpoint", text("http://u:p@h"), "`cache.endpoint` contains a user or parameters");
        check("aws_secret_access_key", text("x"), "`cache.aws_secret_access_key`: secrets do not belong in sure.toml");
        check("session_token", text("x"), "`cache.session_token`: secrets do not belong in sure.toml");
        check("upload", text("some"), "`cache.upload` should be \"dear\" or \"all\"");
        check("write", text("yes"), "`cache.write` should be true or false");
        check("writ", Value::Switch(true), "unknown key `cache.writ`");
        check("up_limit", text("20M"), "");
        check("up_limit", text("fast"), "`cache.up_limit` should be a number of bytes per second");
        check("url", text("s3:/key:secret@bucket"), "`cache.url` contains a user or parameters");
        check("url", text("file:///srv/what?/a@b"), "");
        check("endpoint", text("u:p@h:9000"), "`cache.endpoint` contains a user or parameters");
        let keys = Value::List(vec!["ci:c2VjcmV0".to_owned()]);
        check("trusted", keys, "key 1 of `cache.trusted` is no key: expected NAME:BASE64 of 32 bytes");
    }

    #[test]
    fn keys_of_one_kind_of_server_are_refused_for_another() {
        let text = |text: &str| Value::Text(text.to_owned());
        let fields = [("url", "gs://b"), ("endpoint", "https://h"), ("region", "r")];
        let read = Settings::read(fields.map(|(key, value)| (key.to_owned(), text(value))));
        let keys: Vec<String> =
            read.unwrap_err().into_iter().map(|mistake| format!("{}: {}", mistake.key, mistake.message)).collect();
        assert_eq!(
            keys,
            [
                "endpoint: `cache.endpoint` is for s3:// only, and `cache.url` is `gs://b`",
                "region: `cache.region` is for s3:// only, and `cache.url` is `gs://b`"
            ]
        );
    }

    #[test]
    fn every_kind_of_place_is_read_from_its_url() {
        let (bucket, prefix) = ("b".to_owned(), "p/q".to_owned());
        assert_eq!(Place::of("s3://b/p/q/"), Some(Place::S3 { bucket: bucket.clone(), prefix: prefix.clone() }));
        assert_eq!(Place::of("gs://b/p/q"), Some(Place::Gcs { bucket: bucket.clone(), prefix: prefix.clone() }));
        assert_eq!(Place::of("az://b/p/q"), Some(Place::Azure { container: bucket.clone(), prefix }));
        assert_eq!(Place::of("gs://b"), Some(Place::Gcs { bucket, prefix: String::new() }));
        assert_eq!(Place::of("file:///a/b"), Some(Place::Folder("/a/b".into())));
        for url in ["gs://", "az:///p", "s3:///", "gcs://b", "abfs://b", "gs:/b", "file:///", "b", ""] {
            assert_eq!(Place::of(url), None, "{url}");
        }
    }
}
