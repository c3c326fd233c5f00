// The head's decisions: which nodes are members, which actors exist, under which names, in which phase and where, and what
// happens when a worker, an owner or a node dies. Plus the tables of jobs and lineage.
//
//   PENDING --started--> ALIVE --worker or node died, restarts left--> RESTARTING --started--> ALIVE
//      |                   |                                               |
//      +-- refused, killed, owner died, no restarts left, left ------------+--> DEAD (for ever)
//
// `step` takes one message of a node and returns what to say to which node and what to write down. No I/O, no threads, no
// clock: time comes with each call.
//
// Two ways to be. Alone, until the head's own node sends a Join: everything is of node 1, and what cannot fit there is
// refused by its raylet. In a cluster: membership.h says who is there, placement_policy.h where an actor goes; what fits
// nowhere waits here for a node that could hold it.
//
// Invariants: 1 an incarnation that ended has no effect any more, nor has a node that is gone; incarnations and node numbers
// only grow. 2 A name belongs to at most one actor that is not dead. 3 Replaying the records gives the tables back. 4 Every
// table is bounded; lineage in bytes. 5 Nothing is said to a node that is no member.
#pragma once

#include "head/job_orders.h"
#include "head/job_quotas.h"
#include "head/job_table.h"
#include "head/membership.h"
#include "head/placement_groups.h"
#include "head/placement_policy.h"
#include "head/records.h"
#include "head/store.h"
#include "head/waiting_actors.h"
#include "wire/head_link.h"

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace manta::head {

struct HeadSettings {
  size_t max_actors = 1'000'000;
  size_t max_dead_actors = 10'000;  ///< Remembered, so that a late watcher hears how it ended.
  size_t max_argument_bytes = size_t{1} << 20;
  size_t max_early_watches = 10'000;
  size_t max_ended_jobs = 1'000;  ///< Remembered, for lists.
  size_t max_lineage_bytes = size_t{64} << 20;
  size_t max_drain_waiters = 100;  ///< A node: who hears when it is gone.
  wire::Amounts job_quota = {};    ///< Of every job, besides its own; empty: none.
  MembershipSettings membership = {};
  JobSettings jobs = {};
};

/// What one step led to. The messages may leave once the records are as durable as the store promises.
struct HeadEffects {
  std::vector<wire::ToNode> messages;
  std::vector<Record> records;
  std::vector<FileOrder> files;
};

class HeadCore {
 public:
  explicit HeadCore(const HeadSettings& settings = {})
      : settings_(settings), members_(settings.membership), jobs_table_(settings.jobs) {}

  /// What node `from` says; 0 is one that has no number yet. `number`: see wire::Told. What was said before has no effect.
  [[nodiscard]] HeadEffects step(wire::NodeNumber from, wire::ToHead message, int64_t now_us, uint64_t number = 0);
  /// See HeadLink::note_heard; before a tick.
  void note_heard(wire::NodeNumber node, int64_t at_us) { members_.note_heard(node, at_us); }
  [[nodiscard]] HeadEffects tick(int64_t now_us);
  /// When `tick` is due; may be early, never late.
  [[nodiscard]] std::optional<int64_t> next_deadline_us() const;

  /// What to add to the time of `step` to get the time since 1970: for what people read, and deadlines over restarts.
  void set_wall(int64_t wall_us) { jobs_table_.set_wall(wall_us); }
  /// The program of this hash is there as a whole: found at the start, or its last piece was stored.
  [[nodiscard]] HeadEffects program_stored(const std::string& hash, uint64_t bytes, int64_t now_us);

  /// Takes the records of an earlier life, oldest first. kInvalid when one is not what a head writes.
  Status replay(const std::vector<Record>& records);

  struct Actor {
    wire::CreateActor spec;
    wire::ActorPhase phase = wire::ActorPhase::kPending;
    uint32_t incarnation = 1;
    int32_t restarts_used = 0;
    bool may_restart = true;    ///< False after a kill that forbids it.
    bool is_draining = false;   ///< Ends once it has run what it was sent.
    wire::NodeNumber node = 0;  ///< Where it is, or waits for room; 0: it waits here.
    int32_t bundle = -1;        ///< Of its placement group, while it has a node.
    bool has_state = false;
    std::string state;
    uint64_t worker = 0;
    int32_t worker_pid = 0;
    wire::WireStatus cause;
    std::set<uint64_t> watchers;
    bool waits_for_quota = false;
    int quick_deaths = 0;  ///< In a row, of incarnations that did not live kLongLifeUs.
    /// Its node is drained: it leaves for another once each of `awaited` has said ReleaseActor. Not stored: a head that was
    /// restarted asks again.
    bool is_moving = false;
    std::set<uint64_t> awaited;
  };

  static constexpr int64_t kLongLifeUs = 10'000'000;
  static constexpr int64_t kFirstRestartDelayUs = 50'000;
  static constexpr int64_t kMaxRestartDelayUs = 5'000'000;
  /// None for the first restart, then doubling.
  [[nodiscard]] static int64_t restart_delay_us(int quick_deaths);

  [[nodiscard]] const Actor* find(const wire::ActorKey& actor) const;
  [[nodiscard]] const Membership& members() const { return members_; }
  [[nodiscard]] const PlacementGroups& groups() const { return groups_; }
  [[nodiscard]] const JobQuotas& quotas() const { return quotas_; }
  [[nodiscard]] const JobTable& submitted() const { return jobs_table_; }
  [[nodiscard]] size_t lineage_bytes() const { return lineage_bytes_; }
  [[nodiscard]] size_t lineage_tasks() const { return lineage_.size(); }
  /// Every durable table as records in a fixed order: equal tables, equal records.
  [[nodiscard]] std::vector<Record> snapshot() const;
  void check_invariants() const;

 private:
  // Each with from_ set: the node that says it.
  void on(wire::HeadClientJoined& message);
  void on(wire::HeadClientGone& message);
  void on(wire::HeadRequest& message);
  void on(wire::HeadActorEvent& message);
  void on(wire::Join& message);
  void on(wire::Heartbeat& message);
  void on(wire::HeadNodeLeaves& message);
  void on(wire::HeadNodeLost& message);
  void on(wire::HeadNodeReturns& message);
  void on(wire::BundlesPrepared& message);
  void on(wire::JobReport& message);
  void on(wire::JobLogPart& message);
  void on(wire::GetProgramPart& message);
  void on(wire::QuotaReport& message);

  void end_job(uint64_t driver, const wire::WireStatus& cause);
  [[nodiscard]] bool is_running(uint64_t job) const;
  void end_process(uint64_t process, const wire::WireStatus& cause);

  void on_request(uint64_t from, wire::CreateActor& message);
  void on_request(uint64_t from, wire::WatchActor& message);
  void on_request(uint64_t from, wire::KillActor& message);
  void on_request(uint64_t from, wire::FindActor& message);
  void on_request(uint64_t from, wire::SaveActorState& message);
  void on_request(uint64_t from, wire::LogLineage& message);

  void on_request(uint64_t from, wire::CreatePlacementGroup& message);
  void on_request(uint64_t from, wire::RemovePlacementGroup& message);
  void on_request(uint64_t from, wire::GetPlacementGroup& message);
  void on_request(uint64_t from, wire::ListRequest& message);
  void on_request(uint64_t from, wire::GetClusterStatus& message);

  void on_request(uint64_t from, wire::DrainNode& message);
  void on_request(uint64_t from, wire::ReleaseActor& message);
  void on_request(uint64_t from, wire::SubmitJob& message);
  void on_request(uint64_t from, wire::UploadProgram& message);
  void on_request(uint64_t from, wire::StopJob& message);
  void on_request(uint64_t from, wire::FindJob& message);
  void on_request(uint64_t from, wire::ReadJobLog& message);

  using TaskKey = std::pair<uint64_t, uint64_t>;     // owner, sequence
  using Name = std::pair<std::string, std::string>;  // name space, name
  [[nodiscard]] Status check(const wire::CreateActor& spec) const;
  void refuse_creation(uint64_t from, const wire::CreateActor& spec, const Status& status);
  void enter(Actor& actor, wire::ActorPhase phase);
  void watch(Actor& actor, uint64_t watcher);
  void place(Actor& actor, int64_t delay_us = 0);
  [[nodiscard]] PlacementPolicy::Choice choose(const Actor& actor, int32_t& bundle) const;
  void set_node(Actor& actor, wire::NodeNumber node, int32_t bundle = -1);
  void retry_unplaced(wire::NodeNumber node);
  /// Its raylet says that there is no room now.
  void note_waits(const Actor& actor);
  void move_waiting();
  void note_growth();

  // Quotas of jobs.
  void begin_quota(const JobRecord& job);
  /// After a replay: what was placed counts.
  void charge_all();
  /// Nothing is given while a node of the head's earlier life has not said what it has.
  void note_all_there();
  void note_quota_wait(Actor& actor, bool waits);
  void retry_for_quota(uint64_t job);
  void settle_quotas();
  void restart_or_bury(Actor& actor, const wire::WireStatus& cause);
  void bury(Actor& actor, wire::WireStatus cause);
  void end_worker(const Actor& actor, bool drain, const std::string& reason);
  void tell(const Actor& actor, uint64_t watcher, const wire::ActorKey& instead_of = {});
  void tell_watchers(const Actor& actor);
  void tell_missing(const wire::ActorKey& actor, uint64_t watcher);

  [[nodiscard]] bool is_alone() const { return cluster_.empty(); }
  /// Whether what this node says counts now; holds or answers what does not.
  [[nodiscard]] bool may_speak(wire::NodeNumber from, wire::ToHead& message);
  void say(wire::NodeNumber to, wire::FromHead message);
  void say_all(const wire::FromHead& message, wire::NodeNumber except = 0);
  [[nodiscard]] wire::NodeNumber node_of_process(uint64_t process) const;
  void begin_life(const wire::Join& own);
  void take_up_members();
  void greet(wire::NodeNumber number, uint64_t nonce);
  void note_takes_work(wire::NodeNumber number);
  /// `in_order`: it left, rather than was lost.
  void node_gone(wire::NodeNumber number, const Status& why, bool in_order = false);
  /// What is on it goes elsewhere, if it can.
  void node_drains(wire::NodeNumber number);
  void move_away(Actor& actor);
  void no_longer_awaits(Actor& actor, uint64_t watcher);
  /// Ends what belongs to processes of the node that are not in processes_ any more, or not yet again.
  void end_strangers_of(wire::NodeNumber number, const wire::WireStatus& cause);
  void take_actors_back(const wire::HeadNodeReturns& message);
  /// Carries out what groups decided, and sees to the actors in them.
  void carry_out(GroupStep& step);
  void retry_actors_of(uint64_t group);
  void take_actors_out_of(uint64_t group);
  [[nodiscard]] uint64_t job_of(uint64_t process) const;
  void answer(uint64_t to, uint64_t request, wire::PlacementGroupUpdate update);

  /// Lets `change` work on jobs_table_, and passes on what it led to.
  template <typename Change>
  void change_jobs(Change change);
  void answer(uint64_t to, wire::JobAnswer message);
  [[nodiscard]] Status may_have_jobs() const;
  void jobs_of_node_lost(wire::NodeNumber node, const wire::WireStatus& cause, bool in_order);
  void tick_jobs();
  /// kDied for the driver of an attempt that is over.
  [[nodiscard]] Status check_job_label(const wire::NodeInfo& info) const;
  /// Which submitted job's driver came with this node; 0: none.
  [[nodiscard]] static uint64_t submission_of(const wire::NodeInfo& info);

  void write(const Actor& actor);
  void drop_lineage(const TaskKey& key);
  Status replay_one(const Record& record);
  Status replay_node(const Record& record);

  HeadSettings settings_;
  std::map<wire::ActorKey, Actor> actors_;
  std::array<uint64_t, 4> in_phase_{};  // how many of them
  std::map<Name, wire::ActorKey> names_;
  std::deque<wire::ActorKey> dead_;  // oldest first
  struct Process {
    wire::NodeNumber node = 0;
    uint64_t job = 0;
  };
  std::map<uint64_t, Process> processes_;
  std::map<uint64_t, std::set<wire::ActorKey>> watched_;        // by watcher: the actors that have it in `watchers`
  std::map<uint64_t, JobRecord> jobs_;                          // by driver
  std::map<uint64_t, uint64_t> ended_jobs_;                     // in the order they ended
  std::map<wire::ActorKey, std::set<uint64_t>> early_watches_;  // a handle overtook its actor's creation
  size_t early_watch_count_ = 0;
  std::map<uint64_t, uint64_t> forgotten_up_to_;  // by owner: dead actors are forgotten up to this sequence
  std::map<TaskKey, std::string> lineage_;
  std::deque<TaskKey> lineage_order_;  // oldest first
  size_t lineage_bytes_ = 0;

  Membership members_;
  PlacementPolicy policy_;
  PlacementGroups groups_;
  JobTable jobs_table_;
  JobQuotas quotas_;
  std::map<uint64_t, std::map<wire::Resources, std::set<wire::ActorKey>>> quota_waits_;  // by job and demand
  std::map<uint64_t, std::set<wire::ActorKey>> in_group_;  // actors that are not dead, by the group they ask for
  std::string cluster_;                                    // empty: alone
  bool has_begun_ = false;                                 // the head's own node has joined in this life
  uint64_t life_ = 0;
  std::map<wire::NodeNumber, std::set<wire::ActorKey>> on_node_;
  std::set<wire::ActorKey> unplaced_;  // no node could hold them so far
  WaitingActors waiting_;
  struct Heard {
    uint64_t up_to = 0;    // in this life
    uint64_t durable = 0;  // what the tables have, of this life or an earlier one
  };
  std::map<wire::NodeNumber, Heard> heard_;
  bool is_repeat_ = false;  // an earlier life had it, with all that followed
  std::map<wire::NodeNumber, std::vector<std::pair<uint64_t, uint64_t>>> drains_;  // who waits: client and request

  wire::NodeNumber from_ = 0;
  int64_t now_us_ = 0;
  HeadEffects effects_;
};

}  // namespace manta::head
