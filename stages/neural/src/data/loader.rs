//! Makes batches ahead of their use, in a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use tasks::Clips;
use tch::{Device, Tensor};

use super::utterances::{DataError, Utterances, heard};
use crate::models::Batch;
use crate::models::heads::Targets;

/// Batches made ahead of the one in use.
const AHEAD: usize = 4;

/// A batch and the rows it was made of.
#[derive(Debug)]
pub struct Prepared {
    /// Rows of the utterances, in order.
    pub rows: Vec<usize>,
    /// Their audio, on the CPU.
    pub batch: Batch,
    /// Targets of the batch, on the CPU.
    pub targets: Targets,
}

/// Gives batches in order, while a thread prepares the next ones.
#[derive(Debug)]
pub struct Loader {
    batches: Option<Receiver<Result<Prepared, DataError>>>,
    left: usize,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts to prepare batches of `rows` for `device`. For a CUDA device their audio lies in pinned memory, from which it is
    /// copied there while the host goes on (see [`crate::models::Model`]).
    pub fn start(utterances: &Arc<Utterances>, rows: Vec<Vec<usize>>, device: Device) -> Self {
        let (sender, batches) = sync_channel(AHEAD);
        let (utterances, left) = (Arc::clone(utterances), rows.len());
        let thread = std::thread::spawn(move || {
            for rows in rows {
                let prepared = prepare(&utterances, rows, device);
                let failed = prepared.is_err();
                if sender.send(prepared).is_err() || failed {
                    return; // nobody waits for more
                }
            }
        });
        Self { batches: Some(batches), left, thread: Some(thread) }
    }
}

impl Iterator for Loader {
    type Item = Result<Prepared, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let received = self.batches.as_ref()?.recv();
        Some(received.unwrap_or(Err(DataError::LoaderEnded)))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.batches = None; // the thread sees that nobody listens
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been printed, and ended the batches early
        }
    }
}

fn prepare(utterances: &Utterances, rows: Vec<usize>, device: Device) -> Result<Prepared, DataError> {
    let clips = rows.iter().map(|&row| utterances.samples(row)).collect::<Result<Vec<_>, _>>()?;
    let num_samples: Vec<usize> = rows.iter().map(|&row| utterances.num_samples(row)).collect();
    let batch = batch(&clips, &num_samples, utterances.width(), utterances.clips(), device)?;
    let targets = utterances.batch_targets(&rows);
    Ok(Prepared { rows, batch, targets })
}

/// Prepared clips as a batch: samples (B, S), or frames of `width` values (B, T, C), padded with zeros to the longest. `num_samples`: the
/// samples of each recording, before any cut.
///
/// Errors: no memory for it.
pub(crate) fn batch(
    clips: &[Vec<f32>],
    num_samples: &[usize],
    width: Option<usize>,
    form: &Clips,
    device: Device,
) -> Result<Batch, DataError> {
    let Some(width) = width else { return padded(clips, form, device) };
    let frames = padded(clips, &Clips::default(), device)?;
    let audio = frames.audio.view([clips.len() as i64, -1, width as i64]);
    let num_samples = num_samples.iter().map(|&samples| heard(samples, form) as i64).collect();
    Ok(Batch { audio, num_samples, labels: None })
}

/// Clips as a batch (B, S), padded with zeros to the longest.
///
/// Errors: no memory for it.
fn padded<C: AsRef<[f32]>>(clips: &[C], form: &Clips, device: Device) -> Result<Batch, DataError> {
    let unmasked_to = form.unmasked_to.unwrap_or(1);
    let num_samples = clips.iter().map(|clip| clip.as_ref().len().max(unmasked_to).max(1) as i64).collect();
    let least = form.pad.unwrap_or(1).max(unmasked_to);
    let longest = clips.iter().map(|clip| clip.as_ref().len()).max().unwrap_or(0).max(least);
    let mut audio = vec![0.0_f32; clips.len() * longest];
    for (clip, place) in clips.iter().zip(audio.chunks_exact_mut(longest)) {
        place[..clip.as_ref().len()].copy_from_slice(clip.as_ref());
    }
    let audio = Tensor::f_from_slice(&audio)?;
    let audio = if device.is_cuda() { audio.f_pin_memory(device)? } else { audio };
    Ok(Batch { audio: audio.view([clips.len() as i64, -1]), num_samples, labels: None })
}
