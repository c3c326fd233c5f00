// Devices, threads and errors of LibTorch, for the files of this module.
#pragma once

#include <ATen/core/Tensor.h>
#include <manta/status.h>
#include <manta/torch.h>

#include <functional>
#include <string>

namespace manta::models {

/// "cpu", "cuda" or "cuda:N" as a device that works. For CUDA, `libtorch_cuda.so` is loaded from beside LibTorch's other
/// libraries. kInvalid for another name, kUnavailable when there is no such device or no CUDA.
Result<c10::Device> open_device(const std::string& name);

/// LibTorch's threads inside one operation, for the whole process.
void set_threads(int threads);

c10::ScalarType scalar_type_of(Dtype dtype);
/// kInvalid for a type this library has no name for.
Result<Dtype> dtype_of(c10::ScalarType type);

/// The exception in flight as a Status: kFull when a device ran out of memory, `fallback` otherwise, with LibTorch's message
/// down to its first line of context.
Status status_of_exception(Code fallback);

/// A tensor over somebody else's memory, not copied.
at::Tensor borrow(const TensorView& view);

}  // namespace manta::models
