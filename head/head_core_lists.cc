// What the head knows, in pages: rows of text ordered by key, filtered here so that only what is wanted travels.
//
// One request looks at kMaxLooks entries at most, so that a filter that matches little does not hold everybody else up: a
// page may be short or empty and still have a cursor.
#include "head/head_core.h"

#include <manta/ids.h>

#include <charconv>
#include <cstdio>

namespace manta::head {
namespace {

using wire::kWhole;
using Row = std::map<std::string, std::string>;

constexpr int kMaxLooks = 10'000;
constexpr uint32_t kMaxRows = 1'000;
constexpr size_t kMaxPageBytes = size_t{1} << 20;

std::string cpus_of(int64_t fixed_point) {
  char text[32];
  std::snprintf(text, sizeof text, "%.15g", static_cast<double>(fixed_point) / static_cast<double>(kWhole));
  return text;
}

Row row_of(const Membership::Member& member) {
  constexpr const char* kStates[] = {"alive", "suspect", "away"};
  Row row{{"node", std::to_string(member.info.number)},
          {"name", member.info.name},
          {"endpoint", member.info.endpoint},
          {"state", kStates[static_cast<int>(member.state)]},
          {"driver", member.info.is_driver ? "true" : "false"},
          {"draining", member.is_draining ? "true" : "false"},
          {"cpus", cpus_of(member.info.capacity.cpus)},
          {"cpus_free", cpus_of(member.available.cpus)},
          {"memory_bytes", std::to_string(member.info.capacity.memory_bytes)},
          {"devices", std::to_string(member.info.capacity.devices.size())},
          {"waiting", std::to_string(member.waiting)}};
  for (const auto& [key, value] : member.info.labels) row[std::string("label:").append(key)] = value;
  return row;
}

Row row_of(const HeadCore::Actor& actor) {
  constexpr const char* kPhases[] = {"pending", "alive", "restarting", "dead"};
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

Row row_of(const JobTable::Job& job) {
  constexpr const char* kStates[] = {"submitted", "pending", "running", "succeeded", "failed", "stopped"};
  const SubmittedJobRecord& row = job.row;
  return {{"job", std::to_string(row.job)},
          {"kind", "submitted"},
          {"name", row.spec.name},
          {"key", row.spec.key},
          {"state", kStates[row.state]},
          {"node", std::to_string(row.node)},
          {"pid", std::to_string(row.pid)},
          {"attempt", std::to_string(row.attempt)},
          {"exit_code", std::to_string(row.exit_code)},
          {"submitted_us", std::to_string(row.submitted_us)},
          {"started_us", std::to_string(row.started_us)},
          {"ended_us", std::to_string(row.ended_us)},
          {"cause", row.cause.message}};
}

Row row_of(const JobRecord& job) {
  return {{"job", std::to_string(job.driver)},
          {"kind", job.submission == 0 ? "driver" : "attempt"},
          {"submission", std::to_string(job.submission)},
          {"name", job.name},
          {"state", job.ended == 0        ? "running"
                    : job.cause.code == 0 ? "ended"
                                          : "failed"},
          {"node", std::to_string(wire::node_of(job.driver))},
          {"cause", job.cause.message}};
}

Row row_of(const PlacementGroups::Group& group) {
  constexpr const char* kStates[] = {"pending", "preparing", "ready"};
  constexpr const char* kStrategies[] = {"pack", "spread", "strict_pack", "strict_spread"};
  std::string nodes;
  for (wire::NodeNumber node : group.row.nodes) nodes.append(nodes.empty() ? "" : ",").append(std::to_string(node));
  return {{"group", std::to_string(group.row.group)},
          {"name", group.row.spec.name},
          {"strategy", kStrategies[group.row.spec.strategy]},
          {"bundles", std::to_string(group.row.spec.bundles.size())},
          {"state", kStates[static_cast<int>(group.state)]},
          {"nodes", nodes},
          {"job", std::to_string(group.row.job)},
          {"detached", group.row.spec.detached ? "true" : "false"},
          {"why", group.why}};
}

bool matches(const Row& row, const std::vector<std::pair<std::string, std::string>>& filters) {
  for (const auto& [key, value] : filters) {
    const auto it = row.find(key);
    if (it == row.end() || it->second != value) return false;
  }
  return true;
}

// A cursor is the key of the last entry that was looked at: numbers with a dot between them.
template <typename Key>
Key key_of(const std::string& cursor);
template <>
uint64_t key_of<uint64_t>(const std::string& cursor) {
  uint64_t key = 0;
  std::from_chars(cursor.data(), cursor.data() + cursor.size(), key);
  return key;
}
template <>
wire::NodeNumber key_of<wire::NodeNumber>(const std::string& cursor) {
  return static_cast<wire::NodeNumber>(key_of<uint64_t>(cursor));
}
template <>
wire::ActorKey key_of<wire::ActorKey>(const std::string& cursor) {
  const size_t dot = std::min(cursor.find('.'), cursor.size());
  return {key_of<uint64_t>(cursor.substr(0, dot)), key_of<uint64_t>(cursor.substr(std::min(dot + 1, cursor.size())))};
}
std::string cursor_of(uint64_t key) { return std::to_string(key); }
std::string cursor_of(const wire::ActorKey& key) { return std::to_string(key.owner) + "." + std::to_string(key.sequence); }

template <typename Table>
void add_rows(const Table& table, const wire::ListRequest& request,
              const std::vector<std::pair<std::string, std::string>>& filters, wire::Listed& listed) {
  using Key = typename Table::key_type;
  const size_t limit = std::clamp(request.limit, 1u, kMaxRows);
  size_t bytes = 0;
  int looks = 0;
  auto it = request.cursor.empty() ? table.begin() : table.upper_bound(key_of<Key>(request.cursor));
  for (; it != table.end(); ++it) {
    if (listed.rows.size() >= limit || looks >= kMaxLooks || bytes >= kMaxPageBytes) return;
    ++looks;
    listed.cursor = cursor_of(it->first);
    Row row = row_of(it->second);
    if (!matches(row, filters)) continue;
    for (const auto& [key, value] : row) bytes += key.size() + value.size();
    listed.rows.push_back(std::move(row));
  }
  listed.cursor.clear();
}

}  // namespace

void HeadCore::on_request(uint64_t from, wire::ListRequest& message) {
  wire::Listed listed{.request = message.request, .status = {}, .rows = {}, .cursor = {}};
  std::vector<std::pair<std::string, std::string>> filters;
  for (const std::string& filter : message.filters) {
    const size_t equals = filter.find('=');
    if (equals == std::string::npos)
      listed.status = wire::to_wire(Status(Code::kInvalid, "a filter is key=value, not '" + filter + "'"));
    else
      filters.emplace_back(filter.substr(0, equals), filter.substr(equals + 1));
  }
  if (listed.status.code == 0) {
    switch (static_cast<wire::ListOf>(message.what)) {
      case wire::ListOf::kNodes: add_rows(members_.members(), message, filters, listed); break;
      case wire::ListOf::kActors: add_rows(actors_, message, filters, listed); break;
      case wire::ListOf::kJobs:
        // Submitted ones first: their numbers are smaller than those of drivers.
        if (key_of<uint64_t>(message.cursor) < JobTable::kMaxJob) {
          add_rows(jobs_table_.jobs(), message, filters, listed);
          if (!listed.cursor.empty()) break;
          listed.cursor = cursor_of(JobTable::kMaxJob - 1);
        }
        add_rows(jobs_, message, filters, listed);
        break;
      case wire::ListOf::kPlacementGroups: add_rows(groups_.groups(), message, filters, listed); break;
      default: listed.status = wire::to_wire(Status(Code::kInvalid, "no list " + std::to_string(message.what)));
    }
  }
  say(node_of_process(from), wire::ListAnswer{from, std::move(listed)});
}

}  // namespace manta::head
