// Random histories of the two halves of a quota's account, the head's JobQuotas and a QuotaTable a node, with messages in
// order and late, repeated reports, nodes that die and a head that starts again. Against a model that sees everything: a job
// never holds more than its quota, everybody is served in the end, and at rest nothing is held. A failure prints the seed.
#include "head/job_quotas.h"
#include "raylet/quota_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace manta {
namespace {

using raylet::QuotaTable;
using wire::Amounts;

constexpr uint32_t kNodes = 4;
constexpr uint64_t kJobs = 2;
constexpr uint32_t kElsewhere = 99;

class History {
 public:
  explicit History(uint32_t seed) : random_(seed) {
    for (uint64_t job = 1; job <= kJobs; ++job) {
      quotas_[job] = {{"cpus", 20'000 + pick(4) * 10'000}, {"gpus", 10'000}};
      if (pick(2) == 0) quotas_[job]["licence"] = 10'000;
      head_.begin(job, quotas_[job]);
    }
    for (uint32_t node = 1; node <= kNodes; ++node) nodes_[node] = fresh();
  }

  void live(int steps) {
    for (int i = 0; i < steps; ++i) {
      act();
      check();
    }
  }

  void come_to_rest() {
    if (is_head_away_) head_returns();
    for (int round = 0; round < 20'000 && !is_quiet(); ++round) {
      for (auto& [node, one] : nodes_) {
        while (!one.to_head.empty()) deliver_to_head(node);
        while (!one.from_head.empty()) deliver_from_head(node);
        if (!one.held.empty()) end_one(node, *one.held.begin());
      }
      settle_head();
      if (!actors_.empty()) end_actor();
      check();
    }
    for (auto& [node, one] : nodes_) {
      EXPECT_TRUE(one.waiting.empty()) << one.waiting.size() << " requests of node " << node << " were never admitted";
      EXPECT_TRUE(one.table.is_at_rest());
    }
    for (uint64_t job = 1; job <= kJobs; ++job)
      EXPECT_EQ(head_.held(job), Amounts()) << wire::describe_amounts(head_.held(job));
  }

 private:
  struct Request {
    uint64_t job = 0;
    Amounts amounts;
    bool is_lent = false;
    bool took_back = false;
  };
  struct Node {
    QuotaTable table;
    std::map<uint64_t, Request> waiting;  // by number
    std::map<uint64_t, Request> held;
    std::deque<wire::QuotaReport> to_head;
    std::deque<wire::QuotaShare> from_head;
    std::vector<wire::QuotaReport> said;  // may be said again
  };

  uint32_t pick(uint32_t below) { return static_cast<uint32_t>(random_() % below); }
  static QuotaTable::RequestKey key_of(uint64_t number) { return {ProcessId{7}, number}; }
  Node fresh() {
    Node node;
    for (const auto& [job, quota] : quotas_) node.table.begin(JobId{job}, quota);
    return node;
  }
  Amounts any_demand(uint64_t job) {
    Amounts some{{"cpus", 10'000 * (1 + pick(2))}};
    if (pick(3) == 0) some = {{"gpus", 5'000}};
    if (pick(4) == 0 && quotas_[job].contains("licence")) some["licence"] = 10'000;
    return some;
  }

  void act() {
    const uint32_t number = 1 + pick(kNodes);
    Node& node = nodes_.at(number);
    switch (pick(14)) {
      case 0:
      case 1:
      case 2: {
        const uint64_t job = 1 + pick(kJobs);
        if (node.waiting.size() < 20) node.waiting[++last_request_] = {.job = job, .amounts = any_demand(job)};
        node.table.touch();
        break;
      }
      case 3:
        if (!node.waiting.empty()) node.waiting.erase(node.waiting.begin());
        break;
      case 4:
      case 5:
        if (!node.held.empty())
          end_one(number, *std::next(node.held.begin(), pick(static_cast<uint32_t>(node.held.size()))));
        break;
      case 6:
        if (!node.held.empty()) {
          auto& [request, one] = *std::next(node.held.begin(), pick(static_cast<uint32_t>(node.held.size())));
          one.is_lent = !one.is_lent;
          one.took_back |= !one.is_lent;
          for (const uint32_t place : {0u, kElsewhere}) node.table.lend(key_of(request), place, one.is_lent);
        }
        break;
      case 7:
        if (!node.held.empty()) move(node, node.held.begin()->first);
        break;
      case 8: deliver_to_head(number); break;
      case 9: deliver_from_head(number); break;
      case 10:  // said again
        if (!node.said.empty()) node.to_head.push_back(node.said[pick(static_cast<uint32_t>(node.said.size()))]);
        break;
      case 11: pick(2) == 0 ? start_actor() : end_actor(); break;
      case 12:
        if (pick(40) == 0) lose(number);
        break;
      case 13:
        if (pick(40) == 0) is_head_away_ ? head_returns() : head_dies();
        break;
    }
    work(number);
  }

  // What the core does at the end of each step.
  void work(uint32_t number) {
    Node& node = nodes_.at(number);
    node.table.sweep();
    for (auto it = node.waiting.begin(); it != node.waiting.end();) {
      if (!node.table.admit(key_of(it->first), JobId{it->second.job}, it->second.amounts)) {
        ++it;
        continue;
      }
      node.held.insert(*it);
      it = node.waiting.erase(it);
    }
    for (wire::QuotaReport& report : node.table.reports(wants(node))) say(node, std::move(report));
    node.table.check_invariants();
  }
  static std::map<JobId, QuotaTable::Wants> wants(const Node& node) {
    std::map<JobId, QuotaTable::Wants> all;
    for (const auto& [number, request] : node.waiting) all[JobId{request.job}].push_back({request.amounts, 1});
    return all;
  }
  static void say(Node& node, wire::QuotaReport report) {
    node.said.push_back(report);
    node.to_head.push_back(std::move(report));
  }

  void end_one(uint32_t number, const std::pair<uint64_t, Request>& one) {
    Node& node = nodes_.at(number);
    const uint64_t request = one.first;
    node.table.left(key_of(request), 0);
    node.table.left(key_of(request), kElsewhere);
    node.held.erase(request);
    work(number);
  }
  // To another node and back: it is held all the while.
  static void move(Node& node, uint64_t request) {
    node.table.arrived(key_of(request), kElsewhere);
    node.table.left(key_of(request), 0);
    node.table.sweep();
    EXPECT_TRUE(node.table.has_token(key_of(request)));
  }

  void deliver_to_head(uint32_t number) {
    Node& node = nodes_.at(number);
    if (is_head_away_ || node.to_head.empty()) return;
    head_.report(number, node.to_head.front(), true);
    node.to_head.pop_front();
    settle_head();
  }
  void deliver_from_head(uint32_t number) {
    Node& node = nodes_.at(number);
    if (node.from_head.empty()) return;
    node.table.on_share(node.from_head.front());
    node.from_head.pop_front();
    work(number);
  }
  void settle_head() {
    if (is_head_away_) return;
    (void)head_.take_freed();
    for (wire::ToNode& one : head_.settle())
      nodes_.at(one.to).from_head.push_back(std::get<wire::QuotaShare>(std::move(one.message)));
    head_.check_invariants();
  }

  void start_actor() {
    if (is_head_away_) return;
    const uint64_t job = 1 + pick(kJobs);
    wire::Resources demand;
    demand.cpus = 10'000;
    const head::JobQuotas::Key key{job, ++last_request_};
    if (!head_.lacks(job, key, demand).empty()) return;
    head_.charge(job, key, demand);
    actors_.insert(key);
    settle_head();
  }
  void end_actor() {
    if (is_head_away_ || actors_.empty()) return;
    const auto key = *actors_.begin();
    head_.refund(key.first, key);
    actors_.erase(key);
    settle_head();
  }

  void lose(uint32_t number) {
    if (is_head_away_) return;
    nodes_.at(number) = fresh();  // another, of that number: the model has no more
    nodes_.at(number).to_head.clear();
    head_.node_lost(number);
    settle_head();
  }
  void head_dies() {
    is_head_away_ = true;
    for (auto& [number, node] : nodes_) node.from_head.clear();
  }
  void head_returns() {
    is_head_away_ = false;
    head_ = {};
    head_.pause(true);
    for (const auto& [job, quota] : quotas_) head_.begin(job, quota);
    for (const auto& key : actors_) {
      wire::Resources demand;
      demand.cpus = 10'000;
      head_.charge(key.first, key, demand);
    }
    for (auto& [number, node] : nodes_) {
      for (const wire::QuotaReport& report : node.table.returns(wants(node))) {
        node.said.push_back(report);
        head_.report(number, report, true);
      }
      settle_head();
    }
    head_.pause(false);
    settle_head();
  }

  void check() {
    for (const auto& [job, quota] : quotas_) {
      Amounts held;
      for (const auto& [number, node] : nodes_) {
        for (const auto& [request, one] : node.held) {
          if (one.job != job) continue;
          Amounts part = one.amounts;
          if (one.is_lent || one.took_back) part.erase("cpus");  // what was taken back is its own
          wire::add_amounts(held, part);
        }
      }
      for (const auto& key : actors_)
        if (key.first == job) wire::add_amounts(held, {{"cpus", 10'000}});
      ASSERT_EQ(wire::kind_above(quota, {}, held), "") << "job " << job << " holds " << wire::describe_amounts(held);
    }
  }
  bool is_quiet() {
    return actors_.empty() && std::ranges::all_of(nodes_, [](const auto& entry) {
             const Node& node = entry.second;
             return node.waiting.empty() && node.held.empty() && node.to_head.empty() && node.from_head.empty();
           });
  }

  std::mt19937 random_;
  head::JobQuotas head_;
  std::map<uint64_t, Amounts> quotas_;
  std::map<uint32_t, Node> nodes_;
  std::set<head::JobQuotas::Key> actors_;
  uint64_t last_request_ = 0;
  bool is_head_away_ = false;
};

TEST(QuotaHistory, NeverHoldsMoreAndEndsWithNothing) {
  for (uint32_t seed = 0; seed < 300 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    History history(seed);
    history.live(600);
    if (!testing::Test::HasFailure()) history.come_to_rest();
  }
}

}  // namespace
}  // namespace manta
