// Arguments that lie on other nodes are asked for before a call waits for the first of them: all of that call's, and those
// of a few calls behind it, so that they come while it runs. Only an offer to the store (StoreClient::read_soon): a call
// that is taken back meanwhile costs a copy that nobody reads.
#pragma once

#include "actors/call_format.h"
#include "wire/channel.h"
#include "wire/cluster.h"

#include <vector>

namespace manta {

/// Appends where the stored arguments of a call lie, those on other nodes than `here`. Of what is malformed, what comes
/// first.
void append_remote_arguments(const CallHeader& header, std::span<const std::byte> arguments, wire::NodeNumber here,
                             std::vector<wire::ObjectLocation>& out);

/// The same of the next calls in a ring, up to a few beyond what its consumer has claimed. `looked_to` is 0 at first and
/// belongs to the ring: up to where calls were looked at. Consumer's thread.
void append_arguments_behind(const wire::Ring& requests, uint64_t& looked_to, wire::NodeNumber here,
                             std::vector<wire::ObjectLocation>& out);

}  // namespace manta
