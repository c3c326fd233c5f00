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
};

/// The link gets its number. kTimeout names the head's endpoint; what the head refuses is passed on.
Result<JoinedCluster> join_cluster(wire::NodeLink& link, const wire::LinkPeer& head, wire::NodeInfo self,
                                   std::chrono::milliseconds timeout);

/// The pair in <keys_dir>/node.keys, made when there is none; no keys for an empty folder name.
Result<wire::LinkKeys> own_keys(const std::string& keys_dir, bool may_make);
/// How to reach the head: by the token, if there is one; else by what the last token said, kept in <keys_dir>/head.
Result<wire::LinkPeer> find_head(const std::string& address, const std::string& keys_dir, const std::string& token_file);
/// It is a member: from now on it speaks to the head with its own key, and remembers the head.
Status settle_with_head(wire::NodeLink& link, const wire::LinkPeer& head, const std::string& keys_dir);

}  // namespace manta::raylet
