// The head's core alone, on one thread and without a disk: placement groups made and removed, actors placed, and what a
// cluster of 100 nodes costs at rest.
#include "bench/stats.h"
#include "head/head_core.h"

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

namespace {

using namespace manta;
using Clock = std::chrono::steady_clock;

wire::NodeResources room(int64_t cpus, int gpus) {
  wire::NodeResources out{.cpus = cpus * wire::kWhole, .memory_bytes = int64_t{1} << 40, .custom = {}, .devices = {}};
  out.devices.assign(static_cast<size_t>(gpus), {.share = wire::kWhole, .memory_bytes = int64_t{80} << 30});
  return out;
}

struct Cluster {
  head::HeadCore core;
  int64_t now_us = 1'000'000;
  std::vector<wire::NodeNumber> nodes;
  uint64_t driver = wire::first_id_of(wire::kHeadNode) + 1;

  explicit Cluster(int count) {
    for (int i = 0; i < count; ++i) {
      wire::Join join{.version = "bench", .info = {}, .nonce = static_cast<uint64_t>(i) + 1};
      join.info.name = std::to_string(i);
      join.info.endpoint = "tcp://host:" + std::to_string(i);
      join.info.capacity = room(64, 8);
      for (const wire::ToNode& one : core.step(i == 0 ? wire::kHeadNode : 0, join, now_us).messages)
        if (const auto* joined = std::get_if<wire::Joined>(&one.message)) nodes.push_back(joined->number);
    }
    (void)core.step(wire::kHeadNode,
                    wire::HeadClientJoined{.process = driver, .role = 0, .pid = 1, .job = driver, .job_name = {}}, now_us);
  }
  void beat(uint64_t sequence) {
    for (wire::NodeNumber node : nodes)
      (void)core.step(node,
                      wire::Heartbeat{.sequence = sequence,
                                      .view_version = core.members().version(),
                                      .has_resources = true,
                                      .available = room(64, 8),
                                      .placed_up_to = ~uint64_t{0}},
                      now_us);
  }
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Groups of `bundles`, each made, answered by its nodes and removed; a second.
double groups_per_second(int nodes, int bundles, wire::PlacementStrategy strategy) {
  constexpr int kGroups = 5'000;
  Cluster cluster(nodes);
  wire::CreatePlacementGroup create{.request = 0, .bundles = {}, .strategy = static_cast<uint8_t>(strategy), .name = {}};
  create.bundles.assign(static_cast<size_t>(bundles), {.cpus = wire::kWhole, .gpus = wire::kWhole / 4, .custom = {}});
  int ready = 0;
  const auto start = Clock::now();
  for (int i = 0; i < kGroups; ++i) {
    ++create.request;
    head::HeadEffects effects =
        cluster.core.step(wire::kHeadNode, wire::HeadRequest{cluster.driver, create}, cluster.now_us);
    uint64_t group = 0;
    for (const wire::ToNode& one : effects.messages) {
      const auto* prepare = std::get_if<wire::PrepareBundles>(&one.message);
      if (prepare == nullptr) continue;
      group = prepare->group;
      (void)cluster.core.step(one.to, wire::BundlesPrepared{prepare->group, prepare->attempt, {}}, cluster.now_us);
    }
    const auto* made = cluster.core.groups().find(group);
    ready += made != nullptr && made->state == head::PlacementGroups::State::kReady ? 1 : 0;
    (void)cluster.core.step(wire::kHeadNode, wire::HeadRequest{cluster.driver, wire::RemovePlacementGroup{group}},
                            cluster.now_us);
    if (i % 100 == 99) cluster.beat(static_cast<uint64_t>(i));  // what was reserved is free again
  }
  const double seconds = seconds_since(start);
  if (ready != kGroups) std::printf("only %d of %d groups became ready\n", ready, kGroups);
  return kGroups / seconds;
}

/// Creations of actors on `nodes` nodes; a second.
double actors_per_second(int nodes) {
  constexpr uint64_t kActors = 5'000;
  Cluster cluster(nodes);
  wire::CreateActor create;
  create.scheduling_class.resources.cpus = wire::kWhole / 100;
  const auto start = Clock::now();
  for (uint64_t i = 1; i <= kActors; ++i) {
    create.actor = {cluster.driver, i};
    (void)cluster.core.step(wire::kHeadNode, wire::HeadRequest{cluster.driver, create}, cluster.now_us);
  }
  return static_cast<double>(kActors) / seconds_since(start);
}

/// The share of a core that 100 nodes take which only say that they live.
double share_at_rest() {
  constexpr int kSeconds = 60;
  Cluster cluster(100);
  const auto start = Clock::now();
  for (int half = 0; half < kSeconds * 2; ++half) {
    cluster.now_us += 500'000;
    cluster.beat(static_cast<uint64_t>(half));
    (void)cluster.core.tick(cluster.now_us);
  }
  return seconds_since(start) / kSeconds;
}

}  // namespace

int main() {
  using wire::PlacementStrategy;
  constexpr int kRounds = 7;
  const char* per_second = "/s";
  bench::print_heading("Head core, one thread, no disk");
  bench::print_row("group of 1 bundle on 10 nodes",
                   bench::repeat(kRounds, [] { return groups_per_second(10, 1, PlacementStrategy::kPack); }), per_second,
                   "made and removed; goal 20,000");
  bench::print_row("group of 4, STRICT_SPREAD on 10 nodes",
                   bench::repeat(kRounds, [] { return groups_per_second(10, 4, PlacementStrategy::kStrictSpread); }),
                   per_second);
  bench::print_row("group of 4, PACK on 100 nodes",
                   bench::repeat(kRounds, [] { return groups_per_second(100, 4, PlacementStrategy::kPack); }), per_second);
  bench::print_row("actors placed on 10 nodes", bench::repeat(kRounds, [] { return actors_per_second(10); }), per_second);
  bench::print_row("actors placed on 100 nodes", bench::repeat(kRounds, [] { return actors_per_second(100); }), per_second);
  bench::print_row("100 nodes at rest, of a core", bench::repeat(kRounds, [] { return share_at_rest() * 100; }), "%",
                   "goal 5");
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("largest memory of all of it: %ld MiB\n", usage.ru_maxrss / 1024);
  return 0;
}
