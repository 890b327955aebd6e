//! Every stage kind that workflows may use.

use std::path::Path;

use pipeline::registry::Registry;

/// The stage kinds; the neural ones run in `worker`.
pub(crate) fn registry(worker: &Path) -> Registry {
    Registry::default()
        .here::<audio::manifest::Manifest>(audio::manifest::run)
        .here::<audio::shards::Shards>(audio::shards::run)
        .here::<neural_spec::EncoderCheckpoint>(neural_spec::checkpoint::run)
        .in_worker::<neural_spec::RandomEncoder>(worker)
        .in_worker::<neural_spec::Train>(worker)
        .in_worker::<neural_spec::Evaluate>(worker)
        .here::<scoring::score::ScoreClassification>(scoring::score::run)
        .here::<scoring::report::ReportTable>(scoring::report::run)
}
