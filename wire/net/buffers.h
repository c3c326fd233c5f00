// Room for batches, used again: ZeroMQ gives a buffer back from whichever thread lets go of the last copy of its message.
// Thread safety: everything. A pool outlives the messages made from it, so it outlives the ZeroMQ context.
#pragma once

#include "wire/net/batch.h"

#include <zmq.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace manta::wire {

class BufferPool {
 public:
  using Buffer = std::unique_ptr<std::byte[]>;  // kBatchBytes

  Buffer take() {
    {
      std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        Buffer buffer = std::move(free_.back());
        free_.pop_back();
        return buffer;
      }
    }
    return std::make_unique_for_overwrite<std::byte[]>(kBatchBytes);
  }
  void give_back(Buffer buffer) {
    std::lock_guard lock(mutex_);
    if (free_.size() < kMaxFree) free_.push_back(std::move(buffer));
  }

  /// A message that is the first `size_bytes` of the buffer and gives it back at its end.
  zmq::message_t message_of(Buffer buffer, size_t size_bytes) {
    struct Owner {
      BufferPool* pool;
      Buffer buffer;
    };
    auto* owner = new Owner{this, std::move(buffer)};
    return {owner->buffer.get(), size_bytes,
            [](void*, void* hint) {
              const std::unique_ptr<Owner> ended(static_cast<Owner*>(hint));
              ended->pool->give_back(std::move(ended->buffer));
            },
            owner};
  }

 private:
  static constexpr size_t kMaxFree = 64;

  std::mutex mutex_;
  std::vector<Buffer> free_;
};

}  // namespace manta::wire
