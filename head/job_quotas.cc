#include "head/job_quotas.h"

#include "common/check.h"

#include <algorithm>

namespace manta::head {

using wire::Amounts;
using wire::NodeNumber;

Amounts JobQuotas::Charge::counts() const {
  Amounts now = amounts;
  if (is_lent) now.erase("cpus");
  return now;
}

void JobQuotas::begin(uint64_t job, Amounts quota) {
  if (quota.empty() && !accounts_.contains(job)) return;
  Account& account = accounts_[job];
  account.is_known = true;
  account.quota = std::move(quota);
  gave_back(job);
}

void JobQuotas::end(uint64_t job) {
  accounts_.erase(job);
  dirty_.erase(job);
  freed_.erase(job);
}

bool JobQuotas::is_limited(uint64_t job) const { return accounts_.contains(job); }

const Amounts* JobQuotas::quota_of(uint64_t job) const {
  const auto it = accounts_.find(job);
  return it == accounts_.end() ? nullptr : &it->second.quota;
}

Amounts JobQuotas::held(uint64_t job) const {
  const auto it = accounts_.find(job);
  return it == accounts_.end() ? Amounts() : it->second.held;
}

Status JobQuotas::check(uint64_t job, const wire::Resources& demand) const {
  const auto it = accounts_.find(job);
  if (it == accounts_.end()) return {};
  return wire::beyond_quota(it->second.quota, wire::limited_part(it->second.quota, demand));
}

std::string JobQuotas::lacks(uint64_t job, const Key& key, const wire::Resources& demand) const {
  const auto it = accounts_.find(job);
  if (it == accounts_.end()) return "";
  const Account& account = it->second;
  if (is_paused_ || !account.is_known)
    return "it waits for its job's quota: the head has started again and does not know yet what the job holds";
  const Amounts part = wire::limited_part(account.quota, demand);
  Amounts held = account.held;
  if (const auto own = account.charges.find(key); own != account.charges.end())
    wire::subtract_amounts(held, own->second.counts());
  return wire::kind_above(account.quota, held, part).empty() ? "" : wire::explain_quota(account.quota, held, part);
}

void JobQuotas::charge(uint64_t job, const Key& key, const wire::Resources& demand) {
  const auto it = accounts_.find(job);
  if (it == accounts_.end()) return;
  Charge& charge = it->second.charges[key];
  wire::subtract_amounts(it->second.held, charge.counts());
  charge.is_lent = false;
  charge.amounts = wire::limited_part(it->second.quota, demand);
  wire::add_amounts(it->second.held, charge.amounts);
}

void JobQuotas::refund(uint64_t job, const Key& key) {
  const auto it = accounts_.find(job);
  if (it == accounts_.end()) return;
  const auto charge = it->second.charges.extract(key);
  if (charge.empty()) return;
  wire::subtract_amounts(it->second.held, charge.mapped().counts());
  gave_back(job);
}

void JobQuotas::lend(uint64_t job, const Key& key, bool is_lent) {
  const auto it = accounts_.find(job);
  if (it == accounts_.end()) return;
  const auto charge = it->second.charges.find(key);
  if (charge == it->second.charges.end() || charge->second.is_lent == is_lent) return;
  wire::subtract_amounts(it->second.held, charge->second.counts());
  charge->second.is_lent = is_lent;
  wire::add_amounts(it->second.held, charge->second.counts());
  gave_back(job);
}

void JobQuotas::report(NodeNumber node, const wire::QuotaReport& report, bool may_be_new) {
  const bool is_sane = wire::is_sane(report.keeps) && report.wants.size() <= wire::kMaxQuotaWants &&
                       std::ranges::all_of(report.wants, [](const wire::QuotaWant& want) {
                         return wire::is_sane(want.each) && want.count <= wire::kMaxQuotaWant && !want.each.empty();
                       });
  if (!is_sane || (!may_be_new && !accounts_.contains(report.job))) return;
  Account& account = accounts_[report.job];
  Share& share = account.shares[node];
  if (report.number <= share.report) return;
  dirty_.insert(report.job);
  share.is_to_be_told = true;
  if (report.seen != share.number) return;  // what it was given meanwhile is said again
  share.report = report.number;
  share.number = share.told + 1;
  wire::subtract_amounts(account.held, share.amounts);
  share.amounts = report.keeps;
  wire::add_amounts(account.held, share.amounts);
  share.wants = report.wants;
  gave_back(report.job);
}

void JobQuotas::node_lost(NodeNumber node) {
  for (auto& [job, account] : accounts_) {
    const auto share = account.shares.extract(node);
    if (share.empty()) continue;
    wire::subtract_amounts(account.held, share.mapped().amounts);
    gave_back(job);
  }
  // Its job was never heard of otherwise, and now never will.
  std::erase_if(accounts_, [&](const auto& entry) { return !entry.second.is_known && wire::node_of(entry.first) == node; });
}

void JobQuotas::pause(bool is_paused) {
  if (is_paused_ == is_paused) return;
  is_paused_ = is_paused;
  if (is_paused) return;
  for (const auto& [job, account] : accounts_) gave_back(job);
}

void JobQuotas::gave_back(uint64_t job) {
  freed_.insert(job);
  dirty_.insert(job);
}

std::set<uint64_t> JobQuotas::take_freed() { return std::exchange(freed_, {}); }

bool JobQuotas::give_one(Account& account, Share& share) {
  for (wire::QuotaWant& want : share.wants) {
    if (want.count == 0 || !wire::kind_above(account.quota, account.held, want.each).empty()) continue;
    --want.count;
    wire::add_amounts(share.amounts, want.each);
    wire::add_amounts(account.held, want.each);
    share.number = share.told + 1;
    share.is_to_be_told = true;
    return true;
  }
  return false;
}

// One lease a node at a time, beginning behind the one that had the last.
void JobQuotas::give(Account& account) const {
  if (is_paused_ || !account.is_known) return;
  size_t without = 0;
  auto next = account.shares.upper_bound(account.last);
  while (without < account.shares.size()) {
    if (next == account.shares.end()) next = account.shares.begin();
    if (give_one(account, next->second)) {
      account.last = next->first;
      without = 0;
    } else {
      ++without;
    }
    ++next;
  }
}

std::vector<wire::ToNode> JobQuotas::settle() {
  std::vector<wire::ToNode> said;
  for (const uint64_t job : std::exchange(dirty_, {})) {
    const auto it = accounts_.find(job);
    if (it == accounts_.end()) continue;
    give(it->second);
    for (auto& [node, share] : it->second.shares) {
      if (!std::exchange(share.is_to_be_told, false)) continue;
      share.told = share.number;
      said.push_back({node, wire::QuotaShare{.job = job,
                                             .number = share.number,
                                             .report = share.report,
                                             .share = share.amounts,
                                             .held = it->second.held}});
    }
  }
  return said;
}

void JobQuotas::check_invariants() const {
  for (const auto& [job, account] : accounts_) {
    Amounts held;
    for (const auto& [node, share] : account.shares) wire::add_amounts(held, share.amounts);
    for (const auto& [key, charge] : account.charges) wire::add_amounts(held, charge.counts());
    MANTA_CHECK(held == account.held, job, wire::describe_amounts(held), wire::describe_amounts(account.held));
  }
}

}  // namespace manta::head
