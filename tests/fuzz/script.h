// An input read as a script: an operation a byte, with its arguments behind it. Past the end everything is 0.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace manta::fuzz {

class Script {
 public:
  Script(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  [[nodiscard]] bool done() const { return at_ == end_; }
  uint8_t byte() { return done() ? uint8_t{0} : *at_++; }
  uint64_t word() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return value;
  }
  std::span<const std::byte> bytes(size_t size) {
    const auto taken = std::as_bytes(std::span(at_, std::min<size_t>(size, static_cast<size_t>(end_ - at_))));
    at_ += taken.size();
    return taken;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace manta::fuzz
