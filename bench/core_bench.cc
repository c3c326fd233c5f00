// The core's numbers on a local node: start-up, tasks, actor calls, small and big objects, compile time of a user's program.
// Each figure is the median of several rounds, with the least and the most; beside it the goal, or the bound measured here.
#include "bench/stats.h"

#include <manta/manta.h>

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

extern char** environ;

namespace {

int add(int a, int b) { return a + b; }
std::vector<double> megabyte() { return std::vector<double>(131'072, 1.0); }
struct Counter {
  int n = 0;
  int add(int by) { return n += by; }
  size_t take(const std::string& text) { return text.size(); }
};

constexpr int kRounds = 7;

double per_second(int count, const std::function<void()>& work) { return count / bench::seconds_of(work); }

/// This program again, as a newcomer's would run: start a node, run one task, end.
int run_one_task(int, char**) { return manta::remote<&add>(1, 2).get() == 3 ? 0 : 1; }

double whole_process_ms(const char* program) {
  std::string word = program, flag = "--one-task";
  char* argv[] = {word.data(), flag.data(), nullptr};
  int code = 0;
  const double seconds = bench::seconds_of([&] {
    pid_t pid = 0;
    if (::posix_spawn(&pid, program, nullptr, nullptr, argv, environ) != 0 || ::waitpid(pid, &code, 0) != pid) code = 1;
  });
  if (code != 0) {
    std::fprintf(stderr, "the one-task program failed\n");
    std::exit(1);
  }
  return seconds * 1e3;
}

void bench_tasks() {
  bench::print_heading("Tasks");
  bench::print_row("tasks, submit 1,000 then get all",
                   bench::repeat(kRounds,
                                 [] {
                                   constexpr int kBatches = 50;
                                   return per_second(kBatches * 1'000, [] {
                                     for (int batch = 0; batch < kBatches; ++batch) {
                                       std::vector<manta::Ref<int>> refs;
                                       refs.reserve(1'000);
                                       for (int i = 0; i < 1'000; ++i) refs.push_back(manta::remote<&add>(i, 1));
                                       for (const auto& ref : refs) (void)ref.get();
                                     }
                                   });
                                 }),
                   "/s", ">= 200,000 (Ray 2,165)");
  bench::print_row("task, one at a time",
                   bench::repeat(kRounds,
                                 [] {
                                   return per_second(5'000, [] {
                                     for (int i = 0; i < 5'000; ++i) (void)manta::remote<&add>(i, 1).get();
                                   });
                                 }),
                   "/s", "(Ray 767)");
  bench::print_row("task returning 1 MB, one at a time",
                   bench::repeat(kRounds,
                                 [] {
                                   return per_second(200, [] {
                                     for (int i = 0; i < 200; ++i) (void)manta::remote<&megabyte>().get();
                                   });
                                 }),
                   "/s", "(Ray 463)");
}

void bench_actors() {
  bench::print_heading("Actors");
  const manta::Actor<Counter> counter = manta::spawn<Counter>();
  bench::print_row("actor calls 1:1, 1,000 then get all",
                   bench::repeat(kRounds,
                                 [&] {
                                   return per_second(50'000, [&] {
                                     for (int batch = 0; batch < 50; ++batch) {
                                       std::vector<manta::Ref<int>> refs;
                                       refs.reserve(1'000);
                                       for (int i = 0; i < 1'000; ++i) refs.push_back(counter.call<&Counter::add>(1));
                                       for (const auto& ref : refs) (void)ref.get();
                                     }
                                   });
                                 }),
                   "/s", "(Ray 5,076)");
  bench::print_row("actor call, one at a time",
                   bench::repeat(kRounds,
                                 [&] {
                                   return per_second(5'000, [&] {
                                     for (int i = 0; i < 5'000; ++i) (void)counter.call<&Counter::add>(1).get();
                                   });
                                 }),
                   "/s", "(Ray 1,504)");
  const manta::Ref<int> one = manta::put(1);
  bench::print_row("actor calls with a Ref argument",
                   bench::repeat(kRounds,
                                 [&] {
                                   return per_second(20'000, [&] {
                                     std::vector<manta::Ref<int>> refs;
                                     for (int i = 0; i < 20'000; ++i) refs.push_back(counter.call<&Counter::add>(one));
                                     for (const auto& ref : refs) (void)ref.get();
                                   });
                                 }),
                   "/s", "(Ray 1,939)");
  const std::string text(100'000, 'x');
  bench::print_row("actor calls with 100 KB by value",
                   bench::repeat(kRounds,
                                 [&] {
                                   return per_second(2'000, [&] {
                                     std::vector<manta::Ref<size_t>> refs;
                                     for (int i = 0; i < 2'000; ++i) refs.push_back(counter.call<&Counter::take>(text));
                                     for (const auto& ref : refs) (void)ref.get();
                                   });
                                 }),
                   "/s", "(Ray 733)");
}

void bench_objects() {
  bench::print_heading("Objects");
  bench::print_row("put of a small object",
                   bench::repeat(kRounds,
                                 [] {
                                   return per_second(100'000, [] {
                                     for (int i = 0; i < 100'000; ++i) (void)manta::put(i);
                                   });
                                 }),
                   "/s", "(Ray 2,074)");
  const manta::Ref<int> small = manta::put(1);
  bench::print_row("get of a small object",
                   bench::repeat(kRounds,
                                 [&] {
                                   return per_second(1'000'000, [&] {
                                     for (int i = 0; i < 1'000'000; ++i) (void)small.get();
                                   });
                                 }),
                   "/s", "(Ray 11,970)");
  const manta::Ref<manta::Array<double>> mebi = manta::put(manta::Array<double>(std::vector<double>(131'072, 1.0)));
  bench::print_row("get of a 1 MiB object on the node",
                   bench::repeat(kRounds,
                                 [&] {
                                   return 1e6 / per_second(100'000, [&] {
                                            for (int i = 0; i < 100'000; ++i) (void)mebi.get();
                                          });
                                 }),
                   "us", "(Ray 117)");
  const std::vector<double> values(12'500'000, 1.0);
  std::vector<double> target(values.size());
  const auto gigabytes = [&](const std::function<void()>& work) { return 0.1 / bench::seconds_of(work); };
  bench::print_row(
      "memcpy of 100 MB, warm (the bound)",
      bench::repeat(
          kRounds,
          [&] { return gigabytes([&] { std::memcpy(target.data(), values.data(), values.size() * sizeof(double)); }); }),
      "GB/s");
  bench::print_row("put of a 100 MB array, warm",
                   bench::repeat(kRounds, [&] { return gigabytes([&] { (void)manta::put(values); }); }), "GB/s",
                   "(Ray 13.4 warm, 2.9 cold)");
}

}  // namespace

int main(int argc, char** argv) {
  const bool one_task = (argc > 1 && std::string(argv[1]) == "--one-task");
  if (one_task) return manta::run(argc, argv, run_one_task);
  if (std::getenv("MANTA_WORKER_FD") == nullptr) {
    bench::print_heading("Start-up and compile time");
    bench::print_row("local node: start, first task, clean exit",
                     bench::repeat(9, [] { return whole_process_ms("/proc/self/exe"); }), "ms", "<= 150 (Ray 5,390)");
    const std::string source = std::string(MANTA_BENCH_SOURCE) + "/bench/ten_lines.cc";
    const std::string command =
        "g++ -std=c++20 -O2 -I" + std::string(MANTA_BENCH_SOURCE) + "/include -c " + source + " -o /dev/null";
    bench::print_row("compile the ten-line program at -O2",
                     bench::repeat(3,
                                   [&] {
                                     return bench::seconds_of([&] {
                                       if (std::system(command.c_str()) != 0) std::exit(1);
                                     });
                                   }),
                     "s", "<= 4");
  }
  return manta::run(argc, argv, [] {
    bench_tasks();
    bench_actors();
    bench_objects();
    return 0;
  });
}
