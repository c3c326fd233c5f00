#include "torch/module/packed_linear.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>

namespace manta::models {
namespace {

using OptionalScalars = c10::List<std::optional<at::Scalar>>;

// Rows the weights are laid out for; oneDNN picks one layout for any large number of them.
constexpr int64_t kTypicalRows = 1024;

// These two operators are what LibTorch's own compiler calls; they have no C++ function, only an entry in the dispatcher.
at::Tensor reorder(const at::Tensor& weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_reorder_linear_weight", "")
                             .typed<at::Tensor(const at::Tensor&, std::optional<c10::SymInt>)>();
  return op.call(weight, c10::SymInt(kTypicalRows));
}

at::Tensor linear_pointwise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, LinearEnd end) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                               std::string_view, OptionalScalars, std::optional<std::string_view>)>();
  std::string_view attribute = "none", algorithm;
  if (end == LinearEnd::kRelu) attribute = "relu";
  if (end == LinearEnd::kGelu || end == LinearEnd::kGeluTanh) attribute = "gelu";
  if (end == LinearEnd::kGelu) algorithm = "none";
  if (end == LinearEnd::kGeluTanh) algorithm = "tanh";
  return op.call(x, weight, bias, attribute, OptionalScalars(), algorithm);
}

}  // namespace

PackedLinear::PackedLinear(const at::Tensor& weight, const at::Tensor& bias) : weight_(weight), bias_(bias) {
  packed_ = weight.device().is_cpu() && at::globalContext().userEnabledMkldnn() && at::hasMKLDNN();
  if (packed_) weight_ = reorder(weight.contiguous());
}

at::Tensor PackedLinear::operator()(const at::Tensor& x, LinearEnd end) const {
  if (packed_) return linear_pointwise(x, weight_, bias_, end);
  at::Tensor y = at::linear(x, weight_, bias_);
  switch (end) {
    case LinearEnd::kNone: return y;
    case LinearEnd::kGelu: return at::gelu(y);
    case LinearEnd::kGeluTanh: return at::gelu(y, "tanh");
    case LinearEnd::kRelu: return at::relu(y);
  }
  return y;
}

}  // namespace manta::models
