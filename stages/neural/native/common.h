// What the files here share.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <string>

namespace sure {

inline thread_local std::string message;

// Runs an action; returns nothing, or a message of what went wrong, which lives until the same thread's next call.
template <class Action>
const char* guarded(Action action) {
  try {
    action();
    return nullptr;
  } catch (const c10::Error& error) {
    message = error.what_without_backtrace();
  } catch (const std::exception& error) {
    message = error.what();
  } catch (...) {
    message = "an unknown C++ exception";
  }
  return message.c_str();
}

// How dropout with a probability is drawn: of 65536 equally likely numbers `threshold` drop, and what stays is multiplied with `scale`.
struct Odds {
  uint32_t threshold;
  float scale;
  explicit Odds(double p)
      : threshold(static_cast<uint32_t>(std::lround(p * 65536.0))), scale(static_cast<float>(65536.0 / (65536.0 - threshold))) {}
};

// A kernel of kernels.cu over the numbers of `a`, and of `b` where it reads two: some of them dropped, as `p` and `seed` say.
at::Tensor elementwise_on_gpu(const char* kernel, const at::Tensor& a, const at::Tensor& b, double p, int64_t seed);

}  // namespace sure
