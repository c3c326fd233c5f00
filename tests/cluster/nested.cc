// Tasks that wait for tasks.
//
//   nested behind CPUS FOLDER   as many waiters as the cluster has CPUs, then tasks that each waiter needs, behind them
//   nested fib N                fib by tasks that wait for their halves
#include <manta/manta.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

/// Without the runtime's knowledge: for it the task runs.
void wait_for_file(const std::filesystem::path& file) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!std::filesystem::exists(file)) {
    if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error(file.string() + " was not made");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void make_file(const std::filesystem::path& file) { std::ofstream(file) << "x"; }

}  // namespace

/// What its task holds, unlike arguments that are Refs themselves, may not be there yet when it begins.
struct Needs {
  std::vector<manta::Ref<int>> refs;
};

int open_gate(const std::string& folder) {
  wait_for_file(folder + "/gate");
  return 1;
}
int pass(int gate, int number) { return gate * number; }
int tick(int number) { return number; }

int sum_when_told(const Needs& needs, int waiter, const std::string& folder) {
  make_file(folder + "/begun-" + std::to_string(waiter));
  wait_for_file(folder + "/go");
  int sum = 0;
  for (const manta::Ref<int>& ref : needs.refs) sum += ref.get();
  return sum;
}

int fib(int n) {
  if (n < 2) return n;
  const manta::Ref<int> first = manta::remote<&fib>(n - 1);
  const manta::Ref<int> second = manta::remote<&fib>(n - 2);
  return first.get() + second.get();
}

/// What the waiters need is ready to run only when each has begun: it is sent behind them, and only they have workers.
int behind(int cpus, const std::string& folder) {
  constexpr int kNeeded = 3;  // a waiter
  const manta::Ref<int> gate = manta::remote<&open_gate>.with({.cpus = 0})(folder);
  Needs needs;
  for (int i = 1; i <= kNeeded * cpus; ++i) needs.refs.push_back(manta::remote<&pass>(gate, i));
  std::vector<manta::Ref<int>> waiters;
  // With a deadline each is the first of a worker's; what has none is sent behind others.
  const manta::TaskOptions first{.retries = 0, .timeout = std::chrono::seconds(50)};
  for (int i = 0; i < cpus; ++i) waiters.push_back(manta::remote<&sum_when_told>.with(first)(needs, i, folder));
  for (int i = 0; i < cpus; ++i) wait_for_file(folder + "/begun-" + std::to_string(i));
  make_file(folder + "/gate");
  (void)gate.get();
  // They are on their way now; and there, when others have gone the same way and come back.
  for (int i = 0; i < 50; ++i) (void)manta::remote<&tick>.with({.cpus = 0})(i).get();
  make_file(folder + "/go");
  const int sum = kNeeded * cpus * (kNeeded * cpus + 1) / 2;
  for (const manta::Ref<int>& waiter : waiters)
    if (waiter.get() != sum) throw std::runtime_error("a sum is wrong");
  std::printf("%d waiters got what lay behind them\n", cpus);
  return 0;
}

int program(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "behind" && argc > 3) return behind(std::atoi(argv[2]), argv[3]);
  if (what != "fib" || argc < 3) return std::fprintf(stderr, "nested behind CPUS FOLDER, or nested fib N\n"), 2;
  std::printf("fib is %d\n", manta::remote<&fib>(std::atoi(argv[2])).get());
  return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }
