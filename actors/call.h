// One call that this process made and owns: a task, or a call of an actor. From submission to its last reply.
//
//   kWaiting --(all Ref arguments ready)--> kQueued --(room on a worker)--> kSent --(reply)--> kDone
//                     taken back, or its worker died with retries left: kSent --> kQueued
//                     an argument was lost since: kQueued --> kWaiting
//
// A task whose results lie in the store is kept when it is done, as their lineage (see lineage.h), and may run again.
//
// Thread safety: everything under the runtime's lock. A call never blocks and is deleted when it is done.
#pragma once

#include "actors/object_entry.h"

#include <chrono>
#include <deque>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace manta {

class Peer;
struct Lease;
struct Call;
struct ActorClient;

/// What the options of a submission say beyond placement. Shared by the submissions that were made with one set of options.
struct CallPolicy {
  std::string name;  ///< Empty: the function's own.
  std::string group;
  int retries = 0;  ///< -1 without limit.
  std::vector<std::string> retry_on;
  std::chrono::milliseconds timeout{0};
  int stream_buffer = 16;
  bool throw_when_full = false;
};

/// The consumer's side of a streaming return.
struct StreamState {
  std::deque<detail::Handle> items;  ///< Not read yet; bounded by stream_buffer.
  uint64_t read = 0;                 ///< Items the consumer has taken.
  uint64_t arrived = 0;
  int slot = -1;  ///< Of the channel's progress counters.
  bool closed = false;
};

/// What is kept of a task for its results, when it is done (lineage.h).
struct LineageRecord {
  struct Held {
    detail::ObjectEntry* entry = nullptr;
    uint32_t argument = 0;
    bool is_inside = false;
  };
  std::vector<detail::ObjectEntry*> results;  ///< By index; null for one that is gone, or does not lie in the store.
  size_t live = 0;                            ///< How many are not null.
  std::vector<Held> held;                     ///< Its Refs, while it does not run.
  size_t size_bytes = 0;
  bool is_running = false;
  bool cost_retry = false;  ///< This run did.
  std::list<Call*>::iterator place;
};

enum class CallState : uint8_t { kWaiting, kQueued, kSent, kDone };

struct Call {
  const detail::Function* function = nullptr;
  uint32_t template_id = 0;
  int returns = 1;
  CallState state = CallState::kWaiting;
  bool cancelled = false;
  std::shared_ptr<const CallPolicy> policy;  // shared with other calls of the same options; immutable
  std::vector<detail::Argument> arguments;
  int unresolved = 0;
  int retries_left = 0;
  uint32_t attempt = 0;
  uint64_t first_sequence = 0;
  uint64_t instance = 0;                     ///< Of a shared process; 0 elsewhere.
  size_t argument_bytes = 0;                 ///< Of its inline arguments: counted against what this process may have queued.
  detail::Handle result;                     ///< Result 0; of a stream, its end.
  std::vector<detail::Handle> more_results;  ///< Results 1...
  detail::Handle stored_arguments;           ///< When they were too many for one message.
  std::vector<detail::Handle> inside;        ///< Refs in the stored value whose reply is to come.
  detail::Handle target;                     ///< The life of the shared actor it calls, held until it is over.
  std::unique_ptr<StreamState> stream;
  std::unique_ptr<LineageRecord> lineage;  ///< Of one that is kept: then the results above are empty.
  // Where it is queued or sent:
  struct TaskClass* task_class = nullptr;
  ActorClient* actor = nullptr;
  Lease* lease = nullptr;
  Peer* peer = nullptr;
  uint32_t slot = 0;
  uint64_t position = 0;
  std::span<const std::byte> in_ring;  ///< What it sent, until that is overwritten: not before its worker has begun it.
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();

  [[nodiscard]] detail::Handle& result_at(size_t index) { return index == 0 ? result : more_results[index - 1]; }
  [[nodiscard]] size_t result_count() const { return 1 + more_results.size(); }
  /// Null for one of a call that runs again, when nobody needs it any more.
  [[nodiscard]] detail::ObjectEntry* result_entry(size_t index) {
    return lineage ? lineage->results[index] : result_at(index).get();
  }
};

}  // namespace manta
