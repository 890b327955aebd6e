//! Other devices of a training: processes of this program, each with a copy of the model, that compute gradients.
//!
//! The process of the training itself has the loop, the optimizer, the saved state and the dev set. Of `n` devices, device `k` computes the micro
//! batches `k`, `k + n`, ... of every update, with the values, rows and seeds that it is sent. The gradients are added in the order of the
//! micro batches and their parts, as on one device.
//!
//! Standard input of such a process ([`super::device_process`]) is a socket to the training. When it closes, the process exits at once,
//! whatever it computes. When the process ends, the training fails. So neither outlives the other.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use neural_spec::Train;
use pipeline::{Inputs, Job, StageError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

use super::error::TrainError;
use super::optimizer::Parameters;
use crate::error::ModelError;
use crate::evaluate::device_name;

/// Message to a process.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// The training; the first message.
    Open { params: Box<Train>, inputs: Inputs, gpu: Option<u32>, threads: usize },
    /// Rows of its micro batches from now on, in order.
    Load(Vec<Vec<usize>>),
    /// Asks for the gradients of its next micro batches, at the values that follow. Seeds: one for each part of each micro batch.
    Learn { count: f64, seeds: Vec<Vec<u64>> },
}

/// Message of a process.
#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is ready; `num_values`: its trained values.
    Ready { num_values: usize },
    /// The loss of a part, by its bits, since JSON has no word for infinity; the gradient follows.
    Learned { loss: u32 },
    /// It cannot go on.
    Failed { chain: Vec<String>, hint: Option<String> },
}

/// Micro batches of device `number` of `count`, out of those of several updates.
pub(super) fn own_share(
    micro_batches: &[Vec<usize>],
    accumulation: usize,
    number: usize,
    count: usize,
) -> impl Iterator<Item = &Vec<usize>> {
    micro_batches.chunks(accumulation).flat_map(move |update| update.iter().skip(number).step_by(count))
}

/// The other devices of a training; none for most.
#[derive(Debug, Default)]
pub struct OtherDevices(Vec<OtherDevice>);

/// A process on another device; killed when dropped.
#[derive(Debug)]
pub(super) struct OtherDevice {
    /// `cuda:1`, `cpu`
    device: String,
    /// Name for people.
    name: String,
    process: Child,
    orders: UnixStream,
    answers: BufReader<UnixStream>,
}

impl OtherDevices {
    /// Starts a process for each further device of a job whose own device is `device`. An update has no work for more devices than it has
    /// micro batches.
    ///
    /// Errors: a process that cannot be started.
    pub(super) fn start(params: &Train, job: &Job, device: Device) -> Result<Self, StageError> {
        let given = 1 + job.others.len();
        let used = given.min(params.accumulation.max(1) as usize);
        if used < given {
            job.progress.note(&format!(
                "of its {given} devices this training uses {used}: an update has no more micro batches. Raise `accumulation`, and lower \
                 `batch_secs` to keep the update as large"
            ));
        }
        let start = |(number, gpu): (usize, &Option<u32>)| {
            let gpu = gpu.filter(|_| device.is_cuda());
            let device = device_name(gpu.map_or(Device::Cpu, |gpu| Device::Cuda(gpu as usize)));
            let (own, theirs) = UnixStream::pair()?;
            let process = Command::new(std::env::current_exe()?)
                .arg("device")
                .stdin(OwnedFd::from(theirs))
                .stdout(Stdio::null())
                .spawn()?;
            let answers = BufReader::new(own.try_clone()?);
            let name = format!("device {number} of {used} ({device})");
            let mut other = OtherDevice { device, name, process, orders: own, answers };
            let params = Box::new(params.clone());
            let order = Order::Open { params, inputs: job.inputs.clone(), gpu, threads: job.threads };
            send(&mut other.orders, &order, &[])?;
            Ok(other)
        };
        let others = (2..=used).zip(&job.others).map(start).collect::<io::Result<_>>();
        others.map(Self).map_err(StageError::io("start", "sure-neural device"))
    }

    /// Number of devices, that of the training itself included.
    pub(super) fn count(&self) -> usize {
        1 + self.0.len()
    }

    /// Names of all devices; `own` is that of the training itself.
    pub(super) fn names(&self, own: Device) -> String {
        let others = self.0.iter().map(|other| other.device.clone());
        std::iter::once(device_name(own)).chain(others).collect::<Vec<_>>().join(", ")
    }

    /// Waits until all have the model; `values`: its trained values.
    ///
    /// Errors: [`TrainError::Device`]
    pub(super) fn wait(&mut self, values: usize) -> Result<(), StageError> {
        for other in &mut self.0 {
            match other.answer()? {
                (Answer::Ready { num_values }, _) if num_values == values => {}
                _ => return Err(other.failed("has another model".to_owned())),
            }
        }
        Ok(())
    }

    /// Lets them prepare their micro batches, which replace those before.
    ///
    /// Errors: [`TrainError::Device`]
    pub(super) fn load(&mut self, micro_batches: &[Vec<usize>], accumulation: usize) -> Result<(), StageError> {
        let count = self.count();
        for (number, other) in (1..).zip(&mut self.0) {
            let own = own_share(micro_batches, accumulation, number, count).cloned().collect();
            other.send(&Order::Load(own), &[])?;
        }
        Ok(())
    }

    /// Begins an update of `count` utterances: sends the values, and the seeds of each micro batch.
    ///
    /// Errors: [`TrainError::Device`], what libtorch reports.
    pub(super) fn begin(&mut self, parameters: &Parameters, count: f64, seeds: &[Vec<u64>]) -> Result<(), StageError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (values, devices) = (bytes(&parameters.values).map_err(ModelError::from)?, self.count());
        for (number, other) in (1..).zip(&mut self.0) {
            let seeds: Vec<_> = seeds.iter().skip(number).step_by(devices).cloned().collect();
            if !seeds.is_empty() {
                other.send(&Order::Learn { count, seeds }, &values)?;
            }
        }
        Ok(())
    }

    /// The device that computes a micro batch of the update; none if it is that of the training itself.
    pub(super) fn of(&mut self, micro_batch: usize) -> Option<&mut OtherDevice> {
        let number = micro_batch % self.count();
        number.checked_sub(1).map(|at| &mut self.0[at])
    }
}

impl OtherDevice {
    /// Adds the gradient of its next part to that of the parameters. Returns the loss.
    ///
    /// Errors: [`TrainError::Device`], what libtorch reports.
    pub(super) fn add_gradient(&mut self, parameters: &mut Parameters) -> Result<f64, StageError> {
        let (Answer::Learned { loss }, gradient) = self.answer()? else {
            return Err(self.failed("answers out of turn".to_owned()));
        };
        let gradient = tensor(&gradient, parameters.values.device()).map_err(ModelError::from)?;
        parameters.add_gradient(&gradient).map_err(ModelError::from)?;
        Ok(f32::from_bits(loss).into())
    }

    fn answer(&mut self) -> Result<(Answer, Vec<u8>), StageError> {
        match receive(&mut self.answers) {
            Ok((Answer::Failed { chain, hint }, _)) => {
                let error = self.failed(format!("cannot go on: {}", chain.join(": ")));
                Err(if let Some(hint) = hint { error.with_hint(hint) } else { error })
            }
            Ok(answer) => Ok(answer),
            Err(_) => {
                let how = self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                let hint = "run it again: it goes on from the state that it saved last";
                Err(self.failed(format!("ended early: {how}")).transient().with_hint(hint))
            }
        }
    }

    fn send(&mut self, order: &Order, body: &[u8]) -> Result<(), StageError> {
        match send(&mut self.orders, order, body) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.answer().err().unwrap_or_else(|| self.failed(error.to_string()))), // its last words say why
        }
    }

    fn failed(&self, how: String) -> StageError {
        StageError::failed(TrainError::Device { device: self.name.clone(), how })
    }
}

impl Drop for OtherDevice {
    fn drop(&mut self) {
        let _ = self.process.kill(); // of one that has ended: nothing to do
        let _ = self.process.wait();
    }
}

/// Writes a message, and bytes after it.
pub(super) fn send(to: &mut UnixStream, message: &impl Serialize, body: &[u8]) -> io::Result<()> {
    let mut line = serde_json::to_vec(&(message, body.len()))?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.write_all(body)
}

/// Reads a message, and the bytes after it.
pub(super) fn receive<M: DeserializeOwned>(from: &mut BufReader<UnixStream>) -> io::Result<(M, Vec<u8>)> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let (message, length) = serde_json::from_str(&line)?;
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((message, body))
}

/// Bytes of a vector of 32-bit floats.
pub(super) fn bytes(vector: &Tensor) -> Result<Vec<u8>, TchError> {
    let vector = vector.f_to_device(Device::Cpu)?;
    let mut bytes = vec![0; 4 * vector.numel()];
    vector.f_copy_data_u8(&mut bytes, vector.numel())?;
    Ok(bytes)
}

/// A vector of 32-bit floats out of its bytes.
pub(super) fn tensor(bytes: &[u8], device: Device) -> Result<Tensor, TchError> {
    Tensor::f_from_data_size(bytes, &[(bytes.len() / 4) as i64], Kind::Float)?.f_to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_micro_batch_is_computed_once_in_the_order_of_its_device() {
        let batches: Vec<Vec<usize>> = (0..7).map(|row| vec![row]).collect();
        let share = |number, count| own_share(&batches, 4, number, count).flatten().copied().collect::<Vec<_>>();
        assert_eq!(share(0, 1), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!([share(0, 2), share(1, 2)], [vec![0, 2, 4, 6], vec![1, 3, 5]]);
        assert_eq!([share(0, 3), share(1, 3), share(2, 3)], [vec![0, 3, 4], vec![1, 5], vec![2, 6]]);
    }

    /// A process that ends with code 3, and the other end of its socket.
    fn other() -> (OtherDevice, UnixStream) {
        let (own, theirs) = UnixStream::pair().unwrap();
        let process = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let answers = BufReader::new(own.try_clone().unwrap());
        (
            OtherDevice { device: "cuda:1".to_owned(), name: "device 2 of 2 (cuda:1)".to_owned(), process, orders: own, answers },
            theirs,
        )
    }

    #[test]
    fn the_last_words_of_a_process_are_the_error_of_the_training() {
        let (mut device, mut socket) = other();
        let chain = vec!["out of memory".to_owned(), "4 GiB".to_owned()];
        send(&mut socket, &Answer::Failed { chain, hint: Some("set `batch_size = 1`".to_owned()) }, &[]).unwrap();
        drop(socket);
        // Until the socket is closed for sure: a process that another test starts has a copy of it for a moment.
        let error = std::iter::repeat_with(|| device.send(&Order::Load(vec![]), &[])).find_map(Result::err).unwrap();
        assert_eq!(error.to_string(), "device 2 of 2 (cuda:1) of this training cannot go on: out of memory: 4 GiB");
        assert_eq!((error.hint().as_deref(), error.is_transient()), (Some("set `batch_size = 1`"), false));

        let (mut device, socket) = other();
        drop(socket);
        let error = device.answer().err().unwrap();
        assert_eq!(error.to_string(), "device 2 of 2 (cuda:1) of this training ended early: exit status: 3");
        assert!(error.is_transient());
    }

    #[test]
    fn losses_and_gradients_arrive_bit_by_bit() {
        let (mut device, mut socket) = other();
        let gradient = Tensor::from_slice(&[f32::MIN_POSITIVE / 2.0, -1.5, f32::INFINITY]);
        send(&mut socket, &Answer::Learned { loss: f32::NAN.to_bits() }, &bytes(&gradient).unwrap()).unwrap();
        let zeros = Tensor::zeros([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let mut parameters = Parameters::new(vec![("a".to_owned(), zeros)], Kind::Float, |_| true).unwrap();
        assert!(device.add_gradient(&mut parameters).unwrap().is_nan());
        let sum = Vec::<f32>::try_from(&*parameters.gradient()).unwrap();
        assert_eq!(sum.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), [0x40_0000, 0xbfc0_0000, 0x7f80_0000]);
    }
}
