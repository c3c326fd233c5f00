// What a node's owners have of their jobs' quotas. Each request for a lease that was admitted has a token: from then on
// until its resources are free again, here or on another node, it counts against the node's share. wire/quota.h has the
// messages, head/job_quotas the account.
//
//   admit --> token: here --asked of another node--> there --granted, over, spilled back, node lost--> gone, or here again
//
// A request that two nodes were asked for is one token, which is gone when both are done with it. A worker that waits inside
// a task lends its CPUs, and takes them again without asking: nested tasks never wait for their parents' part.
//
// Pure; owned by raylet_core. O(log tokens) a call; the ends of nodes and jobs, which are rare, O(tokens).
#pragma once

#include "wire/quota.h"

#include <manta/ids.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace manta::raylet {

class QuotaTable {
 public:
  using RequestKey = std::pair<ProcessId, uint64_t>;
  using Wants = std::vector<wire::QuotaWant>;

  /// The job has a quota. No effect when it is empty or known.
  void begin(JobId job, const wire::Amounts& quota);
  /// With its tokens.
  void end(JobId job);
  [[nodiscard]] bool empty() const { return jobs_.empty(); }
  [[nodiscard]] const wire::Amounts* quota_of(JobId job) const;
  /// The part of a demand that counts; empty for none, or without a quota.
  [[nodiscard]] wire::Amounts part_of(JobId job, const wire::Resources& demand) const;

  /// Makes the token, of a request that is here. False when the share is used up.
  bool admit(const RequestKey& key, JobId job, const wire::Amounts& amounts);
  [[nodiscard]] bool has_token(const RequestKey& key) const { return tokens_.contains(key); }
  /// The request, or its lease, is (also) at this node; 0: here. Of requests without a token: no effect, as below.
  void arrived(const RequestKey& key, uint32_t node);
  /// It is there no longer. Nowhere any more: what it had is free once `sweep` was called.
  void left(const RequestKey& key, uint32_t node);
  /// Its worker, at this node (0: here), waits inside a task, or goes on.
  void lend(const RequestKey& key, uint32_t node, bool is_lent);
  void node_lost(uint32_t node);

  [[nodiscard]] bool is_lent(const RequestKey& key) const;
  /// How many tokens this owner's requests have.
  [[nodiscard]] int held_by(ProcessId owner) const;

  void on_share(const wire::QuotaShare& share);
  /// What waits for admission changed.
  void touch() { is_dirty_ = true; }
  /// Whether anything changed since the last call.
  [[nodiscard]] bool take_dirty() { return std::exchange(is_dirty_, false); }
  /// Takes away the tokens that are nowhere. To be called when a step is over: in between, one may be on its way.
  void sweep();
  /// What the head does not know yet: for each job, unless an answer about it is under way. `wants`: what waits for
  /// admission.
  [[nodiscard]] std::vector<wire::QuotaReport> reports(const std::map<JobId, Wants>& wants);
  /// To a head that was restarted.
  [[nodiscard]] std::vector<wire::QuotaReport> returns(const std::map<JobId, Wants>& wants);

  [[nodiscard]] std::string explain(JobId job, const wire::Amounts& amounts) const;
  /// Whether no token is left.
  [[nodiscard]] bool is_at_rest() const { return tokens_.empty(); }
  void check_invariants() const;

 private:
  struct Job {
    wire::Amounts quota;
    wire::Amounts share;  // what may be held
    wire::Amounts used;
    // CPUs that workers took back beyond the share: what is freed next is not for others here. Of what was repaid so, what
    // the head may still count: since the last report, and since the one before it.
    int64_t overdraft = 0;
    int64_t repaid = 0;
    int64_t repaid_before = 0;
    wire::Amounts held_by_all;  // as the head said last
    uint64_t seen = 0;
    uint64_t number = 0;
    bool is_asking = false;  // the head has not answered the last report
    bool must_say = false;
    wire::Amounts told_keeps;
    Wants told_wants;
  };
  struct Token {
    JobId job;
    wire::Amounts amounts;
    bool is_lent = false;
    std::set<uint32_t> places;
    [[nodiscard]] wire::Amounts counts() const;
  };

  static wire::QuotaReport report(JobId id, Job& job, Wants wants);
  void use(const Token& token);
  void free(const Token& token);

  std::map<JobId, Job> jobs_;
  std::map<RequestKey, Token> tokens_;
  std::set<RequestKey> nowhere_;
  bool is_dirty_ = false;
};

}  // namespace manta::raylet
