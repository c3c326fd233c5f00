// What the threads of a NodeLink tell each other about one peer. A small lock, held for a few loads and stores a batch.
#pragma once

#include "common/clock.h"
#include "wire/net/node_link.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

namespace manta::wire {

class PeerState {
 public:
  /// What the sender must know before its next batch.
  struct News {
    uint64_t acked = 0;       ///< Of the stream to this peer, everything up to here has come.
    uint64_t ack_stream = 0;  ///< To be put into the next header.
    uint64_t ack = 0;
    bool must_resend = false;  ///< It asked for what follows `acked`.
    bool must_ack = false;     ///< It waits for an acknowledgement, or much came since the last.
    bool must_ask = false;     ///< Something it sent did not come.
    bool must_greet = false;   ///< A connection was made: it must hear what was sent so far.
    bool must_reopen = false;  ///< The socket gave up for good.
    bool owes_ack = false;     ///< Something came since the last acknowledgement.
  };

  PeerState(LinkPeer given, uint64_t stream_id) : peer(std::move(given)), stream(stream_id) {}

  const LinkPeer peer;
  const uint64_t stream;  ///< Of what this link sends to it.

  /// Bytes that wait or are not acknowledged. The sender and those who send add and take.
  std::atomic<size_t> held_bytes{0};

  /// When frames of it last came; the receiver writes it.
  std::atomic<Time> heard_at{Time()};

  /// Applies `change` to the news under the lock.
  template <typename Change>
  void update(Change change) {
    std::lock_guard lock(mutex_);
    change(news_);
  }
  /// Takes the news; the acknowledgements stay, the demands are answered by whoever takes them.
  News take() {
    std::lock_guard lock(mutex_);
    News taken = news_;
    news_ = News{.acked = taken.acked, .ack_stream = taken.ack_stream, .ack = taken.ack, .owes_ack = taken.owes_ack};
    return taken;
  }
  /// An acknowledgement of `ack` went out.
  void note_ack_sent(uint64_t ack) {
    std::lock_guard lock(mutex_);
    if (news_.ack == ack) news_.owes_ack = false;
    unacked_bytes_ = 0;
  }
  /// A batch came; true when the sender must be woken to acknowledge.
  bool note_arrived(uint64_t stream_id, uint64_t sequence, size_t size_bytes) {
    std::lock_guard lock(mutex_);
    news_.ack_stream = stream_id;
    news_.ack = sequence;
    news_.owes_ack = true;
    unacked_bytes_ += size_bytes;
    if (unacked_bytes_ < kAckBytes) return false;
    unacked_bytes_ = 0;
    return news_.must_ack = true;
  }

 private:
  static constexpr size_t kAckBytes = size_t{256} << 10;

  std::mutex mutex_;
  News news_;
  size_t unacked_bytes_ = 0;
};

}  // namespace manta::wire
