// Devices over CUDA, through libmanta_cuda.so. See gpu/device.h for the contract.
#pragma once

#include "gpu/cuda_abi.h"
#include "gpu/device.h"

namespace manta::gpu {

/// `info.index` is the CUDA index. The table is static: it lives as long as the process.
[[nodiscard]] std::unique_ptr<Device> make_cuda_device(const MantaCudaTable& cuda, DeviceInfo info);

}  // namespace manta::gpu
