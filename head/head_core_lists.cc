// What the head knows, in pages (wire/list_page.h) and in counts.
#include "head/head_core.h"

#include "wire/list_page.h"

#include <manta/ids.h>

#include <string_view>
#include <type_traits>

namespace manta::head {
namespace {

using wire::amount_text;
using wire::Row;

constexpr const char* kPhases[] = {"pending", "alive", "restarting", "dead"};

const char* state_of(const Membership::Member& member) {
  constexpr const char* kStates[] = {"alive", "suspect", "away"};
  return kStates[static_cast<int>(member.state)];
}
constexpr const char* kJobStates[] = {"submitted", "pending", "running", "succeeded", "failed", "stopped"};
const char* state_of(const JobRecord& job) { return job.ended == 0 ? "running" : job.cause.code == 0 ? "ended" : "failed"; }
const char* state_of(const PlacementGroups::Group& group) {
  constexpr const char* kStates[] = {"pending", "preparing", "ready"};
  return kStates[static_cast<int>(group.state)];
}

Row row_of(const Membership::Member& member) {
  Row row{{"node", std::to_string(member.info.number)},
          {"name", member.info.name},
          {"endpoint", member.info.endpoint},
          {"state", state_of(member)},
          {"driver", member.info.is_driver ? "true" : "false"},
          {"draining", member.is_draining ? "true" : "false"},
          {"cpus", amount_text(member.info.capacity.cpus)},
          {"cpus_free", amount_text(member.available.cpus)},
          {"memory_bytes", std::to_string(member.info.capacity.memory_bytes)},
          {"devices", std::to_string(member.info.capacity.devices.size())},
          {"waiting", std::to_string(member.waiting)}};
  for (const auto& [key, value] : member.info.labels) row[std::string("label:").append(key)] = value;
  return row;
}

Row row_of(const HeadCore::Actor& actor) {
  const wire::CreateActor& spec = actor.spec;
  return {{"actor", ActorId{spec.actor.owner, spec.actor.sequence}.to_string()},
          {"class", spec.class_name},
          {"name", spec.name},
          {"name_space", spec.name_space},
          {"state", kPhases[static_cast<int>(actor.phase)]},
          {"node", std::to_string(actor.node)},
          {"pid", std::to_string(actor.worker_pid)},
          {"incarnation", std::to_string(actor.incarnation)},
          {"restarts", std::to_string(actor.restarts_used)},
          {"group", std::to_string(spec.scheduling_class.group)},
          {"detached", spec.detached ? "true" : "false"},
          {"cause", actor.cause.message}};
}

Row row_of(const wire::JobInfo& job, const std::string& key) {
  return {{"job", std::to_string(job.job)},
          {"kind", "submitted"},
          {"name", job.name},
          {"key", key},
          {"state", kJobStates[job.state]},
          {"node", std::to_string(job.node)},
          {"pid", std::to_string(job.pid)},
          {"attempt", std::to_string(job.attempt)},
          {"exit_code", std::to_string(job.exit_code)},
          {"submitted_us", std::to_string(job.submitted_us)},
          {"started_us", std::to_string(job.started_us)},
          {"ended_us", std::to_string(job.ended_us)},
          {"cause", job.cause.message}};
}

Row row_of(const JobRecord& job, const JobQuotas& quotas) {
  const wire::Amounts* quota = quotas.quota_of(job.driver);
  return {{"quota", quota == nullptr ? "" : wire::describe_amounts(*quota)},
          {"quota_held", quota == nullptr ? "" : wire::describe_amounts(quotas.held(job.driver))},
          {"job", JobId{job.driver}.to_string()},
          {"kind", job.submission == 0 ? "driver" : "attempt"},
          {"submission", std::to_string(job.submission)},
          {"name", job.name},
          {"state", state_of(job)},
          {"node", std::to_string(wire::node_of(job.driver))},
          {"cause", job.cause.message}};
}

Row row_of(const PlacementGroups::Group& group) {
  constexpr const char* kStrategies[] = {"pack", "spread", "strict_pack", "strict_spread"};
  std::string nodes;
  for (wire::NodeNumber node : group.row.nodes) nodes.append(nodes.empty() ? "" : ",").append(std::to_string(node));
  return {{"group", std::to_string(group.row.group)},
          {"name", group.row.spec.name},
          {"strategy", kStrategies[group.row.spec.strategy]},
          {"bundles", std::to_string(group.row.spec.bundles.size())},
          {"state", state_of(group)},
          {"nodes", nodes},
          {"job", JobId{group.row.job}.to_string()},
          {"detached", group.row.spec.detached ? "true" : "false"},
          {"why", group.why}};
}

// A cursor is the key of the last entry that was looked at: numbers with a dot between them.
template <typename Key>
Key key_of(std::string_view cursor) {
  if constexpr (std::is_same_v<Key, wire::ActorKey>) {
    const uint64_t owner = wire::take_number(cursor);
    return {owner, wire::take_number(cursor)};
  } else {
    return static_cast<Key>(wire::take_number(cursor));
  }
}
std::string cursor_of(uint64_t key) { return std::to_string(key); }
std::string cursor_of(const wire::ActorKey& key) { return std::to_string(key.owner) + "." + std::to_string(key.sequence); }

template <typename Table>
wire::Listed page_of(const Table& table, const wire::ListRequest& request) {
  wire::ListPage page(request);
  auto it = request.cursor.empty() ? table.begin() : table.upper_bound(key_of<typename Table::key_type>(request.cursor));
  for (; it != table.end() && page.has_room(); ++it) page.add(cursor_of(it->first), row_of(it->second));
  return std::move(page).finish(it == table.end());
}

// Submitted ones first: their numbers are smaller than those of drivers.
wire::Listed page_of_jobs(const JobTable& table, const std::map<uint64_t, JobRecord>& drivers, const JobQuotas& quotas,
                          const wire::ListRequest& request) {
  const std::map<uint64_t, JobTable::Job>& submitted = table.jobs();
  wire::ListPage page(request);
  const uint64_t after = key_of<uint64_t>(request.cursor);
  auto job = submitted.upper_bound(after);
  for (; job != submitted.end() && page.has_room(); ++job)
    page.add(cursor_of(job->first), row_of(table.info_of(job->second), job->second.row.spec.key));
  auto driver = drivers.upper_bound(std::max(after, JobTable::kMaxJob - 1));
  for (; driver != drivers.end() && page.has_room(); ++driver)
    page.add(cursor_of(driver->first), row_of(driver->second, quotas));
  return std::move(page).finish(job == submitted.end() && driver == drivers.end());
}

wire::Listed no_list(const wire::ListRequest& request) {
  return {.request = request.request,
          .status = wire::to_wire(Status(Code::kInvalid, "no list " + std::to_string(request.what))),
          .rows = {},
          .cursor = {},
          .note = {}};
}

}  // namespace

void HeadCore::on_request(uint64_t from, wire::ListRequest& message) {
  const auto list = [&]() -> wire::Listed {
    switch (static_cast<wire::ListOf>(message.what)) {
      case wire::ListOf::kNodes: return page_of(members_.members(), message);
      case wire::ListOf::kActors: return page_of(actors_, message);
      case wire::ListOf::kJobs: return page_of_jobs(jobs_table_, jobs_, quotas_, message);
      case wire::ListOf::kPlacementGroups: return page_of(groups_.groups(), message);
      default: return no_list(message);
    }
  };
  say(node_of_process(from), wire::ListAnswer{from, list()});
}

void HeadCore::on_request(uint64_t from, wire::GetClusterStatus& message) {
  wire::ClusterStatus status{.request = message.request, .cluster = cluster_, .life = life_, .counts = {}};
  const auto count = [&](const char* what, const char* state, uint64_t number) {
    if (number != 0) status.counts[std::string(what) + "." + state] += number;
  };
  for (size_t phase = 0; phase < in_phase_.size(); ++phase) count("actors", kPhases[phase], in_phase_[phase]);
  count("actors", "waiting_for_room", unplaced_.size());
  for (const auto& [number, job] : jobs_table_.jobs()) count("jobs", kJobStates[job.row.state], 1);
  for (const auto& [driver, job] : jobs_)
    if (job.submission == 0) count("jobs", state_of(job), 1);
  for (const auto& [group, entry] : groups_.groups()) count("groups", state_of(entry), 1);
  for (const auto& [number, member] : members_.members()) count("nodes", state_of(member), 1);
  say(node_of_process(from), wire::StatusAnswer{from, std::move(status)});
}

}  // namespace manta::head
