// A life of puts, gets, frees, deaths and spills on a real store; at its end nothing is left.
#include "object_store/test_node.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>

namespace manta::object_store {
namespace {

using std::chrono::milliseconds;
namespace fs = std::filesystem;
constexpr uint64_t kMiB = uint64_t{1} << 20;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kOperations = 50'000;
#else
constexpr int kOperations = 1'000'000;
#endif

class Life {
 public:
  explicit Life(unsigned seed) : random_(seed), node_(8 * kMiB, 128 * kMiB) {
    node_.start();
    while (clients_.size() < 3) clients_.push_back(node_.client(++process_));
  }

  void run(int operations) {
    for (int i = 0; i < operations && !::testing::Test::HasFatalFailure(); ++i) {
      const unsigned what = random_() % 1'000;
      if (what < 200) {
        put();
      } else if (what < 700 && !held_.empty()) {
        get();
      } else if (what < 850 && held_.size() > 3'000) {
        free();
      } else if (!pins_.empty()) {
        unpin();
      }
      if (random_() % 20'000 == 0) kill();
    }
  }

  void end() {
    pins_.clear();
    for (auto& client : clients_) {
      std::vector<wire::ObjectLocation> mine;
      for (const Held& object : held_) {
        if (object.owner == client->process()) mine.push_back(object.at);
      }
      (*client)->free(mine);
    }
    EXPECT_TRUE(node_.eventually([](const StoreStats& stats) {
      return stats.objects + stats.limbo_objects + stats.spilled_objects + stats.disk_files + stats.disk_bytes == 0;
    }));
    for (auto& client : clients_) {
      EXPECT_TRUE(node_.eventually([&](const StoreStats&) { return (*client)->stats().used_bytes == 0; }));
      EXPECT_EQ((*client)->stats().pins, 0u);
    }
    node_.clock.advance(std::chrono::seconds(10));
    EXPECT_TRUE(node_.eventually([](const StoreStats& stats) { return stats.warm_bytes == stats.granted_bytes; }));
    node_.clock.advance(std::chrono::seconds(10));
    EXPECT_TRUE(node_.eventually([](const StoreStats& stats) { return stats.granted_bytes == 0; }));
    EXPECT_EQ(TestNode::resident_bytes(), 0u);
    // The core has let go of its files before the disk's threads have removed them.
    EXPECT_TRUE(node_.eventually(
        [&](const StoreStats&) { return !fs::exists(node_.spill_folder()) || fs::is_empty(node_.spill_folder()); }));
  }

 private:
  struct Held {
    wire::ObjectLocation at;
    uint64_t owner = 0, content = 0;
  };
  struct Pin {
    PinnedBytes bytes;
    uint64_t content = 0;
  };

  void put() {
    TestClient& client = any();
    const size_t size = 16 + random_() % (random_() % 500 == 0 ? 9 * kMiB / 4 : random_() % 50 == 0 ? 200'000 : 2'000);
    Result<MutableBlock> block = client->create(size, milliseconds(random_() % 4 == 0 ? 0 : 2'000));
    if (!block.ok()) {
      ASSERT_EQ(block.status().code(), Code::kFull) << block.status().to_string();
      return;
    }
    if (random_() % 20 == 0) return;  // aborted
    const uint64_t content = ++content_, end = ~content;
    std::memcpy(block->data(), &content, 8);
    std::memcpy(block->data() + size - 8, &end, 8);
    Result<wire::ObjectLocation> at = client->seal(std::move(block).value(), {client.process(), content});
    ASSERT_TRUE(at.ok());
    held_.push_back({*at, client.process(), content});
  }
  void get() {
    // Mostly what is new, as programs do; sometimes anything.
    const size_t back = random_() % 100 == 0 ? random_() % held_.size() : random_() % std::min<size_t>(held_.size(), 200);
    const Held& object = held_[held_.size() - 1 - back];
    TestClient& client = any();
    Result<PinnedBytes> bytes = client->pin(object.at, milliseconds(100));
    if (bytes.status().code() == Code::kFull) {  // pins may lie so that a large object has no room
      pins_.clear();
      bytes = client->pin(object.at);
    }
    ASSERT_TRUE(bytes.ok()) << bytes.status().to_string();
    ASSERT_TRUE(is_content(*bytes, object.content));
    if (pins_.size() < 50) pins_.push_back({std::move(bytes).value(), object.content});
  }
  void free() {
    const size_t index = random_() % held_.size();
    for (auto& each : clients_) {
      if (each->process() == held_[index].owner) (*each)->free({&held_[index].at, 1});
    }
    held_[index] = held_.back();
    held_.pop_back();
  }
  void unpin() {
    const size_t index = random_() % pins_.size();
    ASSERT_TRUE(is_content(pins_[index].bytes, pins_[index].content));
    std::swap(pins_[index], pins_.back());
    pins_.pop_back();
  }
  /// A process dies, with what it owns.
  void kill() {
    const size_t index = random_() % clients_.size();
    const uint64_t dead = clients_[index]->process();
    pins_.clear();
    clients_[index] = node_.client(++process_);
    std::erase_if(held_, [&](const Held& object) { return object.owner == dead; });
  }

  TestClient& any() { return *clients_[random_() % clients_.size()]; }
  static bool is_content(const PinnedBytes& bytes, uint64_t content) {
    uint64_t first = 0, last = 0;
    std::memcpy(&first, bytes.data(), 8);
    std::memcpy(&last, bytes.data() + bytes.size() - 8, 8);
    return first == content && last == ~content;
  }

  std::mt19937 random_;
  TestNode node_;
  std::vector<std::unique_ptr<TestClient>> clients_;
  std::vector<Held> held_;
  std::vector<Pin> pins_;
  uint64_t process_ = 0;
  uint64_t content_ = 0;
};

int open_descriptors() {
  return static_cast<int>(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

// MANTA_SEED replays one, MANTA_TEST_OPERATIONS sets its length.
TEST(StoreRandom, AMillionOperationsLeakNoByteNoPinNoDescriptor) {
  const char* given = std::getenv("MANTA_SEED");
  const char* length = std::getenv("MANTA_TEST_OPERATIONS");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::atoll(given)) : std::random_device{}();
  SCOPED_TRACE("MANTA_SEED=" + std::to_string(seed));
  const int descriptors = open_descriptors();
  {
    Life life(seed);
    life.run(length != nullptr ? std::atoi(length) : kOperations);
    life.end();
  }
  EXPECT_EQ(open_descriptors(), descriptors);
}

}  // namespace
}  // namespace manta::object_store
