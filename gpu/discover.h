// Which devices there are, and how to open one.
#pragma once

#include <vector>

#include "gpu/device.h"

namespace manta::gpu {

/// The GPUs this process may use (CUDA_VISIBLE_DEVICES holds), in CUDA's order. Empty without a GPU, a driver or the CUDA
/// backend, none of which is an error; `why_none`, when given, then says which it was. Makes no CUDA context. A process that
/// forks afterwards must exec before it uses CUDA in the child. Cost: loads the backend; with a driver some 100 ms the first
/// time.
[[nodiscard]] std::vector<DeviceInfo> discover_devices(std::string* why_none = nullptr);

/// `count` devices without hardware (`--gpus 4` on a machine that has none), each with `memory_bytes` of memory.
[[nodiscard]] std::vector<DeviceInfo> logical_devices(int count, uint64_t memory_bytes);

/// kUnavailable when the backend of a hardware device is not there.
[[nodiscard]] Result<std::unique_ptr<Device>> open_device(const DeviceInfo& info);

}  // namespace manta::gpu
