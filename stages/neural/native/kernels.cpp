// Loads and starts the kernels of kernels.cu: compiled by NVRTC when they are first asked for, started through CUDA's driver. Both
// libraries are opened by name, so that a machine without them still runs everything else.

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/DeviceGuard.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>

#include <map>
#include <vector>

#include "common.h"

namespace {

using at::Tensor;

// Opens the first library that there is.
void* open(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (void* library = dlopen(name, RTLD_NOW | RTLD_GLOBAL)) return library;
  return nullptr;
}

template <class F>
F symbol(void* library, const char* name) {
  void* found = dlsym(library, name);
  TORCH_CHECK(found, "no ", name, " in the library");
  return reinterpret_cast<F>(found);
}

// Some of CUDA's driver, and of NVRTC: CUDA Driver API and NVRTC reference, version 12 and later.
struct Driver {
  using Handle = void*;
  void* library = open({"libcuda.so.1"});
  void check(int status, const char* what) const { TORCH_CHECK(status == 0, what, ": CUDA error ", status); }

  std::string architecture() const {
    int device = 0, major = 0, minor = 0;
    check(symbol<int (*)(int*)>(library, "cuCtxGetDevice")(&device), "cuCtxGetDevice");
    const auto attribute = symbol<int (*)(int*, int, int)>(library, "cuDeviceGetAttribute");
    check(attribute(&major, 75, device), "cuDeviceGetAttribute");  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    check(attribute(&minor, 76, device), "cuDeviceGetAttribute");  // ..._MINOR
    return "--gpu-architecture=sm_" + std::to_string(major) + std::to_string(minor);
  }

  Handle load(const std::string& binary) const {
    Handle module = nullptr;
    check(symbol<int (*)(Handle*, const void*)>(library, "cuModuleLoadData")(&module, binary.data()), "cuModuleLoadData");
    return module;
  }

  Handle function(Handle module, const std::string& name) const {
    Handle function = nullptr;
    const auto get = symbol<int (*)(Handle*, Handle, const char*)>(library, "cuModuleGetFunction");
    check(get(&function, module, name.c_str()), name.c_str());
    return function;
  }

  void launch(Handle function, uint64_t blocks, unsigned threads, void** arguments) const {
    using Launch = int (*)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle, void**, void**);
    static const Launch launch = symbol<Launch>(library, "cuLaunchKernel");
    // On the default stream, which libtorch uses when nobody chooses another.
    check(launch(function, static_cast<unsigned>(blocks), 1, 1, threads, 1, 1, 0, nullptr, arguments, nullptr), "cuLaunchKernel");
  }
};

std::string compile(const char* source, const std::string& architecture) {
  void* library = open({"libnvrtc.so.13", "libnvrtc.so.12"});
  if (!library) {
    // libtorch's own helper knows where its NVRTC is.
    Dl_info torch{};
    dladdr(reinterpret_cast<void*>(&at::detail::getCUDAHooks), &torch);
    char real[PATH_MAX] = "";
    const std::string path = torch.dli_fname && realpath(torch.dli_fname, real) ? real : "";
    open({(path.substr(0, path.rfind('/') + 1) + "libcaffe2_nvrtc.so").c_str()});
    library = open({"libnvrtc.so.13", "libnvrtc.so.12"});
  }
  TORCH_CHECK(library, "NVRTC (libnvrtc.so) does not open");
  using Program = void*;
  Program program = nullptr;
  const auto create = symbol<int (*)(Program*, const char*, const char*, int, const char* const*, const char* const*)>(
      library, "nvrtcCreateProgram");
  TORCH_CHECK(create(&program, source, "kernels.cu", 0, nullptr, nullptr) == 0, "nvrtcCreateProgram failed");
  const char* options[] = {architecture.c_str(), "--std=c++17"};
  const auto run = symbol<int (*)(Program, int, const char* const*)>(library, "nvrtcCompileProgram");
  const auto read = [&](const char* size_of, const char* get) {
    size_t size = 0;
    symbol<int (*)(Program, size_t*)>(library, size_of)(program, &size);
    std::string text(size, '\0');
    symbol<int (*)(Program, char*)>(library, get)(program, text.data());
    return text;
  };
  TORCH_CHECK(run(program, 2, options) == 0, "kernels.cu: ", read("nvrtcGetProgramLogSize", "nvrtcGetProgramLog"));
  return read("nvrtcGetCUBINSize", "nvrtcGetCUBIN");
}

struct Kernels {
  Driver driver;
  std::map<std::string, Driver::Handle> functions;
  int device;

  Kernels(const char* source, const Tensor& like) : device(like.device().index()) {
    TORCH_CHECK(driver.library, "CUDA's driver (libcuda.so.1) does not open");
    const c10::DeviceGuard guard(like.device());  // its context is the one that a module is loaded into
    const Driver::Handle module = driver.load(compile(source, driver.architecture()));
    for (const char* name : {"gelu_dropout", "gelu_dropout_back", "dropout_add", "dropout_back", "norm_gelu"})
      for (const char* type : {"_bf16", "_f32"}) functions[std::string(name) + type] = driver.function(module, std::string(name) + type);
  }

  void start(const std::string& name, const Tensor& like, uint64_t blocks, unsigned threads, std::vector<void*> arguments) const {
    if (blocks == 0) return;
    TORCH_CHECK(like.device().index() == device, "compiled for another GPU");
    const c10::DeviceGuard guard(like.device());
    const bool narrow = like.scalar_type() == at::kBFloat16;
    TORCH_CHECK(narrow || like.scalar_type() == at::kFloat, "expected bfloat16 or float32");
    driver.launch(functions.at(name + (narrow ? "_bf16" : "_f32")), blocks, threads, arguments.data());
  }
};

const Kernels* kernels = nullptr;

// Rows of memory behind each other, from an address that 16 bytes can be read at.
Tensor readable(const Tensor& tensor) {
  const Tensor row = tensor.contiguous();
  return reinterpret_cast<uintptr_t>(row.data_ptr()) % 16 == 0 ? row : row.clone();
}

}  // namespace

Tensor sure::elementwise_on_gpu(const char* name, const Tensor& a, const Tensor& b, double p, int64_t seed) {
  const Tensor first = readable(a), second = b.defined() ? readable(b) : first, out = at::empty_like(first);
  const void *of_first = first.data_ptr(), *of_second = second.data_ptr();
  void* of_out = out.data_ptr();
  uint64_t count = first.numel(), key = static_cast<uint64_t>(seed);
  sure::Odds odds(p);
  const unsigned threads = 256;
  const uint64_t blocks = (count + 8 * threads - 1) / (8 * threads);
  kernels->start(name, first, blocks, threads, {&of_first, &of_second, &of_out, &count, &key, &odds.threshold, &odds.scale});
  return out;
}

extern "C" {

const char* sure_load_kernels(const char* source, Tensor* like) {
  return sure::guarded([&] { kernels = new Kernels(source, *like); });  // for the life of the process
}

const char* sure_norm_gelu(Tensor** result, Tensor* x, Tensor* weight, Tensor* bias, double epsilon) {
  return sure::guarded([&] {
    const Tensor rows = readable(*x), gain = readable(*weight), shift = readable(*bias), out = at::empty_like(rows);
    TORCH_CHECK(rows.dim() == 2 && rows.size(1) == 512 && gain.numel() == 512 && shift.numel() == 512, "expected rows of 512");
    const void *of_rows = rows.data_ptr(), *of_gain = gain.data_ptr(), *of_shift = shift.data_ptr();
    void* of_out = out.data_ptr();
    uint64_t count = rows.size(0);
    float small = static_cast<float>(epsilon);
    const unsigned threads = 256;
    kernels->start("norm_gelu", rows, (count + 7) / 8, threads, {&of_rows, &of_gain, &of_shift, &of_out, &count, &small});
    *result = new Tensor(out);
  });
}

}  // extern "C"
