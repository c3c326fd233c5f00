// Control messages of visitors: the command line, which neither works nor has work done. They cross a mantad's Unix socket
// (the same user's) or the head's endpoint (VisitorFrame in cluster.h; by a key that is let in). A visitor says Hello as an
// observer, hears Welcome, and asks. Whoever does not get an answer in time asks again, perhaps over another connection: so
// that each request can come twice.
#pragma once

#include "wire/messages.h"

#include <cstdint>
#include <map>
#include <string>

namespace manta::wire {

/// visitor -> raylet -> head: how the cluster is, in counts. The rows behind them are lists.
struct GetClusterStatus {
  static constexpr Type kType = Type::kGetClusterStatus;
  uint64_t request = 0;
  MSGPACK_DEFINE(request)
};

struct ClusterStatus {
  static constexpr Type kType = Type::kClusterStatus;
  uint64_t request = 0;
  std::string cluster;                     ///< Random, made with the head's state; empty: a session of one node.
  uint64_t life = 0;                       ///< How often the head has started, this time included.
  std::map<std::string, uint64_t> counts;  ///< "actors.alive", "jobs.running", "groups.pending", ...; none is 0.
  MSGPACK_DEFINE(request, cluster, life, counts)
};

/// By a join token's key, the only thing such a key may say beside Join: let this key of mine in, with the token's role.
struct Enroll {
  static constexpr Type kType = Type::kEnroll;
  std::string public_key;
  std::string name;  ///< For people: who it is.
  MSGPACK_DEFINE(public_key, name)
};

struct Enrolled {
  static constexpr Type kType = Type::kEnrolled;
  WireStatus status;
  MSGPACK_DEFINE(status)
};

/// visitor -> head: this key of mine takes the place of the one that I come by, with the same role. Both are let in for
/// `overlap_s`, then the old one no more.
struct RotateKey {
  static constexpr Type kType = Type::kRotateKey;
  uint64_t request = 0;
  std::string public_key;
  int64_t overlap_s = 0;
  MSGPACK_DEFINE(request, public_key, overlap_s)
};

struct KeyRotated {
  static constexpr Type kType = Type::kKeyRotated;
  uint64_t request = 0;
  WireStatus status;
  std::string next_head_key;  ///< By which the head will be known once it was started again; empty: by the same.
  MSGPACK_DEFINE(request, status, next_head_key)
};

}  // namespace manta::wire
