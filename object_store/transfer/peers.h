// The other nodes of a cluster, as far as bulk transfer goes: where they listen, and whose certificate is whose.
// Thread safety: everything; one lock, held for a look-up.
#pragma once

#include "wire/cluster.h"

#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace manta::object_store {

class Peers {
 public:
  struct Peer {
    std::string endpoint;     ///< host:port; empty: it serves none.
    std::string fingerprint;  ///< SHA-256 of its certificate, hex; empty in a cluster without keys.
  };

  /// From here on the node may connect and be connected to.
  void allow(wire::NodeNumber node, Peer peer) {
    std::lock_guard lock(mutex_);
    peers_[node] = std::move(peer);
  }
  /// Its connections are to be closed by those who have them.
  void revoke(wire::NodeNumber node) {
    std::lock_guard lock(mutex_);
    peers_.erase(node);
  }
  [[nodiscard]] std::optional<Peer> find(wire::NodeNumber node) const {
    std::lock_guard lock(mutex_);
    auto found = peers_.find(node);
    return found == peers_.end() ? std::nullopt : std::optional(found->second);
  }
  /// Whether the node may speak with a certificate of this fingerprint (empty: in the clear).
  [[nodiscard]] bool is_allowed(wire::NodeNumber node, const std::string& fingerprint) const {
    std::lock_guard lock(mutex_);
    auto found = peers_.find(node);
    return found != peers_.end() && found->second.fingerprint == fingerprint;
  }

 private:
  mutable std::mutex mutex_;
  std::map<wire::NodeNumber, Peer> peers_;
};

}  // namespace manta::object_store
