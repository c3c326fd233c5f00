// What this node told a head on another node and the head has not acknowledged: kept, to be said again when the way there
// was begun anew, and to a head that was restarted.
//
// Of an actor's saved states only the newest is kept. Pure: no I/O, threads or clock. Cost: O(log kept) a message.
#pragma once

#include "wire/head_link.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace manta::raylet {

class HeadOutbox {
 public:
  static constexpr size_t kMaxBytes = size_t{64} << 20;

  explicit HeadOutbox(size_t max_bytes = kMaxBytes) : max_bytes_(max_bytes) {}

  /// Numbers and keeps it. kFull, and nothing is kept, when the head has acknowledged too little for too long.
  Status add(wire::ToHead message);
  /// The head has everything up to this number.
  void acknowledge(uint64_t up_to);

  /// The frame of the first message after `number`, and its number; none: that was the last.
  [[nodiscard]] std::optional<std::pair<uint64_t, const std::string*>> next_after(uint64_t number) const;

  /// Puts in the clients, and the actors whose end the head has not heard of: it hears of those ends afterwards, as they
  /// were.
  void complete(wire::HeadNodeReturns& returns) const;

  [[nodiscard]] size_t size_bytes() const { return bytes_; }
  [[nodiscard]] size_t size() const { return kept_.size(); }

 private:
  using State = std::pair<wire::ActorKey, uint32_t>;
  struct Kept {
    std::string frame;
    uint64_t ended_client = 0;
    std::optional<wire::LiveActor> ended_actor{};
    std::optional<State> state{};
  };

  void drop(std::map<uint64_t, Kept>::iterator at);

  const size_t max_bytes_;
  uint64_t last_ = 0;
  size_t bytes_ = 0;
  std::map<uint64_t, Kept> kept_;                       // by number
  std::map<State, uint64_t> states_;                    // which of them has an actor's newest state
  std::map<uint64_t, wire::HeadClientJoined> clients_;  // until the head knows that they are gone
};

}  // namespace manta::raylet
