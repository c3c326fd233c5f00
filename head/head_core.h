// The head's decisions: which actors exist, under which names, in which phase, and what happens when one's worker or owner
// dies. Plus the tables of jobs and lineage.
//
//   PENDING --started--> ALIVE --worker died, restarts left--> RESTARTING --started--> ALIVE
//      |                   |                                        |
//      +-- refused, killed, owner died, no restarts left, left -----+--> DEAD (for ever)
//
// `step` takes one message of a raylet and returns what to answer and what to write down. No I/O, no threads, no clock: how
// long an incarnation lived comes with the message, and a delay goes with the answer, for the raylet to keep.
//
// Invariants: 1 an incarnation that ended has no effect any more; incarnations only grow. 2 A name belongs to at most one
// actor that is not dead. 3 Replaying the records gives the tables back. 4 Every table is bounded; lineage in bytes.
#pragma once

#include "head/store.h"
#include "wire/head_link.h"

#include <cstdint>
#include <deque>
#include <map>
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
  size_t max_lineage_bytes = size_t{64} << 20;
};

/// What one step led to. The messages may leave once the records are as durable as the store promises.
struct HeadEffects {
  std::vector<wire::FromHead> messages;
  std::vector<Record> records;
};

class HeadCore {
 public:
  explicit HeadCore(HeadSettings settings = {}) : settings_(settings) {}

  [[nodiscard]] HeadEffects step(wire::ToHead message);

  /// Takes the records of an earlier life, oldest first. kInvalid when one is not what a head writes.
  Status replay(const std::vector<Record>& records);

  struct Actor {
    wire::CreateActor spec;
    wire::ActorPhase phase = wire::ActorPhase::kPending;
    uint32_t incarnation = 1;
    int32_t restarts_used = 0;
    bool may_restart = true;   ///< False after a kill that forbids it.
    bool is_draining = false;  ///< Ends once it has run what it was sent.
    bool has_state = false;
    std::string state;
    uint64_t worker = 0;
    int32_t worker_pid = 0;
    wire::WireStatus cause;
    std::set<uint64_t> watchers;
    int quick_deaths = 0;  ///< In a row, of incarnations that did not live kLongLifeUs.
  };

  static constexpr int64_t kLongLifeUs = 10'000'000;
  static constexpr int64_t kFirstRestartDelayUs = 50'000;
  static constexpr int64_t kMaxRestartDelayUs = 5'000'000;
  /// None for the first restart, then doubling.
  [[nodiscard]] static int64_t restart_delay_us(int quick_deaths);

  [[nodiscard]] const Actor* find(const wire::ActorKey& actor) const;
  [[nodiscard]] size_t lineage_bytes() const { return lineage_bytes_; }
  [[nodiscard]] size_t lineage_tasks() const { return lineage_.size(); }
  /// Every durable table as records in a fixed order: equal tables, equal records.
  [[nodiscard]] std::vector<Record> snapshot() const;
  void check_invariants() const;

 private:
  void on(wire::HeadClientJoined& message);
  void on(wire::HeadClientGone& message);
  void on(wire::HeadRequest& message);
  void on(wire::HeadActorEvent& message);

  void on_request(uint64_t from, wire::CreateActor& message);
  void on_request(uint64_t from, wire::WatchActor& message);
  void on_request(uint64_t from, wire::KillActor& message);
  void on_request(uint64_t from, wire::FindActor& message);
  void on_request(uint64_t from, wire::SaveActorState& message);
  void on_request(uint64_t from, wire::LogLineage& message);

  using TaskKey = std::pair<uint64_t, uint64_t>;     // owner, sequence
  using Name = std::pair<std::string, std::string>;  // name space, name
  [[nodiscard]] Status check(const wire::CreateActor& spec) const;
  void refuse_creation(uint64_t from, const wire::CreateActor& spec, const Status& status);
  void watch(Actor& actor, uint64_t watcher);
  void place(Actor& actor, int64_t delay_us = 0);
  void restart_or_bury(Actor& actor, const wire::WireStatus& cause);
  void bury(Actor& actor, wire::WireStatus cause);
  void end_worker(const Actor& actor, bool drain, const std::string& reason);
  void tell(const Actor& actor, uint64_t watcher, const wire::ActorKey& instead_of = {});
  void tell_watchers(const Actor& actor);
  void tell_missing(const wire::ActorKey& actor, uint64_t watcher);
  void write(const Actor& actor);
  void drop_lineage(const TaskKey& key);
  Status replay_one(const Record& record);

  HeadSettings settings_;
  std::map<wire::ActorKey, Actor> actors_;
  std::map<Name, wire::ActorKey> names_;
  std::deque<wire::ActorKey> dead_;  // oldest first
  std::set<uint64_t> processes_;
  std::map<uint64_t, std::set<wire::ActorKey>> watched_;        // by watcher: the actors that have it in `watchers`
  std::map<uint64_t, std::string> jobs_;                        // by driver
  std::map<wire::ActorKey, std::set<uint64_t>> early_watches_;  // a handle overtook its actor's creation
  size_t early_watch_count_ = 0;
  std::map<uint64_t, uint64_t> forgotten_up_to_;  // by owner: dead actors are forgotten up to this sequence
  std::map<TaskKey, std::string> lineage_;
  std::deque<TaskKey> lineage_order_;  // oldest first
  size_t lineage_bytes_ = 0;
  HeadEffects effects_;
};

}  // namespace manta::head
