// How a mantad becomes a member of a cluster, before it serves anybody.
//
// It says Join to the head's endpoint twice a second until the head, which connects back, answers Joined or JoinRefused.
// Both directions work once that has come.
#pragma once

#include "wire/net/node_link.h"

#include <chrono>
#include <vector>

namespace manta::raylet {

struct JoinedCluster {
  wire::Joined answer;
  std::vector<wire::LinkEvent> early;  ///< What came behind it.
  wire::LinkPeer head;                 ///< As it was reached.
};

/// The link gets its number. `heads` is one head by the keys that it may have: they are tried in turn. kTimeout names the
/// head's endpoint; what the head refuses is passed on.
Result<JoinedCluster> join_cluster(wire::NodeLink& link, const std::vector<wire::LinkPeer>& heads, wire::NodeInfo self,
                                   std::chrono::milliseconds timeout);

/// It is a member: from now on it speaks to the head with its own key, and remembers the head.
Status settle_with_head(wire::NodeLink& link, const wire::LinkPeer& head, const std::string& keys_dir);

}  // namespace manta::raylet
