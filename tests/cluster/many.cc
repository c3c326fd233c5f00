// A program that uses a whole cluster at once, and then runs small tasks spread over it and checks each result.
//
//   many TASKS MEET FOLDER
//
// First MEET tasks that wait in FOLDER until all of them run: that ends only if the cluster runs so many at once. Then
// TASKS of them.
#include <manta/manta.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string this_node() {
  const char* const node = std::getenv("MANTA_TEST_NODE");
  return node != nullptr ? node : "";
}

}  // namespace

struct Ran {
  uint64_t value = 0;
  std::string node;
};

/// Writes a byte to the file, and waits until there are `all`.
std::string meet(const std::string& file, int all) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::write(fd, "x", 1) != 1) throw std::runtime_error("cannot write to " + file);
  struct stat now {};
  for (const auto deadline = Clock::now() + std::chrono::minutes(2); ::fstat(fd, &now) == 0 && now.st_size < all;) {
    if (Clock::now() > deadline)
      throw std::runtime_error("only " + std::to_string(now.st_size) + " of " + std::to_string(all) + " came");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ::close(fd);
  return this_node();
}

Ran triple(uint64_t x) { return {3 * x, this_node()}; }

int program(int argc, char** argv) {
  if (argc < 4) return std::fprintf(stderr, "many TASKS MEET FOLDER\n"), 2;
  const uint64_t tasks = std::strtoull(argv[1], nullptr, 10);
  const int all = std::atoi(argv[2]);

  auto start = Clock::now();
  std::vector<manta::Ref<std::string>> met;
  std::set<std::string> places;
  const std::string file = std::string(argv[3]) + "/met-" + std::to_string(::getpid());
  for (int i = 0; i < all; ++i) met.push_back(manta::remote<&meet>.with({.retries = 0, .spread = true})(file, all));
  for (auto& one : met) places.insert(one.get());
  std::printf("%d at once on %zu nodes in %.3f s\n", all, places.size(), seconds_since(start));

  start = Clock::now();
  std::vector<manta::Ref<Ran>> results;
  results.reserve(tasks);
  for (uint64_t i = 0; i < tasks; ++i) results.push_back(manta::remote<&triple>.with({.spread = true})(i));
  std::map<std::string, uint64_t> of_node;
  for (uint64_t i = 0; i < tasks; ++i) {
    const Ran ran = results[i].get();
    if (ran.value != 3 * i) throw std::runtime_error("a task's result is not what it must be");
    ++of_node[ran.node];
  }
  std::printf("%llu tasks right on %zu nodes in %.3f s\n", static_cast<unsigned long long>(tasks), of_node.size(),
              seconds_since(start));
  return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }
