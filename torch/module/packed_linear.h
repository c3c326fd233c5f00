// A linear layer whose weights are laid out once for the CPU's matrix kernels (oneDNN), or stay as they are on other
// devices.
#pragma once

#include <ATen/core/Tensor.h>

namespace manta::models {

enum class LinearEnd : uint8_t { kNone, kGelu, kGeluTanh, kRelu };  ///< What is applied to the result, in the same pass.

class PackedLinear {
 public:
  PackedLinear() = default;
  /// Weight [out, in] and bias [out], of one dtype and on one device.
  PackedLinear(const at::Tensor& weight, const at::Tensor& bias);

  /// x [rows, in] to [rows, out].
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x, LinearEnd end = LinearEnd::kNone) const;

 private:
  at::Tensor weight_, bias_;
  bool packed_ = false;
};

}  // namespace manta::models
