// Tasks: many at once, one at a time, with a big result; with more workers than cores.
#include "bench/core/groups.h"
#include "bench/core/limits.h"
#include "bench/core/work.h"

namespace manta::bench {
namespace {

double batches_of_tasks(int batches) {
  return batches * 1'000 / ::bench::seconds_of([&] {
           for (int batch = 0; batch < batches; ++batch)
             (void)batch_per_second(1'000, [](int i) { return remote<&add>(i, 1); });
         });
}

/// A megabyte written once and a round trip: no way around either.
double megabytes_and_trips_per_second() {
  return 1 / (1.048576e-3 / copy_warm_gbs(1 << 20) + 1 / ring_round_trips_per_second());
}

}  // namespace

void tasks(Table& table) {
  table.row({.name = "tasks_batch",
             .title = "tasks, submit 1,000 then get all",
             .unit = "/s",
             .goal = at_least(500'000),
             .limit = {"ring messages", ring_messages_per_second}},
            [&] { return batches_of_tasks(table.scaled(50)); });
  table.row({.name = "task_sync",
             .title = "task, one at a time",
             .unit = "/s",
             .goal = at_least(100'000),
             .limit = {"ring round trips", ring_round_trips_per_second}},
            [&] { return one_by_one_per_second(table.scaled(10'000), [](int i) { return remote<&add>(i, 1); }); });
  table.row({.name = "task_1mb",
             .title = "task returning 1 MB, one at a time",
             .unit = "/s",
             .goal = at_least(10'000),
             .limit = {"writes of 1 MB + trips", megabytes_and_trips_per_second}},
            [&] { return one_by_one_per_second(table.scaled(1'000), [](int) { return remote<&megabyte>(); }); });
  table.row({.name = "task_1mb_vector",
             .title = "  the same as a vector, which is copied",
             .unit = "/s",
             .limit = {"writes of 1 MB + trips", megabytes_and_trips_per_second}},
            [&] { return one_by_one_per_second(table.scaled(1'000), [](int) { return remote<&megabyte_vector>(); }); });
}

void four_workers(Table& table) {
  table.row({.name = "tasks_4_workers",
             .title = "tasks, batches of 1,000, room for 4 workers",
             .unit = "/s",
             .limit = {"ring messages", ring_messages_per_second}},
            [&] { return batches_of_tasks(table.scaled(50)); });
  table.row({.name = "actors_4",
             .title = "calls of 4 actors, batches of 4,000",
             .unit = "/s",
             .limit = {"ring messages", ring_messages_per_second}},
            [&, four = std::vector<Actor<Counter>>{spawn<Counter>(), spawn<Counter>(), spawn<Counter>(), spawn<Counter>()}] {
              const int batches = table.scaled(20);
              return batches * 4'000 / ::bench::seconds_of([&] {
                       for (int batch = 0; batch < batches; ++batch)
                         (void)batch_per_second(
                             4'000, [&](int i) { return four[static_cast<size_t>(i) % 4].call<&Counter::add>(1); });
                     });
            });
}

}  // namespace manta::bench
