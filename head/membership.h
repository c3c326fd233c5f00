// Who is in the cluster: numbers, heartbeats, and the view of what each node has left.
//
//   Join --> ALIVE --2 s without a heartbeat--> SUSPECT --3 s more, or its machine refuses--> gone
//              ^  ^_________a heartbeat____________|                                            ^
//   AWAY ------+ it returned                                                                    |
//     +------------------- 10 s after the head's restart ---------------------------------------+
//
// A number is one incarnation of one node and is never given out again, also after a restart of the head. The head's own
// node is number 1; it shares a process with the head, so silence is never held against it. Nobody is silent whose frames
// come in, whether the head has got round to them or not. Nor is silence held against anybody while the head itself stood
// still (its process was stopped, its machine paused, one step took long): its own node's heartbeat says that it did not.
//
// Pure: time comes with each call, in microseconds. Owned by the head's core. A heartbeat costs O(log members) and its
// answer O(members); a tick O(members).
#pragma once

#include "wire/cluster.h"

#include <manta/status.h>

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace manta::head {

struct MembershipSettings {
  int64_t suspect_us = 2'000'000;
  int64_t dead_us = 5'000'000;
  int64_t pause_us = 1'500'000;   ///< Its own node speaks twice a second: after so long the head stood still.
  int64_t grace_us = 10'000'000;  ///< For nodes of the head's earlier life to return.
  size_t max_members = 1'000;
};

class Membership {
 public:
  enum class State : uint8_t {
    kAlive,
    kSuspect,
    kAway,  ///< Known from an earlier life of the head; has not returned yet.
  };
  struct Member {
    wire::NodeInfo info;
    uint64_t nonce = 0;
    State state = State::kAlive;
    int64_t heard_us = 0;
    wire::NodeResources available;
    uint32_t waiting = 0;
    uint64_t refusals = 0;
    bool is_draining = false;
    bool must_drain = false;  ///< It was told to; what it says may be older.
    uint64_t changed_in = 0;  ///< The version of the view that has its last change.
  };
  struct JoinResult {
    wire::NodeNumber number = 0;
    bool is_new = false;
    wire::NodeNumber replaced = 0;  ///< A member whose endpoint this one has now: that one is gone.
  };
  struct Overdue {
    std::vector<wire::NodeNumber> suspects;  ///< New ones.
    std::vector<wire::NodeGone> gone;        ///< To be removed by the caller.
  };

  explicit Membership(MembershipSettings settings = {}) : settings_(settings) {}

  /// Begins a life of the head. Members that were replayed are away from now on, for the grace time.
  void start(uint64_t life, int64_t now_us);
  /// A member of an earlier life, and the number after the last one given out.
  void replay(const wire::NodeInfo& info, uint64_t nonce);
  void replay_next(wire::NodeNumber next) { next_ = std::max(next_, next); }

  /// Checks what a Join says. The same nonce again is the same number. `own`: the head's own node, number 1.
  /// kInvalid: nonsense, or another protocol; kFull: too many members; kDied: the number of this nonce is gone.
  Result<JoinResult> join(const wire::Join& join, bool own, int64_t now_us);
  /// An away member has said what it has. False when it is no member, or not away.
  bool bring_back(const wire::NodeInfo& info, int64_t now_us);
  /// False when it is no member. An away one is not heard: it has to return first.
  bool hear(wire::NodeNumber number, const wire::Heartbeat& heartbeat, int64_t now_us);
  /// Something of a member came then, read or not: it was not silent. Whether it is well again its heartbeat says.
  void note_heard(wire::NodeNumber number, int64_t at_us);
  /// A member drains from now on.
  void drain(wire::NodeNumber number);
  void remove(wire::NodeNumber number);
  [[nodiscard]] Overdue tick(int64_t now_us);
  /// May be early, never late.
  [[nodiscard]] std::optional<int64_t> next_deadline_us() const { return next_due_us_; }

  [[nodiscard]] const Member* find(wire::NodeNumber number) const;
  [[nodiscard]] const std::map<wire::NodeNumber, Member>& members() const { return members_; }
  [[nodiscard]] std::vector<wire::NodeInfo> infos() const;
  [[nodiscard]] wire::NodeNumber next() const { return next_; }

  /// What changed since `version`, but not about `except`, which knows itself. Versions grow over the lives of the head.
  [[nodiscard]] wire::View view_since(uint64_t version, wire::NodeNumber except) const;
  [[nodiscard]] uint64_t version() const { return version_; }

  void check_invariants() const;

 private:
  static constexpr size_t kMaxGoneNonces = 1'000;

  [[nodiscard]] Status check(const wire::Join& join) const;
  void note_awake(int64_t now_us);
  void changed(Member& member) { member.changed_in = ++version_; }
  void expect_by(int64_t due_us) { next_due_us_ = std::min(next_due_us_.value_or(due_us), due_us); }

  MembershipSettings settings_;
  std::map<wire::NodeNumber, Member> members_;
  std::map<uint64_t, wire::NodeNumber> by_nonce_;
  std::set<uint64_t> gone_nonces_;  // a Join that was repeated may come after the end of what it made
  std::deque<uint64_t> gone_order_;
  wire::NodeNumber next_ = wire::kHeadNode + 1;
  uint64_t version_ = 0;
  int64_t away_until_us_ = 0;
  int64_t awake_us_ = 0;  // the head ran then
  std::optional<int64_t> next_due_us_;
};

}  // namespace manta::head
