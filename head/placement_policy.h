// Where an actor goes. The nodes as the head sees them: what each reported last, less what was sent there since then and is
// not in a report yet, so that a burst of creations spreads although reports come twice a second.
//
// The choice, among nodes that take work and have every label asked for:
//   1. the node that is asked for; when that is soft and it is gone or too small for ever, as if none were asked for;
//   2. the owner's node, if the demand fits there now and the node is below half load (not with `spread`);
//   3. the least loaded of those where it fits now; work without GPUs prefers nodes without; with `spread` the node with the
//      fewest actors first;
//   4. the least loaded of those that are large enough: it waits there;
//   5. nowhere: the answer names the nearest node and what it lacks.
// Load is the largest share in use of any resource, and a little for each actor and each waiting request, so that actors
// that ask for nothing spread as well.
//
// Pure; owned by the head's core. A choice is O(nodes). That there is none is remembered for each class until the nodes
// change: of 100,000 demands that wait for a node to join, only the first costs that much.
#pragma once

#include "wire/cluster.h"

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace manta::head {

class PlacementPolicy {
 public:
  struct Node {
    wire::NodeInfo info;
    wire::NodeResources reported;
    wire::NodeResources free;         ///< Reported, less the charges.
    wire::NodeResources leased = {};  ///< What tasks have of it, and would give back.
    bool is_doubted = false;          ///< It refused what seemed to fit, and has not reported since.
    uint32_t waiting = 0;
    uint32_t actors = 0;
    bool takes_work = true;  ///< Not draining, suspect or a driver's.
    struct Charge {
      uint64_t number = 0;
      std::vector<wire::Resources> amounts;
      int64_t since_us = 0;
    };
    std::deque<Charge> charges;  // by number
  };

  struct Choice {
    wire::NodeNumber node = 0;  ///< 0: nowhere now, `why` says why.
    bool is_hopeless = false;   ///< No node that joins later could change that.
    std::string why;
  };

  /// Numbers of charges start above `life` << 40, so that those of an earlier life of the head acknowledge nothing.
  void start(uint64_t life) { last_charge_ = life << 40; }

  void add(const wire::NodeInfo& info, int64_t now_us);
  void remove(wire::NodeNumber number);
  void set_takes_work(wire::NodeNumber number, bool takes_work);

  /// A report of the node: charges up to `charged_up_to` are in it.
  void report(wire::NodeNumber number, const wire::NodeResources& available, uint32_t waiting, uint64_t charged_up_to,
              int64_t now_us);

  /// With a report.
  void note_leased(wire::NodeNumber number, const wire::NodeResources& leased);
  /// It had no room for what seemed to fit: whatever it reports next is news.
  void doubt(wire::NodeNumber number);
  /// Whether anything became free anywhere since the last call: by a report, a refund, or a node that takes work (again).
  [[nodiscard]] bool take_growth() { return std::exchange(has_grown_, false); }

  [[nodiscard]] Choice choose(const wire::SchedulingClass& what, wire::NodeNumber owner_node) const;

  /// Whether some node has room for it now, and nobody waits there before it.
  [[nodiscard]] bool has_room(const wire::SchedulingClass& what) const;

  /// Counts what is sent to the node now; the number goes along with it.
  uint64_t charge(wire::NodeNumber number, std::vector<wire::Resources> amounts, int64_t now_us);
  /// What the charge was for was not taken, or was given back.
  void refund(wire::NodeNumber number, uint64_t charge);
  void count_actor(wire::NodeNumber number, int32_t more);

  [[nodiscard]] const Node* find(wire::NodeNumber number) const;
  [[nodiscard]] const std::map<wire::NodeNumber, Node>& nodes() const { return nodes_; }

 private:
  /// A node that does not say what it has seen must have seen it by then.
  static constexpr int64_t kChargeUs = 3'000'000;
  static constexpr size_t kMaxRemembered = 1'000;

  void count_again(Node& node);
  [[nodiscard]] Choice explain(const wire::SchedulingClass& what) const;

  std::map<wire::NodeNumber, Node> nodes_;
  mutable std::map<wire::SchedulingClass, Choice> nowhere_;  // what none of the present nodes could hold, or takes
  uint64_t last_charge_ = 0;
  bool has_grown_ = false;
};

/// 0 is idle, 1 full.
[[nodiscard]] double load_of(const PlacementPolicy::Node& node);

}  // namespace manta::head
