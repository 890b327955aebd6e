//! Training of a voice: the loss, the measures of the dev set, and a watch on the alignment.

use std::cell::Cell;

use audio::speech::Alignment;
use neural_spec::{Binarisation, LossWeights};
use pipeline::{Job, StageError};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::data::{VoiceBatch, VoiceData};
use super::voice::Voice;
use crate::data::BatchLimit;
use crate::error::ModelError;
use crate::models::acoustic::BatchNormMode;
use crate::nn::pass::Mode;
use crate::train::learner::Learner;

/// Metric that chooses the best point: mean absolute error of the spectrogram behind the post-net.
pub(super) const METRIC: &str = "mel";
/// Mean log probability of the path below which an alignment is poor.
const POOR_PATH: f64 = -1.0;
/// Share of symbols with one frame above which an alignment is poor.
const POOR_SHARE: f64 = 0.3;
/// Utterances with the worst alignments that are listed.
pub(super) const WORST: usize = 20;

/// A voice that learns.
pub(super) struct VoiceLearner<'a> {
    pub(super) voice: &'a Voice,
    pub(super) statistics: BatchNormMode,
    pub(super) losses: LossWeights,
    pub(super) ramp: Binarisation,
    pub(super) dev: &'a VoiceData,
    pub(super) limit: BatchLimit,
    /// Factor of the binarisation in the current update.
    pub(super) binarisation: Cell<f64>,
    /// True once a poor alignment was reported.
    pub(super) warned: Cell<bool>,
}

/// Quality of the alignments of some utterances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct AlignmentQuality {
    /// Mean over utterances of the log probability of the path; none where durations were given.
    pub path_log_probability: Option<f64>,
    /// Share of symbols with one frame.
    pub one_frame_share: f64,
    /// Frames of the longest symbol.
    pub longest: i64,
}

impl AlignmentQuality {
    /// Of durations and log probabilities of paths.
    pub(super) fn of<'a>(durations: impl Iterator<Item = &'a [i64]>, paths: &[f64]) -> Self {
        let (mut symbols, mut single, mut longest) = (0_usize, 0_usize, 0);
        for own in durations {
            symbols += own.len();
            single += own.iter().filter(|&&frames| frames == 1).count();
            longest = longest.max(own.iter().copied().max().unwrap_or(0));
        }
        let mean = (!paths.is_empty()).then(|| paths.iter().sum::<f64>() / paths.len() as f64);
        Self { path_log_probability: mean, one_frame_share: single as f64 / symbols.max(1) as f64, longest }
    }

    /// Sentence about a poor alignment.
    pub(super) fn complaint(&self) -> Option<String> {
        let path = self.path_log_probability.filter(|&path| path < POOR_PATH);
        let path = path.map(|path| format!("the mean log probability of its paths is {path:.2}, expected above {POOR_PATH}"));
        let share = (self.one_frame_share > POOR_SHARE)
            .then(|| format!("{:.0} % of the symbols last one frame", 100.0 * self.one_frame_share));
        let found: Vec<String> = path.into_iter().chain(share).collect();
        (!found.is_empty()).then(|| format!("the alignment has not formed: {}", found.join("; ")))
    }
}

/// Factor of the binarisation at a step.
fn ramp(binarisation: Binarisation, step: u64, total: u64) -> f64 {
    let (step, total) = (step as f64 + 1.0, total as f64);
    ((step - binarisation.from * total) / (binarisation.over * total + 1.0)).clamp(0.0, 1.0)
}

impl Learner for VoiceLearner<'_> {
    type Batch = VoiceBatch;

    fn trainable(&self) -> Vec<(String, Tensor)> {
        self.voice.trainable()
    }

    fn device(&self) -> Device {
        self.voice.device()
    }

    fn begin_update(&self, step: u64, total: u64) {
        self.binarisation.set(ramp(self.ramp, step, total));
    }

    fn loss(&self, batch: &VoiceBatch, seed: u64) -> Result<Tensor, ModelError> {
        let device = self.voice.device();
        let (text, target) = (batch.text.to(device)?, batch.target.to(device)?);
        let trained = self.voice.model.train(&text, &target, self.statistics, Mode::Train { seed })?;
        // The loss is a mean; the loop divides a sum by the number of utterances.
        Ok(trained.losses.total(&self.losses, self.binarisation.get())?.f_mul_scalar(batch.rows.len() as f64)?)
    }

    fn evaluate(&self, job: &Job) -> Result<Vec<(&'static str, f64)>, StageError> {
        let (mut sums, mut utterances) = ([0.0; 7], 0.0);
        let (mut durations, mut paths) = (Vec::new(), Vec::new());
        for rows in self.dev.in_order(self.limit) {
            if job.stop.requested() {
                return Err(StageError::Stopped);
            }
            let batch = self.dev.batch(&rows)?;
            let share = rows.len() as f64;
            let trained = tch::no_grad(|| {
                let device = self.voice.device();
                let (text, target) = (batch.text.to(device)?, batch.target.to(device)?);
                self.voice.model.train(&text, &target, BatchNormMode::Running, Mode::Eval)
            });
            let trained = trained.map_err(ModelError::from)?;
            let losses = &trained.losses;
            let all = [
                Some(&losses.postnet),
                Some(&losses.mel),
                Some(&losses.duration),
                Some(&losses.pitch),
                Some(&losses.energy),
                losses.forward_sum.as_ref(),
                losses.binarisation.as_ref(),
            ];
            for (sum, loss) in sums.iter_mut().zip(all) {
                if let Some(loss) = loss {
                    *sum += share
                        * loss.f_to_kind(Kind::Double).and_then(|loss| loss.f_double_value(&[])).map_err(ModelError::from)?;
                }
            }
            utterances += share;
            durations.extend(trained.durations);
            paths.extend(trained.path_log_probabilities.unwrap_or_default());
        }
        let quality = AlignmentQuality::of(durations.iter().map(Vec::as_slice), &paths);
        if let (Some(complaint), true, false) = (quality.complaint(), self.binarisation.get() >= 1.0, self.warned.get()) {
            let rows = align(self.voice, self.dev, self.limit, job)?;
            job.progress.note(&warning("dev", &complaint, &rows));
            self.warned.set(true);
        }
        let names = [METRIC, "mel_before_postnet", "duration", "pitch", "energy", "forward_sum", "binarisation"];
        let aligned = !paths.is_empty();
        let mut values: Vec<(&'static str, f64)> = names.into_iter().zip(sums.map(|sum| sum / utterances)).collect();
        if !aligned {
            values.truncate(5);
        }
        values.push(("one_frame_share", quality.one_frame_share));
        values.push(("longest_symbol", quality.longest as f64));
        if let Some(path) = quality.path_log_probability {
            values.push(("path_log_probability", path));
        }
        Ok(values)
    }
}

/// Aligns utterances: given durations, or those that the aligner finds. In order of id.
///
/// Errors: shards that cannot be read; libtorch's; [`StageError::Stopped`].
pub(super) fn align(voice: &Voice, data: &VoiceData, limit: BatchLimit, job: &Job) -> Result<Vec<Alignment>, StageError> {
    let mut rows: Vec<Option<Alignment>> = vec![None; data.utterances().len()];
    let mut done = 0;
    for batch in data.in_order(limit) {
        if job.stop.requested() {
            return Err(StageError::Stopped);
        }
        let (durations, paths): (Vec<Vec<i64>>, Vec<Option<f64>>) = if data.durations(batch[0]).is_some() {
            batch.iter().map(|&row| (data.durations(row).unwrap_or_default().to_vec(), None)).unzip()
        } else {
            let made = data.batch(&batch)?;
            let device = voice.device();
            let aligned = made.text.to(device).and_then(|text| voice.model.align(&text, &made.target.to(device)?));
            let (durations, paths) = aligned.map_err(ModelError::from)?;
            (durations, paths.into_iter().map(Some).collect())
        };
        for ((&row, durations), path_log_probability) in batch.iter().zip(durations).zip(paths) {
            let utterance = &data.utterances()[row];
            rows[row] = Some(Alignment {
                id: utterance.id.clone(),
                speaker: utterance.speaker.clone(),
                text: utterance.text.clone(),
                symbols: utterance.symbols.clone(),
                durations: durations.into_iter().map(|frames| frames as i32).collect(),
                path_log_probability,
            });
        }
        done += batch.len();
        job.progress.tick(done as u64, rows.len() as u64, "utterances", "aligned");
    }
    Ok(rows.into_iter().flatten().collect())
}

/// Warning about the poor alignment of a split, with the worst of its utterances.
pub(super) fn warning(split: &str, complaint: &str, rows: &[Alignment]) -> String {
    let ids: Vec<String> = worst(rows, WORST).into_iter().map(|row| row.id).collect();
    format!("warning: {split}: {complaint}; the worst utterances: {}", ids.join(", "))
}

/// The worst alignments, worst first.
pub(super) fn worst(rows: &[Alignment], most: usize) -> Vec<Alignment> {
    let mut rows: Vec<&Alignment> = rows.iter().collect();
    let key = |row: &Alignment| (row.path_log_probability.unwrap_or(0.0), -row.one_frame_share());
    rows.sort_by(|a, b| {
        let ((a, single_a), (b, single_b)) = (key(a), key(b));
        a.total_cmp(&b).then(single_a.total_cmp(&single_b))
    });
    rows.into_iter().take(most).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binarisation_rises_after_a_quarter() {
        let at = |step| ramp(Binarisation::default(), step, 1000);
        assert_eq!((at(0), at(249), at(999)), (0.0, 0.0, 1.0));
        assert!((at(300) - 51.0 / 101.0).abs() < 1e-12);
        assert!(ramp(Binarisation { from: 0.0, over: 0.0 }, 0, 300) >= 1.0);
    }

    #[test]
    fn a_poor_alignment_is_described() {
        let good = AlignmentQuality::of([&[3, 4, 1, 5][..]].into_iter(), &[-0.2]);
        assert_eq!((good.one_frame_share, good.longest, good.complaint()), (0.25, 5, None));
        let poor = AlignmentQuality::of([&[1, 1, 40][..]].into_iter(), &[-3.0, -2.0]);
        let complaint = poor.complaint().unwrap();
        assert!(complaint.contains("-2.50") && complaint.contains("67 %"), "{complaint}");
    }
}
