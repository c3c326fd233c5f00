// Actors that outlive what happens to the cluster around them. They ask for a part of a CPU, which keeps them off a
// node of a head that has none.
//
//   keeper live FOLDER    makes two detached actors and calls them until FOLDER/stop is there; when FOLDER/late is, makes
//                         one more
//   keeper check COUNT    finds them by name and says whether they know what they must
//   keeper move FOLDER    calls an actor, many calls at a time, until FOLDER/stop is there: each call counts once, wherever
//                         the actor is by then
#include <manta/manta.h>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr auto kPause = std::chrono::milliseconds(20);

void say(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

std::string own_node() {
  const char* const node = std::getenv("MANTA_TEST_NODE");
  return node != nullptr ? node : "?";
}

}  // namespace

/// Knows what it was told only for as long as its process lives.
class Forgetful {
 public:
  int add(int by) { return n_ += by; }

 private:
  int n_ = 0;
};

struct Counted {
  int n = 0;
  std::string node;
};

class Keeper {
 public:
  Counted add(int by) { return {n_ += by, own_node()}; }
  [[nodiscard]] int save() const { return n_; }
  void restore(int n) { n_ = n; }

 private:
  int n_ = 0;
};

int doubled(int n) { return 2 * n; }

int live(const std::filesystem::path& folder) {
  const auto keeper = manta::spawn<Keeper>.with({.cpus = 0.5, .max_restarts = -1, .name = "keeper", .detached = true})();
  const auto forgetful = manta::spawn<Forgetful>.with({.cpus = 0.5, .name = "forgetful", .detached = true})();
  bool has_late = false;
  int count = 0;
  while (!std::filesystem::exists(folder / "stop")) {
    ++count;
    if (keeper.call<&Keeper::add>(1).get().n != count || forgetful.call<&Forgetful::add>(1).get() != count ||
        manta::remote<&doubled>(count).get() != 2 * count)
      return say("wrong at " + std::to_string(count)), 1;
    say("tick " + std::to_string(count));
    if (!has_late && std::filesystem::exists(folder / "late")) {
      has_late = true;
      const auto late = manta::spawn<Forgetful>.with({.cpus = 0.5, .name = "late", .detached = true})();
      say("late is asked for");
      if (late.call<&Forgetful::add>(7).get() != 7) return 1;
      say("late is there");
    }
    std::this_thread::sleep_for(kPause);  // tidy: allow(sleep) because the calls are to go on for as long as the test likes
  }
  say("total " + std::to_string(count));
  return 0;
}

int check(int count) {
  const int kept = manta::get_actor<Keeper>("keeper").call<&Keeper::add>(0).get().n;
  const int remembered = manta::get_actor<Forgetful>("forgetful").call<&Forgetful::add>(0).get();
  const int late = manta::get_actor<Forgetful>("late").call<&Forgetful::add>(0).get();
  say(std::to_string(kept) + ", " + std::to_string(remembered) + " and " + std::to_string(late));
  return kept == count && remembered == count && late == 7 ? 0 : 1;
}

int move(const std::filesystem::path& folder) {
  constexpr int kAtOnce = 50;
  const auto keeper = manta::spawn<Keeper>.with({.cpus = 0.5, .max_restarts = 1})();
  std::string node;
  int count = 0;
  for (int round = 1; !std::filesystem::exists(folder / "stop"); ++round) {
    std::vector<manta::Ref<Counted>> answers;
    for (int i = 0; i < kAtOnce; ++i) answers.push_back(keeper.call<&Keeper::add>(1));
    for (const auto& answer : answers) {
      const Counted counted = answer.get();
      if (counted.n != ++count) return say("counted " + std::to_string(counted.n) + " at " + std::to_string(count)), 1;
      if (counted.node != node) say("on node " + (node = counted.node));
    }
    say("round " + std::to_string(round));
  }
  say("total " + std::to_string(count));
  return 0;
}

int program(int argc, char** argv) {
  const std::string mode = argc > 2 ? argv[1] : "";
  if (mode == "live") return live(argv[2]);
  if (mode == "check") return check(std::atoi(argv[2]));
  if (mode == "move") return move(argv[2]);
  return 2;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }
