#include "gpu/device.h"

#include "gpu/ranges.h"

namespace manta::gpu {

DeviceBuffer::~DeviceBuffer() {
  if (manager_) manager_->free(address_, size_bytes_);
}

HostRegistration::~HostRegistration() {
  if (manager_) manager_->unregister_host(address_);
}

Status check_range(const DeviceBuffer& buffer, size_t offset_bytes, size_t size_bytes) {
  if (offset_bytes <= buffer.size_bytes() && size_bytes <= buffer.size_bytes() - offset_bytes) return {};
  return {Code::kInvalid, "a range of " + std::to_string(size_bytes) + " bytes at " + std::to_string(offset_bytes) +
                              " does not lie inside a device buffer of " + std::to_string(buffer.size_bytes())};
}

Status check_matrix(const DeviceBuffer& buffer, size_t rows, size_t columns) {
  const size_t floats = buffer.size_bytes() / sizeof(float);
  if (columns == 0 || rows <= floats / columns) return {};
  return {Code::kInvalid, "a matrix of " + std::to_string(rows) + " x " + std::to_string(columns) +
                              " floats does not fit a device buffer of " + std::to_string(buffer.size_bytes()) + " bytes"};
}

}  // namespace manta::gpu
