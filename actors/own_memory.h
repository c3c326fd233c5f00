// Memory of the object store that a value is made in, before it is an object: what Array::uninitialized gives.
//
//   one block of the store:  | kHeadBytes for the head of the blob | the Array's bytes |
//
// Becoming an object means: the head is written before the bytes, the block is sealed, and this process pins what it may
// still look at. Thread safety: `become` may be called by any number of threads; one of them has it.
#pragma once

#include "object_store/store_client.h"

#include <manta/codec.h>

#include <memory>
#include <optional>

namespace manta {

class StoreMemory final : public detail::OwnMemory {
 public:
  /// Null when the store has not plenty of memory. Asks the raylet at most, and never waits for memory.
  static std::shared_ptr<StoreMemory> create(object_store::StoreClient& store, size_t size_bytes);

  /// Makes an object of the value whose only buffer this is. Nothing when that cannot be in place: it is one already, the
  /// rest of the value is too long, or this process has too many pins.
  std::optional<Result<wire::ObjectLocation>> become(object_store::StoreClient& store, const Encoder& value,
                                                     const ObjectId& id);

 private:
  static constexpr size_t kHeadBytes = 1024;
  explicit StoreMemory(object_store::MutableBlock block);

  object_store::MutableBlock block_;
  object_store::PinnedBytes pinned_;
  std::atomic<bool> is_taken_{false};
};

/// On the heap, aligned like the shared memory, so that an Array sees no difference. std::bad_alloc when there is none.
[[nodiscard]] std::shared_ptr<detail::OwnMemory> heap_memory(size_t size_bytes);

/// Writes a value into the store as object `id`, where it lies when it can.
[[nodiscard]] Result<wire::ObjectLocation> write_object(object_store::StoreClient& store, const Encoder& value,
                                                        const ObjectId& id);

}  // namespace manta
