// Room for batches, used again: ZeroMQ gives a buffer back from whichever thread lets go of the last copy of its message.
// Thread safety: everything. A pool outlives the messages made from it, so it outlives the ZeroMQ context.
#pragma once

#include "common/check.h"
#include "wire/net/batch.h"

#include <zmq.hpp>

#include <atomic>
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

  ~BufferPool() { MANTA_CHECK(lent_ == 0, lent_.load()); }

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

  /// A message that is the first `size_bytes` of the buffer and gives it back at its end.
  zmq::message_t message_of(Buffer buffer, size_t size_bytes) {
    ++lent_;
    std::byte* const bytes = buffer.release();
    return {bytes, size_bytes,
            [](void* data, void* pool) { static_cast<BufferPool*>(pool)->give_back(static_cast<std::byte*>(data)); }, this};
  }

 private:
  static constexpr size_t kMaxFree = 64;

  void give_back(std::byte* bytes) {
    --lent_;
    Buffer buffer(bytes);
    std::lock_guard lock(mutex_);
    if (free_.size() < kMaxFree) free_.push_back(std::move(buffer));
  }

  /// Those that are messages now. Also what orders their filling, by one thread, before their freeing, by another.
  std::atomic<size_t> lent_{0};
  std::mutex mutex_;  // guards `free_`
  std::vector<Buffer> free_;
};

}  // namespace manta::wire
