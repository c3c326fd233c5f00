// StoreCore: objects of other nodes. Copies that are pulled here, and who has copies of what is here.
#include "common/check.h"
#include "object_store/hazard_page.h"
#include "object_store/store_core.h"

#include <algorithm>
#include <utility>

namespace manta::object_store {
namespace {

constexpr auto kPrefetchFor = std::chrono::seconds(30);
constexpr auto kPullAfterDisk = std::chrono::seconds(5);
constexpr size_t kMaxPulls = 1'024;
constexpr uint64_t kMaxPullingBytes = uint64_t{256} << 20;
constexpr size_t kMaxQueued = 65'536;  // by prefetches; who waits is bounded for each client
constexpr Name kCopyBit = Name{1} << 63;

const wire::ObjectLocation kNowhere;

Status freed_by_owner(const wire::ObjectLocation& at) {
  return Status(Code::kLost, "the object in segment " + std::to_string(at.segment) + " of node " +
                                 std::to_string(wire::node_of(at.segment)) + " was freed by its owner");
}

}  // namespace

bool StoreCore::is_remote(const wire::ObjectLocation& at) const {
  const wire::NodeNumber node = wire::node_of(at.segment);
  return node != 0 && node != options_.node;
}

bool StoreCore::is_lost(uint64_t id) const {
  const wire::NodeNumber node = wire::node_of(id);
  if (lost_nodes_.contains(node)) return true;
  const auto back = back_from_.find(node);
  return back != back_from_.end() && id <= back->second;
}

std::pair<wire::NodeNumber, Name> StoreCore::home_key(const wire::ObjectLocation& at) {
  return {wire::node_of(at.segment), hazard_key(at.slot, at.generation)};
}

/// Whether there is any use in asking for it.
Status StoreCore::check_home(const wire::ObjectLocation& at) const {
  const wire::NodeNumber node = wire::node_of(at.segment);
  if (auto lost = lost_nodes_.find(node); lost != lost_nodes_.end())
    return Status(Code::kLost, "node " + std::to_string(node) + " was lost: " + lost->second);
  if (is_lost(at.segment))
    return Status(Code::kLost, "it was lost when node " + std::to_string(node) + " was started again");
  if (at.size_bytes > options_.capacity_bytes || needed_bytes(at.size_bytes) > options_.capacity_bytes) {
    return Status(Code::kFull, "an object of " + std::to_string(at.size_bytes) + " bytes on node " + std::to_string(node) +
                                   " cannot be copied to an object store of " + std::to_string(options_.capacity_bytes) +
                                   " bytes; a larger store is set with MANTA_STORE_BYTES");
  }
  return {};
}

// ---------------------------------------------------------------------------------------------------- copies here

/// The entry of the copy, which may be on its way or not yet asked for.
StoreCore::SpilledEntry StoreCore::copy_of(const wire::ObjectLocation& at) {
  auto [known, is_new] = copies_.try_emplace(home_key(at));
  if (!is_new) return spilled_.find(known->second);
  known->second = kCopyBit | ++last_copy_;
  Spilled& spilled = spilled_[known->second];
  spilled.size_bytes = at.size_bytes;
  spilled.home = std::make_unique<Home>();
  spilled.home->at = at;
  spilled.place = Place::kDisk;
  return spilled_.find(known->second);
}

void StoreCore::forget_copy(SpilledEntry entry) {
  if (std::exchange(entry->second.home->adopted, {})) {  // it did not come
    adopting_bytes_ -= entry->second.size_bytes;
    refuse_adoption(entry->second.home->at);
  }
  const auto known = copies_.find(home_key(entry->second.home->at));
  if (known != copies_.end() && known->second == entry->first) copies_.erase(known);  // else it is of a later life
  spilled_.erase(entry);
}

void StoreCore::restore_copy(const wire::RestoreObject& asked, const Waiter& waiter, wire::TransferPriority priority) {
  const wire::ObjectLocation& at = asked.location;
  if (asked.only_here && !copies_.contains(home_key(at)))
    return answer(waiter, kNowhere, Status(Code::kNotFound, "there is no copy of it on this node"));
  if (Status status = check_home(at); !status.ok()) return answer(waiter, kNowhere, status);
  const SpilledEntry entry = copy_of(at);
  if (entry->second.freed) return answer(waiter, kNowhere, freed_by_owner(at));
  entry->second.waiters.push_back(waiter);
  bring(entry, priority);
}

void StoreCore::on(const event::Prefetch& event) {
  for (const wire::ObjectLocation& at : event.objects) {
    if (restore_queue_.size() + pull_queue_.size() >= kMaxQueued) return;
    const bool remote = is_remote(at);
    if (remote && !check_home(at).ok()) continue;
    const SpilledEntry entry = remote ? copy_of(at) : spilled_.find(hazard_key(at.slot, at.generation));
    if (entry == spilled_.end() || entry->second.freed || entry->second.place == Place::kDamaged) continue;
    entry->second.wanted_until = now_ + kPrefetchFor;
    bring(entry, event.priority);
  }
}

bool StoreCore::may_pull(const Spilled& spilled) const {
  if (pulling_.empty()) return true;
  return pulling_.size() < kMaxPulls &&
         pulling_bytes_ + spilled.size_bytes <= std::min(kMaxPullingBytes, options_.capacity_bytes / 2);
}

void StoreCore::begin_pull(Name name, Spilled& spilled) {
  pulling_.insert(name);
  pulling_bytes_ += spilled.size_bytes;
  Time deadline = spilled.wanted_until;
  Duration patience = spilled.home->adopted ? kAdoptWithin : Duration(0);
  for (Waiter& waiter : spilled.waiters) {
    // While a disk made room for it, its time may have passed.
    if (waiter.deadline <= now_) waiter.deadline = now_ + kPullAfterDisk;
    consider_restore_deadline(waiter.deadline);
    deadline = std::max(deadline, waiter.deadline);
    if (waiter.is_patient) patience = std::max(patience, waiter.timeout());
  }
  spilled.home->deadline = deadline;
  spilled.home->patience = patience;
  const Slot& slot = slots_[spilled.slot];
  effects_.emplace_back(
      effect::Pull{name, spilled.home->at, spilled.turn.first, deadline, {slot.segment}, slot.offset, patience});
}

/// Who came while it was being pulled may have more time than the pull had: for them it is tried again.
void StoreCore::pull_failed(SpilledEntry entry, const Status& status) {
  Spilled& spilled = entry->second;
  if (spilled.freed) return forget_copy(entry);
  const bool again = status.code() != Code::kLost && now_ >= spilled.home->deadline;
  const bool was_patient = spilled.home->patience > Duration(0);
  std::erase_if(spilled.waiters, [&](const Waiter& waiter) {
    const Time until = waiter.is_patient && was_patient ? waiter.since + waiter.timeout() : waiter.deadline;
    if (again && until > now_) return false;
    answer(waiter, kNowhere, again && waiter.is_patient ? nothing_came(spilled, waiter, status) : status);
    return true;
  });
  if (spilled.waiters.empty()) return forget_copy(entry);
  enqueue(entry, spilled.turn.first);
}

Status StoreCore::nothing_came(const Spilled& spilled, const Waiter& waiter, const Status& why) {
  return Status(Code::kTimeout, "nothing came of an object of " + std::to_string(spilled.size_bytes) + " bytes for " +
                                    std::to_string(waiter.timeout_ms) + " ms: " + why.message());
}

/// A node may be away for long, so who waits for one is answered in time, whatever becomes of the pull.
void StoreCore::expire_pulls() {
  for (Name name : pulling_) {
    Spilled& spilled = spilled_.at(name);
    std::erase_if(spilled.waiters, [&](Waiter& waiter) {
      if (waiter.deadline > now_ || goes_on_waiting(waiter)) return false;
      answer(waiter, kNowhere,
             Status(Code::kTimeout, "node " + std::to_string(wire::node_of(spilled.home->at.segment)) +
                                        " did not give an object of " + std::to_string(spilled.size_bytes) +
                                        " bytes within " + std::to_string(waiter.timeout_ms) + " ms"));
      return true;
    });
    for (const Waiter& waiter : spilled.waiters) consider_restore_deadline(waiter.deadline);
  }
}

void StoreCore::on(const event::CopiesFreed& event) {
  for (Name name : event.names) {
    adopted_.erase({event.home, name});  // its owner knows, or needs it no more
    auto known = copies_.find({event.home, name});
    if (known == copies_.end()) continue;
    const SpilledEntry entry = spilled_.find(known->second);
    free_spilled(entry, freed_by_owner(entry->second.home->at));
  }
  request_scan();
  serve();
}

// ---------------------------------------------------------------------------------------------------- copies elsewhere

void StoreCore::on(const event::Copied& event) {
  if (lost_nodes_.contains(event.to)) return;
  for (const wire::ObjectLocation& at : event.objects) {
    if (is_remote(at)) continue;
    const Name name = hazard_key(at.slot, at.generation);
    auto spilled = spilled_.find(name);
    bool is_live = spilled != spilled_.end() && !spilled->second.freed;
    if (spilled == spilled_.end() && at.slot < slots_.size()) {
      // One that is not sealed yet, as far as was read here, is on its way to be.
      const Slot& slot = slots_[at.slot];
      is_live = slot.generation == at.generation && slot.name == 0 &&
                (slot.state == SlotState::kLive || slot.state == SlotState::kIdle);
    }
    if (!is_live) {
      dropped_[event.to].push_back(name);
      continue;
    }
    std::vector<wire::NodeNumber>& holders = holders_[name];
    if (std::find(holders.begin(), holders.end(), event.to) == holders.end()) holders.push_back(event.to);
  }
}

void StoreCore::tell_holders(Name name) {
  auto found = holders_.find(name);
  if (found == holders_.end()) return;
  for (wire::NodeNumber node : found->second) dropped_[node].push_back(name);
  holders_.erase(found);
}

void StoreCore::forward_frees(const event::Freed& event) {
  std::map<wire::NodeNumber, std::vector<wire::ObjectLocation>> frees;
  for (const wire::ObjectLocation& at : event.objects) {
    const wire::NodeNumber node = wire::node_of(at.segment);
    if (is_remote(at) && !is_lost(at.segment)) frees[node].push_back(at);
  }
  for (auto& [node, objects] : frees) effects_.emplace_back(effect::ForwardFree{node, event.process, std::move(objects)});
}

// ---------------------------------------------------------------------------------------------------- others end

void StoreCore::on(const event::OwnerGone& event) {
  remember_gone(event.process);
  free_all_of([&](uint64_t owner) { return owner == event.process.value; });
  request_scan();
  serve();
}

// Copies of what its earlier life had go as soon as nobody has them pinned; a new object may have the same name.
void StoreCore::on(const event::NodeBack& event) {
  lost_nodes_.erase(event.node);
  back_from_[event.node] = event.ids_from;
  std::erase_if(copies_, [&](const auto& copy) { return copy.first.first == event.node; });
  std::erase_if(adopted_, [&](const auto& each) { return each.first.first == event.node; });
}

void StoreCore::on(const event::NodeLost& event) {
  if (event.node == 0 || event.node == options_.node) return;
  const std::string& cause = lost_nodes_.try_emplace(event.node, event.cause.message()).first->second;
  std::vector<Name> names;
  for (auto it = copies_.lower_bound({event.node, 0}); it != copies_.end() && it->first.first == event.node; ++it)
    names.push_back(it->second);
  const Status why(Code::kLost, "node " + std::to_string(event.node) + " was lost: " + cause);
  for (Name name : names) free_spilled(spilled_.find(name), why);
  for (auto it = holders_.begin(); it != holders_.end();) {
    std::erase(it->second, event.node);
    it = it->second.empty() ? holders_.erase(it) : std::next(it);
  }
  std::erase_if(adopted_, [&](const auto& each) { return each.first.first == event.node; });
  lose_receiver(event.node);
  free_all_of([&](uint64_t owner) { return wire::node_of(owner) == event.node; });
  request_scan();
  serve();
}

}  // namespace manta::object_store
