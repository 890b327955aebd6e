//! Every stage kind that workflows may use.

use std::path::Path;

use pipeline::registry::{Registry, WorkerProgram};

/// Hidden command by which this program serves one request for a stage kind of its own, as `sure-neural run` does.
pub(crate) const SERVE: &str = "serve-stage";

/// Hint where that program is missing.
pub(crate) const GET_WORKER: &str = "`make build` in the repository builds it and fetches libtorch; in an unpacked archive, \
                                     `python3 libtorch.py --link lib` fetches libtorch; `worker` in sure.toml says where it is";

/// Returns the program that runs neural stages.
pub(crate) fn worker_program(path: &Path) -> WorkerProgram {
    WorkerProgram {
        path: path.to_owned(),
        arguments: vec!["run"],
        help: Some(GET_WORKER.to_owned()),
        // OpenMP threads that wait by spinning starve each other when other programs run; measured: a step up to 5 times as long.
        environment: vec![("GOMP_SPINCOUNT", "1000")],
    }
}

/// Stage kinds; the neural ones run in the program `worker`.
pub(crate) fn registry(worker: &Path) -> Registry {
    let worker = worker_program(worker);
    Registry::default()
        .here::<audio::manifest::Manifest>(audio::manifest::run)
        .here::<audio::shards::Shards>(audio::shards::run)
        .here::<audio::join::Join>(audio::join::run)
        .here::<audio::features::stages::Fbank>(audio::features::stages::run_fbank)
        .here::<audio::features::stages::Mfcc>(audio::features::stages::run_mfcc)
        .here::<audio::features::stages::LogMel>(audio::features::stages::run_log_mel)
        .here::<audio::features::stages::TrackPitch>(audio::features::stages::run_pitch)
        .here::<audio::summary::Summary>(audio::summary::run)
        .here::<tasks::targets::MakeTargets>(tasks::targets::run)
        .here::<tasks::language_model::LanguageModel>(tasks::language_model::run)
        .here::<neural_spec::EncoderCheckpoint>(neural_spec::checkpoint::run)
        .here::<neural_spec::VoiceCheckpoint>(neural_spec::published::voice::run)
        .here::<neural_spec::VocoderCheckpoint>(neural_spec::published::vocoder::run)
        .in_worker::<neural_spec::Front>(worker.clone())
        .in_worker::<neural_spec::RandomEncoder>(worker.clone())
        .in_worker::<neural_spec::Train>(worker.clone())
        .in_worker::<neural_spec::Evaluate>(worker.clone())
        .in_worker::<neural_spec::PublishedVoice>(worker.clone())
        .in_worker::<neural_spec::TrainVoice>(worker.clone())
        .in_worker::<neural_spec::AlignSpeech>(worker.clone())
        .in_worker::<neural_spec::Synthesise>(worker.clone())
        .in_worker::<neural_spec::CopySpeech>(worker.clone())
        .in_worker::<neural_spec::JudgeTrain>(worker.clone())
        .in_worker::<neural_spec::TtsEvaluate>(worker.clone())
        .in_worker::<neural_spec::VocoderTrain>(worker)
        .here::<scoring::ScoreClassification>(scoring::score::run)
        .here::<tasks::ScoreTask>(tasks::score::run)
        .here::<scoring::ScoreText>(scoring::score::run)
        .here::<scoring::ScoreSlots>(scoring::score::run)
        .here::<scoring::ScoreIntent>(scoring::score::run)
        .here::<scoring::ScoreTagging>(scoring::score::run)
        .here::<scoring::ScoreVerification>(scoring::score::run)
        .here::<scoring::ScoreSynthesis>(scoring::score::run)
        .here::<scoring::report::ReportTable>(scoring::report::run)
        .here::<scoring::corpus::ReportCorpus>(scoring::corpus::run)
        .here::<scoring::ReportListen>(scoring::listen::run)
}
