// What libtorch can do and tch has no binding for. Called from src/native.rs alone, which states what each function expects.

#include <ATen/Version.h>
#include <torch/csrc/autograd/custom_function.h>

#include <string>
#include <vector>

#include "common.h"

namespace {

using at::Tensor;
using sure::guarded;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A linear layer in a list of tensors: (out, in), perhaps (out), and with a low-rank update (rank, in), (out, rank).
struct Layer {
  bool biased;
  int64_t rank;  // 0 without an update
  double scale;
  size_t at;  // of its weight in the list

  size_t weight() const { return at; }
  size_t bias() const { return at + 1; }
  size_t down() const { return at + (biased ? 2 : 1); }
  size_t up() const { return down() + 1; }
  size_t end() const { return down() + (rank > 0 ? 2 : 0); }
};

// Linear layers that read the same input, each with or without a low-rank update: y = Wx + b + scale * up(down(x)).
// A layer may have no bias.
//
// Autograd alone would make one gradient of the input per layer and per update, and add them up, each sum a pass over memory;
// here every product adds to the one before. The updates' narrow products are one product.
struct Linears : torch::autograd::Function<Linears> {
  static variable_list forward(
      AutogradContext* context, const Tensor& x, at::TensorList parts, const std::vector<int64_t>& biased,
      const std::vector<int64_t>& ranks, const std::vector<double>& scales) {
    const std::vector<Layer> layers = lay_out(biased, ranks, scales);
    const Tensor narrow = products_with_downs(x, parts, layers);
    variable_list results;
    int64_t start = 0;
    for (const Layer& layer : layers) {
      const Tensor weight = parts[layer.weight()].t();
      Tensor result = layer.biased ? at::addmm(parts[layer.bias()], x, weight) : x.mm(weight);
      if (layer.rank > 0) result.addmm_(narrow.narrow(1, start, layer.rank), parts[layer.up()].t());
      start += layer.rank;
      results.push_back(result);
    }
    variable_list saved(parts.begin(), parts.end());
    saved.push_back(x);
    if (narrow.defined()) saved.push_back(narrow);
    context->save_for_backward(saved);
    context->saved_data["biased"] = biased;
    context->saved_data["ranks"] = ranks;
    context->saved_data["scales"] = scales;
    return results;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const std::vector<Layer> layers = lay_out(
        context->saved_data["biased"].toIntVector(), context->saved_data["ranks"].toIntVector(),
        context->saved_data["scales"].toDoubleVector());
    const variable_list saved = context->get_saved_variables();
    const size_t parts = layers.back().end();
    const Tensor x = saved[parts], narrow = parts + 1 < saved.size() ? saved[parts + 1] : Tensor();
    // In the order of forward's arguments: x, the parts, biased, ranks and scales.
    variable_list results(1 + parts + 3);
    const auto needs = [&](size_t part) { return context->needs_input_grad(1 + part); };
    const bool needs_x = context->needs_input_grad(0);
    Tensor dx, dnarrow = narrow.defined() ? at::empty_like(narrow) : Tensor();
    int64_t start = 0;
    for (size_t which = 0; which < layers.size(); ++which) {
      const Layer& layer = layers[which];
      const Tensor gradient = gradients[which].contiguous();
      if (needs(layer.weight())) results[1 + layer.weight()] = gradient.t().mm(x);
      if (layer.biased && needs(layer.bias())) results[1 + layer.bias()] = sum_of_rows(gradient);
      if (needs_x && dx.defined()) dx.addmm_(gradient, saved[layer.weight()]);
      else if (needs_x) dx = gradient.mm(saved[layer.weight()]);
      if (layer.rank > 0) {
        Tensor place = dnarrow.narrow(1, start, layer.rank);
        at::mm_out(place, gradient, saved[layer.up()]);
        if (layer.scale != 1.0) place.mul_(layer.scale);
        if (needs(layer.up())) results[1 + layer.up()] = gradient.t().mm(narrow.narrow(1, start, layer.rank));
      }
      start += layer.rank;
    }
    if (narrow.defined()) {
      const Tensor ddowns = dnarrow.t().mm(x);
      start = 0;
      for (const Layer& layer : layers) {
        if (layer.rank > 0) results[1 + layer.down()] = ddowns.narrow(0, start, layer.rank);
        start += layer.rank;
      }
      if (needs_x) dx.addmm_(dnarrow, downs(saved, layers));
    }
    results[0] = dx;
    return results;
  }

  static Tensor sum_of_rows(const Tensor& rows) {
    if (!rows.is_cuda()) return rows.sum(0);
    // As a product: a third of the time of the sum.
    return at::ones({1, rows.size(0)}, rows.options()).mm(rows).view(-1);
  }

  static std::vector<Layer> lay_out(
      const std::vector<int64_t>& biased, const std::vector<int64_t>& ranks, const std::vector<double>& scales) {
    std::vector<Layer> layers;
    size_t at = 0;
    for (size_t which = 0; which < ranks.size(); ++which) {
      layers.push_back({biased[which] != 0, ranks[which], scales[which], at});
      at = layers.back().end();
    }
    return layers;
  }

  // The matrices that narrow the input, one below the other: (sum of ranks, in).
  static Tensor downs(at::TensorList parts, const std::vector<Layer>& layers) {
    std::vector<Tensor> downs;
    for (const Layer& layer : layers)
      if (layer.rank > 0) downs.push_back(parts[layer.down()]);
    return downs.size() == 1 ? downs[0] : at::cat(downs);
  }

  // scale * down(x) of all layers side by side: (N, sum of ranks); undefined without a low-rank update.
  static Tensor products_with_downs(const Tensor& x, at::TensorList parts, const std::vector<Layer>& layers) {
    bool any = false;
    for (const Layer& layer : layers) any = any || layer.rank > 0;
    if (!any) return Tensor();
    const Tensor narrow = x.mm(downs(parts, layers).t());
    int64_t start = 0;
    for (const Layer& layer : layers) {
      if (layer.rank > 0 && layer.scale != 1.0) narrow.narrow(1, start, layer.rank).mul_(layer.scale);
      start += layer.rank;
    }
    return narrow;
  }
};

std::vector<Tensor> gather(Tensor* const* tensors, size_t count) {
  std::vector<Tensor> gathered;
  for (size_t which = 0; which < count; ++which) gathered.push_back(*tensors[which]);
  return gathered;
}

}  // namespace

extern "C" {

const char* sure_libtorch_version() {
  static const std::string version = [] {
    const std::string name = "TORCH_VERSION=", settings = at::show_config();  // of the library that is loaded, not of the headers
    const size_t at = settings.find(name);
    return at == std::string::npos ? "unknown" : settings.substr(at + name.size(), settings.find(',', at) - at - name.size());
  }();
  return version.c_str();
}

const char* sure_linears(
    Tensor** results, Tensor* x, Tensor* const* parts, size_t count, const int64_t* biased, const int64_t* ranks,
    const double* scales, size_t layers) {
  return guarded([&] {
    const std::vector<Tensor> gathered = gather(parts, count);
    const variable_list made = Linears::apply(
        *x, at::TensorList(gathered), std::vector<int64_t>(biased, biased + layers), std::vector<int64_t>(ranks, ranks + layers),
        std::vector<double>(scales, scales + layers));
    for (size_t layer = 0; layer < layers; ++layer) results[layer] = new Tensor(made[layer]);
  });
}

const char* sure_fused_adamw(
    Tensor* const* values, Tensor* const* gradients, Tensor* const* first, Tensor* const* second, size_t count, double rate,
    double beta1, double beta2, double weight_decay, double epsilon, double step) {
  return guarded([&] {
    const at::NoGradGuard guard;
    const std::vector<Tensor> steps(count, at::full({}, step, (*values)->options()));
    at::_fused_adamw_(
        gather(values, count), gather(gradients, count), gather(first, count), gather(second, count), {}, steps, rate, beta1,
        beta2, weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false);
  });
}

}  // extern "C"
