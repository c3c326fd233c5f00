// The same calls as users meet them: their latencies, with a busy neighbour, and what a node costs while nothing happens.
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "bench/core/groups.h"
#include "bench/core/limits.h"
#include "bench/core/processes.h"
#include "bench/core/work.h"

namespace manta::bench {
namespace {

template <typename Call>
std::vector<double> percentiles_us(int count, const Call& call) {
  std::vector<double> took;
  took.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) took.push_back(1e6 * ::bench::seconds_of([&] { (void)call(i).get(); }));
  std::ranges::sort(took);
  return {took[took.size() / 2], took[took.size() * 99 / 100]};
}

/// Core seconds used so far by us and by the node.
double used_by_all() { return cpu_seconds_of(::getpid()) + cpu_seconds_of(processes_below()); }

}  // namespace

void latencies(Table& table) {
  const Limit limit{"ring round trip", ring_round_trip_us};
  const Row task_rows[] = {{.name = "task_p50", .title = "task, latency, p50", .unit = "us", .limit = limit},
                           {.name = "task_p99", .title = "task, latency, p99", .unit = "us", .limit = limit}};
  table.rows(task_rows, [&] { return percentiles_us(table.scaled(10'000), [](int i) { return remote<&add>(i, 1); }); });
  const Row actor_rows[] = {{.name = "actor_p50", .title = "actor call, latency, p50", .unit = "us", .limit = limit},
                            {.name = "actor_p99", .title = "actor call, latency, p99", .unit = "us", .limit = limit}};
  table.rows(actor_rows, [&, counter = spawn<Counter>()] {
    return percentiles_us(table.scaled(10'000), [&](int) { return counter.call<&Counter::add>(1); });
  });
}

void hogged(Table& table) {
  const Row rows[] = {{.name = "hogged_sync",
                       .title = "actor call one at a time, one core left",
                       .unit = "/s",
                       .goal = at_least(15'000),
                       .limit = {"futex round trips", futex_round_trips_per_second}},
                      {.name = "hogged_cpu",
                       .title = "  core time of a call, all processes",
                       .unit = "us",
                       .limit = {"futex round trip", futex_round_trip_us}},
                      {.name = "hogged_p99", .title = "  latency, p99", .unit = "us"}};
  if (std::ranges::none_of(rows, [&](const Row& row) { return table.wants(row.name); })) return;
  const Actor<Counter> counter = spawn<Counter>();
  counter.wait_ready(std::chrono::seconds(30));
  const Row calm[] = {{.name = "calm_cpu",
                       .title = "core time of a call without the hog",
                       .unit = "us",
                       .limit = {"ring round trip", ring_round_trip_us}}};
  const int count = table.scaled(20'000);
  const auto call = [&](int) { return counter.call<&Counter::add>(1); };
  table.rows(calm, [&] {
    const double before = used_by_all();
    (void)one_by_one_per_second(count, call);
    return std::vector<double>{(used_by_all() - before) * 1e6 / count};
  });
  const std::vector<pid_t> ours = processes_below();  // without the hogs
  const Hogs hogs(std::max(1u, std::thread::hardware_concurrency() - 1));
  const auto used = [&] { return cpu_seconds_of(::getpid()) + cpu_seconds_of(ours); };
  table.rows(rows, [&] {
    const double before = used();
    const double rate = one_by_one_per_second(count, call);
    const double each = (used() - before) * 1e6 / count;
    return std::vector<double>{rate, each, percentiles_us(count, call)[1]};
  });
}

void idle(Table& table) {
  const char* const names[] = {"idle_pss", "idle_shared", "idle_driver", "idle_node", "worker_pss"};
  if (std::ranges::none_of(names, [&](const char* name) { return table.wants(name); })) return;
  (void)remote<&add>(1, 2).get();
  std::this_thread::sleep_for(std::chrono::seconds(2));
  const auto pss_of_all = [] {
    double sum = pss_mb(::getpid());
    for (const pid_t pid : processes_below()) sum += pss_mb(pid);
    return sum;
  };
  table.row({.name = "idle_pss", .title = "idle node, PSS of all processes", .unit = "MB", .goal = at_most(40)}, pss_of_all,
            3);
  table.row(
      {.name = "idle_shared", .title = "  shared memory kept ready, in its first minute", .unit = "MB"},
      [] { return shared_mb(processes_below()); }, 1);
  const Row rows[] = {
      {.name = "idle_driver", .title = "idle driver over 5 s, part of a core", .unit = "%", .goal = at_most(1)},
      {.name = "idle_node", .title = "idle node over 5 s, part of a core", .unit = "%", .goal = at_most(1)}};
  table.rows(
      rows,
      [&] {
        const std::vector<pid_t> node = processes_below();
        const double driver_before = cpu_seconds_of(::getpid()), node_before = cpu_seconds_of(node);
        const double seconds = ::bench::seconds_of([] { std::this_thread::sleep_for(std::chrono::seconds(5)); });
        return std::vector<double>{100 * (cpu_seconds_of(::getpid()) - driver_before) / seconds,
                                   100 * (cpu_seconds_of(node) - node_before) / seconds};
      },
      3);
  table.row(
      {.name = "worker_pss", .title = "memory of one more idle worker, PSS", .unit = "MB"},
      [&] {
        constexpr int kMore = 10;
        const double before = pss_of_all();
        std::vector<Actor<Counter>> more;
        for (int i = 0; i < kMore; ++i) more.push_back(spawn<Counter>());
        for (const Actor<Counter>& actor : more) actor.wait_ready(std::chrono::seconds(30));
        std::this_thread::sleep_for(std::chrono::seconds(1));
        return (pss_of_all() - before) / kMore;
      },
      1);
}

}  // namespace manta::bench
