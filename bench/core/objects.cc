// Objects: small ones, and big ones by size, beside the copies that the machine itself makes.
#include <cstdio>
#include <cstring>
#include <thread>

#include "bench/core/groups.h"
#include "bench/core/limits.h"
#include "bench/core/processes.h"
#include "bench/core/work.h"

namespace manta::bench {
namespace {

constexpr size_t kHundredMegabytes = 100'000'000;

struct Size {
  size_t bytes;
  const char *put, *put_title, *get, *get_title;
};
constexpr Size kSizes[] = {
    {1'000, "put_1kb", "put, 1 KB", "get_1kb", "get, 1 KB"},
    {10'000, "put_10kb", "put, 10 KB", "get_10kb", "get, 10 KB"},
    {100'000, "put_100kb", "put, 100 KB", "get_100kb", "get, 100 KB"},
    {1'000'000, "put_1mb", "put, 1 MB", "get_1mb", "get, 1 MB"},
    {10'000'000, "put_10mb", "put, 10 MB", "get_10mb", "get, 10 MB"},
    {kHundredMegabytes, "put_100mb", "put, 100 MB, warm", "get_100mb", "get, 100 MB"},
    {1'000'000'000, "put_1gb", "put, 1 GB", "get_1gb", "get, 1 GB"},
};

Array<double> array_of(size_t size_bytes) { return Array<double>(std::vector<double>(size_bytes / sizeof(double), 1.0)); }

double gbs_of_puts(const Array<double>& values, int count) {
  return static_cast<double>(values.buffer().size()) * count / 1e9 / ::bench::seconds_of([&] {
           for (int i = 0; i < count; ++i) (void)put(values);
         });
}

double microseconds_of_gets(const Ref<Array<double>>& ref, int count) {
  return 1e6 / count * ::bench::seconds_of([&] {
           for (int i = 0; i < count; ++i) (void)ref.get();
         });
}

void by_size(Table& table, const Size& size) {
  if (!table.wants(size.put) && !table.wants(size.get)) return;
  const Array<double> values = array_of(size.bytes);
  const size_t enough = std::max<size_t>(1, 300'000'000 / size.bytes);
  const int puts = table.scaled(static_cast<int>(std::min<size_t>(enough, 20'000)));
  table.row({.name = size.put,
             .title = size.put_title,
             .unit = "GB/s",
             .goal = size.bytes == kHundredMegabytes ? at_least(0.9 * copy_warm_gbs(size.bytes)) : Goal{},
             .limit = {"copy to warm shared memory", [&] { return copy_warm_gbs(size.bytes); }}},
            [&] { return gbs_of_puts(values, puts); });
  const Ref<Array<double>> ref = put(values);
  table.row({.name = size.get,
             .title = size.get_title,
             .unit = "us",
             .goal = at_most(1),
             .limit = {"atomic exchange", atomic_exchange_us}},
            [&] { return microseconds_of_gets(ref, table.scaled(100'000)); });
}

}  // namespace

void small_objects(Table& table) {
  table.row({.name = "put_small",
             .title = "put of a small object",
             .unit = "/s",
             .goal = at_least(1'000'000),
             .limit = {"heap blocks", allocations_per_second}},
            [&] {
              const int count = table.scaled(1'000'000);
              return count / ::bench::seconds_of([&] {
                       for (int i = 0; i < count; ++i) (void)put(i);
                     });
            });
  table.row({.name = "get_small",
             .title = "get of a small object",
             .unit = "/s",
             .goal = at_least(1'000'000),
             .limit = {"heap blocks", allocations_per_second}},
            [&, small = put(1)] {
              const int count = table.scaled(2'000'000);
              return count / ::bench::seconds_of([&] {
                       for (int i = 0; i < count; ++i) (void)small.get();
                     });
            });
  table.row(
      {.name = "object_bytes", .title = "1 M small objects alive, memory of each", .unit = "bytes", .goal = at_most(300)},
      [&] {
        const int count = table.scaled(1'000'000);
        const double before = resident_mb();
        std::vector<Ref<int>> refs;
        refs.reserve(static_cast<size_t>(count));
        for (int i = 0; i < count; ++i) refs.push_back(put(i));
        return (resident_mb() - before) * 1e6 / count;
      },
      1);
}

void big_objects(Table& table) {
  table.row({.name = "get_1mib",
             .title = "get of a 1 MiB object on the node",
             .unit = "us",
             .goal = at_most(1),
             .limit = {"atomic exchange", atomic_exchange_us}},
            [&, mebi = put(array_of(1 << 20))] { return microseconds_of_gets(mebi, table.scaled(200'000)); });
  for (const Size& size : kSizes) by_size(table, size);
}

int first_put(int wait_ms) {
  const Array<double> values = array_of(kHundredMegabytes);
  std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
  std::printf("%.6f\n", gbs_of_puts(values, 1));
  return 0;
}

void first_puts(Table& table) {
  const Limit limit{"copy to untouched shared memory", [] { return copy_cold_gbs(kHundredMegabytes); }};
  table.row(
      {.name = "put_100mb_at_once", .title = "put, 100 MB, the first of a new node", .unit = "GB/s", .limit = limit},
      [] {
        return figure_of({"--first-put", "0"});
      },
      5);
  table.row(
      {.name = "put_100mb_cold",
       .title = "put, 100 MB, the first, after 3 s",
       .unit = "GB/s",
       .goal = at_least(5),
       .limit = limit},
      [] {
        return figure_of({"--first-put", "3000"});
      },
      5);
}

}  // namespace manta::bench
