#include "object_store/allocator.h"

#include <algorithm>

namespace manta::object_store {
namespace {

constexpr uint64_t kAlign = 64;

uint64_t rounded(uint64_t size_bytes) { return (std::max<uint64_t>(size_bytes, 1) + kAlign - 1) / kAlign * kAlign; }

}  // namespace

Allocator::Allocator(uint64_t size_bytes) : size_bytes_(size_bytes / kAlign * kAlign) {
  if (size_bytes_ > 0) free_.emplace(0, size_bytes_);
}

std::optional<uint64_t> Allocator::allocate(uint64_t size_bytes) {
  if (size_bytes > size_bytes_) return std::nullopt;
  uint64_t bytes = rounded(size_bytes);
  auto found = std::find_if(free_.begin(), free_.end(), [bytes](const auto& extent) { return extent.second >= bytes; });
  if (found == free_.end()) return std::nullopt;
  auto [offset, length] = *found;
  used_bytes_ += bytes;
  if (length == bytes) {
    free_.erase(found);
  } else {
    auto node = free_.extract(found);  // no allocation on the way of a put
    node.key() = offset + bytes;
    node.mapped() = length - bytes;
    free_.insert(std::move(node));
  }
  return offset;
}

bool Allocator::fits(uint64_t size_bytes) const {
  if (size_bytes > size_bytes_) return false;
  return std::any_of(free_.begin(), free_.end(), [&](const auto& extent) { return extent.second >= rounded(size_bytes); });
}

bool Allocator::give_back(uint64_t offset, uint64_t size_bytes) {
  if (size_bytes > size_bytes_ || offset % kAlign != 0) return false;
  uint64_t bytes = rounded(size_bytes);
  if (bytes > size_bytes_ || offset > size_bytes_ - bytes) return false;
  auto after = free_.lower_bound(offset);
  if (after != free_.end() && after->first < offset + bytes) return false;
  if (after != free_.begin()) {
    auto before = std::prev(after);
    if (before->first + before->second > offset) return false;
  }
  used_bytes_ -= bytes;
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

uint64_t Allocator::cut_tail(uint64_t grain) {
  if (free_.empty()) return size_bytes_;
  auto last = std::prev(free_.end());
  if (last->first + last->second != size_bytes_) return size_bytes_;
  uint64_t end = (last->first + grain - 1) / grain * grain;
  if (end >= size_bytes_) return size_bytes_;
  if (end == last->first) {
    free_.erase(last);
  } else {
    last->second = end - last->first;
  }
  return size_bytes_ = end;
}

}  // namespace manta::object_store
