#include "gpu/discover.h"

#include <algorithm>

#include "gpu/cpu_device.h"
#include "gpu/cuda_device.h"
#include "gpu/cuda_library.h"

namespace manta::gpu {
namespace {

Result<std::vector<DeviceInfo>> cuda_devices() {
  const Result<const MantaCudaTable*> library = cuda_library();
  if (!library.ok()) return library.status();
  const MantaCudaTable& cuda = **library;
  int count = 0;
  if (Status status = cuda_status(cuda, cuda.device_count(&count), "counting GPUs"); !status.ok()) return status;
  std::vector<DeviceInfo> devices;
  for (int i = 0; i < count; ++i) {
    MantaCudaInfo info{};
    if (Status status = cuda_status(cuda, cuda.device_info(i, &info), "asking for a GPU"); !status.ok()) return status;
    devices.push_back({.uuid = info.uuid, .name = info.name, .memory_bytes = info.memory_bytes, .index = i});
  }
  if (devices.empty()) return Status(Code::kUnavailable, "the driver has no GPU");
  return devices;
}

}  // namespace

std::vector<DeviceInfo> discover_devices(std::string* why_none) {
  Result<std::vector<DeviceInfo>> devices = cuda_devices();
  if (devices.ok()) return *std::move(devices);
  if (why_none) *why_none = devices.status().message();
  return {};
}

std::vector<DeviceInfo> logical_devices(int count, uint64_t memory_bytes) {
  std::vector<DeviceInfo> devices;
  devices.reserve(static_cast<size_t>(std::max(count, 0)));
  for (int i = 0; i < count; ++i) {
    devices.push_back({.uuid = "logical-" + std::to_string(i),
                       .name = "logical GPU",
                       .memory_bytes = memory_bytes,
                       .index = i,
                       .is_logical = true});
  }
  return devices;
}

Result<std::unique_ptr<Device>> open_device(const DeviceInfo& info) {
  if (info.is_logical) return make_cpu_device(info);
  const Result<const MantaCudaTable*> library = cuda_library();
  if (!library.ok()) return library.status();
  return make_cuda_device(**library, info);
}

}  // namespace manta::gpu
