// What this raylet believes of the other nodes: what each has, what it had left when the head last said, less what was sent
// there since. Old by a heartbeat or two, so whoever is chosen may still say no.
//
// Pure; owned by raylet_core. `choose` is O(nodes).
#pragma once

#include "wire/cluster.h"

#include <map>
#include <optional>
#include <string>

namespace manta::raylet {

/// A demand and where it may be served.
struct Wish {
  const wire::SchedulingClass& what;          ///< Its resources, labels and `spread` count.
  wire::NodeNumber only = 0;                  ///< There; 0: anywhere.
  std::map<wire::NodeNumber, int> like = {};  ///< With `spread`: how much of the same work each node has.
};

class ClusterView {
 public:
  struct Node {
    wire::NodeInfo info;
    wire::NodeResources available;
    uint32_t waiting = 0;
    bool takes_work = true;   ///< Neither draining nor suspect.
    bool takes_queue = true;  ///< Its queue has room.
    bool is_suspect = false;  ///< Was not heard of lately.
  };

  void add(wire::NodeInfo info);
  void remove(wire::NodeNumber number) { nodes_.erase(number); }
  void update(const wire::NodeView& view);
  /// It said that it has no room: believed until it is heard of again.
  void note_full(wire::NodeNumber number, bool queue_too);

  [[nodiscard]] const Node* find(wire::NodeNumber number) const;
  [[nodiscard]] const std::map<wire::NodeNumber, Node>& all() const { return nodes_; }

  /// Where the demand fits now, and is charged: the node with the largest part of its CPUs free among those, those without
  /// devices first for a demand of none.
  /// With `spread`, the one with the least like it first.
  [[nodiscard]] std::optional<wire::NodeNumber> take_room(const Wish& wish);
  /// The same without a charge.
  [[nodiscard]] std::optional<wire::NodeNumber> find_room(const Wish& wish) const;
  /// What was charged there is free again.
  void give_back(wire::NodeNumber number, const wire::Resources& demand);
  /// Where it would fit with nothing else running: the one with the shortest queue.
  [[nodiscard]] std::optional<wire::NodeNumber> least_waiting(const Wish& wish) const;
  /// Whether any node that takes work would hold it with nothing else running.
  [[nodiscard]] bool could_hold(const Wish& wish) const;
  /// Why none could: what is asked, and the node that comes nearest.
  [[nodiscard]] std::string explain(const Wish& wish) const;
  /// The nodes where it fits nearly, and what each lacks now; at most three. Empty when none could ever hold it.
  [[nodiscard]] std::string nearly(const Wish& wish) const;
  /// The sum of what all have.
  [[nodiscard]] wire::Resources capacity() const;
  [[nodiscard]] wire::Resources available() const;

 private:
  std::map<wire::NodeNumber, Node> nodes_;
};

}  // namespace manta::raylet
