// Dropout that follows from a seed and the place of a number alone: no mask is kept, and all threads draw at once, where libtorch's
// generator for the CPU has one number drawn after the other. The same numbers stay as on a GPU (kernels.cu).

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "common.h"

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t GROUPS = 64, BLOCK = GROUPS * 8;

#if defined(__x86_64__) && defined(__gnu_linux__)
#define FOR_NEWER_PROCESSORS __attribute__((target_clones("avx2", "default")))
#else
#define FOR_NEWER_PROCESSORS
#endif

// What the numbers of a block are multiplied with: 0, or `scale` for those that stay. Philox4x32 with ten rounds, as in kernels.cu;
// round by round over all groups, so that a processor does several at once.
FOR_NEWER_PROCESSORS void factors_of(uint64_t first, uint64_t seed, uint32_t threshold, float scale, float* factors) {
  uint32_t a[GROUPS], b[GROUPS], c[GROUPS], d[GROUPS];
  for (int64_t group = 0; group < GROUPS; ++group) {
    a[group] = static_cast<uint32_t>(first + group);
    b[group] = static_cast<uint32_t>((first + group) >> 32);
    c[group] = d[group] = 0;
  }
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int64_t group = 0; group < GROUPS; ++group) {
      const uint64_t left = uint64_t{0xD2511F53u} * a[group], right = uint64_t{0xCD9E8D57u} * c[group];
      a[group] = static_cast<uint32_t>(right >> 32) ^ b[group] ^ key0;
      c[group] = static_cast<uint32_t>(left >> 32) ^ d[group] ^ key1;
      b[group] = static_cast<uint32_t>(right);
      d[group] = static_cast<uint32_t>(left);
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (int64_t group = 0; group < GROUPS; ++group) {
    const uint32_t words[4] = {a[group], b[group], c[group], d[group]};
    for (int i = 0; i < 4; ++i) {
      factors[group * 8 + 2 * i] = (words[i] & 0xffffu) < threshold ? 0.0f : scale;
      factors[group * 8 + 2 * i + 1] = (words[i] >> 16) < threshold ? 0.0f : scale;
    }
  }
}

// What stays of `x`, with `to` added where it is given.
Tensor on_cpu(const Tensor& x, const Tensor& to, double p, int64_t seed) {
  const Tensor row = x.contiguous(), added = to.defined() ? to.contiguous() : Tensor(), out = at::empty_like(row);
  const sure::Odds odds(p);
  const int64_t count = row.numel(), blocks = (count + BLOCK - 1) / BLOCK;
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, row.scalar_type(), "dropout", [&] {
    const scalar_t* from = row.const_data_ptr<scalar_t>();
    const scalar_t* onto = added.defined() ? added.const_data_ptr<scalar_t>() : nullptr;
    scalar_t* result = out.data_ptr<scalar_t>();
    at::parallel_for(0, blocks, 64, [&](int64_t begin, int64_t end) {
      float factors[BLOCK];
      for (int64_t block = begin; block < end; ++block) {
        factors_of(block * GROUPS, static_cast<uint64_t>(seed), odds.threshold, odds.scale, factors);
        const int64_t start = block * BLOCK, share = std::min(BLOCK, count - start);
        if (onto)
          for (int64_t i = 0; i < share; ++i) result[start + i] = from[start + i] * factors[i] + onto[start + i];
        else
          for (int64_t i = 0; i < share; ++i) result[start + i] = from[start + i] * factors[i];
      }
    });
  });
  return out;
}

Tensor dropped(const Tensor& x, double p, int64_t seed) {
  return x.is_cuda() ? sure::elementwise_on_gpu("dropout_back", x, Tensor(), p, seed) : on_cpu(x, Tensor(), p, seed);
}

void keep(AutogradContext* context, double p, int64_t seed) {
  context->saved_data["p"] = p;
  context->saved_data["seed"] = seed;
}

struct Kept {
  double p;
  int64_t seed;
  explicit Kept(AutogradContext* context) : p(context->saved_data["p"].toDouble()), seed(context->saved_data["seed"].toInt()) {}
};

struct Dropout : torch::autograd::Function<Dropout> {
  static Tensor forward(AutogradContext* context, const Tensor& x, double p, int64_t seed) {
    keep(context, p, seed);
    return dropped(x, p, seed);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const Kept kept(context);
    return {dropped(gradients[0], kept.p, kept.seed), Tensor(), Tensor()};
  }
};

struct DropoutAdd : torch::autograd::Function<DropoutAdd> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& to, double p, int64_t seed) {
    keep(context, p, seed);
    return x.is_cuda() ? sure::elementwise_on_gpu("dropout_add", x, to, p, seed) : on_cpu(x, to, p, seed);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const Kept kept(context);
    const Tensor dx = context->needs_input_grad(0) ? dropped(gradients[0], kept.p, kept.seed) : Tensor();
    return {dx, gradients[0], Tensor(), Tensor()};
  }
};

// For GPUs: on a CPU libtorch's own GELU is the faster one.
struct GeluDropout : torch::autograd::Function<GeluDropout> {
  static Tensor forward(AutogradContext* context, const Tensor& x, double p, int64_t seed) {
    context->save_for_backward({x});
    keep(context, p, seed);
    return sure::elementwise_on_gpu("gelu_dropout", x, Tensor(), p, seed);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const Kept kept(context);
    const Tensor x = context->get_saved_variables()[0];
    return {sure::elementwise_on_gpu("gelu_dropout_back", x, gradients[0], kept.p, kept.seed), Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {

const char* sure_dropout(Tensor** result, Tensor* x, double p, int64_t seed) {
  return sure::guarded([&] { *result = new Tensor(Dropout::apply(*x, p, seed)); });
}

const char* sure_dropout_add(Tensor** result, Tensor* x, Tensor* to, double p, int64_t seed) {
  return sure::guarded([&] { *result = new Tensor(DropoutAdd::apply(*x, *to, p, seed)); });
}

const char* sure_gelu_dropout(Tensor** result, Tensor* x, double p, int64_t seed) {
  return sure::guarded([&] { *result = new Tensor(GeluDropout::apply(*x, p, seed)); });
}

}  // extern "C"
