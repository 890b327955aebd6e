//! The shared cache in a run.

#[cfg(feature = "cache")]
pub(crate) use cache::Settings as CacheSettings;
#[cfg(feature = "cache")]
pub(crate) use with::{Sharing, bring};

/// Settings of a cache, which this build has not.
#[cfg(not(feature = "cache"))]
pub(crate) type CacheSettings = std::convert::Infallible;

#[cfg(feature = "cache")]
pub(crate) mod with {
    use std::sync::Arc;

    use anyhow::Result;
    use cache::{Cache, CacheError};
    use pipeline::manifest::Manifest;
    use pipeline::shared::SharedCache;
    use pipeline::store::Store;
    use pipeline::{Digest, Stop};

    use crate::console::say;
    use crate::opening::Opening;
    use crate::settings::Settings;

    /// The shared cache of a run, if there is one.
    pub(crate) struct Sharing(Option<Arc<Cache>>);

    impl Sharing {
        /// Makes the cache ready. One that cannot be used costs a warning: no run fails for want of it.
        pub(crate) fn open(settings: &Settings, offline: bool) -> Self {
            Self(open(settings).filter(|_| !offline).and_then(|opened| {
                opened.map(Arc::new).map_err(|error| say!("warning: {error}; the run goes on without the cache")).ok()
            }))
        }

        /// Makes the cache ready for a plan, which uploads nothing. What is read of it is kept in the folder to which the store writes.
        pub(crate) fn to_look(settings: &Settings, store: &Store) -> Self {
            let opened = settings.cache.as_ref().map(|cache| {
                let only_read = cache::Settings { write: false, ..cache.clone() };
                Cache::open(&only_read, store.work(), holds_recordings, |text: &str| say!("warning: {text}"))
            });
            Self(opened.and_then(|opened| {
                opened.map(Arc::new).map_err(|error| say!("warning: {error}; this is the plan without the cache")).ok()
            }))
        }

        pub(crate) fn cache(&self) -> Option<Arc<dyn SharedCache>> {
            self.0.clone().map(|cache| cache as Arc<dyn SharedCache>)
        }

        /// Waits for uploads and says what is left.
        pub(crate) fn close(self, stop: &Stop, quiet: bool) {
            let Some(cache) = self.0 else { return };
            let counts = cache.close(stop);
            if counts.damaged > 0 {
                say!("note: {} objects of the shared cache are damaged; their results were made here", counts.damaged);
            }
            if counts.untrusted > 0 {
                let count = counts.untrusted;
                say!(
                    "note: {count} results of the shared cache do not count: `trusted` of [cache] in sure.toml lacks their writers"
                );
            }
            if counts.blocked > 0 {
                say!("note: {}", blocked(counts.blocked));
            }
            if counts.different > 0 {
                let count = counts.different;
                say!(
                    "note: {count} results were made here with other bytes than the shared cache has; this machine keeps its own"
                );
            }
            if counts.waiting > 0 && !quiet {
                say!("{} results wait for their upload: the next run or `sure cache push` goes on", counts.waiting);
            }
        }
    }

    /// Tells of results that the cache does not take.
    pub(crate) fn blocked(count: usize) -> String {
        format!(
            "{count} results stay on this machine: the cache has them from writers that `trusted` lacks, and \
             `sure cache forget --writer NAME` makes room"
        )
    }

    /// Opens the cache that `sure.toml` names.
    pub(crate) fn open(settings: &Settings) -> Option<Result<Cache, CacheError>> {
        let warn = |text: &str| say!("warning: {text}");
        settings.cache.as_ref().map(|cache| Cache::open(cache, &settings.store, holds_recordings, warn))
    }

    /// Brings an artifact that is left in the shared cache into the store. Returns true if it is there then.
    pub(crate) fn bring(opening: &Opening, artifact: Digest) -> Result<bool> {
        if !opening.store.is_left(artifact) {
            return Ok(false);
        }
        let open = || {
            let cache = Sharing::open(&opening.settings, false).cache()?;
            let store = opening.store.reopen_for_writing()?;
            store.lend(cache);
            Some(store)
        };
        let store = opening.bringing.get_or_init(open);
        Ok(store.as_ref().map_or(Ok(false), |store| store.bring(artifact))?)
    }

    /// True if a result of this manifest contains recordings, or what can be heard as such.
    pub(crate) fn holds_recordings(manifest: &Manifest) -> bool {
        let kind = manifest.0.get("stage").map_or("", String::as_str);
        match kind {
            "vocoder.copy" | "report.corpus" | "report.listen" => true,
            "report.table" => manifest.0.keys().any(|name| name.starts_with("input.clips")),
            _ => kind.starts_with("audio.") || kind.starts_with("features.") || !WITHOUT.contains(&kind),
        }
    }

    /// Stage kinds whose results contain no recordings. Whatever is not in this list stays on the machine.
    const WITHOUT: [&str; 24] = [
        "encoder.checkpoint",
        "encoder.random",
        "judge.train",
        "peft.evaluate",
        "peft.train",
        "report.table",
        "score.classification",
        "score.intent",
        "score.slots",
        "score.synthesis",
        "score.tagging",
        "score.task",
        "score.text",
        "score.verification",
        "task.language_model",
        "task.targets",
        "tts.align",
        "tts.evaluate",
        "tts.synthesise",
        "tts.train",
        "vocoder.checkpoint",
        "vocoder.train",
        "voice.checkpoint",
        "voice.published",
    ];

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_contains_recordings_is_known_for_every_stage_kind() {
            let of = |kind: &str, input: &str| {
                holds_recordings(&Manifest([("stage".to_owned(), kind.to_owned()), (input.to_owned(), String::new())].into()))
            };
            let registry = crate::stages::registry(std::path::Path::new("sure-neural"));
            let held: Vec<&str> = registry.kinds().map(|kind| kind.name).filter(|kind| of(kind, "input.scores")).collect();
            let expected = [
                "audio.join",
                "audio.shards",
                "audio.summary",
                "corpus.manifest",
                "features.fbank",
                "features.front",
                "features.log_mel",
                "features.mfcc",
                "features.pitch",
                "report.corpus",
                "report.listen",
                "vocoder.copy",
            ];
            assert_eq!(held, expected);
            assert!(of("report.table", "input.clips[corpus=fsdd]"));
            assert!(WITHOUT.iter().all(|kind| registry.get(kind).is_some()));
        }
    }
}

/// Brings nothing: this build has no shared cache.
#[cfg(not(feature = "cache"))]
pub(crate) fn bring(_: &crate::opening::Opening, _: pipeline::Digest) -> anyhow::Result<bool> {
    Ok(false)
}

/// The shared cache, which this build has not.
#[cfg(not(feature = "cache"))]
pub(crate) struct Sharing;

#[cfg(not(feature = "cache"))]
impl Sharing {
    pub(crate) fn open(_: &crate::settings::Settings, _: bool) -> Self {
        Self
    }
    pub(crate) fn to_look(_: &crate::settings::Settings, _: &pipeline::store::Store) -> Self {
        Self
    }
    pub(crate) fn cache(&self) -> Option<std::sync::Arc<dyn pipeline::shared::SharedCache>> {
        None
    }
    pub(crate) fn close(self, _: &pipeline::Stop, _: bool) {}
}
