// The raylet's decisions: who gets resources and a worker, when workers start and end, what the death of each process means.
//
// `step` takes one event and the time and returns what to do, in order. No I/O, no threads, no clock: node_server drives it
// with the real ones, tests with invented ones. Cost of a step: O(log workers + workers that start, idle or end); while
// requests wait also O(leases + waiting classes).
//
// Invariants (check_invariants, and asserted as state changes):
//   1. Leases never exceed capacity, but for CPUs that a worker took back after waiting; everything is free at rest.
//   2. A busy worker serves exactly one lease, an active lease has exactly one worker.
//   3. Every lease request ends granted, refused, cancelled, or with the death of its owner.
//   4. Nothing of a dead process has an effect: its messages, leases, channels and places end with it.
//   5. Every queue is bounded.
#pragma once

#include "raylet/bundle_table.h"
#include "raylet/cluster_view.h"
#include "raylet/core_types.h"
#include "raylet/group_view.h"
#include "raylet/lease_table.h"
#include "raylet/quota_table.h"
#include "raylet/resources.h"
#include "raylet/worker_pool.h"

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace manta::raylet {

struct CoreSettings {
  NodeId node;
  wire::NodeNumber number = 0;  ///< 0: a session of one node.
  uint64_t ids_from = 0;        ///< Ids that are given out are above this one; see NodeInfo.
  NodeCapacity capacity;
  std::map<std::string, std::string> labels = {};
  wire::Amounts job_quota = {};  ///< Of the job of this node's driver; empty: none.
  std::string session_dir;
  std::string raylet_name;
  int32_t pid = 0;  ///< mantad's, for what it says on the driver's terminal.
};

class RayletCore {
 public:
  static constexpr int64_t kStartTimeoutUs = 30'000'000;
  static constexpr int64_t kEndTimeoutUs = 2'000'000;  ///< From a Goodbye, or a closed socket, to a kill.
  static constexpr int64_t kIdleReleaseUs = 1'000'000;
  static constexpr int64_t kStayUs = 10'000'000;  ///< A worker that would not leave is asked again after this.
  static constexpr int64_t kStayInDrainUs = 500'000;
  static constexpr int64_t kStarvingUs = 1'000'000;
  static constexpr int64_t kWaitReportUs = 30'000'000;  ///< Between two words about requests that wait behind actors.
  /// A group that found no room has it kept from tasks for so long: until the head asks again.
  static constexpr int64_t kKeptForGroupUs = 2'500'000;
  static constexpr int64_t kLookInGroupsUs = 500'000;
  static constexpr int kMaxPrestart = 8;
  static constexpr int64_t kLongestDrainUs = int64_t{7} * 86'400 * 1'000'000;
  static constexpr size_t kMaxPlacedAtOnce = 256;  ///< Leases that one step tries to find workers for.
  static constexpr size_t kMaxCleanupPaths = 10'000;

  explicit RayletCore(CoreSettings settings);

  [[nodiscard]] Effects step(Event event, int64_t now_us);

  /// When a Tick is due; nothing when no time matters now.
  [[nodiscard]] std::optional<int64_t> next_deadline_us() const;
  /// Whether MemorySampled is worth its cost: somebody works.
  [[nodiscard]] bool wants_memory_samples() const { return workers_.count(WorkerState::kBusy) > 0; }

  [[nodiscard]] wire::NodeState state() const;
  /// What is left, for the head and through it for other nodes.
  [[nodiscard]] wire::NodeResources available() const { return resources_.left(); }
  [[nodiscard]] wire::NodeResources leased() const;  ///< What tasks have of the node, outside of placement groups.
  [[nodiscard]] size_t waiting() const { return queue_.size(); }
  [[nodiscard]] size_t unadmitted() const { return unadmitted_.size(); }  ///< What waits for its job's quota.
  [[nodiscard]] uint64_t refusals() const { return refusals_; }           ///< Of requests of other nodes, for want of room.
  /// What placement groups hold here, for a head that was restarted.
  [[nodiscard]] std::vector<wire::HeldBundles> held_bundles() const { return bundles_.held(); }
  [[nodiscard]] bool is_draining() const { return drain_.has_value(); }
  /// A page of this node's own, with the node in its cursor.
  [[nodiscard]] wire::Listed with_node(wire::Listed listed) const;
  [[nodiscard]] bool is_at_rest() const;  ///< No lease, nobody waits, every resource is free.
  void check_invariants() const;          ///< Dies on a violation.

 private:
  struct Client {
    wire::Role role{};
    int32_t pid = 0;
    JobId job;
    bool is_remote = false;  // of another node; known here because it deals with a process of this one
    std::set<std::string> cleanup_paths;
    std::set<ProcessId> peers;     // a channel joins them, in one direction or both
    std::set<ProcessId> watchers;  // who asked to hear of its end
    std::set<ProcessId> is_watching;
    std::set<ProcessId> remote_peers;  // of other nodes
  };

  // Events.
  void on(ClientJoined& event);
  void on(FromClient& event);
  void on(ClientGone& event);
  void on(WorkerSpawned& event);
  void on(WorkerExited& event);
  void on(SpawnFailed& event);
  void on(HeadSays& event);
  void on(MemorySampled& event);
  void on(JobFetched& event);
  void on(LeaseAsked& event);
  void on(LeaseSpilledBack& event);
  void on(LeaseHeard& event);
  void on(PeerMet& event);
  void on(RemoteProcessGone& event);
  void on(MembersChanged& event);
  void on(ViewChanged& event);
  void on(DrainAsked& event);
  void on(ObjectsLeft& event);
  void on(Tick& event);

  // Messages of clients.
  void on_message(ProcessId from, wire::Goodbye& message);
  void on_message(ProcessId from, wire::RequestLease& message);
  void on_message(ProcessId from, wire::CancelLeaseRequest& message);
  void on_message(ProcessId from, wire::ReturnLease& message);
  void on_message(ProcessId from, wire::KillLease& message);
  void on_message(ProcessId from, wire::Blocked& message);
  void on_message(ProcessId from, wire::Relay& message);
  void on_message(ProcessId from, wire::WatchProcess& message);
  void on_message(ProcessId from, wire::CreateActor& message);
  void on_message(ProcessId from, wire::WatchActor& message);
  void on_message(ProcessId from, wire::KillActor& message);
  void on_message(ProcessId from, wire::FindActor& message);
  void on_message(ProcessId from, wire::ActorStarted& message);
  void on_message(ProcessId from, wire::SaveActorState& message);
  void on_message(ProcessId from, wire::ReleaseActor& message);
  void on_message(ProcessId from, wire::LogLineage& message);
  void on_message(ProcessId from, wire::CleanupPath& message);
  void on_message(ProcessId from, wire::GetNodeState& message);
  void on_message(ProcessId from, wire::CreatePlacementGroup& message);
  void on_message(ProcessId from, wire::RemovePlacementGroup& message);
  void on_message(ProcessId from, wire::GetPlacementGroup& message);
  void on_message(ProcessId from, wire::Explain& message);
  void on_message(ProcessId from, wire::SubmitJob& message) { ask_head(from, message); }
  void on_message(ProcessId from, wire::UploadProgram& message) { ask_head(from, message); }
  void on_message(ProcessId from, wire::StopJob& message) { ask_head(from, message); }
  void on_message(ProcessId from, wire::FindJob& message) { ask_head(from, message); }
  void on_message(ProcessId from, wire::ReadJobLog& message) { ask_head(from, message); }
  void on_message(ProcessId from, wire::DrainNode& message) { ask_head(from, message); }
  template <typename Message>
  void ask_head(ProcessId from, Message& message) {
    emit(TellHead{wire::HeadRequest{from.value, std::move(message)}});
  }
  void on_message(ProcessId from, wire::ListRequest& message);
  void on_message(ProcessId from, wire::GetClusterStatus& message);

  // Decisions of the head.
  void on_head(wire::PlaceActor& message);
  void on_head(wire::EndActor& message);
  void on_head(wire::ActorNotice& message);
  void on_head(wire::ActorAnswer& message);
  void on_head(wire::PrepareBundles& message);
  void on_head(wire::CommitBundles& message);
  void on_head(wire::ReleaseBundles& message);
  void on_head(wire::GroupNotice& message);
  void on_head(wire::JobsAnswer& message) {
    std::visit([&](auto& answer) { send(ProcessId{message.to}, std::move(answer)); }, message.answer);
  }
  void on_head(wire::HeadRestarted& message);
  void on_head(wire::BeginDrain& message);
  void on_head(wire::DrainNotice& message);

  // Going.
  struct Drain {
    int64_t due_us = 0;
    std::string reason;
    bool is_cut_off = false;                                      // its time was up
    uint64_t objects_left = 1;                                    // until the store has said
    std::optional<std::vector<wire::NodeNumber>> receivers = {};  // of the store's objects, as it was told
  };
  void hand_back_what_waits();
  void move_objects();
  [[nodiscard]] bool could_be_elsewhere(const Claim& claim) const;
  void cut_off();
  void end_if_drained();
  void on_head(wire::ListAnswer& message);
  void on_head(wire::StatusAnswer& message);
  void on_head(wire::QuotaShare& message);

  using RequestKey = std::pair<ProcessId, uint64_t>;

  // Quotas of jobs: what owners here may have.
  Status push_unadmitted(Claim claim);
  [[nodiscard]] LeaseQueue::Holding tokens_held() const;
  /// Whether one was admitted.
  bool admit_one();
  struct UnderQuota {
    uint64_t lease = 0;
    RequestKey key;
    const wire::SchedulingClass* what = nullptr;
  };
  /// Leases of owners here that count for the job's quota and run something.
  [[nodiscard]] std::vector<UnderQuota> leases_under_quota(JobId job) const;
  /// Of what the job holds here, what to have back so that this one is not kept waiting by what holds more.
  [[nodiscard]] std::optional<UnderQuota> choose_for_quota(const Claim& waiting) const;
  void reclaim_for_quotas();
  /// At the end of each step: admits what fits, tells the head what changed.
  void settle_quotas();
  [[nodiscard]] std::map<JobId, QuotaTable::Wants> quota_wants() const;
  /// A request of this owner is done with here: its lease ended, or it never got one. Tells whom it concerns.
  void is_over(ProcessId owner, uint64_t request);
  void is_over(const Claim& claim);
  /// Its worker waits inside a task, or goes on.
  void note_lent(const Lease& lease, bool is_lent);

  // Clients.
  void join_driver(ProcessId process, wire::Hello& hello);
  void join_worker(ProcessId process, wire::Hello& hello);
  void admit(ProcessId process, wire::Hello& hello);
  void driver_gone(bool by_goodbye, int32_t exit_code);
  /// With `job_end` the head is told that instead of the cause: a job may end well.
  void forget_client(ProcessId process, const Status& cause, const Status* job_end = nullptr);
  void break_with(ProcessId process, const std::string& why);
  [[nodiscard]] static Status check_visitor(const FromClient& event);
  /// Whether another raylet hands this message of a client of its own on to this one.
  [[nodiscard]] bool is_handed_on(const ClientMessage& message) const;

  // Lists of what this node knows of itself.
  [[nodiscard]] std::optional<wire::NodeNumber> node_in_turn(wire::NodeNumber first, std::string& note) const;
  [[nodiscard]] wire::Listed list_workers(const wire::ListRequest& request) const;
  [[nodiscard]] wire::Listed list_tasks(const wire::ListRequest& request) const;

  // Jobs: whose program a worker runs.
  struct JobEntry {
    bool is_asked_for = false;
    std::optional<JobPlan> plan;
  };
  bool has_plan(JobId job);
  void end_job(JobId job);
  void drop_job_if_unused(JobId job);
  void refuse_leases(const std::function<bool(const Lease&)>& which, const Status& status);

  // Other nodes.
  struct Asked {
    Claim claim;
    wire::NodeNumber node = 0;
    bool waits_there = false;
    wire::NodeNumber also = 0;  // asked as well, while it waits: there seemed to be room
  };
  struct RemoteLeaseHeld {
    ProcessId owner;
    wire::SchedulingClass what;
    uint64_t request = 0;
  };
  struct RemotePeer {
    int32_t pid = 0;
    std::set<ProcessId> interested;
  };
  [[nodiscard]] bool is_remote(uint64_t id) const {
    const wire::NodeNumber node = wire::node_of(id);
    return node != 0 && node != settings_.number;
  }
  Client& meet(ProcessId remote);
  void spill_out();
  void ask(wire::NodeNumber node, Claim claim, bool may_wait);
  void ask_as_well();
  void ask_as_well(Asked& asked, wire::NodeNumber node);
  static bool is_still_asked(Asked& asked, wire::NodeNumber without);
  void take_back(wire::NodeNumber node, ProcessId owner, uint64_t request);
  [[nodiscard]] bool waits_elsewhere(const Claim& like) const;
  void take_back_asked(const std::function<bool(const Asked&)>& which);
  void lose_node(wire::NodeNumber number, const Status& cause);
  void forget_remote_peers(ProcessId client);
  [[nodiscard]] wire::Resources cluster_capacity() const;

  // Leases.
  void schedule();
  bool grant_one();
  [[nodiscard]] LeaseQueue::Holding holding() const;
  void assign_workers();
  void send_reclaims();
  void ask_back(Lease& lease);
  void activate(Lease& lease, Worker& worker);
  void end_lease(Lease& lease);
  void release(Lease& lease);
  void drop_leases_of(ProcessId owner);
  void refuse(const Claim& claim, const Status& status);
  Lease* active_lease_of(ProcessId owner, uint64_t lease_id);
  [[nodiscard]] std::string infeasible(const wire::Resources& demand) const;
  [[nodiscard]] bool fits_without_leases(const wire::Resources& demand) const;
  void report_waiting();
  [[nodiscard]] std::string explain(const Claim& claim) const;
  [[nodiscard]] std::string explain_request(ProcessId owner, uint64_t request) const;
  [[nodiscard]] std::string held_by_actors() const;

  // Places: labels, nodes that are asked for, spreading.
  [[nodiscard]] wire::NodeNumber own_number() const { return settings_.number == 0 ? wire::kHeadNode : settings_.number; }
  [[nodiscard]] bool could_be_here(const wire::SchedulingClass& what) const;
  Result<wire::NodeNumber> asked_node(const wire::SchedulingClass& what) const;
  [[nodiscard]] Wish wish_of(const Claim& claim) const;
  [[nodiscard]] bool is_for_here(const Claim& claim) const;
  bool spill_out(const Claim& front);

  // Placement groups.
  std::optional<Grant> acquire(const Claim& claim);
  void release(const Grant& grant);
  void end_bundles(uint64_t group, uint64_t attempt, const std::string& reason);
  void end_in_bundle(Lease& lease, const std::string& reason);
  void keep_room_for(const wire::PrepareBundles& order);
  void note_refused(const wire::PrepareBundles& order);
  void has_room_kept(uint64_t group, bool for_good);
  [[nodiscard]] bool is_kept_for_group(const wire::Resources& demand) const;
  void ask_for_group(const Claim& claim);
  void requeue(Claim claim);
  bool spill_out_of_group(const Claim& front);
  void on_lease_asked_in_group(Claim claim, bool may_wait);
  void waits_in_group();
  void look_in_groups();
  void look_for_those_elsewhere();
  void look_for_those_here();
  [[nodiscard]] std::optional<wire::NodeNumber> other_node_in_group(const Claim& claim, wire::NodeNumber waits_at) const;
  void on_group_spilled_back(Claim claim, wire::NodeNumber from, const wire::WireStatus& why);

  // Workers.
  void prestart();
  Worker* spawn(const Environment& env, Lease* dedicated_to);
  void kill(Worker& worker, const std::string& reason);
  void ask_to_leave(Worker& worker);
  void start_failed(const Environment& env, LeaseId dedicated_to, const std::string& reason);
  void release_idle_workers();
  [[nodiscard]] int64_t idle_release_us() const { return drain_ ? 0 : kIdleReleaseUs; }
  [[nodiscard]] static std::string how_it_ended(const Worker& worker, const ExitCause& cause);
  [[nodiscard]] static Status end_of(const Worker& worker, const ExitCause& cause);
  [[nodiscard]] Worker* choose_victim(const MemorySampled& sample, int64_t& its_peak_bytes);
  [[nodiscard]] std::map<std::string, std::string> worker_environment(const Worker& worker, const Lease* dedicated_to) const;
  [[nodiscard]] int max_starting() const;
  [[nodiscard]] int cpu_count() const;

  // Actors.
  void place_due_actors();
  Lease* hosted_actor(ProcessId worker, const wire::ActorKey& actor, uint32_t incarnation);
  void tell_head(const Lease& lease, wire::ActorEvent event, const Status& cause);
  void report_end(const Lease& lease, const Worker& worker, const WorkerExited& event);

  // Channels: at most one for each (caller, worker).
  struct Connected {
    ChannelId channel;
    bool is_new = false;
  };
  Connected connect(ProcessId caller, const Worker& worker, const std::vector<int32_t>& devices);
  void forget_channels(ProcessId process, const Client& gone);

  void emit(Effect effect) { effects_.push_back(std::move(effect)); }
  void send(ProcessId to, Outgoing message);

  CoreSettings settings_;
  ResourcePool resources_;
  BundleTable bundles_;
  struct KeptRoom {
    uint64_t group = 0;  // 0: none
    wire::Resources amounts;
    int64_t until_us = 0;
    bool is_there = false;  // and the head was told
  };
  KeptRoom kept_room_;
  std::optional<wire::NodeResources> too_little_;  // what was free when a group was refused; the head is told of more
  uint64_t refusals_ = 0;
  GroupView groups_;
  std::map<ProcessId, Client> clients_;
  std::map<JobId, JobEntry> jobs_;
  ClusterView view_;
  std::map<RequestKey, Asked> asked_;                  // of other nodes, and not answered
  std::map<uint64_t, RemoteLeaseHeld> remote_leases_;  // by lease: on other nodes, of clients here
  std::map<ProcessId, RemotePeer> remote_peers_;
  std::map<ProcessId, std::set<wire::ActorKey>> watches_;  // by client: actors that it watches, but for dead ones
  std::optional<Drain> drain_;
  ProcessId driver_;
  WorkerPool workers_;
  LeaseTable leases_;
  LeaseQueue queue_;
  QuotaTable quotas_;
  std::map<JobId, RequestKey> quota_reclaims_;  // by job: whose lease was asked back for another of it
  LeaseQueue unadmitted_;                       // requests of owners here that are beyond their jobs' quotas
  std::map<std::pair<ProcessId, ProcessId>, ChannelId> channels_;  // (caller, worker)
  std::multimap<int64_t, wire::PlaceActor> later_;                 // by when: restarts that are to wait
  int64_t wait_check_us_ = 0;                                      // when to look at what waits; 0 when nothing does
  int64_t last_wait_report_us_ = -kWaitReportUs;
  int64_t look_in_groups_us_ = 0;  // when to ask other bundles for what waits at one; 0 when nothing does
  uint64_t looks_ = 0;
  uint64_t next_channel_;
  uint64_t next_sequence_ = 1;
  bool is_prestarted_ = false;
  bool is_ending_ = false;

  // Valid during one step.
  Effects effects_;
  int64_t now_us_ = 0;
};

}  // namespace manta::raylet
