// Lists of what nodes know of themselves: workers, leases and who waits for one. They are paged from node to node, in the
// order of the numbers: this raylet answers when it is its turn, and hands the request on else. What the head knows it is
// asked for.
//
// A cursor is the node's number, a colon, and the key of the last entry there; with no key it is the node's start. Nobody
// keeps anything between two pages.
#include "raylet/raylet_core.h"

#include "wire/list_page.h"

#include <algorithm>
#include <string_view>

namespace manta::raylet {
namespace {

using wire::ListOf;
using wire::Row;

std::string seconds_since(int64_t since_us, int64_t now_us) {
  return std::to_string(std::max<int64_t>(0, now_us - since_us) / 1'000'000);
}

Row row_of(const Claim& claim, wire::NodeNumber node, int64_t now_us) {
  return {{"node", std::to_string(node)},
          {"task", TaskId{claim.owner.value, claim.request}.to_string()},
          {"owner", claim.owner.to_string()},
          {"job", claim.job.to_string()},
          {"resources", describe(claim.demand())},
          {"group", std::to_string(claim.scheduling_class.group)},
          {"seconds", seconds_since(claim.since_us, now_us)}};
}

}  // namespace

void RayletCore::on_message(ProcessId from, wire::GetClusterStatus& message) {
  emit(TellHead{wire::HeadRequest{from.value, message}});
}
void RayletCore::on_head(wire::ListAnswer& message) { send(ProcessId{message.to}, std::move(message.listed)); }
void RayletCore::on_head(wire::StatusAnswer& message) { send(ProcessId{message.to}, std::move(message.status)); }

void RayletCore::on_message(ProcessId from, wire::ListRequest& message) {
  const auto what = static_cast<ListOf>(message.what);
  if (what != ListOf::kWorkers && what != ListOf::kTasks && what != ListOf::kObjects)
    return emit(TellHead{wire::HeadRequest{from.value, std::move(message)}});
  std::string_view key = message.cursor;
  const auto wanted = static_cast<wire::NodeNumber>(wire::take_number(key));
  std::string note;
  // Who hands it on has chosen this node.
  const std::optional<wire::NodeNumber> turn = is_remote(from.value) ? settings_.number : node_in_turn(wanted, note);
  if (!turn)
    return send(from, wire::Listed{.request = message.request, .status = {}, .rows = {}, .cursor = {}, .note = note});
  if (wanted != *turn) key = {};
  if (*turn != settings_.number) {
    message.cursor = std::to_string(*turn) + ":" + std::string(key);
    return emit(HandOn{*turn, from, std::move(message)});
  }
  message.cursor = std::string(key);
  if (what == ListOf::kObjects) return emit(ListObjects{from, std::move(message)});
  send(from, with_node(what == ListOf::kWorkers ? list_workers(message) : list_tasks(message)));
}

wire::Listed RayletCore::with_node(wire::Listed listed) const {
  const bool is_at_end = listed.cursor.empty();
  const bool is_last = is_at_end && settings_.number == 0;  // of a session of one node
  if (listed.status.code != 0 || is_last) {
    listed.cursor.clear();
  } else {
    listed.cursor = std::to_string(settings_.number + (is_at_end ? 1 : 0)) + ":" + listed.cursor;
  }
  return listed;
}

std::optional<wire::NodeNumber> RayletCore::node_in_turn(wire::NodeNumber first, std::string& note) const {
  if (settings_.number == 0) return 0;
  auto it = view_.all().lower_bound(first);
  for (; it != view_.all().end() && it->second.is_suspect; ++it)
    note += (note.empty() ? "" : "; ") + std::string("node ") + std::to_string(it->first) + " (" + it->second.info.name +
            ") does not answer and is passed over";
  const bool own_is_next = first <= settings_.number && (it == view_.all().end() || settings_.number < it->first);
  if (own_is_next) return settings_.number;
  return it == view_.all().end() ? std::nullopt : std::optional(it->first);
}

wire::Listed RayletCore::list_workers(const wire::ListRequest& request) const {
  constexpr const char* kStates[] = {"starting", "idle", "busy", "ending"};
  wire::ListPage page(request);
  std::string_view cursor = request.cursor;
  auto it =
      request.cursor.empty() ? workers_.all().begin() : workers_.all().upper_bound(WorkerToken{wire::take_number(cursor)});
  for (; it != workers_.all().end() && page.has_room(); ++it) {
    const Worker& worker = it->second;
    const auto lease = leases_.all().find(worker.lease);
    const bool has_actor = lease != leases_.all().end() && lease->second.is_actor();
    page.add(std::to_string(it->first.value),
             {{"node", std::to_string(settings_.number)},
              {"worker", worker.process.to_string()},
              {"pid", std::to_string(worker.pid)},
              {"state", worker.is_blocked ? "blocked" : kStates[static_cast<int>(worker.state)]},
              {"job", worker.env.job.to_string()},
              {"actor", has_actor ? lease->second.claim.actor->class_name : ""},
              {"seconds", seconds_since(worker.since_us, now_us_)}});
  }
  return std::move(page).finish(it == workers_.all().end());
}

// First what has a worker, by lease; then who waits, by age.
wire::Listed RayletCore::list_tasks(const wire::ListRequest& request) const {
  wire::ListPage page(request);
  std::string_view cursor = request.cursor;
  const bool is_waiting = cursor.starts_with('q');
  if (is_waiting) cursor.remove_prefix(1);
  const uint64_t after = wire::take_number(cursor);
  auto it = is_waiting ? leases_.all().end() : leases_.all().upper_bound(LeaseId{after});
  for (; it != leases_.all().end() && page.has_room(); ++it) {
    const Lease& lease = it->second;
    if (lease.is_actor()) continue;
    const auto worker = workers_.all().find(lease.worker);
    const bool has_worker = worker != workers_.all().end();
    Row row = row_of(lease.claim, settings_.number, now_us_);
    row["state"] = !lease.is_active ? "starting" : has_worker && worker->second.is_blocked ? "blocked" : "running";
    row["pid"] = has_worker ? std::to_string(worker->second.pid) : "";
    page.add(std::to_string(it->first.value), std::move(row));
  }
  if (it != leases_.all().end()) return std::move(page).finish(false);
  std::vector<std::pair<const Claim*, wire::NodeNumber>> waiting;  // and where
  for (const LeaseQueue* queue : {&queue_, &unadmitted_})
    for (const Claim* claim : queue->all()) waiting.emplace_back(claim, settings_.number);
  for (const auto& [key, asked] : asked_) waiting.emplace_back(&asked.claim, asked.node);
  std::erase_if(waiting, [&](const auto& one) { return one.first->actor || (is_waiting && one.first->sequence <= after); });
  const size_t most = std::min<size_t>(waiting.size(), wire::ListPage::kMaxLooks);
  std::ranges::partial_sort(waiting, waiting.begin() + static_cast<std::ptrdiff_t>(most), {},
                            [](const auto& one) { return one.first->sequence; });
  size_t at = 0;
  std::map<std::pair<wire::SchedulingClass, bool>, std::string> why;  // of what waits here, many are alike
  for (; at < most && page.has_room(); ++at) {
    const auto [claim, where] = waiting[at];
    Row row = row_of(*claim, settings_.number, now_us_);
    row["state"] = where == settings_.number ? "waiting" : std::string("asked of node ").append(std::to_string(where));
    std::string& reason =
        why[{claim->scheduling_class, claim->is_metered && !quotas_.has_token({claim->owner, claim->request})}];
    if (reason.empty()) reason = explain(*claim);
    row["why"] = reason;
    page.add(std::string("q").append(std::to_string(claim->sequence)), std::move(row));
  }
  return std::move(page).finish(at == waiting.size());
}

}  // namespace manta::raylet
