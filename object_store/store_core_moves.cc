// StoreCore: objects that go to other nodes because this one is drained, and those that come from one that is.
//
// The owner is the directory: it hears of each move, and frees the place that it does not need. So there is nothing to
// forward later, and no step needs an answer; what is not freed here after a while is given to somebody again.
#include "object_store/hazard_page.h"
#include "object_store/store_core.h"

#include <algorithm>
#include <utility>

namespace manta::object_store {
namespace {

constexpr size_t kMaxMoves = 1'024;
constexpr uint64_t kMaxMovingBytes = uint64_t{64} << 20;
constexpr auto kMoveAgainAfter = std::chrono::seconds(10);
constexpr uint64_t kSlowestBytesPerS = uint64_t{8} << 20;  // what takes longer is offered again
constexpr auto kRefusedFor = std::chrono::seconds(1);
constexpr auto kLookEvery = std::chrono::milliseconds(500);
constexpr size_t kMaxQueued = 65'536;

}  // namespace

// ---------------------------------------------------------------------------------------------------- from here

/// Of what lies in memory nobody knows since when: the word of a task that made it may still be on its way to the owner.
void StoreCore::on(const event::MoveAway& event) {
  const bool is_first = !moves_;
  if (is_first) {
    moves_ = std::make_unique<Moves>();
    moves_->look_at = now_ + kLookEvery;
    for (const auto& [name, spilled] : spilled_)
      if (!spilled.home) moves_->todo.push_back(name);
    for (uint32_t slot = oldest_; slot != kNoSlot; slot = slots_[slot].newer)
      if (slots_[slot].name == 0) moves_->fresh.push_back(hazard_key(slot, slots_[slot].generation));
    for (const auto& [id, file] : files_)
      for (const uint32_t slot : file.writing)
        if (slots_[slot].state == SlotState::kLive) moves_->fresh.push_back(hazard_key(slot, slots_[slot].generation));
  }
  moves_->to = event.to;
}

/// What it is, and the name that its readers and its owner know it by; none: it is no object of this node's any more.
std::optional<StoreCore::Own> StoreCore::own_object(Name name) const {
  const auto generation = static_cast<uint32_t>(name);
  // Of one that was spilled, nobody here knows the segment that it was sealed in: any of this node's says where to ask.
  wire::ObjectLocation at{wire::first_id_of(options_.node) + 1, 0, 0, slot_of(name), generation};
  if (const auto entry = spilled_.find(name); entry != spilled_.end()) {
    const Spilled& spilled = entry->second;
    if (spilled.home || spilled.freed || spilled.place == Place::kDamaged) return std::nullopt;
    at.size_bytes = spilled.size_bytes;
    return Own{spilled.id, at};
  }
  if (at.slot >= slots_.size()) return std::nullopt;
  const Slot& slot = slots_[at.slot];
  if (slot.state != SlotState::kLive || slot.generation != generation || slot.name != 0) return std::nullopt;
  return Own{{slot.owner, slot.sequence}, location_of(at.slot)};
}

/// Who has a copy, for it has nothing to read; else who was given the least; else the owner's node, with which the object
/// goes anyway. None: all of them have no room just now.
std::optional<wire::NodeNumber> StoreCore::receiver_of(Name name, const ObjectId& id) const {
  const wire::NodeNumber owners = wire::node_of(id.owner);
  const auto takes = [this](wire::NodeNumber node) {
    const auto refused = moves_->refused_until.find(node);
    return !lost_nodes_.contains(node) && (refused == moves_->refused_until.end() || refused->second <= now_);
  };
  const auto given = [this](wire::NodeNumber node) {
    const auto found = moves_->given_bytes.find(node);
    return found == moves_->given_bytes.end() ? 0 : found->second;
  };
  if (const auto holders = holders_.find(name); holders != holders_.end()) {
    for (const wire::NodeNumber node : holders->second) {
      const bool stays = node == owners || std::ranges::find(moves_->to, node) != moves_->to.end();
      if (stays && takes(node)) return node;
    }
  }
  std::optional<wire::NodeNumber> best;
  for (const wire::NodeNumber node : moves_->to)
    if (takes(node) && (!best || given(node) < given(*best))) best = node;
  if (!best && takes(owners)) best = owners;
  return best;
}

/// At the end of each step: as many as may be on their way at once.
void StoreCore::move_some() {
  if (!moves_) return;
  Moves& moves = *moves_;
  std::map<wire::NodeNumber, wire::AdoptObjects> asks;
  while (!moves.todo.empty() && moves.asked.size() < kMaxMoves) {
    const Name name = moves.todo.front();
    const std::optional<Own> object = own_object(name);
    // What a process of this node owns ends with it.
    const wire::NodeNumber owners = object ? wire::node_of(object->id.owner) : 0;
    if (owners == 0 || owners == options_.node || moves.asked.contains(name)) {
      moves.todo.pop_front();
      continue;
    }
    const uint64_t size = object->at.size_bytes;
    if (!moves.asked.empty() && moves.asked_bytes + size > kMaxMovingBytes) break;
    const std::optional<wire::NodeNumber> node = receiver_of(name, object->id);
    if (!node) break;
    moves.todo.pop_front();
    const auto it_takes = std::chrono::seconds(size / kSlowestBytesPerS);
    moves.asked[name] = {*node, size, now_ + kMoveAgainAfter + it_takes};
    moves.asked_bytes += size;
    moves.given_bytes[*node] += size;
    asks[*node].objects.push_back({object->id.owner, object->id.sequence, object->at});
  }
  for (auto& [node, message] : asks) effects_.emplace_back(effect::AskToAdopt{node, std::move(message)});
}

/// It is not asked for any more: it was freed, or is to be given to somebody else.
void StoreCore::no_move(Name name) {
  if (!moves_) return;
  const auto asked = moves_->asked.find(name);
  if (asked == moves_->asked.end()) return;
  moves_->asked_bytes -= asked->second.size_bytes;
  moves_->asked.erase(asked);
}

void StoreCore::move_again(Name name) {
  const Moves::Asked& asked = moves_->asked.at(name);
  moves_->given_bytes[asked.node] -= asked.size_bytes;
  no_move(name);
  moves_->todo.push_back(name);
}

void StoreCore::on(const event::AdoptionRefused& event) {
  if (!moves_) return;
  for (const Name name : event.names) {
    const auto asked = moves_->asked.find(name);
    if (asked == moves_->asked.end() || asked->second.node != event.by) continue;
    moves_->refused_until[event.by] = now_ + kRefusedFor;
    move_again(name);
  }
}

void StoreCore::look_at_moves() {
  moves_->look_at = now_ + kLookEvery;
  moves_->todo.insert(moves_->todo.end(), moves_->fresh.begin(), moves_->fresh.end());
  moves_->fresh.clear();
  std::vector<Name> late;
  for (const auto& [name, asked] : moves_->asked)
    if (asked.again_at <= now_) late.push_back(name);
  for (const Name name : late) move_again(name);
}

void StoreCore::lose_receiver(wire::NodeNumber node) {
  if (!moves_) return;
  std::erase(moves_->to, node);
  std::vector<Name> theirs;
  for (const auto& [name, asked] : moves_->asked)
    if (asked.node == node) theirs.push_back(name);
  for (const Name name : theirs) move_again(name);
}

// ---------------------------------------------------------------------------------------------------- to here

/// Whether there may be room: for a copy that is here already, or in memory that nobody needs, or that the disk can make.
bool StoreCore::may_adopt(const wire::ObjectLocation& at) const {
  if (moves_ || !check_home(at).ok()) return false;
  if (const auto known = copies_.find(home_key(at)); known != copies_.end()) {
    if (spilled_.at(known->second).place == Place::kResident) return true;
  }
  const uint64_t disk = options_.spill_bytes / 8 * 7 > disk_bytes_ ? options_.spill_bytes / 8 * 7 - disk_bytes_ : 0;
  return restore_queue_.size() + pull_queue_.size() < kMaxQueued &&
         adopting_bytes_ + needed_bytes(at.size_bytes) <= available_bytes() + copy_bytes_ + disk;
}

void StoreCore::on(const event::Adopt& event) {
  for (const wire::AdoptObjects::Object& object : event.message.objects) {
    const bool is_theirs = wire::node_of(object.at.segment) == event.from && is_remote(object.at);
    if (!is_theirs || object.sequence == 0 || is_lost(object.owner)) continue;
    const ObjectId id{object.owner, object.sequence};
    if (const wire::ObjectLocation here = adopted(object.at); !is_remote(here)) {
      effects_.emplace_back(effect::TellMoved{{id.owner}, {object.at, here}});
      continue;
    }
    if (!may_adopt(object.at)) {
      refuse_adoption(object.at);
      continue;
    }
    const SpilledEntry entry = copy_of(object.at);
    Spilled& copy = entry->second;
    if (copy.freed) continue;
    if (!copy.home->adopted) adopting_bytes_ += copy.size_bytes;
    copy.home->adopted = id;
    copy.wanted_until = now_ + kAdoptWithin;
    bring(entry, wire::TransferPriority::kArgument);
  }
}

/// A copy in memory becomes an object of this node's, where it lies; its readers notice nothing.
void StoreCore::adopt(Name copy) {
  const SpilledEntry entry = spilled_.find(copy);
  const wire::ObjectLocation from = entry->second.home->at;
  const ObjectId id = std::exchange(entry->second.home->adopted, {});
  const uint32_t index = entry->second.slot;
  adopting_bytes_ -= entry->second.size_bytes;
  leaves_memory(entry->second);
  forget_copy(entry);
  Slot& slot = slots_[index];
  slot.name = 0;
  slot.owner = id.owner, slot.sequence = id.sequence;
  ++objects_;
  object_bytes_ += slot.size_bytes;
  const bool is_of_here = wire::node_of(id.owner) == options_.node;
  if (gone_.contains(id.owner) || is_lost(id.owner) || (is_of_here && !clients_.contains(id.owner))) {
    free_slot(index);
    return request_scan();
  }
  adopted_[home_key(from)] = location_of(index);
  if (moves_) moves_->todo.push_back(hazard_key(index, slot.generation));
  effects_.emplace_back(effect::TellMoved{{id.owner}, {from, location_of(index)}});
}

void StoreCore::refuse_adoption(const wire::ObjectLocation& at) {
  if (!is_lost(at.segment)) refused_[wire::node_of(at.segment)].push_back(home_key(at).second);
}

/// Where it is here, if its readers still ask for where it was. Its owner may have freed what is here and kept the other: it
/// did not know yet that there was a value.
wire::ObjectLocation StoreCore::adopted(const wire::ObjectLocation& at) {
  if (adopted_.empty()) return at;
  const auto known = adopted_.find(home_key(at));
  if (known == adopted_.end()) return at;
  const wire::ObjectLocation here = known->second;
  if (own_object(hazard_key(here.slot, here.generation))) return here;
  adopted_.erase(known);
  return at;
}

}  // namespace manta::object_store
