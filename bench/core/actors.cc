// Calls of actors: of one by one caller, and of two by two.
#include <thread>

#include "bench/core/groups.h"
#include "bench/core/limits.h"
#include "bench/core/work.h"

namespace manta::bench {
namespace {

constexpr size_t kTextBytes = 100'000;

double copies_of_100_kb_per_second() { return copy_warm_gbs(kTextBytes) * 1e9 / kTextBytes; }

/// Two callers at work at once; calls a second of both.
double both_per_second(const std::vector<Actor<Caller>>& callers, int calls, bool by_ref) {
  return 2 * calls / ::bench::seconds_of([&] {
           std::vector<Ref<int>> done;
           for (const Actor<Caller>& caller : callers)
             done.push_back(by_ref ? caller.call<&Caller::by_ref>(calls) : caller.call<&Caller::by_value>(calls));
           for (const Ref<int>& ref : done) (void)ref.get();
         });
}

}  // namespace

void actors(Table& table) {
  const Actor<Counter> counter = spawn<Counter>();
  const Ref<int> one = put(1);
  const std::string text(kTextBytes, 'x');
  table.row({.name = "actor_async",
             .title = "actor calls 1:1, 1,000 then get all",
             .unit = "/s",
             .goal = at_least(500'000),
             .limit = {"ring messages", ring_messages_per_second}},
            [&] {
              const int batches = table.scaled(100);
              return batches * 1'000 / ::bench::seconds_of([&] {
                       for (int batch = 0; batch < batches; ++batch)
                         (void)batch_per_second(1'000, [&](int) { return counter.call<&Counter::add>(1); });
                     });
            });
  table.row(
      {.name = "actor_sync",
       .title = "actor call, one at a time",
       .unit = "/s",
       .goal = at_least(100'000),
       .limit = {"ring round trips", ring_round_trips_per_second}},
      [&] { return one_by_one_per_second(table.scaled(10'000), [&](int) { return counter.call<&Counter::add>(1); }); });
  table.row({.name = "actor_ref",
             .title = "actor calls 1:1 with a Ref argument",
             .unit = "/s",
             .goal = at_least(400'000),
             .limit = {"ring messages", ring_messages_per_second}},
            [&] { return batch_per_second(table.scaled(50'000), [&](int) { return counter.call<&Counter::add>(one); }); });
  table.row({.name = "actor_100kb",
             .title = "actor calls with 100 KB by value",
             .unit = "/s",
             .goal = at_least(50'000),
             .limit = {"copies of 100 KB", copies_of_100_kb_per_second}},
            [&] { return batch_per_second(table.scaled(5'000), [&](int) { return counter.call<&Counter::take>(text); }); });
}

void many_callers(Table& table) {
  const std::vector<Actor<Counter>> targets{spawn<Counter>(), spawn<Counter>()};
  const Row threads{.name = "nn_threads",
                    .title = "calls 2:2, two threads of the driver",
                    .unit = "/s",
                    .limit = {"ring messages", ring_messages_per_second}};
  table.row(threads, [&] {
    const int calls = table.scaled(50'000);
    return 2 * calls / ::bench::seconds_of([&] {
             const auto drive = [&] {
               (void)batch_per_second(calls,
                                      [&](int i) { return targets[static_cast<size_t>(i) % 2].call<&Counter::add>(1); });
             };
             std::thread other(drive);
             drive();
             other.join();
           });
  });
  const std::vector<Actor<Caller>> callers{spawn<Caller>(targets), spawn<Caller>(targets)};
  const Row rows[] = {{.name = "nn",
                       .title = "calls 2:2, callers in workers",
                       .unit = "/s",
                       .limit = {"ring messages", ring_messages_per_second}},
                      {.name = "nn_ref",
                       .title = "calls 2:2, callers in workers, a Ref argument",
                       .unit = "/s",
                       .goal = at_least(400'000),
                       .limit = {"ring messages", ring_messages_per_second}},
                      {.name = "nn_ratio", .title = "  without over with the Ref", .unit = "x", .goal = at_most(1.3)}};
  table.rows(rows, [&] {
    const int calls = table.scaled(50'000);
    const double plain = both_per_second(callers, calls, false);
    const double with_ref = both_per_second(callers, calls, true);
    return std::vector<double>{plain, with_ref, plain / with_ref};
  });
}

}  // namespace manta::bench
