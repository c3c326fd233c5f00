// For tests of placement groups and placement options on one raylet.
#pragma once

#include "raylet/testing/fake_world.h"

namespace manta::raylet {

inline constexpr uint64_t kGroup = 77;
inline constexpr wire::NodeNumber kSelf = 3;
inline constexpr wire::NodeNumber kOther = 7;
inline constexpr wire::NodeNumber kThird = 8;

inline wire::Resources needs(double cpus, double gpus = 0) {
  return {.cpus = static_cast<int64_t>(cpus * wire::kWhole),
          .gpus = static_cast<int64_t>(gpus * wire::kWhole),
          .gpu_memory_bytes = 0,
          .memory_bytes = 0,
          .custom = {}};
}

inline wire::SchedulingClass one_cpu() {
  wire::SchedulingClass what;
  what.resources = needs(1);
  return what;
}

inline wire::SchedulingClass in_group(int32_t bundle = -1, wire::Resources resources = needs(1)) {
  wire::SchedulingClass what;
  what.resources = std::move(resources);
  what.group = kGroup;
  what.bundle = bundle;
  return what;
}

/// A raylet with the head and other nodes invented: what they say, and what was said to them.
struct GroupSession : FakeWorld {
  explicit GroupSession(int64_t cpus, int gpus = 0, wire::NodeNumber number = 0) : FakeWorld(cpus, gpus, number) {}

  void ask(uint64_t number, wire::SchedulingClass what) {
    say(kDriver, wire::RequestLease{.request = number, .scheduling_class = std::move(what), .backlog = 1});
  }
  void prepare(std::vector<wire::Resources> each, uint64_t attempt = 1, bool is_commit = true) {
    wire::PrepareBundles order{
        .group = kGroup, .attempt = attempt, .bundles = {}, .number = ++order_number, .is_commit = is_commit};
    for (wire::Resources& one : each) order.bundles.push_back({static_cast<int32_t>(order.bundles.size()), std::move(one)});
    feed(HeadSays{order});
  }
  void notice(wire::PlacementGroupState state, std::vector<uint32_t> nodes = {}, std::vector<wire::Resources> bundles = {},
              const Status& why = {}) {
    feed(HeadSays{wire::GroupNotice{kDriver.value,
                                    {.request = 0,
                                     .group = kGroup,
                                     .state = static_cast<uint8_t>(state),
                                     .why = wire::to_wire(why),
                                     .nodes = std::move(nodes),
                                     .bundles = std::move(bundles)}}});
  }
  void release(uint64_t attempt = 1) { feed(HeadSays{wire::ReleaseBundles{kGroup, attempt, "it was removed"}}); }
  template <typename Message>
  std::vector<Message> told() const {
    std::vector<Message> found;
    for (const wire::ToHead& one : told_head)
      if (const auto* message = std::get_if<Message>(&one)) found.push_back(*message);
    return found;
  }
  std::vector<wire::GetPlacementGroup> asked_of_head() const {
    std::vector<wire::GetPlacementGroup> found;
    for (const auto& request : told<wire::HeadRequest>())
      if (const auto* question = std::get_if<wire::GetPlacementGroup>(&request.request)) found.push_back(*question);
    return found;
  }
  void join(wire::NodeNumber number, int64_t cpus, std::map<std::string, std::string> labels = {}) {
    wire::NodeInfo info;
    info.number = number;
    info.name = "n" + std::to_string(number);
    info.labels = std::move(labels);
    info.capacity.cpus = cpus * wire::kWhole;
    info.capacity.memory_bytes = 1 << 30;
    feed(MembersChanged{{.joined = {info}, .gone = {}}});
  }
  void spill_back(wire::NodeNumber from, uint64_t request, Code code) {
    feed(LeaseSpilledBack{from, {kDriver.value, request, wire::to_wire(Status(code, "no"))}});
  }

  uint64_t order_number = 0;
};

}  // namespace manta::raylet
