// A driver that measures what crosses the nodes of a cluster, row by row as it is told: nodes_bench.py starts the cluster
// and it, writes the name of a row to its standard input and reads a figure from its output, and measures other things in
// between.
//
//   async         calls of 64 bytes a second, 1,000 submitted, then all got         sync     the same, one at a time
//   object BYTES  seconds to read an object of the other node                       small    10,000 objects of 10 KB of it
//   cast BYTES N  seconds until N nodes have read an object of another one
//   ahead         seconds for 64 calls of 10 ms, asleep as one that waits for a GPU, each with 8 MB of another node
//   groups        placement groups a second, of a bundle on each of three nodes, 50 made and then removed
//
// The nodes are labelled place=0, place=1 and so on; the objects are made, and the calls answered, at place 1.
#include <manta/manta.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kHome = 1;
constexpr size_t kUnderWay = 1'000;
constexpr size_t kCallBytes = 64;
constexpr size_t kSmallObjects = 10'000;
constexpr size_t kSmallBytes = 10'000;
constexpr size_t kGroupsAtOnce = 50;
constexpr size_t kInputs = 64;
constexpr size_t kInputBytes = 8'000'000;
constexpr auto kThought = std::chrono::milliseconds(10);
constexpr uint64_t kLeftBytes = uint64_t{8} << 20;  // of a store: what is not of a row
constexpr auto kFreedWithin = std::chrono::seconds(30);

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::chrono::duration<double> window() {
  return std::chrono::duration<double>(std::getenv("MANTA_BENCH_QUICK") != nullptr ? 0.3 : 1.0);
}

manta::Buffer filled(size_t bytes) {
  manta::Buffer out = manta::Buffer::uninitialized(bytes);
  std::memset(out.writable().data(), 7, bytes);
  return out;
}

void check(const manta::Buffer& got, size_t bytes) {
  if (got.size() != bytes || got.data()[0] != std::byte{7} || got.data()[bytes - 1] != std::byte{7})
    throw std::runtime_error("an object is not what was put");
}

}  // namespace

/// Lives on one node: answers calls, makes objects there, reads others' objects there.
struct Resident {
  size_t take(const std::string& bytes) { return bytes.size(); }
  int think(const manta::Buffer& input) {
    check(input, kInputBytes);
    std::this_thread::sleep_for(kThought);
    return 0;
  }
  std::vector<manta::Ref<manta::Buffer>> make(size_t count, size_t bytes) {
    std::vector<manta::Ref<manta::Buffer>> made;
    for (size_t i = 0; i < count; ++i) made.push_back(manta::put(filled(bytes)));
    return made;
  }
  /// In a vector, so that it is read here and not before the call.
  int read(const std::vector<manta::Ref<manta::Buffer>>& refs, size_t bytes) {
    for (const auto& ref : refs) check(ref.get(), bytes);
    return 0;
  }
  uint64_t used_bytes() { return manta::node_info().store_used_bytes; }
};

namespace {

class Rows {
 public:
  double async() {
    const std::string argument(kCallBytes, 'x');
    std::vector<manta::Ref<size_t>> refs(kUnderWay);
    return per_second(kUnderWay, [&] {
      for (auto& ref : refs) ref = at(kHome).call<&Resident::take>(argument);
      for (auto& ref : refs) ref.get();
    });
  }
  double sync() {
    const std::string argument(kCallBytes, 'x');
    return per_second(1, [&] { at(kHome).call<&Resident::take>(argument).get(); });
  }
  /// The second of two: memory that nobody had before costs the system as much as the transfer.
  double object(size_t bytes) {
    read(1, bytes);
    return read(1, bytes);
  }
  double small() { return read(kSmallObjects, kSmallBytes); }

  double groups() {
    std::vector<manta::PlacementGroup> made(kGroupsAtOnce);
    return per_second(kGroupsAtOnce, [&] {
      for (auto& group : made)
        group = manta::placement_group(std::vector<manta::Bundle>(3, {.cpus = 0.001}),
                                       {.strategy = manta::Strategy::kStrictSpread});
      for (const auto& group : made) manta::throw_if_error(group.wait(std::chrono::seconds(30)));
      for (const auto& group : made) group.remove();
    });
  }

  double ahead() {
    const manta::Actor<Resident> thinker = at(0);
    wait_for_room();
    const auto inputs = at(kHome).call<&Resident::make>(kInputs, kInputBytes).get();
    std::vector<manta::Ref<int>> done;
    done.reserve(inputs.size());
    const auto start = Clock::now();
    for (const auto& input : inputs) done.push_back(thinker.call<&Resident::think>(input));
    manta::get(done);
    return seconds_since(start);
  }

  double cast(size_t bytes, size_t readers) {
    std::vector<manta::Actor<Resident>> there;
    for (int place = 0; there.size() < readers; ++place)
      if (place != kHome) there.push_back(at(place));
    wait_for_room();
    auto made = at(kHome).call<&Resident::make>(1, bytes).get();
    std::vector<manta::Ref<int>> done;
    done.reserve(there.size());
    const auto start = Clock::now();
    for (const auto& one : there) done.push_back(one.call<&Resident::read>(made, bytes));
    manta::get(done);
    return seconds_since(start);
  }

 private:
  manta::Actor<Resident> at(int place) {
    manta::Actor<Resident>& resident = residents_[place];
    if (resident) return resident;
    resident = manta::spawn<Resident>.with({.labels = {{"place", std::to_string(place)}}})();
    resident.wait_ready(std::chrono::seconds(30));
    return resident;
  }

  template <typename Work>
  double per_second(size_t count, const Work& work) {
    for (const auto start = Clock::now(); Clock::now() - start < window() / 3;) work();
    size_t times = 0;
    const auto start = Clock::now();
    for (; Clock::now() - start < window(); ++times) work();
    return static_cast<double>(times * count) / seconds_since(start);
  }

  double read(size_t count, size_t bytes) {
    wait_for_room();
    const auto made = at(kHome).call<&Resident::make>(count, bytes).get();
    const auto start = Clock::now();
    for (const manta::Buffer& got : manta::get(made)) check(got, bytes);
    return seconds_since(start);
  }

  /// Until what the row before left is gone everywhere.
  void wait_for_room() {
    for (const auto deadline = Clock::now() + kFreedWithin;; std::this_thread::sleep_for(std::chrono::milliseconds(5))) {
      uint64_t used = manta::node_info().store_used_bytes;
      for (auto& [place, resident] : residents_) used = std::max(used, resident.call<&Resident::used_bytes>().get());
      if (used <= kLeftBytes) return;
      if (Clock::now() > deadline) throw std::runtime_error("objects were not freed: " + std::to_string(used) + " bytes");
    }
  }

  std::map<int, manta::Actor<Resident>> residents_;
};

}  // namespace

int program() {
  Rows rows;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string row;
    size_t bytes = 0, readers = 0;
    words >> row >> bytes >> readers;
    double figure = 0;
    if (row == "async") figure = rows.async();
    if (row == "sync") figure = rows.sync();
    if (row == "object") figure = rows.object(bytes);
    if (row == "small") figure = rows.small();
    if (row == "groups") figure = rows.groups();
    if (row == "ahead") figure = rows.ahead();
    if (row == "cast") figure = rows.cast(bytes, readers);
    std::printf("%s\t%.9g\n", row.c_str(), figure);
    std::fflush(stdout);
  }
  return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }
