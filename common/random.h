// The randomness seam: whoever needs chance takes a Random, so a test gives it a seed and a failure can be replayed.
//
// Not for secrets; `system_seed` is from the kernel and is fit for ids.
// Thread safety: none; one a thread. Meets UniformRandomBitGenerator.
#pragma once

#include <cstdint>
#include <limits>

namespace manta {

/// 64 bits from the kernel's generator.
[[nodiscard]] uint64_t system_seed();

/// A random id that is not 0, for a ProcessId and its like: two in 2^64 do not meet.
[[nodiscard]] uint64_t random_id();

/// SplitMix64: small, quick, and the same on every machine.
class Random {
 public:
  using result_type = uint64_t;
  explicit Random(uint64_t seed) : state_(seed) {}

  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return std::numeric_limits<uint64_t>::max(); }

  uint64_t operator()() {
    uint64_t mixed = state_ += 0x9E3779B97F4A7C15ull;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ull;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBull;
    return mixed ^ (mixed >> 31);
  }
  /// In [0, bound); 0 when bound is 0. The bias is below bound / 2^64.
  uint64_t below(uint64_t bound) { return bound == 0 ? 0 : (*this)() % bound; }
  /// In [0, 1).
  double fraction() { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }

 private:
  uint64_t state_;
};

}  // namespace manta
