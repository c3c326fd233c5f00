// The object table: one generation a slot, in shared memory that the raylet writes and everybody reads. A location whose
// generation is still the table's names a live object; freeing an object moves its slot's generation on. Sequentially
// consistent on both sides, like the pins: see hazard_page.h.
//
// Thread safety: one writer; any number of readers.
#pragma once

#include "common/fd.h"
#include "common/shared_memory.h"

#include <manta/status.h>

#include <atomic>
#include <cstdint>

namespace manta::object_store {

/// The raylet's.
class ObjectTable {
 public:
  [[nodiscard]] static Result<ObjectTable> create(uint32_t slots);

  [[nodiscard]] const Fd& read_only_fd() const { return read_only_; }
  void set(uint32_t slot, uint32_t generation);

 private:
  Fd read_only_;
  Mapping mapping_;
};

/// Everybody else's.
class ObjectTableView {
 public:
  [[nodiscard]] static Result<ObjectTableView> open(const Fd& fd);

  /// 0, which is no object's generation, for a slot that there is not.
  [[nodiscard]] uint32_t generation(uint32_t slot) const {
    if (slot >= slots_) return 0;
    return reinterpret_cast<const std::atomic<uint32_t>*>(mapping_.data())[slot].load(std::memory_order_seq_cst);
  }

 private:
  Mapping mapping_;
  uint32_t slots_ = 0;
};

}  // namespace manta::object_store
