// How one object gets to many nodes at once: the node that has it gives each chunk away about once, and sends whoever else
// asks for that chunk to those who have it or are getting it. With n nodes that read the same object, each then carries
// about as much as it receives, and all are done in little more than the time of one transfer. A pure policy: no clock, no
// I/O.
//
// Only those are named who get the chunk from its home itself: what they wait for depends on nobody else, so that nobody
// waits in a circle.
//
// Only large objects, and only while at least two nodes read one; a node that was sent elsewhere in vain says so, and is
// served.
//
// Thread safety: none. Bounded: 64 objects, the longest idle forgotten first.
#pragma once

#include "common/clock.h"
#include "object_store/transfer/protocol.h"

#include <map>
#include <vector>

namespace manta::object_store {

class Spread {
 public:
  static constexpr uint64_t kFromBytes = 2 * kChunkBytes;
  static constexpr size_t kMaxObjects = 64;

  /// `peer` asks for a chunk of an object that is here (so its size is right): the nodes to ask instead, best first, at most
  /// kMaxElsewhere; none: serve it.
  [[nodiscard]] std::vector<wire::NodeNumber> elsewhere(const BulkRequest& request, wire::NodeNumber peer, Time now);
  /// A node is gone: nobody is sent to it any more.
  void forget(wire::NodeNumber node);
  [[nodiscard]] size_t objects() const { return objects_.size(); }

 private:
  struct Object {
    std::map<wire::NodeNumber, Time> readers;            // and when each last asked
    std::vector<std::vector<wire::NodeNumber>> holders;  // of each chunk, from here; the next to be named first
    Time last_used;
  };
  [[nodiscard]] Object& object_of(const BulkRequest& request, Time now);

  std::map<std::pair<wire::NodeNumber, uint64_t>, Object> objects_;
};

}  // namespace manta::object_store
