#include "actors/lineage.h"

#include "common/check.h"
#include "common/log.h"

#include <algorithm>

namespace manta {

using detail::Handle;
using detail::Maker;
using detail::ObjectEntry;
using detail::ObjectState;

namespace {

/// What a record costs beside its arguments, with the allocator's share and its results' entries in the table.
constexpr size_t kRecordBytes = sizeof(Call) + sizeof(LineageRecord) + 128;

std::string name_of(const ObjectEntry& entry) { return "object " + entry.id.to_string(); }

}  // namespace

Lineage::Lineage(ObjectTable& objects, Io io, size_t most_bytes)
    : objects_(objects), io_(std::move(io)), most_bytes_(most_bytes) {}

Lineage::~Lineage() { clear(); }

// ---------------------------------------------------------------------------------------------------- keeping

bool Lineage::keep(Call& call) {
  if (call.lineage) {
    end_run(call);
    return true;
  }
  if (!begin(call)) {
    // Lost while it ran, when there was still hope.
    for (size_t i = 0; i < call.result_count(); ++i) {
      ObjectEntry* const entry = call.result_at(i).get();
      if (entry == nullptr) continue;
      entry->producer = nullptr;
      if (entry->is_ready() && entry->awaits_value())
        objects_.fail(*entry, cannot(*entry, Status(Code::kLost, "it was lost while its task ran")));
    }
    return false;
  }
  // Letting go of its results may delete it, and so may the bound.
  std::vector<Handle> results(call.result_count());
  for (size_t i = 0; i < results.size(); ++i) results[i] = std::move(call.result_at(i));
  if (is_awaited(call)) run_again(call, true);
  forget_oldest(most_bytes_);
  return true;
}

bool Lineage::begin(Call& call) {
  if (call.task_class == nullptr || call.stream || call.retries_left == 0) return false;
  const auto stored = [&](size_t i) -> ObjectEntry* {
    ObjectEntry* const entry = call.result_at(i).get();
    return entry != nullptr && entry->state == ObjectState::kStored ? entry : nullptr;
  };
  const size_t count = call.result_count();
  size_t live = 0;
  for (size_t i = 0; i < count; ++i) live += stored(i) != nullptr ? 1 : 0;
  if (live == 0) return false;
  auto record = std::make_unique<LineageRecord>();
  record->live = live;
  record->results.resize(count);
  for (size_t i = 0; i < count; ++i) {
    if (ObjectEntry* const entry = call.result_at(i).get()) entry->producer = stored(i) != nullptr ? &call : nullptr;
    record->results[i] = stored(i);
  }
  record->size_bytes = kRecordBytes + call.argument_bytes + call.arguments.capacity() * sizeof(detail::Argument) +
                       record->results.size() * sizeof(ObjectEntry*);
  record->place = order_.insert(order_.end(), &call);
  call.lineage = std::move(record);
  call.stored_arguments = {};
  call.inside.clear();
  hold_arguments(call);
  bytes_ += call.lineage->size_bytes;
  return true;
}

void Lineage::hold_arguments(Call& call) {
  LineageRecord& record = *call.lineage;
  for (uint32_t i = 0; i < call.arguments.size(); ++i) {
    detail::Argument& argument = call.arguments[i];
    if (argument.ref && objects_.is_own(*argument.ref.get())) {
      record.held.push_back({argument.ref.get(), i, false});
      objects_.hold_for_lineage(std::move(argument.ref));
    }
    for (size_t k = argument.inside.size(); k-- > 0;) {
      if (!objects_.is_own(*argument.inside[k].get())) continue;
      record.held.push_back({argument.inside[k].get(), i, true});
      objects_.hold_for_lineage(std::exchange(argument.inside[k], std::move(argument.inside.back())));
      argument.inside.pop_back();
    }
  }
}

void Lineage::restore_arguments(Call& call) {
  for (const LineageRecord::Held& held : std::exchange(call.lineage->held, {})) {
    Handle handle = objects_.take_from_lineage(*held.entry);
    if (held.is_inside) {
      call.arguments[held.argument].inside.push_back(std::move(handle));
    } else {
      call.arguments[held.argument].ref = std::move(handle);
    }
  }
}

// ---------------------------------------------------------------------------------------------------- running again

Status Lineage::cannot(const ObjectEntry& entry, const Status& why) const {
  std::string reason;
  switch (entry.maker) {
    case Maker::kPut: reason = "it was put, not returned by a task; a task that returns it could be run again"; break;
    case Maker::kMethod:
      reason = "an actor's method returned it, and methods are not run again; keep what must not be lost in a task's result";
      break;
    case Maker::kStream:
      reason = "it is an item of a stream, which is not run again; return such values one by one, from tasks of their own";
      break;
    case Maker::kForgotten:
      reason = "how it was made was forgotten, to keep lineage within " + std::to_string(most_bytes_) +
               " bytes; MANTA_LINEAGE_BYTES allows for more";
      break;
    case Maker::kTask:
      reason = "its task may not be run again: its retries are 0, or used up; more .retries allow for more losses";
      break;
  }
  return Status(Code::kLost, name_of(entry) + " is lost (" + why.message() + ") and cannot be made again: " + reason);
}

Status Lineage::rebuild(ObjectEntry& entry, const Status& why) {
  auto* const call = static_cast<Call*>(entry.producer);
  if (call == nullptr || call->task_class == nullptr || call->stream) return cannot(entry, why);
  // What it returns is for this one too, or it runs once more.
  if (call->lineage ? call->lineage->is_running : call->retries_left != 0) return {};
  const bool is_loss = !entry.more().is_dropped;
  if (!call->lineage || (is_loss && call->retries_left == 0)) return cannot(entry, why);
  MANTA_LOG(kInfo, "owner", "a lost object is made again", {"object", entry.id}, {"attempt", call->attempt + 1},
            {"retries_left", call->retries_left}, {"why", why});
  run_again(*call, is_loss);
  return {};
}

void Lineage::run_again(Call& call, bool costs_retry) {
  call.lineage->is_running = true;
  call.lineage->cost_retry = costs_retry && call.retries_left > 0;
  if (call.lineage->cost_retry) --call.retries_left;
  starting_.push_back(&call);
  start_all();
}

// A call that starts finds arguments that are lost too, whose calls start next: in turn, not one inside the other.
void Lineage::start_all() {
  if (std::exchange(is_starting_, true)) return;
  while (!starting_.empty()) {
    Call& call = *starting_.back();
    starting_.pop_back();
    restore_arguments(call);
    ++call.attempt;
    call.state = CallState::kWaiting;
    io_.run(call);
  }
  is_starting_ = false;
}

bool Lineage::is_awaited(const Call& call) const {
  const auto& results = call.lineage->results;
  return std::any_of(results.begin(), results.end(), [](const ObjectEntry* entry) {
    return entry != nullptr && entry->awaits_value() && ObjectTable::is_wanted(*entry);
  });
}

void Lineage::end_run(Call& call) {
  LineageRecord& record = *call.lineage;
  record.is_running = false;
  call.stored_arguments = {};
  call.inside.clear();
  hold_arguments(call);
  const bool again = is_awaited(call);  // lost when this attempt had already returned it
  for (ObjectEntry*& entry : record.results) {
    if (entry == nullptr) continue;
    if (entry->state != ObjectState::kStored) {
      entry->producer = nullptr;
      entry = nullptr;
      --record.live;
    } else if (entry->awaits_value() && !again) {
      objects_.stop_rebuilding(*entry);
    } else if (!entry->awaits_value()) {
      objects_.drop_unwanted(*entry);
    }
  }
  if (record.live == 0) return forget(call);
  if (!again) return;
  if (call.retries_left != 0) return run_again(call, true);
  record.is_running = true;  // who waits may let go of results meanwhile
  for (size_t i = 0; i < record.results.size(); ++i) {
    ObjectEntry* const entry = record.results[i];
    if (entry != nullptr && entry->awaits_value())
      objects_.fail(*entry, cannot(*entry, Status(Code::kLost, "it was lost while its task ran again")));
  }
  record.is_running = false;
  if (record.live == 0) forget(call);
}

// ---------------------------------------------------------------------------------------------------- the end

void Lineage::on_node_lost() {
  // Nothing starts, fails or goes meanwhile: what cannot be made again fails when it is read.
  is_starting_ = true;
  for (Call* call : order_) {
    if (call->retries_left == 0) continue;
    for (ObjectEntry* entry : call->lineage->results) {
      if (entry != nullptr && ObjectTable::is_wanted(*entry) && objects_.is_lost(*entry)) objects_.lose(*entry);
    }
  }
  is_starting_ = false;
  start_all();
}

void Lineage::unwanted(ObjectEntry& entry) {
  auto* const call = static_cast<Call*>(entry.producer);
  if (call != nullptr && call->lineage) unwanted_.push_back(call);
}

void Lineage::gone(ObjectEntry& entry) {
  auto& call = *static_cast<Call*>(entry.producer);
  if (!call.lineage) return;
  LineageRecord& record = *call.lineage;
  const size_t index = entry.id.sequence - call.first_sequence;
  MANTA_CHECK(index < record.results.size() && record.results[index] == &entry, entry.id.to_string());
  record.results[index] = nullptr;
  --record.live;
  if (record.is_running) {
    unwanted_.push_back(&call);
  } else if (record.live == 0) {
    forget(call);
  }
}

void Lineage::tick() {
  while (!unwanted_.empty()) {
    Call& call = *unwanted_.back();
    unwanted_.pop_back();
    if (call.lineage->is_running && !is_awaited(call)) io_.stop(call);
  }
}

void Lineage::forget(Call& call) {
  for (ObjectEntry*& entry : call.lineage->results) {
    if (entry == nullptr) continue;
    entry->producer = nullptr;
    entry->maker = Maker::kForgotten;
    entry = nullptr;
  }
  bytes_ -= call.lineage->size_bytes;
  order_.erase(call.lineage->place);
  std::erase(unwanted_, &call);
  dead_.push_back(&call);
  delete_dead();
}

// Its arguments may be needed by nothing else, and so on through the graph: in turn, not one inside the other.
void Lineage::delete_dead() {
  if (std::exchange(is_deleting_, true)) return;
  while (!dead_.empty()) {
    const std::unique_ptr<Call> call(dead_.back());
    dead_.pop_back();
    for (const LineageRecord::Held& held : call->lineage->held) objects_.release_from_lineage(*held.entry);
  }
  is_deleting_ = false;
}

void Lineage::forget_oldest(size_t most_bytes) {
  for (size_t left = order_.size(); left > 0 && !order_.empty() && bytes() > most_bytes; --left) {
    Call& oldest = *order_.front();
    if (oldest.lineage->is_running) {
      order_.splice(order_.end(), order_, order_.begin());
    } else {
      forget(oldest);
    }
  }
}

void Lineage::clear() { forget_oldest(0); }

}  // namespace manta
