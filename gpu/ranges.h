// The checks that both backends make before they queue work.
#pragma once

#include "gpu/device.h"

namespace manta::gpu {

/// kInvalid unless [offset, offset + size) lies inside the buffer.
[[nodiscard]] Status check_range(const DeviceBuffer& buffer, size_t offset_bytes, size_t size_bytes);

/// kInvalid unless a rows x columns matrix of float32 fits the buffer. Any values are safe: nothing overflows.
[[nodiscard]] Status check_matrix(const DeviceBuffer& buffer, size_t rows, size_t columns);

}  // namespace manta::gpu
