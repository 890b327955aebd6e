//! `sure cache check`: tries everything that a run may ask of the cache, and says what is wrong.

use std::collections::BTreeSet;
use std::time::Instant;

use object_store::Error;
use pipeline::run::now_ms;

use crate::cache::{ABOUT, About, Cache, FORMAT, index_files};
use crate::error::{Fault, fault, shorten};
use crate::key::random_name;
use crate::lease::honours_conditions;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// False if it is a fault.
    pub good: bool,
    /// Name of the thing.
    pub what: &'static str,
    /// Result, in words.
    pub text: String,
    /// Advice, where something is wrong.
    pub hint: Option<&'static str>,
}

const NO_ACCESS: &str = "the credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the platform; profiles (`AWS_PROFILE`, \
                         `~/.aws`) are not read";
const NO_SERVER: &str = "is the server up, and are `url`, `endpoint` and `region` of `[cache]` right?";

fn good(what: &'static str, text: impl Into<String>) -> Finding {
    Finding { good: true, what, text: text.into(), hint: None }
}

fn bad(what: &'static str, text: impl Into<String>, hint: &'static str) -> Finding {
    Finding { good: false, what, text: text.into(), hint: Some(hint) }
}

fn refused(what: &'static str, error: &Error) -> Finding {
    let hint = if fault(error) == Fault::Denied { NO_ACCESS } else { NO_SERVER };
    bad(what, shorten(error), hint)
}

impl Cache {
    /// Tries everything that a run may ask of the cache.
    pub fn check(&self) -> Vec<Finding> {
        let Some(handle) = self.handle() else {
            return vec![bad("runtime", "the system gives no thread", "close other programs")];
        };
        handle.block_on(self.try_all())
    }

    async fn try_all(&self) -> Vec<Finding> {
        let core = self.core();
        let mut found = vec![good("url", core.remote.name.clone())];
        let begun = Instant::now();
        match core.remote.get(ABOUT, 1 << 16).await {
            Err(error) => {
                found.push(refused("read", &error));
                return found;
            }
            Ok(None) => found.push(good("read", "an empty cache")),
            Ok(Some((bytes, _))) => match serde_json::from_slice::<About>(&bytes) {
                Ok(about) if about.format <= FORMAT => {
                    let ms = begun.elapsed().as_millis();
                    found.push(good("read", format!("format {}, id {}, {ms} ms", about.format, about.id)));
                }
                Ok(about) => {
                    let text = format!("format {}; this program reads formats up to {FORMAT}", about.format);
                    found.push(bad(
                        "read",
                        text,
                        "a newer version of this program wrote it: use that version, or another prefix",
                    ));
                }
                Err(_) => found.push(bad("read", format!("`{ABOUT}` is damaged"), "remove it: the next upload writes it again")),
            },
        }
        match core.remote.list("i").await {
            Err(error) => found.push(refused("list", &error)),
            Ok(listed) => {
                let files: Vec<(String, u64)> = listed.iter().map(|file| (file.key.clone(), file.size)).collect();
                let files = index_files(&files);
                let bytes: u64 = files.iter().map(|(_, size)| size).sum();
                found.push(good("list", format!("{} index files with {} entries", files.len(), bytes / 24)));
            }
        }
        let names: BTreeSet<&str> = core.trusted.iter().map(|key| key.name.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        found.push(if names.is_empty() {
            bad(
                "trusted",
                "no writer: no result counts",
                "add `trusted = [\"NAME:BASE64\"]` to `[cache]`; `sure cache key` prints it",
            )
        } else {
            good("trusted", names.join(", "))
        });
        if !core.settings.write {
            found.push(good("write", "not asked for (`write = true` under `[cache]`)"));
            return found;
        }
        found.push(match &core.key {
            Some(key) => good("key", key.public().to_string()),
            None => bad("key", "`write = true` needs a key to sign with", "`sure cache key NAME` makes one"),
        });
        self.try_writing(&mut found).await;
        found
    }

    async fn try_writing(&self, found: &mut Vec<Finding>) {
        let core = self.core();
        let key = format!("c/probe-{}", random_name());
        let written = async {
            core.remote.put(&key, "probe".into()).await?;
            let now = now_ms();
            let meta = core.remote.head(&key).await?;
            core.remote.delete(&key).await?;
            Ok::<_, Error>(meta.map_or(0, |meta| meta.last_modified.timestamp_millis() - now))
        };
        match written.await {
            Err(error) => {
                found.push(refused("write", &error));
                return;
            }
            Ok(offset) => found.push(good("write", format!("its clock differs by {} s from this machine's", offset / 1000))),
        }
        match honours_conditions(core).await {
            Err(error) => found.push(refused("conditions", &error)),
            Ok(true) => {
                core.local.keep_verdict("conditions", "yes");
                found.push(good("conditions", "honoured: machines do not do the same work at the same time"));
            }
            Ok(false) => {
                core.local.keep_verdict("conditions", "no");
                let text = "ignored (`If-None-Match`, `If-Match`): results are shared, but two machines may do the same work";
                found.push(bad(
                    "conditions",
                    text,
                    "nothing is lost but time; another server or a newer version of it honours them",
                ));
            }
        }
    }
}
