// A process's pins, published in shared memory: the process writes, the raylet reads. A pin is {slot << 32 | generation} of
// the object table, in any of 1,024 places; 0 is none.
//
// Why a pinned object is never reused: the reader stores its pin, then looks whether the table still has its generation; the
// raylet moves the generation on, then looks at the pins. All four are sequentially consistent, so either the reader sees
// the new generation and lets go, or the raylet sees the pin and waits.
//
// Thread safety: HazardPage::set is for the pin table of one process, which serializes it. Hazards::collect is the raylet's.
#pragma once

#include "common/fd.h"
#include "common/shared_memory.h"

#include <manta/status.h>

#include <atomic>
#include <cstdint>
#include <vector>

namespace manta::object_store {

inline constexpr uint32_t kHazardSlots = 1'024;
inline constexpr size_t kHazardPageBytes = 4096 * 3;

[[nodiscard]] inline uint64_t hazard_key(uint32_t slot, uint32_t generation) { return uint64_t{slot} << 32 | generation; }
[[nodiscard]] inline uint32_t slot_of(uint64_t key) { return static_cast<uint32_t>(key >> 32); }

/// The owner's view. Its descriptor goes to the raylet with Hello.
class HazardPage {
 public:
  [[nodiscard]] static Result<HazardPage> create();

  [[nodiscard]] const Fd& fd() const { return fd_; }
  /// Publishes a pin (or 0) at `index`. What the caller loads after this is ordered after it.
  void set(uint32_t index, uint64_t key);

 private:
  Fd fd_;
  Mapping mapping_;
};

/// The raylet's view of another process's page, read-only. Nothing in it is believed beyond being a number.
class Hazards {
 public:
  [[nodiscard]] static Result<Hazards> open(const Fd& fd);

  /// Appends every pin.
  void collect(std::vector<uint64_t>& keys) const;

 private:
  Mapping mapping_;
};

}  // namespace manta::object_store
