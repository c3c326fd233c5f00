// The requests that wait for resources, and who is next: the job that holds the least, of it the owner that holds the least,
// and among its own requests of one class the oldest. Bounded: a request past the bound is refused, not queued.
//
// Pure; owned by raylet_core.
#pragma once

#include "raylet/core_types.h"
#include "raylet/resources.h"
#include "raylet/worker_pool.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

namespace manta::raylet {

/// A wish for resources and a worker: a lease for its owner, or the place of one incarnation of an actor.
struct Claim {
  ProcessId owner;
  uint64_t request = 0;  ///< The owner's number of the lease request; 0 for an actor.
  JobId job;
  wire::SchedulingClass scheduling_class;
  std::optional<wire::StartActor> actor;
  bool may_restart = false;  ///< The actor.
  bool is_metered = false;   ///< It counts for its job's quota.
  uint64_t sequence = 0;     ///< Order of arrival on this node.
  int64_t since_us = 0;
  wire::NodeNumber near = 0;                 ///< Rather there, if there is room: what it reads lies there.
  std::vector<wire::NodeNumber> tried = {};  ///< In a placement group: nodes whose bundles had no room.

  [[nodiscard]] const wire::Resources& demand() const { return scheduling_class.resources; }
  [[nodiscard]] Environment environment() const { return {job, scheduling_class.env}; }
};

class LeaseQueue {
 public:
  static constexpr size_t kMaxWaiting = 100'000;
  static constexpr size_t kMaxWaitingOfOwner = 20'000;

  /// kFull when the queue or the owner's part of it is full.
  Status push(Claim claim);

  /// Takes out the owner's request of this number; nothing when it is not (or no longer) waiting.
  std::optional<Claim> cancel(ProcessId owner, uint64_t request);
  /// Takes out the incarnation of an actor.
  std::optional<Claim> cancel_actor(const wire::ActorKey& actor, uint32_t incarnation);
  /// Takes out all that this owner waits for, but for the places of its actors, which the head cancels. Returns the requests
  /// of these that are metered.
  std::vector<uint64_t> drop_leases_of(ProcessId owner);
  /// Takes out what wants to run in this placement group (0: in none) and `which` names.
  [[nodiscard]] std::vector<Claim> take_of_group(uint64_t group, const std::function<bool(const Claim&)>& which);

  /// How much the claim's job holds, and how much its owner.
  using Holding = std::function<std::pair<int, int>(const Claim&)>;
  /// The oldest claim of each (class, owner): of the job that holds the least first, of one job of the owner that holds the
  /// least, then the highest priority, then the job, and of it the owner, that was served longest ago, then by age. However
  /// many demands a job has queued, it does not keep another waiting that has less.
  [[nodiscard]] std::vector<const Claim*> fronts(const Holding& holding) const;
  /// Takes out a claim that `fronts` returned: its job and owner are served now.
  Claim pop(const Claim& front);

  /// The job is over.
  void forget(JobId job) { job_served_.erase(job); }

  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] size_t in_groups() const { return in_groups_; }  ///< Of these, what wants to run in placement groups.
  /// How many wait in line with a claim that `fronts` returned, itself included.
  [[nodiscard]] size_t line_of(const Claim& front) const;
  [[nodiscard]] std::vector<const Claim*> all() const;

 private:
  using Line = std::deque<Claim>;
  using Key = std::pair<wire::SchedulingClass, ProcessId>;

  std::optional<Claim> take_out(const std::function<bool(const Key&)>& may_be_in,
                                const std::function<bool(const Claim&)>& is_it);
  void note_removed(ProcessId owner, bool is_in_group, size_t count = 1);

  std::map<Key, Line> lines_;
  std::map<ProcessId, size_t> waiting_of_;
  uint64_t served_ = 0;  // so many so far; by job and owner: how many there were when they were served last
  std::map<JobId, uint64_t> job_served_;
  std::map<ProcessId, uint64_t> owner_served_;
  size_t size_ = 0;
  size_t in_groups_ = 0;
};

}  // namespace manta::raylet
