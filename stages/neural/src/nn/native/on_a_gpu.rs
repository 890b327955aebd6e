//! Tests that need a GPU. `tests/kernels.rs` compares the kernels' arithmetic everywhere.

#[path = "../../../tests/close/mod.rs"]
mod close;

use tch::Kind;

use super::*;

/// Kernels and where they compute; none, said aloud, without a GPU.
fn kernels() -> Option<(Kernels, Device)> {
    let device = crate::golden::device();
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

/// One rounding of a kernel beside libtorch's.
#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor) {
    close::assert_close(found, expected, [2e-6, 1e-2]);
}

/// Checks a kernel against plain operations: its mask is read off its result for ones.
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
        assert_eq!(mask.to_device(Device::Cpu), dropout(&x.ones_like().to_device(Device::Cpu), p, seed).unwrap(), "as on a CPU");
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
