// The CPU twin: a Device without hardware. Streams are threads, device memory is host memory under a cap.
//
// It is as asynchronous as a GPU on purpose: code that forgets to synchronize reads stale bytes here as well.
#pragma once

#include "gpu/device.h"

namespace manta::gpu {

/// Work queued in a stream of the twin beyond this blocks the caller until some is done.
inline constexpr size_t kMaxQueuedOperations = 1024;

[[nodiscard]] std::unique_ptr<Device> make_cpu_device(DeviceInfo info);

}  // namespace manta::gpu
