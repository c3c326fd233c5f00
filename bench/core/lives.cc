// Beginnings and ends: of a node, of a thousand actors, of the compiler over a small program.
#include <cstdlib>
#include <thread>

#include "bench/core/groups.h"
#include "bench/core/limits.h"
#include "bench/core/processes.h"
#include "bench/core/work.h"

namespace manta::bench {
namespace {

template <typename Options>
concept SharesProcesses = requires(Options options) {
  options.shared_process = true;
};

double actors_per_second(int count, const ActorOptions& options) {
  return count / ::bench::seconds_of([&] {
           std::vector<Actor<Counter>> actors;
           std::vector<Ref<int>> first;
           for (int i = 0; i < count; ++i) actors.push_back(spawn<Counter>.with(options)());
           for (const Actor<Counter>& actor : actors) first.push_back(actor.call<&Counter::add>(1));
           for (const Ref<int>& ref : first) (void)ref.get();
         });
}

/// One at a time: made, waited for, removed.
double groups_per_second(int count) {
  return count / ::bench::seconds_of([&] {
           for (int i = 0; i < count; ++i) {
             const PlacementGroup group = placement_group({{.cpus = 1}});
             throw_if_error(group.wait());
             group.remove();
           }
         });
}

/// Created, called and ended: the clock stops when their processes are gone.
double actors_made_and_ended_s(int count) {
  return ::bench::seconds_of([&] {
    (void)actors_per_second(count, {});
    for (int i = 0; i < 3'000 && node_info().actors > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  });
}

template <typename Options>
void shared(Table& table, const Row& row) {
  if constexpr (SharesProcesses<Options>) {
    Options options;
    options.shared_process = true;
    const int count = table.scaled(100'000);
    table.row(
        row, [&] { return count / actors_per_second(count, options); }, 2);
  } else {
    table.absent(row, "not in this version: actors cannot share a process");
  }
}

}  // namespace

void actor_lives(Table& table) {
  table.row(
      {.name = "actors_100",
       .title = "actors made and called, 100 at once",
       .unit = "/s",
       .limit = {"processes", process_starts_per_second}},
      [&] { return actors_per_second(table.scaled(100), {}); }, 5);
  const int count = table.scaled(1'000);
  const Row rows[] = {{.name = "actors_1000",
                       .title = "1,000 actors made, called and ended",
                       .unit = "s",
                       .goal = at_most(5),
                       .limit = {"for as many processes", [=] { return count / process_starts_per_second(); }}},
                      {.name = "actors_rate",
                       .title = "  as a rate",
                       .unit = "/s",
                       .goal = at_least(200),
                       .limit = {"processes", process_starts_per_second}}};
  table.rows(
      rows,
      [=] {
        const double seconds = actors_made_and_ended_s(count);
        return std::vector<double>{seconds, count / seconds};
      },
      3);
}

void shared_process_actors(Table& table) {
  const int groups = table.scaled(5'000);
  table.row({.name = "placement", .title = "placement group made and removed", .unit = "/s", .goal = at_least(10'000)},
            [=] { return groups_per_second(groups); });
  shared<ActorOptions>(
      table, {.name = "actors_shared", .title = "100,000 actors in shared processes", .unit = "s", .goal = at_most(5)});
}

int one_task() { return remote<&add>(1, 2).get() == 3 ? 0 : 1; }

void starts(Table& table) {
  table.row({.name = "start_exit",
             .title = "local node: start, first task, clean exit",
             .unit = "ms",
             .goal = at_most(100),
             .limit = {"for three processes", [] { return 3e3 / process_starts_per_second(); }}},
            [] { return milliseconds_of({"--one-task"}); });
  table.row(
      {.name = "compile", .title = "compile the ten-line program at -O2", .unit = "s", .goal = at_most(4)},
      [] {
        const std::string source = MANTA_BENCH_SOURCE;
        const std::string command =
            "g++ -std=c++20 -O2 -I" + source + "/include -c " + source + "/bench/ten_lines.cc -o /dev/null";
        return ::bench::seconds_of([&] {
          if (std::system(command.c_str()) != 0) std::exit(1);
        });
      },
      3);
}

}  // namespace manta::bench
