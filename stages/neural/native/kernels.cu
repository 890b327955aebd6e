// Kernels that read and write memory once where libtorch's would several times. Compiled on the user's machine by NVRTC, for its GPU;
// kernels.cpp loads and starts them. What is dropped follows from a seed and the place of a number alone, so no mask is kept.

typedef unsigned short bf16;  // its bits
typedef unsigned int u32;
typedef unsigned long long u64;

// Eight numbers, the share of a thread.
template <class T>
struct Eight;

template <>
struct Eight<bf16> {
  static __device__ void load(const bf16* from, float* to) {
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    const u32 words[4] = {raw.x, raw.y, raw.z, raw.w};
    for (int i = 0; i < 4; ++i) {
      to[2 * i] = __uint_as_float(words[i] << 16);
      to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }
  static __device__ u32 narrowed(float value) {  // to the nearest, ties to even; NaN stays NaN
    const u32 bits = __float_as_uint(value);
    return value != value ? 0x7fc0u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  }
  static __device__ void store(const float* from, bf16* to) {
    u32 words[4];
    for (int i = 0; i < 4; ++i) words[i] = narrowed(from[2 * i]) | (narrowed(from[2 * i + 1]) << 16);
    *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
  }
  static __device__ float one(const bf16* from) { return __uint_as_float(u32(*from) << 16); }
  static __device__ void one(float from, bf16* to) { *to = bf16(narrowed(from)); }
};

template <>
struct Eight<float> {
  static __device__ void load(const float* from, float* to) {
    for (int i = 0; i < 2; ++i) reinterpret_cast<float4*>(to)[i] = reinterpret_cast<const float4*>(from)[i];
  }
  static __device__ void store(const float* from, float* to) {
    for (int i = 0; i < 2; ++i) reinterpret_cast<float4*>(to)[i] = reinterpret_cast<const float4*>(from)[i];
  }
  static __device__ float one(const float* from) { return *from; }
  static __device__ void one(float from, float* to) { *to = from; }
};

__device__ float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }

__device__ float gelu_slope(float x) {
  const float below = 0.5f * (1.0f + erff(x * 0.70710678118654752f));
  return below + x * 0.39894228040143268f * expf(-0.5f * x * x);
}

// Four random words for a place. Philox4x32 with ten rounds: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
__device__ uint4 philox(u64 place, u64 seed) {
  u32 a = u32(place), b = u32(place >> 32), c = 0, d = 0, key0 = u32(seed), key1 = u32(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const u64 first = 0xD2511F53ull * a, second = 0xCD9E8D57ull * c;
    a = u32(second >> 32) ^ b ^ key0;
    c = u32(first >> 32) ^ d ^ key1;
    b = u32(second);
    d = u32(first);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return make_uint4(a, b, c, d);
}

// What eight numbers are multiplied with: 0, or `scale` for those that stay. `threshold` of 65536 are dropped.
__device__ void keep(u64 group, u64 seed, u32 threshold, float scale, float* factors) {
  const uint4 random = philox(group, seed);
  const u32 words[4] = {random.x, random.y, random.z, random.w};
  for (int i = 0; i < 4; ++i) {
    factors[2 * i] = (words[i] & 0xffffu) < threshold ? 0.0f : scale;
    factors[2 * i + 1] = (words[i] >> 16) < threshold ? 0.0f : scale;
  }
}

struct GeluDropout {  // b is not read
  static constexpr bool reads_b = false;
  static __device__ float of(float a, float, float factor) { return gelu(a) * factor; }
};
struct GeluDropoutBack {  // a: the input, b: the gradient
  static constexpr bool reads_b = true;
  static __device__ float of(float a, float b, float factor) { return b * factor * gelu_slope(a); }
};
struct DropoutAdd {  // a: what may be dropped, b: what it is added to
  static constexpr bool reads_b = true;
  static __device__ float of(float a, float b, float factor) { return a * factor + b; }
};
struct DropoutBack {  // a: the gradient
  static constexpr bool reads_b = false;
  static __device__ float of(float a, float, float factor) { return a * factor; }
};

// One thread for eight numbers.
template <class T, class Action>
__device__ void elementwise(const T* a, const T* b, T* out, u64 count, u64 seed, u32 threshold, float scale) {
  const u64 group = u64(blockIdx.x) * blockDim.x + threadIdx.x, start = group * 8;
  if (start >= count) return;
  float factors[8];
  keep(group, seed, threshold, scale, factors);
  if (start + 8 <= count) {
    alignas(16) float of_a[8], of_b[8] = {}, result[8];
    Eight<T>::load(a + start, of_a);
    if (Action::reads_b) Eight<T>::load(b + start, of_b);
    for (int i = 0; i < 8; ++i) result[i] = Action::of(of_a[i], of_b[i], factors[i]);
    Eight<T>::store(result, out + start);
  } else {
    for (u64 i = 0; start + i < count; ++i) {
      const float of_b = Action::reads_b ? Eight<T>::one(b + start + i) : 0.0f;
      Eight<T>::one(Action::of(Eight<T>::one(a + start + i), of_b, factors[i]), out + start + i);
    }
  }
}

__device__ float sum_of_warp(float value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

// gelu(layer_norm(x)) of rows of 512, one warp for each.
template <class T>
__device__ void norm_gelu(const T* x, const T* weight, const T* bias, T* out, u64 rows, float epsilon) {
  const u64 row = u64(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  const int lane = threadIdx.x % 32;
  alignas(16) float values[2][8];
  float sum = 0.0f, squares = 0.0f;
  for (int half = 0; half < 2; ++half) {
    Eight<T>::load(x + row * 512 + half * 256 + lane * 8, values[half]);
    for (int i = 0; i < 8; ++i) sum += values[half][i];
  }
  const float mean = sum_of_warp(sum) / 512.0f;
  for (int half = 0; half < 2; ++half)
    for (int i = 0; i < 8; ++i) {
      values[half][i] -= mean;
      squares += values[half][i] * values[half][i];
    }
  const float scale = rsqrtf(sum_of_warp(squares) / 512.0f + epsilon);
  for (int half = 0; half < 2; ++half) {
    const int at = half * 256 + lane * 8;
    alignas(16) float gain[8], shift[8];
    Eight<T>::load(weight + at, gain);
    Eight<T>::load(bias + at, shift);
    for (int i = 0; i < 8; ++i) values[half][i] = gelu(values[half][i] * scale * gain[i] + shift[i]);
    Eight<T>::store(values[half], out + row * 512 + at);
  }
}

#define ELEMENTWISE(name, Action)                                                                                             \
  extern "C" __global__ void name##_bf16(const bf16* a, const bf16* b, bf16* out, u64 n, u64 seed, u32 threshold, float scale) { \
    elementwise<bf16, Action>(a, b, out, n, seed, threshold, scale);                                                            \
  }                                                                                                                           \
  extern "C" __global__ void name##_f32(const float* a, const float* b, float* out, u64 n, u64 seed, u32 threshold, float scale) { \
    elementwise<float, Action>(a, b, out, n, seed, threshold, scale);                                                           \
  }
ELEMENTWISE(gelu_dropout, GeluDropout)
ELEMENTWISE(gelu_dropout_back, GeluDropoutBack)
ELEMENTWISE(dropout_add, DropoutAdd)
ELEMENTWISE(dropout_back, DropoutBack)

extern "C" __global__ void norm_gelu_bf16(const bf16* x, const bf16* w, const bf16* b, bf16* out, u64 rows, float epsilon) {
  norm_gelu<bf16>(x, w, b, out, rows, epsilon);
}
extern "C" __global__ void norm_gelu_f32(const float* x, const float* w, const float* b, float* out, u64 rows, float epsilon) {
  norm_gelu<float>(x, w, b, out, rows, epsilon);
}
