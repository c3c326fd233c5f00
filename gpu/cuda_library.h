// Finds and loads libmanta_cuda.so, once a process. The runtime itself links no CUDA.
#pragma once

#include <manta/status.h>

#include <string>
#include <vector>

#include "gpu/cuda_abi.h"

namespace manta::gpu {

/// The library's functions. kUnavailable, with the reason, when it is not there or speaks another version. It is looked for
/// at MANTA_CUDA_LIBRARY (an environment variable), beside the program, where it was built and where it was installed, in
/// that order. Thread safety: any thread. Cost: the first call loads; later ones are free.
[[nodiscard]] Result<const MantaCudaTable*> cuda_library();

/// The first library of `paths` that is there and speaks our version; those that are not there are passed over. It stays
/// loaded.
[[nodiscard]] Result<const MantaCudaTable*> load_cuda_library(const std::vector<std::string>& paths);

/// What a nonzero error of the library means to the caller; `what` says which operation it was.
[[nodiscard]] Status cuda_status(const MantaCudaTable& cuda, int error, const char* what);

}  // namespace manta::gpu
