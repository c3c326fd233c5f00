// The accounts of jobs that have a quota: what their actors and placement groups hold, and each node's share, from which
// that node's owners have their leases. See wire/quota.h for the messages.
//
//   report: what the node keeps, what it wants --settle--> shares as far as the quota goes, node by node, one lease each
//
// Whatever fits is given: nothing is kept back for what is large. Else a parent that waits for its children could keep them
// waiting for ever, when what is kept back is what it has lent them.
//
// Invariant: what is given out never makes the sum larger than the quota. Only CPUs that a worker took back after waiting
// may (they are its own, and it does not ask), and what was there before a quota was known; then nothing is given until it
// is below again.
//
// Pure; owned by the head's core. `settle` costs O(nodes with a share + leases given) for each job that changed, nothing for
// others.
#pragma once

#include "wire/head_link.h"

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace manta::head {

class JobQuotas {
 public:
  /// An actor's (owner, sequence), or 0 and a placement group's number.
  using Key = std::pair<uint64_t, uint64_t>;

  /// The job has this quota from now on. An empty one is none, and has no effect.
  void begin(uint64_t job, wire::Amounts quota);
  void end(uint64_t job);
  [[nodiscard]] bool is_limited(uint64_t job) const;
  /// None: nullptr.
  [[nodiscard]] const wire::Amounts* quota_of(uint64_t job) const;
  [[nodiscard]] wire::Amounts held(uint64_t job) const;

  /// kInvalid when it is more than the whole quota.
  [[nodiscard]] Status check(uint64_t job, const wire::Resources& demand) const;
  /// Why it cannot be charged now, besides what the key is charged already; empty: it can.
  [[nodiscard]] std::string lacks(uint64_t job, const Key& key, const wire::Resources& demand) const;
  /// The actor or group has this. What it was charged before is forgotten. No effect without a quota.
  void charge(uint64_t job, const Key& key, const wire::Resources& demand);
  void refund(uint64_t job, const Key& key);
  /// It waits inside a call (its CPUs are free), or goes on.
  void lend(uint64_t job, const Key& key, bool is_lent);

  /// `may_be_new`: the job may be one of which the head has not heard yet; its quota is to come.
  void report(wire::NodeNumber node, const wire::QuotaReport& report, bool may_be_new);
  void node_lost(wire::NodeNumber node);
  /// While it is paused nothing is given: some that may hold something have not said what.
  void pause(bool is_paused);

  /// Gives what can be given, and answers reports.
  [[nodiscard]] std::vector<wire::ToNode> settle();
  /// Jobs of which something was given back since the last call: actors and groups that wait may have it, before `settle`.
  [[nodiscard]] std::set<uint64_t> take_freed();

  void check_invariants() const;

 private:
  struct Share {
    wire::Amounts amounts;
    uint64_t number = 0;
    uint64_t told = 0;  // the last number that was said
    uint64_t report = 0;
    std::vector<wire::QuotaWant> wants;
    bool is_to_be_told = false;
  };
  struct Charge {
    wire::Amounts amounts;
    bool is_lent = false;
    [[nodiscard]] wire::Amounts counts() const;
  };
  struct Account {
    bool is_known = false;
    wire::Amounts quota;
    wire::Amounts held;
    std::map<wire::NodeNumber, Share> shares;
    std::map<Key, Charge> charges;
    wire::NodeNumber last = 0;  // who was given something last
  };

  static bool give_one(Account& account, Share& share);
  void give(Account& account) const;
  void gave_back(uint64_t job);

  std::map<uint64_t, Account> accounts_;
  std::set<uint64_t> dirty_;
  std::set<uint64_t> freed_;
  bool is_paused_ = false;
};

}  // namespace manta::head
