// Placement groups: bundles of resources set aside on nodes, all of them or none, for tasks and actors that belong together.
//
//   manta::PlacementGroup group = manta::placement_group({{.cpus = 1, .gpus = 0.5}, {.cpus = 1, .gpus = 0.5}},
//                                                        {.strategy = manta::Strategy::kSpread});
//   manta::throw_if_error(group.wait(std::chrono::seconds(10)));
//   auto left = manta::remote<&work>.with({.gpus = 0.5, .group = group, .bundle = 0})(part);
//   auto worker = manta::spawn<Worker>.with({.gpus = 0.5, .group = group, .bundle = 1})();
//   group.remove();
//
// Half of a GPU is the half of one device: what runs in the bundle runs on that device. Work that is submitted before the
// group is ready waits for it. Work in a group never uses what lies outside of it, and the other way round; tasks that it
// starts are outside unless they name the group too.
//
// A group is like a file on a server, not like a lock: a handle that goes leaves the group as it is, since other processes
// may use it. It ends with `remove`, or with its job unless it is detached. What runs in it then ends: tasks fail, actors
// die. When a node of a group is lost, the whole group is given back, what runs in it ends (retries and restarts apply, and
// wait), and it is set aside anew.
//
// In inline mode a group is ready at once and means nothing.
#pragma once

#include <manta/ref.h>

#include <chrono>
#include <string>
#include <vector>

namespace manta {

/// Resources on one node.
struct Bundle {
  double cpus = 0;
  double gpus = 0;  ///< Below 1 a share of one device, else a whole number of devices.
  int64_t gpu_memory_bytes = 0;
  int64_t memory_bytes = 0;
  OptionTable<double> resources{};
};

/// On which nodes the bundles of a group go.
enum class Strategy : uint8_t {
  kPack,          ///< On as few as can be.
  kSpread,        ///< On as many as can be.
  kStrictPack,    ///< All on one, or none.
  kStrictSpread,  ///< Each on another, or none.
};

struct GroupOptions {
  Strategy strategy = Strategy::kPack;
  OptionText name{};      ///< For people: in lists and messages.
  bool detached = false;  ///< Stays when its job ends, until it is removed.
};

/// A handle: copied, stored and passed to tasks like a value. Thread safety: as a shared_ptr.
class PlacementGroup {
 public:
  PlacementGroup() = default;
  explicit PlacementGroup(detail::GroupHandle handle) : handle_(std::move(handle)) {}

  /// Waits until all its bundles are set aside. kTimeout says what it still waits for: which bundle, which resource, and the
  /// node that is nearest. Other errors: it was refused, or removed.
  [[nodiscard]] Status wait(std::chrono::milliseconds timeout = std::chrono::milliseconds::max()) const {
    return detail::await_group(handle_, detail::deadline_in(timeout));
  }
  /// The same as a Ref: `co_await group.ready()`, or among others in `all` and `any`. It stays ready when the group is lost.
  [[nodiscard]] Ref<void> ready() const { return Ref<void>(detail::group_ready(handle_)); }
  [[nodiscard]] bool is_ready() const { return detail::is_group_ready(handle_); }

  /// What it waits for, as last heard; empty when it is ready. After a removal, why.
  [[nodiscard]] std::string why() const { return detail::why_group_waits(handle_); }
  /// The node of each bundle; empty while it is not ready.
  [[nodiscard]] std::vector<NodeNumber> nodes() const { return detail::nodes_of_group(handle_); }

  /// Gives everything back, from any process. Does not wait; what is created afterwards finds it given back.
  void remove() const { detail::remove_group(handle_); }

  /// The head's number of it: waits until the head has answered. Throws Error when the group was refused.
  [[nodiscard]] uint64_t number() const { return detail::group_number(handle_); }
  operator OptionGroup() const { return {number()}; }  // NOLINT(google-explicit-constructor)
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  detail::GroupHandle handle_;
};

/// Asks for a group and returns at once. Throws Error(kInvalid) for impossible amounts.
[[nodiscard]] inline PlacementGroup placement_group(const std::vector<Bundle>& bundles, const GroupOptions& options = {}) {
  return PlacementGroup(detail::create_group(bundles, options));
}

template <>
struct Codec<PlacementGroup> {
  static void encode(Encoder& out, const PlacementGroup& value) { out.unsigned_integer(value ? value.number() : 0); }
  static PlacementGroup decode(Decoder& in) {
    const uint64_t number = in.unsigned_integer();
    return in.ok() && number != 0 ? PlacementGroup(detail::group_of(number)) : PlacementGroup();
  }
};

}  // namespace manta
