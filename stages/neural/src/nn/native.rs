//! Functions of libtorch that tch does not bind, and kernels of our own for GPUs: the Rust side of the C++ in `native/`.
#![expect(unsafe_code, reason = "calls into C++, each with what it asks for beside it")]

#[cfg(test)]
mod on_a_gpu;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::sync::OnceLock;

use tch::{Device, TchError, Tensor};

/// A C++ tensor, as tch points to it.
type Raw = *mut torch_sys::C_tensor;

unsafe extern "C" {
    fn sure_libtorch_version() -> *const c_char;
    fn sure_linears(
        results: *mut Raw,
        x: Raw,
        parts: *const Raw,
        count: usize,
        biased: *const i64,
        ranks: *const i64,
        scales: *const f64,
        layers: usize,
    ) -> *const c_char;
    fn sure_fused_adamw(
        values: *const Raw,
        gradients: *const Raw,
        first: *const Raw,
        second: *const Raw,
        count: usize,
        rate: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
        step: f64,
    ) -> *const c_char;
    fn sure_load_kernels(source: *const c_char, like: Raw) -> *const c_char;
    fn sure_dropout(result: *mut Raw, x: Raw, p: f64, seed: i64) -> *const c_char;
    fn sure_gelu_dropout(result: *mut Raw, x: Raw, p: f64, seed: i64) -> *const c_char;
    fn sure_dropout_add(result: *mut Raw, x: Raw, to: Raw, p: f64, seed: i64) -> *const c_char;
    fn sure_norm_gelu(result: *mut Raw, x: Raw, weight: Raw, bias: Raw, epsilon: f64) -> *const c_char;
}

/// Returns the version of the libtorch that this process has loaded, for example `2.11.0`.
pub fn libtorch_version() -> String {
    // SAFETY: the function takes nothing, and its string lives as long as the process.
    let version = unsafe { CStr::from_ptr(sure_libtorch_version()) };
    version.to_string_lossy().into_owned()
}

/// A linear layer, with a low-rank update or without.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinearParts<'a> {
    /// (out, in).
    pub(crate) weight: &'a Tensor,
    /// (out).
    pub(crate) bias: Option<&'a Tensor>,
    pub(crate) update: Option<LowRank<'a>>,
}

/// `scale * up(down(x))`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LowRank<'a> {
    /// (rank, in).
    pub(crate) down: &'a Tensor,
    /// (out, rank).
    pub(crate) up: &'a Tensor,
    pub(crate) scale: f64,
}

/// Outputs of `N` layers for the same input (rows, in): (rows, out) each. Their gradients come back to `x` as one.
///
/// Errors: libtorch's, shapes that do not fit.
pub(crate) fn linears<const N: usize>(x: &Tensor, layers: [LinearParts; N]) -> Result<[Tensor; N], TchError> {
    let parts: Vec<Raw> = layers
        .iter()
        .flat_map(|layer| [Some(layer.weight), layer.bias, layer.update.map(|it| it.down), layer.update.map(|it| it.up)])
        .flatten()
        .map(raw)
        .collect();
    let biased = layers.map(|layer| i64::from(layer.bias.is_some()));
    let ranks = layers.map(|layer| layer.update.map_or(0, |update| update.down.size().first().copied().unwrap_or(0)));
    let scales = layers.map(|layer| layer.update.map_or(1.0, |update| update.scale));
    let mut results: [Raw; N] = [ptr::null_mut(); N];
    // SAFETY: `parts` are `parts.len()` tensors, borrowed until the call is over: a weight per layer, a bias where `biased` is 1, and
    // two more where the rank is above 0; `biased`, `ranks`, `scales` and `results` have one place per layer; without a message every result is a new tensor, which is ours.
    unsafe {
        let (parts, count) = (parts.as_ptr(), parts.len());
        let (biased, ranks, scales) = (biased.as_ptr(), ranks.as_ptr(), scales.as_ptr());
        answer(sure_linears(results.as_mut_ptr(), raw(x), parts, count, biased, ranks, scales, N))?;
        Ok(results.map(|result| Tensor::from_ptr(result)))
    }
}

/// Constants of an update by AdamW.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamW {
    pub(crate) rate: f64,
    pub(crate) betas: [f64; 2],
    pub(crate) weight_decay: f64,
    pub(crate) epsilon: f64,
    /// Counts from 1.
    pub(crate) step: u64,
}

/// One update of all tensors in one pass over memory: libtorch's own fused kernel. The slices are of equal length, their tensors
/// of equal shapes, 32 bits, on one device.
///
/// Errors: libtorch's, and lengths that differ.
pub(crate) fn fused_adamw(
    values: &[Tensor],
    gradients: &[Tensor],
    first: &[Tensor],
    second: &[Tensor],
    constants: AdamW,
) -> Result<(), TchError> {
    let count = values.len();
    let fits = |tensors: &&[Tensor]| {
        tensors.len() == count && tensors.iter().zip(values).all(|(tensor, value)| tensor.size() == value.size())
    };
    if ![gradients, first, second].iter().all(fits) {
        return Err(TchError::Shape("expected gradients and moments of the values' shapes".to_owned())); // the kernel does not look
    }
    if count == 0 {
        return Ok(());
    }
    let [values, gradients, first, second] =
        [values, gradients, first, second].map(|tensors| tensors.iter().map(raw).collect::<Vec<Raw>>());
    let AdamW { rate, betas: [beta1, beta2], weight_decay, epsilon, step } = constants;
    // SAFETY: each list has `count` pointers to tensors that are borrowed until the call is over.
    unsafe {
        answer(sure_fused_adamw(
            values.as_ptr(),
            gradients.as_ptr(),
            first.as_ptr(),
            second.as_ptr(),
            count,
            rate,
            beta1,
            beta2,
            weight_decay,
            epsilon,
            step as f64,
        ))
    }
}

/// Zeroes numbers of `x` with probability `p` and scales the others by 1 / (1 - p). The same seed drops the same, wherever it is
/// computed and by however many threads.
///
/// Errors: libtorch's; on a GPU without [`Kernels`], see [`draws_on`].
pub(crate) fn dropout(x: &Tensor, p: f64, seed: u64) -> Result<Tensor, TchError> {
    // SAFETY: see `made`.
    made(|result| unsafe { sure_dropout(result, raw(x), p, seed.cast_signed()) })
}

/// `to + dropout(x)`, of equal shapes and kinds.
///
/// Errors: as [`dropout`], and other shapes.
pub(crate) fn dropout_add(x: &Tensor, to: &Tensor, p: f64, seed: u64) -> Result<Tensor, TchError> {
    if x.size() != to.size() || x.kind() != to.kind() {
        return Err(TchError::Shape(format!("expected two of a kind, found {:?} and {:?}", x.size(), to.size())));
    }
    // SAFETY: see `made`.
    made(|result| unsafe { sure_dropout_add(result, raw(x), raw(to), p, seed.cast_signed()) })
}

/// True if [`dropout`] and [`dropout_add`] work on the device of `x`.
pub(crate) fn draws_on(x: &Tensor) -> bool {
    x.device() == Device::Cpu || Kernels::of(x).is_some()
}

/// Kernels of our own, which pass over memory once where libtorch's would two or three times. They exist where there is a GPU of
/// NVIDIA's and NVRTC to compile them; everything has another way where they do not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernels(());

/// The rows that [`Kernels::norm_gelu`] takes: the width of the published convolutions.
pub(crate) const NORM_GELU_WIDTH: i64 = 512;

#[expect(clippy::unused_self, reason = "who has one knows that they are loaded")]
impl Kernels {
    /// Those for the GPU that `tensor` lies on, compiled when they are first asked for; none for a tensor on the CPU.
    pub(crate) fn of(tensor: &Tensor) -> Option<Self> {
        static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
        if !tensor.device().is_cuda() {
            return None;
        }
        LOADED.get_or_init(|| load(tensor)).as_ref().ok().map(|()| Self(()))
    }

    /// `dropout(gelu(x))`; the same seed drops the same.
    pub(crate) fn gelu_dropout(self, x: &Tensor, p: f64, seed: u64) -> Result<Tensor, TchError> {
        // SAFETY: see `made`.
        made(|result| unsafe { sure_gelu_dropout(result, raw(x), p, seed.cast_signed()) })
    }

    /// `gelu(layer_norm(x))` of rows (N, [`NORM_GELU_WIDTH`]), without a graph.
    pub(crate) fn norm_gelu(self, x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor, TchError> {
        // SAFETY: see `made`.
        made(|result| unsafe { sure_norm_gelu(result, raw(x), raw(weight), raw(bias), epsilon) })
    }
}

fn load(like: &Tensor) -> Result<(), String> {
    let source = CString::new(include_str!("../../native/kernels.cu")).map_err(|error| error.to_string())?;
    // SAFETY: a string that ends with a zero byte, and a tensor, read before the call is over.
    unsafe { answer(sure_load_kernels(source.as_ptr(), raw(like))) }.map_err(|error| error.to_string())
}

/// The tensor that a function sets a pointer to, unless it gives a message. Tensors it is given are borrowed until it is over.
fn made(make: impl FnOnce(*mut Raw) -> *const c_char) -> Result<Tensor, TchError> {
    let mut result = ptr::null_mut();
    let message = make(&raw mut result);
    // SAFETY: a message or nothing, as every function of ours gives; without a message there is a new tensor, which is ours.
    unsafe {
        answer(message)?;
        Ok(Tensor::from_ptr(result))
    }
}

fn raw(tensor: &Tensor) -> Raw {
    tensor.as_ptr().cast_mut()
}

/// # Safety
/// `message` is null or a string that ends with a zero byte.
unsafe fn answer(message: *const c_char) -> Result<(), TchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: as the caller says.
    let text = unsafe { CStr::from_ptr(message) };
    Err(TchError::Torch(text.to_string_lossy().into_owned()))
}
