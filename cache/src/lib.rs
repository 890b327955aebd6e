//! Results that several machines share, in an object store: S3, Google Cloud Storage, Azure, or a folder.
//!
//! [`Cache`] implements [`pipeline::shared::SharedCache`]. It makes runs faster and never makes one fail: a server that is absent, hangs or
//! refuses costs a second and one warning. Nobody has to trust the object store: a trace counts only if a trusted writer signed it, and
//! every byte is hashed.
//!
//! ```text
//! sure-cache.json             format and id, created once
//! t/ab/<fingerprint>          trace: a signed result (see `trace`); created once
//! p/ab/<artifact>             pack: the small files of an artifact (see `pack`)
//! f/ab/<digest>               one larger file
//! i/base-<n>, i/new/<name>    index (see `index`): what may be there, and when it was used
//! c/<fingerprint>             lease: a machine makes this now (see `lease`)
//! gc/...                      state of the collection (see `collect`)
//! ```
//!
//! The rest of the program knows threads only. Everything async is in this crate, and its runtime starts with the first request.

mod breaker;
mod cache;
mod check;
mod collect;
mod error;
mod index;
mod key;
mod lease;
mod local;
mod pack;
mod remote;
mod settings;
mod trace;
mod transfer;
mod upload;

#[cfg(test)]
mod tests;

pub use cache::{Cache, Counts};
pub use check::Finding;
pub use collect::{Collected, Forget, Usage};
pub use error::CacheError;
pub use key::{Key, TrustedKey};
pub use settings::{KEYS, Mistake, Settings, Upload, Value};
