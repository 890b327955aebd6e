//! What libtorch can do and tch has no binding for, and kernels of our own for GPUs: the Rust side of the C++ in `native/`.
#![expect(unsafe_code, reason = "calls into C++, each with what it asks for beside it")]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::sync::OnceLock;

use tch::{Device, TchError, Tensor};

/// A C++ tensor, as tch points to it.
type Raw = *mut torch_sys::C_tensor;

unsafe extern "C" {
    fn sure_linears(
        results: *mut Raw,
        x: Raw,
        parts: *const Raw,
        count: usize,
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

/// A linear layer, with a low-rank update or without.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinearParts<'a> {
    /// (out, in).
    pub(crate) weight: &'a Tensor,
    /// (out).
    pub(crate) bias: &'a Tensor,
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

/// What `N` layers make of the same input (rows, in): (rows, out) each. Their gradients come back to `x` as one.
///
/// Errors: libtorch's, shapes that do not fit.
pub(crate) fn linears<const N: usize>(x: &Tensor, layers: [LinearParts; N]) -> Result<[Tensor; N], TchError> {
    let parts: Vec<Raw> = layers
        .iter()
        .flat_map(|layer| [Some(layer.weight), Some(layer.bias), layer.update.map(|it| it.down), layer.update.map(|it| it.up)])
        .flatten()
        .map(raw)
        .collect();
    let ranks = layers.map(|layer| layer.update.map_or(0, |update| update.down.size().first().copied().unwrap_or(0)));
    let scales = layers.map(|layer| layer.update.map_or(1.0, |update| update.scale));
    let mut results: [Raw; N] = [ptr::null_mut(); N];
    // SAFETY: `parts` are `parts.len()` tensors, borrowed until the call is over: four per layer of some rank, two per other layer;
    // `ranks`, `scales` and `results` have one place per layer; without a message every result is a new tensor, which is ours.
    unsafe {
        let (parts, count) = (parts.as_ptr(), parts.len());
        answer(sure_linears(results.as_mut_ptr(), raw(x), parts, count, ranks.as_ptr(), scales.as_ptr(), N))?;
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

/// Whether [`dropout`] and [`dropout_add`] work where `x` lies.
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
    let source = CString::new(include_str!("../native/kernels.cu")).map_err(|error| error.to_string())?;
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

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    fn leaf(shape: &[i64], trained: bool) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu)).set_requires_grad(trained)
    }

    struct Layer {
        weight: Tensor,
        bias: Tensor,
        update: Option<(Tensor, Tensor, f64)>,
    }

    impl Layer {
        fn new(out: i64, trained: bool, update: Option<(i64, f64)>) -> Self {
            let update = update.map(|(rank, scale)| (leaf(&[rank, 5], true), leaf(&[out, rank], true), scale));
            Self { weight: leaf(&[out, 5], trained), bias: leaf(&[out], trained), update }
        }

        fn parts(&self) -> LinearParts<'_> {
            let update = self.update.as_ref().map(|(down, up, scale)| LowRank { down, up, scale: *scale });
            LinearParts { weight: &self.weight, bias: &self.bias, update }
        }

        fn plain(&self, x: &Tensor) -> Tensor {
            let output = x.linear(&self.weight, Some(&self.bias));
            let update = self.update.as_ref();
            update.map_or(output.shallow_clone(), |(down, up, scale)| output + x.matmul(&down.tr()).matmul(&up.tr()) * *scale)
        }

        fn trained(&self) -> Vec<&Tensor> {
            let update = self.update.iter().flat_map(|(down, up, _)| [down, up]);
            [&self.weight, &self.bias].into_iter().chain(update).filter(|tensor| tensor.requires_grad()).collect()
        }
    }

    fn check(layers: &[Layer; 3], trained_input: bool) {
        let x = leaf(&[7, 5], trained_input);
        let found = linears(&x, layers.each_ref().map(Layer::parts)).unwrap();
        let expected = layers.each_ref().map(|layer| layer.plain(&x));
        let pulls = expected.each_ref().map(|expected| leaf(&expected.size(), false));
        // Twice the second result, so that its gradient is a sum; the third as a view of another order.
        let loss = |results: &[Tensor; 3]| {
            let [a, b, c] = [0, 1, 2].map(|at| (&results[at] * &pulls[at]).sum(Kind::Float));
            a + b + (&results[1] * &pulls[1]).sum(Kind::Float) + c + (results[2].tr() * pulls[2].tr()).sum(Kind::Float)
        };
        let mut wanted: Vec<&Tensor> = layers.iter().flat_map(Layer::trained).collect();
        wanted.extend(trained_input.then_some(&x));
        let gradients = [&found, &expected].map(|results| Tensor::run_backward(&[loss(results)], &wanted, false, false));
        let pairs = found.iter().zip(&expected).chain(gradients[0].iter().zip(&gradients[1]));
        for (found, expected) in pairs {
            assert_eq!(found.size(), expected.size());
            assert!((found - expected).abs().max().double_value(&[]) < 1e-4, "{found} {expected}");
        }
    }

    #[test]
    fn linears_are_those_of_autograd() {
        tch::manual_seed(11);
        for trained_input in [false, true] {
            let low_rank = |out, rank, scale| Layer::new(out, false, Some((rank, scale)));
            check(&[low_rank(3, 2, 0.5), low_rank(4, 2, 0.5), low_rank(3, 1, 1.0)], trained_input);
            check(&[low_rank(3, 2, 0.5), Layer::new(4, false, None), low_rank(3, 3, 2.0)], trained_input);
            check(&[Layer::new(3, true, None), Layer::new(4, true, Some((2, 0.5))), Layer::new(3, true, None)], trained_input);
        }
        let frozen = [3, 4, 3].map(|out| Layer::new(out, false, None));
        check(&frozen, true);
    }

    /// Known answer of Random123, the authors' own library, for Philox4x32 with ten rounds: counter and key of zeros.
    const WORDS: [u32; 4] = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];

    #[test]
    fn what_is_dropped_follows_from_the_published_generator() {
        for p in [0.1, 0.5, 0.9] {
            let ones = Tensor::ones([8], (Kind::Float, Device::Cpu));
            let found = Vec::<f32>::try_from(dropout(&ones, p, 0).unwrap()).unwrap();
            let threshold = (p * 65536.0_f64).round();
            let halves = WORDS.iter().flat_map(|word| [word & 0xffff, word >> 16]);
            let expected =
                halves.map(|half| if f64::from(half) < threshold { 0.0 } else { (65536.0 / (65536.0 - threshold)) as f32 });
            assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn dropout_is_the_same_forward_and_backward_in_every_kind_and_order() {
        for count in [1_i64, 511, 512, 70_001] {
            let (p, seed) = (0.3, 0x1234_5678_9abc_def0);
            let ones = Tensor::ones([count], (Kind::Float, Device::Cpu));
            let mask = dropout(&ones, p, seed).unwrap();
            let share = mask.eq(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
            assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / count as f64).sqrt(), "{share} of {count} dropped");
            assert!(count == 1 || dropout(&ones, p, seed + 1).unwrap() != mask, "another seed drops other numbers");
            let narrow = dropout(&ones.to_kind(Kind::BFloat16), p, seed).unwrap();
            assert_eq!(narrow, mask.to_kind(Kind::BFloat16));

            let [x, to, pull] = [true, true, false].map(|trained| leaf(&[count], trained));
            let found = dropout_add(&x, &to, p, seed).unwrap();
            assert!((&found - (&x * &mask + &to)).abs().max().double_value(&[]) < 1e-6);
            let gradients = Tensor::run_backward(&[(&found * &pull).sum(Kind::Float)], &[&x, &to], false, false);
            assert_eq!(gradients[0], &pull * &mask);
            assert_eq!(gradients[1], pull);
            // A transposed tensor is thinned in the order in which it is read.
            let turned = dropout(&x.detach().view([count, 1]).tr(), p, seed).unwrap();
            assert_eq!(turned.view(count), x.detach() * &mask);
        }
        assert!(dropout_add(&leaf(&[2], false), &leaf(&[3], false), 0.5, 1).is_err());
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_no_end() {
        let layer = Layer::new(3, false, Some((2, 1.0)));
        let error = linears(&leaf(&[7, 6], false), [layer.parts()]).unwrap_err().to_string();
        assert!(error.contains("7x6"), "{error}");
        let constants = AdamW { rate: 0.1, betas: [0.9, 0.9], weight_decay: 0.0, epsilon: 1e-8, step: 1 };
        let [a, b] = [leaf(&[2], false), leaf(&[3], false)];
        assert!(fused_adamw(&[a.shallow_clone()], &[b], &[a.shallow_clone()], &[a.shallow_clone()], constants).is_err());
    }
}

/// What only a GPU can show. `tests/kernels.rs` compares the kernels' arithmetic everywhere.
#[cfg(test)]
mod on_a_gpu {
    use tch::Kind;

    use super::*;

    /// Kernels and where they compute; none, said aloud, without a GPU.
    fn kernels() -> Option<(Kernels, Device)> {
        let device = crate::train::golden::device();
        if !device.is_cuda() {
            eprintln!("SKIPPED: kernels for GPUs; set SURE_TEST_DEVICE=cuda:0 where there is one");
            return None;
        }
        let there = Tensor::zeros([1], (Kind::Float, device));
        Some((Kernels::of(&there).unwrap_or_else(|| panic!("{:?}", load(&there))), device))
    }

    /// Inputs of both kinds, of sizes that end within a thread's share, one of them at an odd address.
    fn inputs(device: Device) -> Vec<Tensor> {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, device));
        let shapes = [random(&[3, 512]), random(&[1000, 77]), random(&[5]), random(&[4097]).narrow(0, 1, 4096)];
        shapes.iter().flat_map(|tensor| [tensor.shallow_clone(), tensor.to_kind(Kind::BFloat16)]).collect()
    }

    #[track_caller]
    fn assert_close(found: &Tensor, expected: &Tensor) {
        assert_eq!((found.size(), found.kind()), (expected.size(), expected.kind()));
        let allowed = if found.kind() == Kind::Float { 2e-6 } else { 1e-2 };
        let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
        let off = ((&found - &expected).abs() / expected.abs().clamp_min(1.0)).max().double_value(&[]);
        assert!(off <= allowed, "off by {off:e}");
    }

    /// What a kernel dropped is read off its result for ones; everything else must then be the plain operations with that mask.
    #[test]
    fn what_is_dropped_is_dropped_backward_too() {
        let Some((kernels, device)) = kernels() else { return };
        let (p, seed) = (0.3, 77);
        for x in inputs(device) {
            let zeros = x.zeros_like();
            let mask = dropout_add(&x.ones_like(), &zeros, p, seed).unwrap();
            let share = mask.eq(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
            let spread = 5.0 * (p * (1.0 - p) / x.numel() as f64).sqrt();
            assert!((share - p).abs() < spread, "{share} of {:?} dropped", x.size());
            assert_eq!(
                mask.to_device(Device::Cpu),
                dropout(&x.ones_like().to_device(Device::Cpu), p, seed).unwrap(),
                "as on a CPU"
            );
            let other = dropout_add(&x.ones_like(), &zeros, p, seed + 1).unwrap();
            assert!(x.numel() < 100 || other != mask, "another seed drops other numbers");

            let pull = x.randn_like();
            let leaf = || x.copy().detach().set_requires_grad(true);
            let (mine, plain) = (leaf(), leaf());
            let found = kernels.gelu_dropout(&mine, p, seed).unwrap();
            let expected = plain.gelu("none") * &mask;
            assert_close(&found, &expected);
            (&found * &pull).sum(Kind::Float).backward();
            (&expected * &pull).sum(Kind::Float).backward();
            assert_close(&mine.grad(), &plain.grad());

            let (mine, plain, onto, plain_onto) = (leaf(), leaf(), leaf(), leaf());
            let found = dropout_add(&mine, &onto, p, seed).unwrap();
            let expected = &plain * &mask + &plain_onto;
            assert_close(&found, &expected);
            (&found * &pull).sum(Kind::Float).backward();
            (&expected * &pull).sum(Kind::Float).backward();
            assert_close(&mine.grad(), &plain.grad());
            assert_close(&onto.grad(), &plain_onto.grad());
        }
    }

    #[test]
    fn norm_and_activation_at_once_are_those_of_libtorch() {
        let Some((kernels, device)) = kernels() else { return };
        for kind in [Kind::Float, Kind::BFloat16] {
            let random = |shape: &[i64]| Tensor::randn(shape, (kind, device));
            let (x, weight, bias) = (random(&[1001, 512]) * 3.0 + 1.0, random(&[512]), random(&[512]));
            let found = kernels.norm_gelu(&x, &weight, &bias, 1e-5).unwrap();
            assert_close(&found, &x.layer_norm([512], Some(&weight), Some(&bias), 1e-5, true).gelu("none"));
            assert!(kernels.norm_gelu(&x.narrow(1, 0, 256), &weight, &bias, 1e-5).is_err());
        }
    }
}
