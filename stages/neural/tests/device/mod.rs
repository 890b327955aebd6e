//! Where tests against reference numbers compute: on the CPU, or where `SURE_TEST_DEVICE` says, as in `cuda:0`.

use std::sync::OnceLock;

use tch::{Cuda, Device};

use super::{choose, open_cuda_library};

/// The device, with libtorch's CUDA half opened first where one is asked for.
pub(crate) fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    *DEVICE.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "a test may be told where to compute")]
        let Ok(name) = std::env::var("SURE_TEST_DEVICE") else { return Device::Cpu };
        let index: u32 = name.strip_prefix("cuda:").and_then(|index| index.parse().ok()).expect("SURE_TEST_DEVICE=cuda:N");
        let opened = open_cuda_library();
        let device = choose(Some(index));
        assert!(device.is_cuda(), "no {name}: {opened:?}, {} devices", Cuda::device_count());
        device
    })
}

/// How many times the tolerance of a CPU is allowed: sums on a GPU are taken in another order.
pub(crate) fn slack() -> f64 {
    if device().is_cuda() { 10.0 } else { 1.0 }
}
