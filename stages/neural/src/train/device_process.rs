//! Process that computes gradients on another device of a training: the other side of [`super::devices`].

use std::collections::VecDeque;
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};

use pipeline::StageError;
use pipeline::stage::{catch_panic, chain};
use rustix::process::{Signal, getpid, kill_process};
use tch::Tensor;

use super::devices::{Answer, Order, bytes, receive, send, tensor};
use super::error::TrainError;
use super::fit::decays;
use super::learner::{Learner, TrainingData};
use super::optimizer::Parameters;
use super::side_by_side::SideBySide;
use super::{Start, kind, out_of_memory, settings};
use crate::data::DataError;
use crate::device;
use crate::error::ModelError;

/// Serves a training on another device, over standard input; `None` when that is no socket.
pub fn serve() -> Option<ExitCode> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    socket.peer_addr().ok()?;
    let mut orders = BufReader::new(socket.try_clone().ok()?);
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        while receive(&mut orders).is_ok_and(|order| sender.send(order).is_ok()) {}
        // The training is gone. `exit` would take libtorch apart while another thread computes with it.
        let _ = kill_process(getpid(), Signal::KILL);
    });
    let Err(error) = catch_panic(|| learn(&received, &mut socket)) else { return Some(ExitCode::SUCCESS) };
    let _ = send(&mut socket, &Answer::Failed { chain: chain(&error), hint: error.hint() }, &[]);
    Some(ExitCode::FAILURE)
}

/// Computes gradients until the training ends.
fn learn(orders: &Receiver<(Order, Vec<u8>)>, socket: &mut UnixStream) -> Result<(), StageError> {
    let Ok((Order::Open { params, inputs, gpu, threads }, _)) = orders.recv() else { return Ok(()) };
    let device = device::choose(gpu);
    if let Some(index) = gpu.filter(|_| !device.is_cuda()) {
        return Err(StageError::failed(TrainError::Unusable(index)).with_hint("`sure doctor` says more"));
    }
    device::use_threads(threads);
    let start = Start::open(&params, &inputs, device)?;
    let (learner, data, hint) = (start.learner(), start.data(), settings(&params).memory_hint);
    let mut parameters = Parameters::new(learner.trainable(), kind(params.precision), decays).map_err(ModelError::from)?;
    let mut side_by_side = SideBySide::new(start.replicas()?, &parameters, threads).map_err(ModelError::from)?;
    let mut say = |answer: Answer, gradient: &[u8]| send(socket, &answer, gradient).map_err(StageError::io("write", "socket"));
    say(Answer::Ready { num_values: parameters.values.numel() }, &[])?;
    let (mut micro_batches, mut loader) = (VecDeque::new(), None);
    for (order, values) in orders {
        let (count, seeds) = match order {
            Order::Learn { count, seeds } => (count, seeds),
            Order::Load(rows) => {
                loader = Some(data.load(rows.iter().flat_map(|rows| side_by_side.parts(rows)).collect(), device));
                micro_batches = rows.into();
                continue;
            }
            Order::Open { .. } => continue,
        };
        parameters.set(&tensor(&values, device).map_err(ModelError::from)?).map_err(ModelError::from)?;
        for seeds in seeds {
            let rows: Vec<usize> = micro_batches.pop_front().unwrap_or_default();
            let explain = |error, rows: &[usize]| out_of_memory::explain(error, &learner, &data, rows, hint);
            let mut next = || loader.as_mut().and_then(Iterator::next).ok_or(DataError::LoaderEnded)?;
            let mut learned = |loss: &Tensor, gradient: &Tensor| {
                let loss = f32::try_from(loss).map_err(ModelError::from)?.to_bits();
                say(Answer::Learned { loss }, &bytes(gradient).map_err(ModelError::from)?)
            };
            if side_by_side.is_used() {
                let parts = side_by_side.parts(&rows);
                let batches = seeds.iter().map(|seed| Ok((next()?, *seed))).collect::<Result<Vec<_>, StageError>>()?;
                for ((loss, gradient), rows) in side_by_side.learn(batches, count).into_iter().zip(&parts) {
                    learned(&loss.map_err(|error| explain(error, rows))?, gradient)?;
                    let _ = gradient.f_zero_().map_err(ModelError::from)?;
                }
            } else {
                let loss = learner.learn(&next()?, count, seeds[0]).map_err(|error| explain(error, &rows))?;
                parameters.collect_gradient().map_err(ModelError::from)?;
                learned(&loss, parameters.gradient())?;
                parameters.forget_gradient().map_err(ModelError::from)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pipeline::Inputs;

    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_is_named() {
        let (mut own, _theirs) = UnixStream::pair().unwrap();
        let (sender, orders) = mpsc::channel();
        let text = r#"{"method":{"name":"finetune","scope":"all"},"head":{"name":"classification"},"learning_rate":1e-3,
            "epochs":2,"batch_secs":16,"accumulation":1,"metric":"accuracy","precision":"fp32","seed":1}"#;
        let params = serde_json::from_str(text).unwrap();
        sender.send((Order::Open { params, inputs: Inputs::default(), gpu: Some(9_999), threads: 1 }, vec![])).unwrap();
        let error = learn(&orders, &mut own).unwrap_err();
        assert!(error.to_string().contains("cannot use device 9999 of the gpu pool"), "{error}");
    }
}
