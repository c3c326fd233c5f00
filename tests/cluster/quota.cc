// A program whose job may have a quota, and says what it had.
//
//   quota many TASKS MS    tasks of one CPU that last so long: how many ran at a time
//   quota nested DEPTH     each waits for one more inside
//   quota wait             two actors of one CPU that stay, one that waits, and a group that waits; until it is stopped
//   quota beyond CPUS      what is refused
#include <manta/manta.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

struct Ran {
  int64_t from_us = 0;
  int64_t to_us = 0;
  std::string node;
};

/// On one machine: the clock is the same for all.
Ran last(int ms) {
  const char* const node = std::getenv("MANTA_TEST_NODE");
  Ran ran{.from_us = now_us(), .to_us = 0, .node = node != nullptr ? node : ""};
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  ran.to_us = now_us();
  return ran;
}

int deep(int depth) { return depth == 0 ? 0 : 1 + manta::remote<&deep>(depth - 1).get(); }

struct Stays {
  int hello() { return 1; }
};

int many(int count, int ms) {
  std::vector<manta::Ref<Ran>> refs;
  for (int i = 0; i < count; ++i) refs.push_back(manta::remote<&last>(ms));
  std::vector<std::pair<int64_t, int>> changes;
  for (const auto& ref : refs) {
    const Ran ran = ref.get();
    changes.emplace_back(ran.from_us, 1);
    changes.emplace_back(ran.to_us, -1);
  }
  std::sort(changes.begin(), changes.end());
  int now = 0;
  int most = 0;
  for (const auto& [when_us, more] : changes) most = std::max(most, now += more);
  std::printf("%d tasks, at most %d at a time\n", count, most);
  return 0;
}

int wait() {
  std::vector<manta::Actor<Stays>> actors;
  for (int i = 0; i < 2; ++i) actors.push_back(manta::spawn<Stays>.with({.cpus = 1})());
  for (auto& actor : actors) (void)actor.call<&Stays::hello>().get();
  actors.push_back(manta::spawn<Stays>.with({.cpus = 1, .name = "waits"})());
  const manta::PlacementGroup group = manta::placement_group({{.cpus = 1}}, {.name = "waits"});
  const auto task = manta::remote<&last>(1);
  std::printf("two are there\n");
  std::fflush(stdout);
  (void)task.get();  // for ever
  return 0;
}

int program(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const int first = argc > 2 ? std::atoi(argv[2]) : 0;
  if (what == "many" && argc > 3) return many(first, std::atoi(argv[3]));
  if (what == "nested") return std::printf("%d deep\n", manta::remote<&deep>(first).get()), 0;
  if (what == "wait") return wait();
  if (what == "beyond") {
    try {
      (void)manta::remote<&last>.with({.cpus = static_cast<double>(first)})(1).get();
    } catch (const std::exception& error) {
      return std::printf("refused: %s\n", error.what()), 0;
    }
  }
  return std::fprintf(stderr, "see the head of quota.cc\n"), 2;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }
