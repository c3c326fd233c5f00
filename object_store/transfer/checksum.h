// The checksum that follows the bytes of a chunk, as they go by. Inside TLS it is 0 and is not looked at: AES-GCM has
// authenticated every byte already.
//
// Thread safety: a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#define XXH_INLINE_ALL  // the library's header-only form
#include <xxhash.h>

namespace manta::object_store {

class Checksum {
 public:
  explicit Checksum(bool is_needed) : is_needed_(is_needed) {
    XXH3_INITSTATE(&state_);
    if (is_needed) XXH3_64bits_reset(&state_);
  }
  void update(std::span<const std::byte> bytes) {
    if (is_needed_) XXH3_64bits_update(&state_, bytes.data(), bytes.size());
  }
  [[nodiscard]] uint64_t value() const { return is_needed_ ? XXH3_64bits_digest(&state_) : 0; }

 private:
  XXH3_state_t state_;
  bool is_needed_;
};

}  // namespace manta::object_store
