#include "actors/object_table.h"

#include "actors/call_format.h"
#include "common/check.h"
#include "wire/cluster.h"

#include <algorithm>

namespace manta {

using detail::Handle;
using detail::ObjectEntry;
using detail::ObjectExtras;
using detail::ObjectState;

namespace {

constexpr uint64_t kUnreadBytes = uint64_t{1} << 20;    // of an owner's answers to one process
constexpr uint64_t kToldOfBytes = uint64_t{256} << 10;  // that were read

bool is_same(const wire::ObjectLocation& a, const wire::ObjectLocation& b) {
  return a.segment == b.segment && a.slot == b.slot && a.generation == b.generation;
}

}  // namespace

Handle ObjectTable::make(uint64_t sequence) {
  auto* const entry = new ObjectEntry();
  entry->id = {self_.value, sequence};
  return Handle(entry);
}

ObjectEntry* ObjectTable::find(const ObjectId& id) const {
  const auto at = exported_.find(id);
  return at == exported_.end() ? nullptr : at->second;
}

// ---------------------------------------------------------------------------------------------------- values

void ObjectTable::ready(ObjectEntry& entry, ObjectState state) {
  if (entry.extras) entry.extras->is_rebuilding = entry.extras->is_dropped = false;
  entry.state.store(state, std::memory_order_release);
  if (std::exchange(entry.is_read_soon, false) && state == ObjectState::kStored) io_.read_soon(entry.location);
  if (entry.waiters.empty()) return;
  // Who is told may end what others wait for, and so on along a chain of any length: in turn, not one inside the other.
  to_tell_.insert(to_tell_.end(), entry.waiters.begin(), entry.waiters.end());
  entry.waiters = {};
  if (std::exchange(is_telling_, true)) return;
  while (!to_tell_.empty()) {
    const detail::Waiter waiter = to_tell_.front();
    to_tell_.pop_front();
    waiter.ready(waiter.context);
  }
  is_telling_ = false;
}

void ObjectTable::complete(ObjectEntry& entry, std::string blob) {
  if (!entry.awaits_value()) return;
  entry.blob = std::move(blob);
  ready(entry, ObjectState::kInline);
}

void ObjectTable::complete(ObjectEntry& entry, std::shared_ptr<detail::OwnMemory> blob) {
  if (!entry.awaits_value()) return;
  entry.whole = std::move(blob);
  ready(entry, ObjectState::kInline);
}

void ObjectTable::complete(ObjectEntry& entry, const wire::ObjectLocation& location) {
  if (!entry.awaits_value()) return io_.free_stored(location);
  forget_place(entry);
  entry.location = location;
  note_place(entry);
  ready(entry, ObjectState::kStored);
}

void ObjectTable::fail(ObjectEntry& entry, const Status& status) {
  if (!entry.awaits_value()) return;
  entry.error = status;
  ready(entry, ObjectState::kFailed);
}

void ObjectTable::hold_inside(ObjectEntry& entry, std::span<const std::byte> blob) {
  const Result<std::vector<ObjectId>> refs = Decoder::refs_of(blob);
  if (!refs.ok() || refs->empty()) return;
  for (const ObjectId& id : *refs) entry.more().inside.push_back(received(id));
}

// ---------------------------------------------------------------------------------------------------- references

void ObjectTable::note_exported(ObjectEntry& entry) {
  if (entry.exported) return;
  entry.exported = true;
  exported_[entry.id] = &entry;
}

Handle ObjectTable::borrow(const ObjectId& id) {
  if (ObjectEntry* const known = find(id); known != nullptr) {
    detail::retain(known);
    return Handle(known);
  }
  Handle handle(new ObjectEntry());
  ObjectEntry& entry = *handle.get();
  entry.id = id;
  if (!is_borrowed(entry)) {
    fail(entry, Status(Code::kLost, "object " + id.to_string() + " was freed before this Ref to it arrived"));
    return handle;
  }
  note_exported(entry);
  watch(owner_of(id));
  if (dead_.contains(owner_of(id))) fail(entry, Status(Code::kLost, "the owner of object " + id.to_string() + " is dead"));
  return handle;
}

Handle ObjectTable::handle_for(const ObjectId& id, Uncovered* uncovered) {
  Handle handle = borrow(id);
  ObjectEntry& entry = *handle.get();
  if (!is_borrowed(entry) || entry.more().tokens != 0 || dead_.contains(owner_of(id))) return handle;
  if (uncovered != nullptr) {
    uncovered->borrowed.push_back(handle);
  } else {
    entry.more().tokens = 1;
    add_tokens(id, self_, 1);
  }
  return handle;
}

std::vector<ObjectId> ObjectTable::keep(Uncovered& uncovered) {
  std::vector<ObjectId> kept;
  auto& list = uncovered.borrowed;
  std::sort(list.begin(), list.end(), [](const Handle& a, const Handle& b) { return a.get() < b.get(); });
  for (size_t i = 0; i < list.size();) {
    ObjectEntry& entry = *list[i].get();
    size_t mine = 0;
    for (; i < list.size() && list[i].get() == &entry; ++i) ++mine;
    if (entry.more().tokens != 0 || entry.refs.load(std::memory_order_acquire) <= mine) continue;
    entry.more().tokens = 1;
    kept.push_back(entry.id);
  }
  list.clear();
  return kept;
}

void ObjectTable::add_tokens(const ObjectId& id, ProcessId who, int64_t delta) {
  if (owner_of(id) != self_) {
    return io_.relay(owner_of(id), peer_payload(PeerBorrow{id.sequence, who.value, delta}));
  }
  ObjectEntry* const entry = find(id);
  if (entry == nullptr || dead_.contains(who)) return;
  auto& borrowers = entry->more().borrowers;
  const auto [borrower, is_new] = borrowers.try_emplace(who, 0);
  if (is_new) watch(who);
  if ((borrower->second += delta) == 0) borrowers.erase(borrower);
  free_if_unused(*entry);
}

void ObjectTable::watch(ProcessId process) {
  if (process != self_ && io_.watch && !dead_.contains(process) && watched_.insert(process).second) io_.watch(process);
}

void ObjectTable::kept_by(const ObjectId& id, ProcessId worker) { add_tokens(id, worker, 1); }
void ObjectTable::sent_in_result(const ObjectId& id, ProcessId receiver) { add_tokens(id, receiver, 1); }

Handle ObjectTable::received(const ObjectId& id) {
  Handle handle = borrow(id);
  if (owner_of(id) == self_) {
    add_tokens(id, self_, -1);
  } else {
    ++handle.get()->more().tokens;
  }
  return handle;
}

void ObjectTable::on_borrow(const PeerBorrow& message) {
  add_tokens({self_.value, message.sequence}, {message.who}, message.delta);
}

// ---------------------------------------------------------------------------------------------------- values of others

void ObjectTable::fetch(ObjectEntry& entry) {
  if (!is_borrowed(entry) || entry.is_ready() || entry.more().fetching) return;
  entry.more().fetching = true;
  io_.relay(owner_of(entry.id), peer_payload(PeerFetch{entry.id.sequence, {}, {}}));
}

void ObjectTable::on_fetch(ProcessId from, const PeerFetch& message) {
  ObjectEntry* const entry = find({self_.value, message.sequence});
  if (entry == nullptr) {
    const Status lost(Code::kLost,
                      "object " + ObjectId{self_.value, message.sequence}.to_string() + " was freed by its owner");
    return send_answer(from, {message.sequence, wire::to_wire(lost), false, {}, {}});
  }
  if (message.lost.generation != 0) lose(*entry, message.lost, Status(Code::kLost, message.why));
  answer_in_time(from, *entry);
}

void ObjectTable::answer_in_time(ProcessId to, ObjectEntry& entry) {
  if (is_lost(entry)) lose(entry);
  if (!entry.awaits_value()) return answer(to, entry);
  struct Pending {
    ObjectTable* table;
    ProcessId to;
    Handle handle;
  };
  detail::retain(&entry);
  auto* const pending = new Pending{this, to, Handle(&entry)};
  entry.waiters.push_back({[](void* context) {
                             const std::unique_ptr<Pending> self(static_cast<Pending*>(context));
                             self->table->answer(self->to, *self->handle.get());
                           },
                           pending});
}

void ObjectTable::answer(ProcessId to, ObjectEntry& entry) {
  if (dead_.contains(to)) return;
  if (Answers& answers = answers_[to]; answers.unread_bytes >= kUnreadBytes) {
    watch(to);
    detail::retain(&entry);
    answers.waiting.emplace_back(&entry);
    return;
  }
  PeerFetched out;
  out.sequence = entry.id.sequence;
  if (entry.state == ObjectState::kFailed) {
    out.status = wire::to_wire(entry.error);
  } else if (entry.state == ObjectState::kStored) {
    out.stored = true;
    out.location = entry.location;
  } else {
    const auto bytes = entry.bytes();
    out.blob.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const Handle& inside : entry.more().inside) sent_in_result(inside.get()->id, to);
  }
  send_answer(to, out);
}

void ObjectTable::send_answer(ProcessId to, const PeerFetched& message) {
  answers_[to].unread_bytes += answer_bytes(message);
  io_.relay(to, peer_payload(message));
}

void ObjectTable::on_taken(ProcessId from, const PeerTaken& message) {
  const auto found = answers_.find(from);
  if (found == answers_.end()) return;
  Answers& answers = found->second;
  answers.unread_bytes -= std::min(answers.unread_bytes, message.bytes);
  while (answers.unread_bytes < kUnreadBytes && !answers.waiting.empty()) {
    const Handle next = std::move(answers.waiting.front());
    answers.waiting.pop_front();
    answer_in_time(from, *next.get());
  }
}

void ObjectTable::on_fetched(ProcessId from, const PeerFetched& message) {
  ObjectEntry* const entry = find({from.value, message.sequence});
  const bool wanted = entry != nullptr && entry->awaits_value();
  if (uint64_t& read = read_bytes_[from]; (read += answer_bytes(message)) >= kToldOfBytes)
    io_.relay(from, peer_payload(PeerTaken{std::exchange(read, 0)}));
  if (const Status status = wire::from_wire(message.status); !status.ok()) {
    if (wanted) fail(*entry, status);
    return;
  }
  if (message.stored) {
    const bool is_old = entry != nullptr && entry->is_ready() && is_same(entry->location, message.location);
    if (wanted && !is_old) complete(*entry, message.location);
    return;
  }
  if (!wanted) {
    // Nobody waits any more, but the tokens of the Refs inside were counted for us: take them and let them go.
    const Handle scratch(new ObjectEntry());
    scratch.get()->id = {from.value, 0};
    hold_inside(*scratch.get(), std::as_bytes(std::span(message.blob)));
    return;
  }
  hold_inside(*entry, std::as_bytes(std::span(message.blob)));
  complete(*entry, message.blob);
}

void ObjectTable::on_process_died(ProcessId process, const Status& cause) {
  dead_.insert(process);
  watched_.erase(process);
  read_bytes_.erase(process);
  const Answers unanswered = std::move(answers_[process]);
  answers_.erase(process);
  std::vector<Handle> touched;  // handles: what one of them ends may end another
  for (const auto& [id, entry] : exported_) {
    if (owner_of(id) != process && !(entry->extras && entry->extras->borrowers.contains(process))) continue;
    detail::retain(entry);
    touched.emplace_back(entry);
  }
  for (const Handle& handle : touched) {
    ObjectEntry& entry = *handle.get();
    if (owner_of(entry.id) == process) {
      fail(entry, Status(Code::kLost, "the owner of object " + entry.id.to_string() + " is gone: " + cause.message()));
    } else {
      entry.more().borrowers.erase(process);
    }
  }
}

void ObjectTable::forget_borrowers() {
  std::vector<Handle> touched;
  for (const auto& [id, entry] : exported_) {
    if (!entry->extras || entry->extras->borrowers.empty()) continue;
    detail::retain(entry);
    touched.emplace_back(entry);
  }
  for (const Handle& handle : touched) handle.get()->more().borrowers.clear();
}

bool ObjectTable::is_needed() const {
  return std::any_of(exported_.begin(), exported_.end(), [this](const auto& each) {
    return !is_borrowed(*each.second) && each.second->extras && !each.second->extras->borrowers.empty();
  });
}

// ---------------------------------------------------------------------------------------------------- lost values

bool ObjectTable::is_lost(const ObjectEntry& entry) const {
  if (!may_lose_ || entry.state != ObjectState::kStored) return false;
  if (entry.extras && (entry.extras->is_rebuilding || entry.extras->is_dropped)) return true;
  return lost_with(entry.location.segment) != nullptr;
}

const Status* ObjectTable::lost_with(uint64_t segment) const {
  if (lost_nodes_.empty()) return nullptr;
  const auto node = lost_nodes_.find(wire::node_of(segment));
  return node == lost_nodes_.end() || segment > node->second.up_to ? nullptr : &node->second.why;
}

void ObjectTable::lose(ObjectEntry& entry, const wire::ObjectLocation& location, const Status& why) {
  if (entry.state != ObjectState::kStored || entry.more().is_rebuilding || !is_same(entry.location, location)) return;
  may_lose_ = true;
  entry.more().is_rebuilding = true;
  if (is_borrowed(entry)) {
    if (dead_.contains(owner_of(entry.id)))
      return fail(entry, why.with_context("object " + entry.id.to_string() + ", whose owner is gone"));
    return io_.relay(owner_of(entry.id), peer_payload(PeerFetch{entry.id.sequence, location, why.message()}));
  }
  // Whatever is left of it there.
  if (!entry.more().is_dropped && lost_with(location.segment) == nullptr) io_.free_stored(location);
  if (const Status status = io_.rebuild(entry, why); !status.ok()) fail(entry, status);
}

void ObjectTable::lose(ObjectEntry& entry) {
  const Status* const lost = lost_with(entry.location.segment);
  const Status dropped(Code::kLost, "its value was freed when only what was made from it was left");
  lose(entry, entry.location, lost == nullptr ? dropped : *lost);
}

void ObjectTable::on_node_lost(uint32_t node, const Status& cause) {
  may_lose_ = true;
  Lost& lost = lost_nodes_[node];
  if (lost.up_to == kAll && !lost.why.ok()) return;
  lost = {Status(Code::kLost, "node " + std::to_string(node) + " was lost: " + cause.message()), kAll};
}

void ObjectTable::on_node_back(uint32_t node, uint64_t ids_from) {
  if (const auto lost = lost_nodes_.find(node); lost != lost_nodes_.end()) lost->second.up_to = ids_from;
}

// ---------------------------------------------------------------------------------------------------- moved values

ObjectTable::Place ObjectTable::place_of(const wire::ObjectLocation& location) {
  return {wire::node_of(location.segment), uint64_t{location.slot} << 32 | location.generation};
}

// What lies on the owner's own node does not move: the owner ends with it.
void ObjectTable::note_place(ObjectEntry& entry) {
  const bool may_move = wire::node_of(entry.location.segment) != wire::node_of(self_.value);
  if (may_move && !is_borrowed(entry)) places_[place_of(entry.location)] = &entry;
}

void ObjectTable::forget_place(const ObjectEntry& entry) {
  if (places_.empty() || entry.location.generation == 0) return;
  const auto at = places_.find(place_of(entry.location));
  if (at != places_.end() && at->second == &entry) places_.erase(at);
}

void ObjectTable::on_moved(const wire::ObjectLocation& from, const wire::ObjectLocation& to) {
  const auto has_value_at = [this](const wire::ObjectLocation& location) -> ObjectEntry* {
    const auto at = places_.find(place_of(location));
    if (at == places_.end() || at->second->state != ObjectState::kStored || at->second->awaits_value()) return nullptr;
    return at->second->extras && at->second->extras->is_dropped ? nullptr : at->second;
  };
  if (lost_with(to.segment) != nullptr || has_value_at(to) != nullptr) return;  // said twice, or gone again
  ObjectEntry* const entry = has_value_at(from);
  if (entry == nullptr) return io_.free_stored(to);
  const wire::ObjectLocation old = entry->location;
  forget_place(*entry);
  entry->location = to;
  places_[place_of(to)] = entry;  // on this node, too: to know it when it is said again
  if (lost_with(old.segment) == nullptr) io_.free_stored(old);
}

void ObjectTable::stop_rebuilding(ObjectEntry& entry) {
  entry.more().is_rebuilding = false;
  entry.more().is_dropped = true;
}

void ObjectTable::drop_unwanted(ObjectEntry& entry) {
  if (!is_wanted(entry) && entry.extras && entry.extras->lineage_refs > 0) drop_value(entry);
}

// By value: the caller's hold ends here.
void ObjectTable::hold_for_lineage(Handle handle) {  // NOLINT(performance-unnecessary-value-param)
  ++handle.get()->more().lineage_refs;
  note_exported(*handle.get());
}

Handle ObjectTable::take_from_lineage(ObjectEntry& entry) {
  --entry.more().lineage_refs;
  detail::retain(&entry);
  return Handle(&entry);
}

void ObjectTable::release_from_lineage(ObjectEntry& entry) {
  --entry.more().lineage_refs;
  free_if_unused(entry);
}

/// Only lineage refers to it: its value in the store goes; a small one stays, to be an argument again.
void ObjectTable::drop_value(ObjectEntry& entry) {
  ObjectExtras& more = entry.more();
  if (std::exchange(entry.is_actor, false)) io_.end_actor({entry.id.owner, entry.id.sequence});
  if (more.is_rebuilding) return io_.unwanted(entry);
  const bool is_stored = entry.state == ObjectState::kStored;
  if ((!is_stored && entry.state != ObjectState::kInline) || std::exchange(more.is_dropped, true)) return;
  if (!is_stored) {
    lineage_bytes_ += entry.bytes().size();
    return;
  }
  may_lose_ = true;
  io_.free_stored(entry.location);
  const std::vector<Handle> inside = std::exchange(more.inside, {});
}

// ---------------------------------------------------------------------------------------------------- the end

bool ObjectTable::is_wanted(const ObjectEntry& entry) {
  return entry.refs.load(std::memory_order_acquire) != 0 || (entry.extras && !entry.extras->borrowers.empty());
}

void ObjectTable::free_if_unused(ObjectEntry& entry) {
  if (is_wanted(entry)) return;
  if (entry.extras && entry.extras->lineage_refs > 0) return drop_value(entry);
  destroy(&entry);
}

void ObjectTable::release_exported(ObjectEntry* entry) {
  if (entry->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) forget(entry);
}

void ObjectTable::forget(ObjectEntry* entry) {
  if (!is_borrowed(*entry)) return free_if_unused(*entry);
  if (entry->extras && entry->extras->tokens != 0 && !dead_.contains(owner_of(entry->id))) {
    add_tokens(entry->id, self_, -entry->extras->tokens);
  }
  destroy(entry);
}

void ObjectTable::destroy(ObjectEntry* entry) {
  if (entry->producer != nullptr && io_.gone) io_.gone(*entry);
  if (entry->exported) exported_.erase(entry->id);
  forget_place(*entry);
  const bool is_dropped = entry->extras && entry->extras->is_dropped;
  if (is_dropped && entry->state == ObjectState::kInline) lineage_bytes_ -= entry->bytes().size();
  const bool has_value = entry->state == ObjectState::kStored && !is_dropped && !entry->awaits_value();
  if (has_value && !is_borrowed(*entry)) io_.free_stored(entry->location);
  if (entry->is_actor) io_.end_actor({entry->id.owner, entry->id.sequence});
  delete entry;
}

}  // namespace manta
