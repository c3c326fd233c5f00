// One object as one process sees it: a promise, then a value or an error. The node of the owner's (and a borrower's) table.
//
//   kPending --> kInline   the blob is here
//            --> kStored   the blob lies in the object store
//            --> kFailed   there will be no value; `error` says why
//
// Thread safety: `refs` and `state` are atomic; everything else is written under the runtime's lock before `state` leaves
// kPending and constant afterwards, except `waiters` and the borrow counts, which are always under the lock.
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

/// What only some objects need.
struct ObjectExtras {
  std::vector<Handle> inside;              ///< The Refs in the value, held as long as the value.
  std::map<ProcessId, int64_t> borrowers;  ///< Owner: tokens each other process holds; may pass below zero for a moment.
  int64_t tokens = 0;                      ///< Borrower: what it must give back to the owner when its last handle goes.
  bool fetching = false;                   ///< Borrower: the owner was asked for the value.
};

struct ObjectEntry {
  std::atomic<uint32_t> refs{1};
  std::atomic<ObjectState> state{ObjectState::kPending};
  /// Its id left this process, so the table can find it: from then on `refs` falls only under the runtime's lock.
  std::atomic<bool> exported{false};
  ObjectId id;
  std::string blob;
  wire::ObjectLocation location;
  Status error;
  void* producer = nullptr;     ///< The call that makes it, while it is pending (owner only).
  void* stream_call = nullptr;  ///< Of a stream's end: the call, until the reader is done with it.
  bool is_actor = false;        ///< Stands for an actor's life: when it is freed, the actor ends.
  std::vector<Waiter> waiters;
  std::unique_ptr<ObjectExtras> extras;

  [[nodiscard]] bool is_ready() const { return state.load(std::memory_order_acquire) != ObjectState::kPending; }
  [[nodiscard]] ObjectExtras& more() {
    if (!extras) extras = std::make_unique<ObjectExtras>();
    return *extras;
  }
};

}  // namespace manta::detail
