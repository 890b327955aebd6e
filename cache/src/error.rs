//! Errors, without anything that should not be read by others.

use object_store::Error;
use pipeline::stage::chain;

/// A cache that cannot be used for what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The object store refuses or does not answer.
    #[error("the cache {cache}: cannot {action}: {message}")]
    Access {
        /// Name of the cache: its URL.
        cache: String,
        /// The request.
        action: &'static str,
        /// Text of the cause.
        message: String,
    },
    /// The cache has a newer format.
    #[error("the cache {cache} has format {found}, and this program reads formats up to {known}")]
    Newer {
        /// Name of the cache.
        cache: String,
        /// Format of the cache.
        found: u32,
        /// Newest format that this program reads.
        known: u32,
    },
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// A key cannot be read or written.
    #[error("the key `{place}`: {message}")]
    Key {
        /// File or variable.
        place: String,
        /// The fault.
        message: String,
    },
    /// A file of this machine cannot be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Kind of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The object is not there: an answer like any other.
    Missing,
    /// Access is denied.
    Denied,
    /// Anything that may pass: no connection, no answer, an error of the server.
    Trouble,
}

/// Addresses at which clouds give credentials to their machines. Who is asked there has none of his own.
const PLATFORMS: [&str; 2] = ["169.254.169.254", "metadata.google.internal"];

/// True if credentials were looked for in vain.
fn lacks_credentials(texts: &[String]) -> bool {
    texts.iter().any(|text| PLATFORMS.iter().any(|platform| text.contains(platform)))
}

pub(crate) fn fault(error: &Error) -> Fault {
    match error {
        Error::NotFound { .. } => Fault::Missing,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Fault::Denied,
        // Credentials that cannot be found are reported as a failure of any kind.
        other if chain(other).iter().any(|text| text.contains("403 Forbidden") || text.contains("401 Unauthorized")) => {
            Fault::Denied
        }
        other if lacks_credentials(&chain(other)) => Fault::Denied,
        _ => Fault::Trouble,
    }
}

/// Longest text of an error.
const LONGEST: usize = 160;

/// Returns the cause of a failed request in few words. Query strings, headers and the text of the server are left out: they may contain
/// signatures, keys and tokens.
pub(crate) fn shorten(error: &Error) -> String {
    match error {
        Error::NotFound { .. } => return "not found".to_owned(),
        Error::PermissionDenied { .. } => return "access denied (403)".to_owned(),
        Error::Unauthenticated { .. } => return "no valid credentials (401)".to_owned(),
        Error::AlreadyExists { .. } => return "it exists".to_owned(),
        Error::Precondition { .. } => return "it was changed meanwhile".to_owned(),
        _ => {}
    }
    let texts = chain(error);
    if lacks_credentials(&texts) {
        return "no credentials: none in the environment, and the platform gives none".to_owned();
    }
    let status = texts.iter().find_map(|text| text.split_once("Server returned non-2xx status code: ").map(|(_, rest)| rest));
    let text = status.or(texts.last().map(String::as_str)).unwrap_or("unknown");
    plain(text)
}

/// Cuts a text at anything that may be of the server or secret.
fn plain(text: &str) -> String {
    let end = text.find(['<', '\n', '{', '?']).unwrap_or(text.len());
    let text = text[..end].trim_end_matches([':', ' ', '(']);
    let hidden = ["uthorization", "redential=", "ignature", "ecurity-Token", "ecret"];
    if hidden.iter().any(|word| text.contains(word)) {
        return "the server refused the request".to_owned();
    }
    text.chars().take(LONGEST).filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_show_no_query_and_no_text_of_the_server() {
        let generic = |text: &str| Error::Generic { store: "S3", source: text.into() };
        let check = |text: &str, expected: &str| assert_eq!(shorten(&generic(text)), expected);
        check("Connection refused (os error 111)", "Connection refused (os error 111)");
        check("error sending request for url (http://h/b?X-Amz-Signature=abc)", "error sending request for url (http://h/b");
        check(
            "Server returned non-2xx status code: 503 Service Unavailable: <Error><Key>secret</Key>",
            "503 Service Unavailable",
        );
        check(
            "error sending request for url (http://169.254.169.254/latest/api/token)",
            "no credentials: none in the environment, and the platform gives none",
        );
        assert_eq!(fault(&generic("url (http://169.254.169.254/latest/api/token)")), Fault::Denied);
        check("Authorization: AWS4-HMAC-SHA256 Credential=AKIA", "the server refused the request");
    }
}
