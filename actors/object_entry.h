// One object as one process sees it: a promise, then a value or an error. The node of the owner's (and a borrower's) table.
//
//   kPending --> kInline   the blob is here
//            --> kStored   the blob lies in the object store
//            --> kFailed   there will be no value; `error` says why
//
// What lay in the store can be lost, with its node or with a damaged file. Then the entry stays kStored, and its value is
// made again (`is_rebuilding`): a new `location`, or kInline when it came out smaller, or kFailed. No state ever leads back.
//
// Thread safety: `refs` and `state` are atomic; `blob` and `error` are written under the runtime's lock before `state` says
// that they are there, and constant from then on; everything else is always under the lock.
#pragma once

#include "wire/messages.h"

#include <manta/detail/runtime.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace manta::detail {

enum class ObjectState : uint8_t { kPending = 0, kInline, kStored, kFailed };

/// Called once when an object is ready, under the runtime's lock: it may not call back into the runtime.
struct Waiter {
  void (*ready)(void*) = nullptr;
  void* context = nullptr;
};

/// Who made a stored value: whether it could be made again, and if not, what to tell.
enum class Maker : uint8_t { kPut = 0, kTask, kMethod, kStream, kForgotten };

/// What only some objects need.
struct ObjectExtras {
  std::vector<Handle> inside;              ///< The Refs in the value, held as long as the value.
  std::map<ProcessId, int64_t> borrowers;  ///< Owner: tokens each other process holds; may pass below zero for a moment.
  int64_t tokens = 0;                      ///< Borrower: what it must give back to the owner when its last handle goes.
  bool fetching = false;                   ///< Borrower: the owner was asked for the value.
  bool is_rebuilding = false;              ///< The value is lost and another one is on its way; `waiters` are told.
  bool is_dropped = false;                 ///< Owner: kept for lineage only, without its stored value.
  uint32_t lineage_refs = 0;               ///< Owner: ended calls that would need it to run again.
};

struct ObjectEntry {
  std::atomic<uint32_t> refs{1};
  std::atomic<ObjectState> state{ObjectState::kPending};
  /// Its id left this process, so the table can find it: from then on `refs` falls only under the runtime's lock.
  std::atomic<bool> exported{false};
  ObjectId id;
  std::string blob;
  std::shared_ptr<OwnMemory> whole;  ///< The blob, instead, when it is long: aligned, and shared by Buffers in it.
  wire::ObjectLocation location;
  Status error;
  void* producer = nullptr;     ///< Owner: the call that makes it, while it lives, and as lineage of a stored value.
  void* stream_call = nullptr;  ///< Of a stream's end: the call, until the reader is done with it.
  Maker maker = Maker::kPut;
  bool is_read_soon = false;  ///< Somebody here will read the value as soon as it is there.
  bool is_actor = false;      ///< Stands for an actor's life: when it is freed, the actor ends.
  std::vector<Waiter> waiters;
  std::unique_ptr<ObjectExtras> extras;

  /// Of an inline value.
  [[nodiscard]] std::span<const std::byte> bytes() const { return whole ? whole->bytes() : std::as_bytes(std::span(blob)); }
  [[nodiscard]] bool is_ready() const { return state.load(std::memory_order_acquire) != ObjectState::kPending; }
  /// Pending, or lost and on its way again.
  [[nodiscard]] bool awaits_value() const { return !is_ready() || (extras && extras->is_rebuilding); }
  [[nodiscard]] ObjectExtras& more() {
    if (!extras) extras = std::make_unique<ObjectExtras>();
    return *extras;
  }
};

}  // namespace manta::detail
