#include "object_store/allocator.h"

#include <algorithm>

namespace manta::object_store {
namespace {

constexpr uint64_t kAlign = 64;

uint64_t rounded(uint64_t size_bytes) { return (std::max<uint64_t>(size_bytes, 1) + kAlign - 1) / kAlign * kAlign; }

}  // namespace

Allocator::Allocator(uint64_t size_bytes) {
  if (uint64_t usable = size_bytes / kAlign * kAlign; usable > 0) free_.emplace(0, usable);
}

std::optional<uint64_t> Allocator::allocate(uint64_t size_bytes) {
  if (size_bytes > ~uint64_t{0} - kAlign) return std::nullopt;
  uint64_t bytes = rounded(size_bytes);
  auto found = std::find_if(free_.begin(), free_.end(), [bytes](const auto& extent) { return extent.second >= bytes; });
  if (found == free_.end()) return std::nullopt;
  auto [offset, length] = *found;
  free_.erase(found);
  if (length > bytes) free_.emplace(offset + bytes, length - bytes);
  out_.emplace(offset, bytes);
  used_bytes_ += bytes;
  return offset;
}

bool Allocator::give_back(uint64_t offset, uint64_t size_bytes) {
  auto out = out_.find(offset);
  if (out == out_.end() || out->second != rounded(size_bytes)) return false;
  uint64_t bytes = out->second;
  out_.erase(out);
  used_bytes_ -= bytes;
  auto after = free_.lower_bound(offset);
  if (after != free_.end() && offset + bytes == after->first) {
    bytes += after->second;
    after = free_.erase(after);
  }
  if (after != free_.begin()) {
    auto before = std::prev(after);
    if (before->first + before->second == offset) {
      before->second += bytes;
      return true;
    }
  }
  free_.emplace_hint(after, offset, bytes);
  return true;
}

}  // namespace manta::object_store
