// Many at once: refs waited for one by one, many returns, many refs in one object or call, a million tasks queued.
#include <array>
#include <tuple>
#include <utility>

#include "bench/core/groups.h"
#include "bench/core/limits.h"
#include "bench/core/processes.h"
#include "bench/core/work.h"

namespace manta::bench {
namespace {

double seconds_to_milliseconds(double seconds) { return seconds * 1e3; }

/// The value, or an error after half a minute: what is tried here at sizes nobody else tries may not come at all.
template <typename T>
T value_of(const Ref<T>& ref) {
  Result<T> value = ref.result(std::chrono::seconds(30));
  if (!value.ok()) throw Error(value.status());
  return std::move(value).value();
}

/// Submits first, or with the clock running; then waits for one more, and one more, as a program does that takes results as
/// they come.
double wait_one_by_one_ms(int count, bool with_submits) {
  std::vector<Ref<int>> pending;
  const auto submit = [&] {
    pending.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) pending.push_back(remote<&add>(i, 1));
  };
  const auto wait_all = [&] {
    for (const Ref<int>& ref : pending) (void)ref.wait(std::chrono::minutes(1));
  };
  if (!with_submits) submit();
  return seconds_to_milliseconds(::bench::seconds_of([&] {
    if (with_submits) submit();
    wait_all();
  }));
}

/// The same through `wait(refs, 1)`, which gives back what is pending: what Ray's users write.
double wait_for_any_ms(int count) {
  std::vector<Ref<int>> pending;
  for (int i = 0; i < count; ++i) pending.push_back(remote<&add>(i, 1));
  return seconds_to_milliseconds(::bench::seconds_of([&] {
    while (!pending.empty()) {
      Waited<int> waited = wait(pending, 1, std::chrono::minutes(1));
      // All that have come are taken; the next call is for the others.
      pending = std::move(waited.pending);
    }
  }));
}

/// What a call gives back as objects of their own: 100 in a tuple, thirty times.
template <size_t... I>
auto zeros(std::index_sequence<I...>) {
  return std::tuple<decltype(static_cast<void>(I), int{})...>{};
}
using Hundred = decltype(zeros(std::make_index_sequence<100>{}));
Hundred hundred() { return {}; }

double three_thousand_returns_ms() {
  return seconds_to_milliseconds(::bench::seconds_of([] {
    std::vector<decltype(remote<&hundred>.each()())> all;
    for (int i = 0; i < 30; ++i) all.push_back(remote<&hundred>.each()());
    for (const auto& refs : all) std::apply([](const auto&... ref) { (static_cast<void>(ref.get()), ...); }, refs);
  }));
}

Generator<int> count_to(int count) {
  for (int i = 0; i < count; ++i) co_yield i;
}
double three_thousand_items_ms() {
  return seconds_to_milliseconds(::bench::seconds_of([] {
    Stream<int> items = remote<&count_to>(3'000);
    while (items.next()) {
    }
  }));
}

}  // namespace

void many_refs(Table& table) {
  const std::array<Row, 2> waits{
      {{.name = "wait_1000", .title = "wait one by one, 1,000 tasks", .unit = "ms"},
       {.name = "wait_10000", .title = "wait one by one, 10,000 tasks", .unit = "ms", .goal = at_most(50)}}};
  table.row(waits[0], [] { return wait_one_by_one_ms(1'000, false); });
  table.row(waits[1], [] { return wait_one_by_one_ms(10'000, false); });
  table.row({.name = "wait_1000_all", .title = "submit 1,000 and wait one by one", .unit = "ms"},
            [] { return wait_one_by_one_ms(1'000, true); });
  table.row({.name = "wait_any_10000", .title = "wait for any until all, 10,000 tasks", .unit = "ms", .goal = at_most(50)},
            [] { return wait_for_any_ms(10'000); });
  table.row({.name = "returns_3000", .title = "3,000 results, 100 of a task", .unit = "ms"}, three_thousand_returns_ms);
  table.row({.name = "stream_3000", .title = "3,000 results streamed out of one task", .unit = "ms"},
            three_thousand_items_ms);
  table.row({.name = "bag_of_refs", .title = "an object holding 10,000 Refs: put and got", .unit = "ms"},
            [] { return seconds_to_milliseconds(::bench::seconds_of([] { (void)put(bag_of(10'000)).get(); })); });
  table.row({.name = "bag_from_task", .title = "a task returning 10,000 Refs, all read", .unit = "ms"}, [] {
    return seconds_to_milliseconds(::bench::seconds_of([] { (void)sum_of_bag(value_of(remote<&bag_of>(10'000))); }));
  });
  table.row({.name = "ref_arguments", .title = "a task with 10,000 Refs in its argument", .unit = "ms"},
            [bag = bag_of(10'000)] {
              return seconds_to_milliseconds(::bench::seconds_of([&] { (void)value_of(remote<&size_of_bag>(bag)); }));
            });
  table.row({.name = "ref_arguments_read", .title = "  all of them read by the task", .unit = "ms"}, [bag = bag_of(10'000)] {
    return seconds_to_milliseconds(::bench::seconds_of([&] { (void)value_of(remote<&sum_of_bag>(bag)); }));
  });
}

void queued_tasks(Table& table) {
  const std::array<Row, 2> rows{
      {{.name = "queued_1m",
        .title = "1 M tasks queued, then drained",
        .unit = "s",
        .goal = at_most(5),
        .limit = {"for as many ring messages", [&] { return table.scaled(1'000'000) / ring_messages_per_second(); }}},
       {.name = "queued_1m_peak", .title = "  peak memory of the driver", .unit = "MB", .goal = at_most(1'073)}}};
  table.rows(
      rows,
      [&] {
        reset_peak_memory();
        const int count = table.scaled(1'000'000);
        const double seconds = count / batch_per_second(count, [](int i) { return remote<&add>(i, 1); });
        return std::vector<double>{seconds, peak_memory_mb()};
      },
      3);
}

}  // namespace manta::bench
