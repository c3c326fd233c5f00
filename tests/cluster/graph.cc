// A graph of tasks whose objects cross nodes, checked by content: each task makes an array that depends on its number and on
// what it read, and reads every word of its arguments. The driver computes what must come out without any of it.
//
//   graph TASKS SEED [LEAST_BYTES MOST_BYTES [RETRIES [FILE]]]
//
// With a FILE it goes on beyond its TASKS until that file exists.
#include <manta/manta.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <set>
#include <vector>

namespace {

uint64_t mixed(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdull;
  x ^= x >> 33;
  return x;
}

/// Word i of the array of a task with this key.
uint64_t word(uint64_t key, uint64_t i) { return mixed(key + i); }

uint64_t key_of(uint64_t number, uint64_t first, uint64_t second) {
  return mixed(number * 3 + mixed(first) + 7 * mixed(second));
}

/// The array's first word tells its key; every other must follow from it.
uint64_t checked(const manta::Array<uint64_t>& words) {
  if (words.size() == 0) return 0;
  const uint64_t key = words[0];
  for (size_t i = 1; i < words.size(); ++i)
    if (words[i] != word(key, i))
      throw std::runtime_error("word " + std::to_string(i) + " of an array of " + std::to_string(words.size()) +
                               " is wrong");
  return key;
}

}  // namespace

manta::Array<uint64_t> step(uint64_t number, size_t words, const manta::Array<uint64_t>& first,
                            const manta::Array<uint64_t>& second) {
  const uint64_t key = key_of(number, checked(first), checked(second));
  std::vector<uint64_t> out(words);
  out[0] = key;
  for (size_t i = 1; i < words; ++i) out[i] = word(key, i);
  return manta::Array<uint64_t>(std::span<const uint64_t>(out));
}

struct Where {
  uint64_t key = 0;
  int pid = 0;
  std::string host;
};
Where look(const manta::Array<uint64_t>& words) {
  const char* const node = std::getenv("MANTA_TEST_NODE");
  return {checked(words), ::getpid(), node != nullptr ? node : ""};
}

int program(int argc, char** argv) {
  const uint64_t least_tasks = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100;
  std::mt19937_64 chance(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
  const double least = argc > 3 ? std::atof(argv[3]) : 100e3;
  const double most = argc > 4 ? std::atof(argv[4]) : 8e6;
  const int retries = argc > 5 ? std::atoi(argv[5]) : manta::TaskOptions().retries;
  const std::filesystem::path end = argc > 6 ? argv[6] : "";
  constexpr size_t kWindow = 24;

  struct Made {
    manta::Ref<manta::Array<uint64_t>> ref;
    uint64_t key = 0;
  };
  const manta::Ref<manta::Array<uint64_t>> nothing = manta::put(manta::Array<uint64_t>());
  std::vector<Made> window;
  std::vector<manta::Ref<Where>> looks;
  std::vector<uint64_t> expected;
  std::set<std::string> nodes;
  std::set<int> processes;
  size_t settled = 0;
  const auto settle = [&](size_t keep) {
    while (looks.size() > keep) {
      const Where seen = looks.front().get();
      if (seen.key != expected.front()) throw std::runtime_error("a task's array is not what it must be");
      nodes.insert(seen.host);
      processes.insert(seen.pid);
      looks.erase(looks.begin());
      expected.erase(expected.begin());
      if (++settled % 100 == 0) std::printf("%zu looked at on %zu nodes\n", settled, nodes.size()), std::fflush(stdout);
    }
  };
  uint64_t tasks = 0;
  while (tasks < least_tasks || (!end.empty() && !std::filesystem::exists(end))) {
    const uint64_t number = ++tasks;
    const auto pick = [&]() -> Made {
      if (window.empty() || chance() % 8 == 0) return {nothing, 0};
      return window[chance() % window.size()];
    };
    const Made first = pick();
    const Made second = pick();
    const double part = std::uniform_real_distribution<>(0, 1)(chance);
    const auto words = static_cast<size_t>(least * std::pow(most / least, part) / 8);
    Made made{manta::remote<&step>.with({.retries = retries})(number, words, first.ref, second.ref),
              key_of(number, first.key, second.key)};
    looks.push_back(manta::remote<&look>.with({.retries = retries})(made.ref));
    expected.push_back(made.key);
    if (window.size() < kWindow) {
      window.push_back(std::move(made));
    } else {
      window[chance() % kWindow] = std::move(made);
    }
    settle(kWindow);
  }
  settle(0);
  std::printf("%llu tasks right, on %zu nodes, in %zu processes\n", static_cast<unsigned long long>(tasks), nodes.size(),
              processes.size());
  return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }
