// The leases of a node: grants of resources to a claim, with the worker that serves it once there is one. An actor's place
// is a lease too, held for the actor's life.
//
//   granted --> WAITING (for a worker) --> ACTIVE <==> BLOCKED (lends its CPUs)
//                    |                       |             |
//                    +------ ended: resources go back -----+     with a dedicated worker: when that process has ended
//
// Pure; owned by raylet_core.
#pragma once

#include "raylet/lease_queue.h"
#include "raylet/worker_pool.h"

#include <map>
#include <set>
#include <utility>
#include <vector>

namespace manta::raylet {

struct Lease {
  LeaseId id;
  Claim claim;
  Grant grant;
  WorkerToken worker;         ///< None while it waits for a worker.
  bool is_active = false;     ///< The worker serves it.
  bool is_reclaimed = false;  ///< ReclaimLease was sent.
  bool is_ended = false;      ///< Its owner is done; the resources wait for the dedicated worker's exit.
  int64_t active_since_us = 0;
  bool is_started = false;   ///< An actor that is constructed.
  bool is_stopping = false;  ///< An actor told to stop: its exit with code 0 is no death.

  [[nodiscard]] bool is_actor() const { return claim.actor.has_value(); }
  [[nodiscard]] bool needs_dedicated_worker() const { return !grant.devices.devices.empty(); }
};

class LeaseTable {
 public:
  /// Ids count from `first_id`.
  explicit LeaseTable(uint64_t first_id) : next_id_(first_id) {}

  Lease& add(Claim claim, Grant grant);
  /// Forgets the lease; its grant was released by the caller.
  void remove(LeaseId id);
  /// The oldest that have no worker, at most so many. A lease that lost its worker before it was active comes back with
  /// `unplace`.
  [[nodiscard]] std::vector<Lease*> unplaced(size_t most);
  void unplace(Lease& lease);

  [[nodiscard]] Lease* find(LeaseId id);
  [[nodiscard]] Lease* find_actor(const wire::ActorKey& actor, uint32_t incarnation);
  /// A lease that has no worker yet, by its request.
  [[nodiscard]] Lease* find_waiting(ProcessId owner, uint64_t request);
  [[nodiscard]] std::map<LeaseId, Lease>& all() { return leases_; }
  [[nodiscard]] const std::map<LeaseId, Lease>& all() const { return leases_; }
  [[nodiscard]] size_t size() const { return leases_.size(); }

  /// Leases (not actors) that this owner holds and that keep their CPUs.
  [[nodiscard]] int held_by(ProcessId owner) const;
  [[nodiscard]] int held_by(JobId job) const;
  [[nodiscard]] int held_by(ProcessId owner, const wire::SchedulingClass& scheduling_class) const;

  /// Which leases to take back so that what waits can run, oldest first. `fronts` in the order they will be served. A lease
  /// is only taken from a job (or, of the same job, an owner; or, of the same owner, a class) that holds at least two more
  /// than the one that waits, or from anyone if that one holds none; of one owner also what has less priority, and never
  /// what has more: otherwise two owners would take the same lease from each other for ever. Only leases on what `group` has
  /// (0: on the node itself) count, and only its claims may be among the fronts.
  [[nodiscard]] std::vector<LeaseId> choose_reclaims(const std::vector<const Claim*>& fronts, wire::Resources available,
                                                     uint64_t group = 0) const;

 private:
  [[nodiscard]] bool may_reclaim(const Lease& lease, const Claim& waiting) const;

  std::map<LeaseId, Lease> leases_;
  std::set<LeaseId> unplaced_;  // and some that have a worker since; `unplaced` sorts them out
  std::map<std::pair<wire::ActorKey, uint32_t>, LeaseId> actors_;
  uint64_t next_id_;
};

}  // namespace manta::raylet
