// Placement groups: bundles of resources reserved on nodes, all or nothing.
//
//   PENDING --packed: PrepareBundles to each node--> PREPARING --all said yes: CommitBundles--> READY
//      ^  ^______ a node said no, or was silent: the rest is released, later again ____|           |
//      |__________________________ a node of it was lost: all is released _________________________|
//   removed by a client, or with its job unless detached: released everywhere
//
// One that waits is looked at again whenever anything became free anywhere (`room_grew`), and at its own pace besides. When
// there is no room but for what tasks have, a try at its own pace goes to the nodes all the same: one that has no room asks
// its tasks for it and keeps it for a while (raylet_core_groups).
//
// The head's picture of a node may be old, so a node may refuse. A group never waits while it holds something: two groups
// that each hold what the other needs cannot come to be. A group on one node is ready after one message and its answer; on
// several, after one message to each and their answers, because nothing waits for a commit to arrive.
//
// Attempts of a group grow, also over restarts of the head; what an old attempt still says has no effect.
//
// Pure; owned by the head's core. An attempt costs O(bundles x nodes) as a rule.
#pragma once

#include "head/job_quotas.h"
#include "head/placement_policy.h"
#include "head/records.h"
#include "wire/head_link.h"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace manta::head {

/// What a call may use, and what it led to.
struct GroupStep {
  PlacementPolicy& policy;
  int64_t now_us = 0;
  JobQuotas* quotas = nullptr;  ///< None: nobody has one.

  std::vector<wire::ToNode> messages = {};
  std::vector<Record> records = {};
  std::vector<uint64_t> changed = {};  ///< Groups that became ready or are no longer, for whoever waits for one.
  std::vector<uint64_t> removed = {};
};

class PlacementGroups {
 public:
  enum class State : uint8_t { kPending, kPreparing, kReady };
  struct Group {
    PlacementGroupRecord row;  ///< Its nodes are set while something is, or may be, reserved there.
    State state = State::kPending;
    std::set<wire::NodeNumber> unanswered;
    std::set<wire::NodeNumber> kept_at;  ///< Nodes that refused it since it was ready last: they may keep room for it.
    std::map<wire::NodeNumber, uint64_t> charges;  ///< Given back with the bundles, if no report had them by then.
    std::set<uint64_t> watchers;
    int refusals = 0;           ///< In a row.
    int misfits = 0;            ///< Of these, of what seemed to fit.
    bool asks_back = false;     ///< The last attempt needed what tasks have.
    int64_t not_before_us = 0;  ///< After a misfit, whatever becomes free: else it and its nodes could keep each other busy.
    int64_t due_us = 0;
    std::string why;
    std::vector<uint32_t> actors;  ///< On each bundle, as the head placed them.
  };

  static constexpr int64_t kFirstBackoffUs = 20'000;
  static constexpr int64_t kMaxBackoffUs = 1'000'000;
  static constexpr int kPatience = 2;  ///< Tries before it asks for what tasks have: most of that is about to come back.
  static constexpr int64_t kPrepareUs = 5'000'000;
  static constexpr size_t kMaxGroups = 100'000;
  static constexpr int64_t kLookPauseUs = 20'000;
  static constexpr size_t kLooksAtOnce = 100;

  /// `alone`: all bundles go to the head's own node, whose raylet knows what it has.
  void start(uint64_t life, bool alone);
  Status replay(PlacementGroupRecord row);

  Result<uint64_t> create(const wire::CreatePlacementGroup& spec, uint64_t owner, uint64_t job, GroupStep& step);
  /// False when there is no such group.
  bool remove(uint64_t group, const std::string& why, GroupStep& step);
  void prepared(wire::NodeNumber from, const wire::BundlesPrepared& answer, GroupStep& step);
  void node_lost(wire::NodeNumber node, GroupStep& step);
  /// A node of an earlier life of the head says what it holds.
  void node_returned(wire::NodeNumber node, const std::vector<wire::HeldBundles>& held, GroupStep& step);
  void job_ended(uint64_t job, GroupStep& step);
  /// There may be more room: all that wait are looked at once more, the oldest first, in the next ticks. Nodes say so all
  /// the time, so only some are at a time.
  void room_grew(int64_t now_us);
  void tick(GroupStep& step);
  [[nodiscard]] std::optional<int64_t> next_deadline_us() const;

  bool watch(uint64_t group, uint64_t process);
  [[nodiscard]] const Group* find(uint64_t group) const;
  [[nodiscard]] const std::map<uint64_t, Group>& groups() const { return groups_; }
  /// As a table has it: what is only being tried is not written down.
  [[nodiscard]] static PlacementGroupRecord row_of(const Group& group);
  [[nodiscard]] wire::PlacementGroupUpdate update_of(uint64_t group) const;

  /// The bundle for one more actor of this demand, and its node: the asked one, or that with the fewest. Says why when none.
  struct Place {
    int32_t bundle = -1;
    wire::NodeNumber node = 0;
    bool is_hopeless = false;
    std::string why;
  };
  [[nodiscard]] Place place_of(const wire::SchedulingClass& what) const;
  void count_actor(uint64_t group, int32_t bundle, int32_t more);

  /// After `replay`: what is reserved counts for its job.
  void charge_all(JobQuotas& quotas) const;

  void check_invariants() const;

 private:
  void attempt(Group& group, GroupStep& step, bool may_ask_back);
  [[nodiscard]] std::optional<std::vector<wire::NodeNumber>> places_for(const Group& group, const PlacementPolicy& policy,
                                                                        bool with_leased) const;
  void prepare(Group& group, GroupStep& step);
  void look_again(GroupStep& step);
  void enter(Group& group, State state);
  void release(Group& group, const std::string& reason, GroupStep& step);
  static void want_no_more(Group& group, const std::string& reason, GroupStep& step);
  void try_later(Group& group, const std::string& why, GroupStep& step);
  void become_ready(Group& group, GroupStep& step);
  void set_due(Group& group, int64_t due_us);
  [[nodiscard]] std::string explain(const Group& group, const PlacementPolicy& policy) const;

  std::map<uint64_t, Group> groups_;
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> by_request_;  // owner, request
  std::map<uint64_t, std::set<uint64_t>> by_job_;
  std::map<wire::NodeNumber, std::set<uint64_t>> by_node_;
  std::set<std::pair<int64_t, uint64_t>> due_;  // pending: the next attempt; preparing: the patience
  std::set<uint64_t> pending_;
  size_t to_look_at_ = 0;   // so many of those, after looked_at_, are to be looked at for what became free
  uint64_t looked_at_ = 0;  // the last one that was
  int64_t look_us_ = 0;     // not earlier
  uint64_t last_group_ = 0;
  uint64_t first_attempt_ = 0;
  bool is_alone_ = true;
};

}  // namespace manta::head
