//! Errors of stage bodies.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

/// Reason why a body ended without an artifact.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The stage's own error, with what the user can do about it.
    #[error("{source}")]
    Failed {
        /// The error; its own sources follow.
        source: Box<dyn Error + Send + Sync>,
        /// Hint for the user.
        hint: Option<String>,
        /// See [`StageError::is_transient`].
        transient: bool,
    },
    /// [`crate::Job::stop`] was set. What lies in the resume folder is kept.
    #[error("stopped before the end")]
    Stopped,
    /// It was not done within the time that the workflow file allows.
    #[error("not done within its time limit of {}", crate::duration::show(*.limit))]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// An outside file is not the one that the plan saw.
    #[error("`{path}` changed while the run used it")]
    SourceChanged {
        /// The file.
        path: PathBuf,
    },
    /// The settings of this machine name no such place.
    #[error("no place is set for `{place}`")]
    NoPlace {
        /// For example `corpora.fsdd`.
        place: String,
    },
    /// Reading or writing a file failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// The verb: `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl StageError {
    /// Wraps a stage's own error.
    pub fn failed(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { source: source.into(), hint: None, transient: false }
    }
    /// Marks a failure that may pass: a stage that asks for retries is then tried again.
    #[must_use]
    pub fn transient(self) -> Self {
        match self {
            Self::Failed { source, hint, .. } => Self::Failed { source, hint, transient: true },
            other => other,
        }
    }
    /// True if another attempt may succeed: after a worker that died or could not start, an error of a file or disk, or an error that
    /// was marked with [`Self::transient`]. A stage's own verdict on its input is none.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Failed { transient: true, .. } | Self::Io { .. })
    }
    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Failed { source, transient, .. } => Self::Failed { source, hint: Some(text.into()), transient },
            other => other,
        }
    }
    /// Hint for the user.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Failed { hint, .. } => hint.clone(),
            Self::SourceChanged { .. } => Some("nothing was recorded; run again when the file has settled".to_owned()),
            Self::TimedOut { .. } => Some("`limits.time` of the stage in the workflow file allows more".to_owned()),
            _ => None,
        }
    }
    /// For `map_err`: `fs::read(path).map_err(StageError::io("read", path))`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// A body that panicked.
#[derive(Debug, thiserror::Error)]
#[error("the stage panicked: {0}")]
struct Panicked(String);

/// Calls a body and turns a panic into an error.
///
/// # Errors
/// That of the body, or [`StageError::Failed`] with the text of the panic.
pub fn catch_panic<T>(body: impl FnOnce() -> Result<T, StageError>) -> Result<T, StageError> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let error = StageError::failed(Panicked(text.unwrap_or_else(|| "without a message".to_owned())));
        Err(error.with_hint("this is a bug in the stage, please report it"))
    })
}

/// Returns the messages of an error and its sources, outermost first. A message that only repeats its source's counts once.
pub fn chain(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = source.source();
    }
    texts
}
