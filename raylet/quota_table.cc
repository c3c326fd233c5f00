#include "raylet/quota_table.h"

#include "common/check.h"

#include <algorithm>

namespace manta::raylet {

using wire::Amounts;

namespace {

constexpr const char* kCpus = "cpus";

int64_t cpus_of(const Amounts& amounts) {
  const auto it = amounts.find(kCpus);
  return it == amounts.end() ? 0 : it->second;
}

}  // namespace

Amounts QuotaTable::Token::counts() const {
  Amounts now = amounts;
  if (is_lent) now.erase(kCpus);
  return now;
}

void QuotaTable::begin(JobId job, const Amounts& quota) {
  if (quota.empty()) return;
  const auto [it, is_new] = jobs_.try_emplace(job);
  if (is_new) it->second.quota = quota;
  touch();
}

void QuotaTable::end(JobId job) {
  if (jobs_.erase(job) == 0) return;
  std::erase_if(tokens_, [&](const auto& entry) { return entry.second.job == job; });
  std::erase_if(nowhere_, [&](const RequestKey& key) { return !tokens_.contains(key); });
}

const Amounts* QuotaTable::quota_of(JobId job) const {
  const auto it = jobs_.find(job);
  return it == jobs_.end() ? nullptr : &it->second.quota;
}

Amounts QuotaTable::part_of(JobId job, const wire::Resources& demand) const {
  const Amounts* quota = quota_of(job);
  return quota == nullptr ? Amounts() : wire::limited_part(*quota, demand);
}

void QuotaTable::use(const Token& token) { wire::add_amounts(jobs_.at(token.job).used, token.counts()); }

void QuotaTable::free(const Token& token) {
  Job& job = jobs_.at(token.job);
  const Amounts freed = token.counts();
  wire::subtract_amounts(job.used, freed);
  const int64_t owed = std::min(job.overdraft, cpus_of(freed));
  job.overdraft -= owed;
  job.repaid += owed;
  wire::subtract_amounts(job.share, {{kCpus, owed}});
}

bool QuotaTable::admit(const RequestKey& key, JobId job, const Amounts& amounts) {
  const auto it = jobs_.find(job);
  if (it == jobs_.end() || tokens_.contains(key)) return true;
  // Of the share, what is not named is not there.
  for (const auto& [kind, amount] : amounts) {
    const auto share = it->second.share.find(kind);
    const auto used = it->second.used.find(kind);
    const int64_t free =
        (share == it->second.share.end() ? 0 : share->second) - (used == it->second.used.end() ? 0 : used->second);
    if (amount > free) return false;
  }
  const Token& token =
      tokens_.emplace(key, Token{.job = job, .amounts = amounts, .is_lent = false, .places = {0}}).first->second;
  use(token);
  return true;
}

void QuotaTable::arrived(const RequestKey& key, uint32_t node) {
  const auto it = tokens_.find(key);
  if (it == tokens_.end()) return;
  it->second.places.insert(node);
  nowhere_.erase(key);
}

void QuotaTable::left(const RequestKey& key, uint32_t node) {
  const auto it = tokens_.find(key);
  if (it == tokens_.end()) return;
  it->second.places.erase(node);
  if (!it->second.places.empty()) return;
  nowhere_.insert(key);
  touch();
}

bool QuotaTable::is_lent(const RequestKey& key) const {
  const auto it = tokens_.find(key);
  return it != tokens_.end() && it->second.is_lent;
}

int QuotaTable::held_by(ProcessId owner) const {
  int count = 0;
  for (auto it = tokens_.lower_bound({owner, 0}); it != tokens_.end() && it->first.first == owner; ++it) ++count;
  return count;
}

void QuotaTable::lend(const RequestKey& key, uint32_t node, bool is_lent) {
  const auto it = tokens_.find(key);
  if (it == tokens_.end() || it->second.is_lent == is_lent || !it->second.places.contains(node)) return;
  free(it->second);
  it->second.is_lent = is_lent;
  use(it->second);
  touch();
  Job& job = jobs_.at(it->second.job);
  const int64_t excess = cpus_of(job.used) - cpus_of(job.share);
  if (is_lent || excess <= 0) return;
  job.overdraft += excess;
  wire::add_amounts(job.share, {{kCpus, excess}});
}

void QuotaTable::node_lost(uint32_t node) {
  for (auto& [key, token] : tokens_)
    if (token.places.erase(node) > 0 && token.places.empty()) nowhere_.insert(key);
  touch();
}

void QuotaTable::sweep() {
  for (const RequestKey& key : std::exchange(nowhere_, {})) {
    const auto it = tokens_.find(key);
    free(it->second);
    tokens_.erase(it);
  }
}

void QuotaTable::on_share(const wire::QuotaShare& share) {
  const auto it = jobs_.find(JobId{share.job});
  if (it == jobs_.end() || share.number <= it->second.seen) return;
  Job& job = it->second;
  job.seen = share.number;
  job.share = share.share;
  const bool did_count = share.report == job.number;
  if (!did_count) job.repaid += job.repaid_before;
  job.repaid_before = 0;
  wire::subtract_amounts(job.share, {{kCpus, job.repaid}});
  job.held_by_all = share.held;
  job.is_asking = false;
  // The head had more for this node when the report came, so that it did not count.
  if (!did_count) job.must_say = true;
  touch();
}

wire::QuotaReport QuotaTable::report(JobId id, Job& job, Wants wants) {
  job.is_asking = true;
  job.must_say = false;
  job.repaid_before += std::exchange(job.repaid, 0);
  job.told_keeps = job.used;
  job.told_wants = wants;
  job.share = job.used;
  return {.job = id.value, .number = ++job.number, .seen = job.seen, .keeps = job.used, .wants = std::move(wants)};
}

std::vector<wire::QuotaReport> QuotaTable::reports(const std::map<JobId, Wants>& wants) {
  std::vector<wire::QuotaReport> all;
  for (auto& [id, job] : jobs_) {
    if (job.is_asking) continue;
    const auto wanted = wants.find(id);
    Wants now = wanted == wants.end() ? Wants() : wanted->second;
    if (!job.must_say && job.used == job.share && job.used == job.told_keeps && now == job.told_wants) continue;
    all.push_back(report(id, job, std::move(now)));
  }
  return all;
}

std::vector<wire::QuotaReport> QuotaTable::returns(const std::map<JobId, Wants>& wants) {
  std::vector<wire::QuotaReport> all;
  for (auto& [id, job] : jobs_) {
    job.seen = 0;
    const auto wanted = wants.find(id);
    all.push_back(report(id, job, wanted == wants.end() ? Wants() : wanted->second));
  }
  return all;
}

std::string QuotaTable::explain(JobId job, const Amounts& amounts) const {
  const auto it = jobs_.find(job);
  return it == jobs_.end() ? "" : wire::explain_quota(it->second.quota, it->second.held_by_all, amounts);
}

void QuotaTable::check_invariants() const {
  std::map<JobId, Amounts> used;
  for (const auto& [key, token] : tokens_) {
    MANTA_CHECK(jobs_.contains(token.job), "a token's job has a quota", key.second);
    wire::add_amounts(used[token.job], token.counts());
  }
  for (const auto& [id, job] : jobs_) MANTA_CHECK(used[id] == job.used, "tokens are counted", id.value);
}

}  // namespace manta::raylet
