//! The arithmetic of the kernels for GPUs, on the CPU: `native/kernels.cu` compiled by the host's compiler, with the few words of
//! CUDA that it uses defined for it, and compared with libtorch. Their way onto a GPU is tested where there is one.
#![expect(clippy::unwrap_used, unsafe_code, reason = "a test stops at the first surprise; it calls into C++")]

mod close;

use std::ffi::c_void;
use std::path::Path;
use std::process::Command;

use libloading::{Library, Symbol};
use tch::{Device, Kind, Tensor};

/// Words of CUDA, for one block at a time. The lanes of a warp are threads that wait for each other where they exchange numbers.
const BEFORE: &str = r"
#include <barrier>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>
#define __global__
#define __device__
struct Index { unsigned x; };
static thread_local Index blockIdx, blockDim, threadIdx;
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }
static unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }
static float rsqrtf(float value) { return 1.0f / sqrtf(value); }
static float exchange[32];
static std::barrier<> lanes(32);
static float __shfl_xor_sync(unsigned, float value, int distance) {
  exchange[threadIdx.x] = value;
  lanes.arrive_and_wait();
  const float other = exchange[threadIdx.x ^ distance];
  lanes.arrive_and_wait();
  return other;
}
";

const AFTER: &str = r#"
template <class Kernel>
static void warps(u64 blocks, Kernel kernel) {
  std::vector<std::thread> threads;
  for (unsigned lane = 0; lane < 32; ++lane)
    threads.emplace_back([=] {
      for (unsigned block = 0; block < blocks; ++block) {
        blockIdx = {block}, blockDim = {32}, threadIdx = {lane};
        kernel();
      }
    });
  for (auto& thread : threads) thread.join();
}
#define RUN(name) \
  extern "C" void run_##name(const void* a, const void* b, void* out, u64 n, u64 seed, u32 threshold, float scale) { \
    warps((n + 255) / 256, [=] { name##_bf16((const bf16*)a, (const bf16*)b, (bf16*)out, n, seed, threshold, scale); }); \
  } \
  extern "C" void run_##name##_f32(const void* a, const void* b, void* out, u64 n, u64 seed, u32 threshold, float scale) { \
    warps((n + 255) / 256, [=] { name##_f32((const float*)a, (const float*)b, (float*)out, n, seed, threshold, scale); }); \
  }
RUN(gelu_dropout) RUN(gelu_dropout_back) RUN(dropout_add) RUN(dropout_back)
extern "C" void run_norm_gelu(const void* x, const void* w, const void* b, void* out, u64 rows, float epsilon) {
  warps(rows, [=] { norm_gelu_bf16((const bf16*)x, (const bf16*)w, (const bf16*)b, (bf16*)out, rows, epsilon); });
}
extern "C" void run_norm_gelu_f32(const void* x, const void* w, const void* b, void* out, u64 rows, float epsilon) {
  warps(rows, [=] { norm_gelu_f32((const float*)x, (const float*)w, (const float*)b, (float*)out, rows, epsilon); });
}
extern "C" void run_philox(u64 place, u64 seed, unsigned* words) {
  const uint4 random = philox(place, seed);
  words[0] = random.x, words[1] = random.y, words[2] = random.z, words[3] = random.w;
}
"#;

type Elementwise = unsafe extern "C" fn(*const c_void, *const c_void, *mut c_void, u64, u64, u32, f32);
type NormGelu = unsafe extern "C" fn(*const c_void, *const c_void, *const c_void, *mut c_void, u64, f32);
type Philox = unsafe extern "C" fn(u64, u64, *mut u32);

/// The kernels as functions of the host.
struct Host {
    library: Library,
    _folder: tempfile::TempDir,
}

impl Host {
    fn compile() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kernels = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("native/kernels.cu")).unwrap();
        let (source, library) = (folder.path().join("kernels.cpp"), folder.path().join("kernels.so"));
        std::fs::write(&source, format!("{BEFORE}\n{kernels}\n{AFTER}")).unwrap();
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let options = ["-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", "-o"];
        let done = Command::new(compiler).args(options).args([&library, &source]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        // SAFETY: what was just compiled runs nothing when it is opened.
        Self { library: unsafe { Library::new(&library) }.unwrap(), _folder: folder }
    }

    /// `action(a, b)` of tensors of one kind, on the CPU.
    fn elementwise(&self, name: &str, a: &Tensor, b: &Tensor, p: f64, seed: u64) -> Tensor {
        let out = a.empty_like();
        let threshold = (p * 65536.0).round();
        let scale = 65536.0 / (65536.0 - threshold);
        // SAFETY: the signature is that of the source above; the tensors lie in one piece and outlive the call.
        unsafe {
            let run: Symbol<Elementwise> = self.library.get(symbol(name, a.kind()).as_bytes()).unwrap();
            run(a.data_ptr(), b.data_ptr(), out.data_ptr(), a.numel() as u64, seed, threshold as u32, scale as f32);
        }
        out
    }

    fn norm_gelu(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let out = x.empty_like();
        // SAFETY: as above.
        unsafe {
            let run: Symbol<NormGelu> = self.library.get(symbol("norm_gelu", x.kind()).as_bytes()).unwrap();
            run(x.data_ptr(), weight.data_ptr(), bias.data_ptr(), out.data_ptr(), x.size()[0] as u64, 1e-5);
        }
        out
    }
}

fn symbol(name: &str, kind: Kind) -> String {
    format!("run_{name}{}", if kind == Kind::Float { "_f32" } else { "" })
}

/// Libtorch rounds between two operations, a kernel does not: three roundings of 2^-9.
#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor) {
    close::assert_close(found, expected, [4e-6, 1.2e-2]);
}

#[test]
fn kernels_compute_what_libtorch_does() {
    let host = Host::compile();
    tch::manual_seed(3);
    for kind in [Kind::Float, Kind::BFloat16] {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind);
        for count in [1, 7, 8, 4096, 5003] {
            let (x, other, ones, zeros) =
                (random(&[count]), random(&[count]), random(&[count]).ones_like(), random(&[count]).zeros_like());
            let (p, seed) = (0.3, 0x1234_5678_9abc_def0);
            // What stays and what is dropped, as a factor.
            let mask = host.elementwise("dropout_add", &ones, &zeros, p, seed);
            let dropped = mask.eq(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
            let spread = 5.0 * (p * (1.0 - p) / count as f64).sqrt();
            assert!((dropped - p).abs() < spread, "{dropped} of {count} dropped");

            assert_close(&host.elementwise("dropout_add", &x, &other, p, seed), &(&x * &mask + &other));
            assert_close(&host.elementwise("dropout_back", &x, &zeros, p, seed), &(&x * &mask));
            let leaf = x.copy().set_requires_grad(true);
            let expected = leaf.gelu("none") * &mask;
            assert_close(&host.elementwise("gelu_dropout", &x, &zeros, p, seed), &expected.detach());
            (&expected * &other).sum(Kind::Float).backward();
            assert_close(&host.elementwise("gelu_dropout_back", &x, &other, p, seed), &leaf.grad());
        }
        let (x, weight, bias) = (random(&[5, 512]) * 3.0 + 1.0, random(&[512]), random(&[512]));
        let expected = x.layer_norm([512], Some(&weight), Some(&bias), 1e-5, true).gelu("none");
        assert_close(&host.norm_gelu(&x, &weight, &bias), &expected);
    }
}

/// Known answers of Random123, the authors' own library, for Philox4x32 with ten rounds (`kat_vectors`): counters and keys of zeros.
#[test]
fn random_words_are_the_published_ones() {
    let host = Host::compile();
    let mut words = [0_u32; 4];
    // SAFETY: the signature is that of the source above.
    unsafe {
        let run: Symbol<Philox> = host.library.get(b"run_philox").unwrap();
        run(0, 0, words.as_mut_ptr());
    }
    assert_eq!(words, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
}
