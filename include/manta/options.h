// What a task, an actor or a call asks for. All are plain structs for designated initialisers: `.with({.gpus = 0.5, .retries
// = 3})`.
#pragma once

#include <manta/detail/interned.h>
#include <manta/ids.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <vector>

namespace manta {

namespace detail {
std::string type_name(const char* mangled);
}

/// The names of exception types, for TaskOptions::retry_on: `manta::errors<std::runtime_error, MyError>()`. Exact types, not
/// bases.
template <typename... Exceptions>
std::vector<std::string> errors();

/// A placement group among options: takes a PlacementGroup.
struct OptionGroup {
  uint64_t number = 0;
};

struct TaskOptions {
  double cpus = 1;                       ///< May be a fraction, or 0.
  double gpus = 0;                       ///< Below 1 a share of one device, else a whole number of devices.
  int64_t gpu_memory_bytes = 0;          ///< On each device taken.
  int64_t memory_bytes = 0;              ///< Main memory, for admission.
  OptionTable<double> resources{};       ///< Custom ones that nodes declare.
  int retries = 3;                       ///< Its worker died, a result was lost, or `retry_on`. -1 without limit.
  OptionList retry_on{};                 ///< Exception types that are worth another try; {"*"} for any.
  std::chrono::milliseconds timeout{0};  ///< From start to end of one attempt; then the worker is killed. 0 for none.
  OptionText name{};                     ///< In logs and errors instead of the function's own name.
  OptionTable<std::string> env{};        ///< Set in the worker's environment before it starts.
  int stream_buffer = 16;                ///< Streaming returns: how many items the producer may be ahead of the consumer.
  bool throw_when_full = false;          ///< When this process has too much queued: Error(kFull) instead of waiting.
  // Where it runs. See docs/cluster.md.
  OptionTable<std::string> labels{};  ///< Only on nodes that have all of them (`mantad --labels disk=ssd`).
  NodeNumber node{};                  ///< Only there; an error once that node is gone.
  bool node_is_soft = false;          ///< Elsewhere, if that node is gone or too small.
  bool spread = false;                ///< Rather on nodes that have little of the same work than on the nearest.
  OptionGroup group{};                ///< In what this placement group has set aside.
  int bundle = -1;                    ///< Of the group; -1: any that has room.
  int priority = 0;                   ///< More is sooner, among what this process submitted.
};

struct ActorOptions {
  double cpus = 0;  ///< Held for the actor's life. 0: an actor at rest takes nothing from tasks.
  double gpus = 0;
  int64_t gpu_memory_bytes = 0;
  int64_t memory_bytes = 0;
  OptionTable<double> resources{};
  int max_restarts = 0;      ///< After the death of its process. -1 without limit.
  int max_task_retries = 0;  ///< Calls in flight when it died are sent again so often. -1 without limit. 0: at most once.
  int max_concurrency = 1;   ///< Threads that run its calls. Above 1 calls of one caller may overlap and end in any order.
  OptionTable<int> concurrency_groups{};  ///< Named sets of further threads (see CallOptions::group).
  OptionText name{};                      ///< Found by `get_actor<C>(name)`. Unique in its namespace.
  OptionText name_space{};
  bool get_if_exists = false;  ///< With a name: the living actor of that name instead of an error.
  bool detached = false;       ///< Lives on when its handles, its owner and its job are gone; ended by `kill`.
  /// Lives with others in one of a few host processes: cheap (100,000 of them), and gone when that process dies. Holds no
  /// resources and has no name, no restarts and no concurrency of its own; its calls run one at a time, in order.
  bool shared_process = false;
  OptionTable<std::string> env{};
  // Where it lives: as TaskOptions.
  OptionTable<std::string> labels{};
  NodeNumber node{};
  bool node_is_soft = false;
  bool spread = false;
  OptionGroup group{};
  int bundle = -1;
  int priority = 0;
};

struct CallOptions {
  OptionText group{};  ///< One of the actor's concurrency groups.
  std::chrono::milliseconds timeout{
      0};  ///< From sending to the reply; then the call fails with kTimeout (the actor goes on).
  int stream_buffer = 16;
  bool throw_when_full = false;  ///< As TaskOptions.
};

static_assert(std::is_trivially_destructible_v<TaskOptions> && std::is_trivially_destructible_v<ActorOptions> &&
                  std::is_trivially_destructible_v<CallOptions>,
              "see detail/interned.h");

template <typename... Exceptions>
std::vector<std::string> errors() {
  return {detail::type_name(typeid(Exceptions).name())...};
}

}  // namespace manta
