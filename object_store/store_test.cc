#include "object_store/test_node.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstring>
#include <new>
#include <random>

namespace manta::object_store {
namespace {

using std::chrono::milliseconds;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr milliseconds kPatience{20'000};

/// What forked processes tell each other.
struct Blackboard {
  std::atomic<int> stage{0};
  wire::ObjectLocation location[16];

  static Blackboard* make() {
    void* page = ::mmap(nullptr, sizeof(Blackboard), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return new (page) Blackboard();
  }
  void reach(int next) { stage = next; }
  void wait_for(int next) const {
    while (stage < next) std::this_thread::sleep_for(milliseconds(1));
  }
};

wire::ObjectLocation put(TestClient& client, size_t size, uint8_t fill, uint64_t owner, uint64_t sequence) {
  MutableBlock block = client->create(size, kPatience).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block.data()) % 64, 0u);
  std::memset(block.data(), fill, size);
  return client->seal(std::move(block), {owner, sequence}).value();
}
bool is_filled(const PinnedBytes& bytes, size_t size, uint8_t fill) {
  if (bytes.size() != size) return false;
  for (std::byte byte : bytes.bytes()) {
    if (byte != static_cast<std::byte>(fill)) return false;
  }
  return true;
}
void kill_and_reap(pid_t child) {
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST(Store, ReadsAcrossProcessesWithoutACopyOrAMessage) {
  TestNode node(64 * kMiB);
  Blackboard* board = Blackboard::make();
  pid_t child = node.spawn(1, [&](TestClient& client) {
    board->location[0] = put(client, kMiB, 0xab, 2, 1);
    board->reach(1);
    board->wait_for(2);
  });
  node.start();
  auto reader = node.client(2);
  board->wait_for(1);
  PinnedBytes first = (*reader)->pin(board->location[0]).value();
  EXPECT_TRUE(is_filled(first, kMiB, 0xab));
  uint64_t sent = reader->sent();
  for (int i = 0; i < 1'000; ++i) {
    PinnedBytes again = (*reader)->pin(board->location[0]).value();
    ASSERT_EQ(again.data(), first.data());
  }
  first = {};
  for (int i = 0; i < 1'000; ++i) ASSERT_TRUE((*reader)->pin(board->location[0]).ok());
  EXPECT_EQ(reader->sent(), sent);
  EXPECT_EQ((*reader)->stats().pins, 0u);
  board->reach(2);
  ::waitpid(child, nullptr, 0);
}

TEST(Store, TheKernelRefusesToWriteThroughAReader) {
  TestNode node(64 * kMiB);
  Blackboard* board = Blackboard::make();
  pid_t child = node.spawn(1, [&](TestClient& client) {
    board->location[0] = put(client, 4096, 1, 2, 1);
    board->location[1] = put(client, 9 * kMiB, 1, 2, 2);
    board->reach(1);
    board->wait_for(2);
  });
  node.start();
  auto reader = node.client(2);
  board->wait_for(1);
  for (int i : {0, 1}) {
    PinnedBytes bytes = (*reader)->pin(board->location[i]).value();
    auto page = reinterpret_cast<uintptr_t>(bytes.data()) & ~uintptr_t{4095};
    EXPECT_NE(::mprotect(reinterpret_cast<void*>(page), 4096, PROT_READ | PROT_WRITE), 0);
    EXPECT_EQ(errno, EACCES);
  }
  board->reach(2);
  ::waitpid(child, nullptr, 0);

  Fd file = create_shared_memory("manta-segment", 8192).value();
  Fd read_only = reopen_read_only(file).value();
  EXPECT_EQ(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, read_only.get(), 0), MAP_FAILED);
  EXPECT_NE(::ftruncate(read_only.get(), 0), 0);
  EXPECT_NE(::ftruncate(file.get(), 4096), 0);
  char byte = 0;
  EXPECT_EQ(::write(read_only.get(), &byte, 1), -1);
}

TEST(Store, OwnObjectsAreReadWithoutAnyMessage) {
  TestNode node(64 * kMiB);
  node.start();
  auto client = node.client(1);
  wire::ObjectLocation at = put(*client, 5'000, 9, 1, 1);
  uint64_t sent = client->sent();
  EXPECT_TRUE(is_filled((*client)->pin(at).value(), 5'000, 9));
  EXPECT_EQ(client->sent(), sent);
}

TEST(Store, EmptyObjectsAreObjects) {
  TestNode node(64 * kMiB);
  node.start();
  auto client = node.client(1);
  wire::ObjectLocation at = put(*client, 0, 0, 1, 1);
  EXPECT_EQ((*client)->pin(at).value().size(), 0u);
}

TEST(Store, APinnedObjectIsNotReusedHoweverFullTheStore) {
  TestNode node(32 * kMiB);
  node.start();
  auto producer = node.client(1), reader = node.client(2);
  wire::ObjectLocation at = put(*producer, 100'000, 0x11, 1, 1);
  PinnedBytes pinned = (*reader)->pin(at).value();
  PinnedBytes copy = pinned;
  (*producer)->free({&at, 1});
  ASSERT_TRUE(node.eventually([](const StoreStats& stats) { return stats.limbo_objects == 1; }));
  EXPECT_EQ((*reader)->pin({at.segment, at.offset, at.size_bytes, at.slot, at.generation + 7}).status().code(), Code::kLost);
  for (uint64_t i = 0; i < 500; ++i) {
    wire::ObjectLocation other = put(*producer, 90'000 + i % 20'000, 0x22, 1, 10 + i);
    ASSERT_TRUE(other.segment != at.segment || other.offset >= at.offset + at.size_bytes ||
                other.offset + other.size_bytes <= at.offset);
    (*producer)->free({&other, 1});
  }
  EXPECT_TRUE(is_filled(pinned, 100'000, 0x11));
  pinned = {};
  EXPECT_TRUE(is_filled(copy, 100'000, 0x11));
  EXPECT_EQ(node.stats().limbo_objects >= 1, true);
  copy = {};
  EXPECT_TRUE(node.eventually([](const StoreStats& stats) { return stats.limbo_objects == 0 && stats.objects == 0; }));
  EXPECT_EQ((*reader)->pin(at).status().code(), Code::kLost);
}

// Readers on other threads pin whatever was put lately while it is being freed: they see the right bytes or kLost.
TEST(Store, RacingPinsSeeTheObjectOrThatItIsLost) {
  TestNode node(32 * kMiB);
  node.start();
  auto producer = node.client(1), reader = node.client(2);
  constexpr size_t kSlots = 16;
  struct Entry {
    std::mutex mutex;
    wire::ObjectLocation at;
    uint8_t fill = 0;
  };
  std::array<Entry, kSlots> entries;
  std::atomic<bool> stop{false};
  std::atomic<int> seen{0}, lost{0}, wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      while (!stop) {
        Entry& entry = entries[random() % kSlots];
        wire::ObjectLocation at;
        uint8_t fill = 0;
        {
          std::lock_guard lock(entry.mutex);
          at = entry.at;
          fill = entry.fill;
        }
        if (at.generation == 0) continue;
        Result<PinnedBytes> bytes = (t == 0 ? *producer : *reader)->pin(at);
        if (!bytes.ok()) {
          ++(bytes.status().code() == Code::kLost ? lost : wrong);
          continue;
        }
        PinnedBytes copy = *bytes;
        ++(is_filled(copy, at.size_bytes, fill) ? seen : wrong);
      }
    });
  }
  std::mt19937 random(99);
  for (uint64_t i = 1; i <= 3'000; ++i) {
    Entry& entry = entries[random() % kSlots];
    auto fill = static_cast<uint8_t>(i);
    wire::ObjectLocation fresh = put(*producer, 1'000 + random() % 200'000, fill, 1, i);
    std::unique_lock lock(entry.mutex);
    wire::ObjectLocation old = std::exchange(entry.at, fresh);
    entry.fill = fill;
    lock.unlock();
    if (old.generation != 0) (*producer)->free({&old, 1});
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(seen, 0);
  for (Entry& entry : entries) (*producer)->free({&entry.at, 1});
  EXPECT_TRUE(node.eventually([](const StoreStats& stats) { return stats.objects == 0 && stats.limbo_objects == 0; }));
  EXPECT_EQ((*producer)->stats().pins + (*reader)->stats().pins, 0u);
}

TEST(Store, AKilledProducerLeavesItsSealedObjectsAndNothingElse) {
  TestNode node(64 * kMiB);
  Blackboard* board = Blackboard::make();
  pid_t child = node.spawn(1, [&](TestClient& client) {
    board->location[0] = put(client, 300'000, 0x5a, 2, 1);
    board->location[1] = put(client, 10 * kMiB, 0x5b, 2, 2);
    MutableBlock small = client->create(500'000, kPatience).value();
    MutableBlock large = client->create(12 * kMiB, kPatience).value();
    std::memset(small.data(), 1, small.size());
    board->reach(1);
    while (true) std::memset(large.data(), 2, large.size());
  });
  node.start();
  auto owner = node.client(2);
  board->wait_for(1);
  kill_and_reap(child);
  // What is left: the pages that the two sealed objects touch.
  ASSERT_TRUE(node.eventually(
      [](const StoreStats& stats) { return stats.granted_bytes - stats.warm_bytes <= 10 * kMiB + 320'000; }));
  EXPECT_TRUE(is_filled((*owner)->pin(board->location[0]).value(), 300'000, 0x5a));
  EXPECT_TRUE(is_filled((*owner)->pin(board->location[1]).value(), 10 * kMiB, 0x5b));
  (*owner)->free({board->location, 2});
  ASSERT_TRUE(node.eventually([](const StoreStats& stats) { return stats.granted_bytes == stats.warm_bytes; }));
  node.clock.advance(std::chrono::seconds(11));
  EXPECT_TRUE(node.eventually([](const StoreStats& stats) { return stats.granted_bytes == 0; }));
  EXPECT_EQ(TestNode::resident_bytes(), 0u);
  EXPECT_EQ((*owner)->pin(board->location[0]).status().code(), Code::kLost);
}

TEST(Store, AKilledReaderLetsGoOfItsPins) {
  TestNode node(64 * kMiB);
  Blackboard* board = Blackboard::make();
  pid_t child = node.spawn(1, [&](TestClient& client) {
    board->wait_for(1);
    PinnedBytes bytes = client->pin(board->location[0]).value();
    board->reach(2);
    while (true) ::pause();
  });
  node.start();
  auto owner = node.client(2);
  board->location[0] = put(*owner, 200'000, 3, 2, 1);
  board->reach(1);
  board->wait_for(2);
  (*owner)->free({board->location, 1});
  ASSERT_TRUE(node.eventually([](const StoreStats& stats) { return stats.limbo_objects == 1; }));
  kill_and_reap(child);
  EXPECT_TRUE(node.eventually(
      [&](const StoreStats& stats) { return stats.limbo_objects == 0 && (*owner)->stats().used_bytes == 0; }));
}

TEST(Store, AnOwnerThatEndsFreesWhatItOwned) {
  TestNode node(64 * kMiB);
  node.start();
  auto producer = node.client(1);
  auto owner = node.client(2);
  put(*producer, 200'000, 3, 2, 1);
  ASSERT_TRUE(node.eventually([](const StoreStats& stats) { return stats.objects == 1; }));
  owner->hang_up();
  EXPECT_TRUE(node.eventually([](const StoreStats& stats) { return stats.objects == 0; }));
  EXPECT_TRUE(node.eventually([&](const StoreStats&) { return (*producer)->stats().used_bytes == 0; }));
}

TEST(Store, FullIsAnErrorThatNamesTheHolders) {
  TestNode node(32 * kMiB);
  node.start();
  auto client = node.client(1);
  wire::ObjectLocation at = put(*client, 25 * kMiB, 1, 1, 1);
  Status full = (*client)->create(20 * kMiB, milliseconds(50)).status();
  EXPECT_EQ(full.code(), Code::kFull);
  EXPECT_NE(full.message().find("pid " + std::to_string(::getpid()) + " 25 MiB"), std::string::npos) << full.to_string();
  Status never = (*client)->create(40 * kMiB, kPatience).status();
  EXPECT_EQ(never.code(), Code::kFull);
  EXPECT_NE(never.message().find("MANTA_STORE_BYTES"), std::string::npos) << never.to_string();

  std::thread freer([&] {
    EXPECT_TRUE(node.eventually([](const StoreStats& stats) { return stats.waiting_requests == 1; }));
    (*client)->free({&at, 1});
  });
  EXPECT_TRUE((*client)->create(20 * kMiB, kPatience).ok());  // waits for the free
  freer.join();
}

TEST(Store, EmptySegmentsOfOneProcessServeAnother) {
  TestNode node(64 * kMiB);
  node.start();
  auto first = node.client(1), second = node.client(2);
  wire::ObjectLocation at = put(*first, 100'000, 1, 1, 1);
  (*first)->free({&at, 1});
  ASSERT_TRUE(node.eventually([&](const StoreStats&) { return (*first)->stats().used_bytes == 0; }));
  EXPECT_EQ((*first)->stats().segments, 1u);  // kept, for what it writes next
  EXPECT_TRUE((*second)->create(62 * kMiB, kPatience).ok());
  EXPECT_EQ((*first)->stats().segments, 0u);
  EXPECT_EQ((*first)->create(100'000, milliseconds(0)).status().code(), Code::kOk);
}

TEST(Store, AnIdleStoreGivesItsMemoryBack) {
  TestNode node(64 * kMiB);
  node.start();
  auto client = node.client(1);
  wire::ObjectLocation at = put(*client, 100'000, 1, 1, 1);
  (*client)->free({&at, 1});
  ASSERT_TRUE(node.eventually([&](const StoreStats&) { return (*client)->stats().used_bytes == 0; }));
  node.clock.advance(std::chrono::seconds(10));
  ASSERT_TRUE(node.eventually([](const StoreStats& stats) { return stats.warm_bytes == stats.granted_bytes; }));
  node.clock.advance(std::chrono::seconds(10));
  EXPECT_TRUE(node.eventually([](const StoreStats& stats) { return stats.granted_bytes == 0; }));
  EXPECT_EQ(TestNode::resident_bytes(), 0u);
}

TEST(Store, ManySmallObjectsFillTheStoreAndComeBack) {
  TestNode node(16 * kMiB);
  node.start();
  auto client = node.client(1);
  std::vector<wire::ObjectLocation> objects;
  for (int round = 0; round < 3; ++round) {
    while (true) {
      Result<MutableBlock> block = (*client)->create(128 * 1024, milliseconds(0));
      if (!block.ok()) {
        EXPECT_EQ(block.status().code(), Code::kFull);
        break;
      }
      objects.push_back((*client)->seal(std::move(block).value(), {1, objects.size() + 1}).value());
    }
    EXPECT_EQ(objects.size(), 128u);
    (*client)->free(objects);
    objects.clear();
    ASSERT_TRUE(node.eventually([&](const StoreStats&) { return (*client)->stats().used_bytes == 0; }));
    EXPECT_EQ((*client)->stats().segments, 1u);  // the others are given back
    ASSERT_TRUE(node.eventually([](const StoreStats& stats) { return stats.granted_bytes - stats.warm_bytes <= 8 * kMiB; }));
  }
}

TEST(Store, ThreadsOfOneProcessShareItsSegments) {
  TestNode node(256 * kMiB);
  node.start();
  auto client = node.client(1);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 1; i <= 200; ++i) {
        auto fill = static_cast<uint8_t>(i * 5 + t);
        size_t size = (i * 7919 * (t + 1)) % 300'000;
        wire::ObjectLocation at = put(*client, size, fill, 1, t * 1'000 + i);
        EXPECT_TRUE(is_filled((*client)->pin(at).value(), size, fill));
        if (i % 3 == 0) (void)(*client)->create(size, kPatience).value();  // aborted
        (*client)->free({&at, 1});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(
      node.eventually([&](const StoreStats& stats) { return stats.objects == 0 && (*client)->stats().used_bytes == 0; }));
}

TEST(Store, PinsAreCountedAndBounded) {
  TestNode node(64 * kMiB);
  node.start();
  auto client = node.client(1);
  std::vector<wire::ObjectLocation> objects;
  std::vector<PinnedBytes> pins;
  for (uint64_t i = 0; i <= kHazardSlots; ++i) objects.push_back(put(*client, 64, 1, 1, i + 1));
  for (uint64_t i = 0; i < kHazardSlots; ++i) {
    pins.push_back((*client)->pin(objects[i]).value());
    pins.push_back((*client)->pin(objects[i]).value());
  }
  EXPECT_EQ((*client)->stats().pins, kHazardSlots);
  EXPECT_EQ((*client)->pin(objects.back()).status().code(), Code::kFull);
  pins.resize(2);
  EXPECT_TRUE((*client)->pin(objects.back()).ok());
  EXPECT_EQ((*client)->stats().pins, 1u);
}

TEST(Store, RetiredSegmentsAreUnmappedOnceNobodyReadsThem) {
  TestNode node(64 * kMiB);
  node.start();
  auto producer = node.client(1), reader = node.client(2);
  wire::ObjectLocation at = put(*producer, 10 * kMiB, 1, 1, 1);
  { PinnedBytes bytes = (*reader)->pin(at).value(); }
  EXPECT_EQ((*reader)->stats().mapped_segments, 1u);
  EXPECT_GE(TestNode::resident_bytes(), 10 * kMiB);
  (*producer)->free({&at, 1});
  ASSERT_TRUE(node.eventually([](const StoreStats& stats) { return stats.warm_bytes >= 10 * kMiB; }));
  node.clock.advance(std::chrono::seconds(11));  // what the producer keeps ready comes back, too
  EXPECT_TRUE(node.eventually([&](const StoreStats& stats) { return stats.warm_bytes == stats.granted_bytes; }));
  node.clock.advance(std::chrono::seconds(11));
  EXPECT_TRUE(node.eventually(
      [&](const StoreStats& stats) { return stats.granted_bytes == 0 && (*reader)->stats().mapped_segments == 0; }));
  EXPECT_EQ(TestNode::resident_bytes(), 0u);
}

TEST(Store, AWarmSegmentIsGrantedAgainWithItsPages) {
  TestNode node(64 * kMiB);
  node.start();
  auto client = node.client(1);
  wire::ObjectLocation first = put(*client, 10 * kMiB, 1, 1, 1);
  (*client)->free({&first, 1});
  wire::ObjectLocation second = put(*client, 10 * kMiB, 2, 1, 2);
  EXPECT_LE(second.segment, 2u) << "neither the first again nor the one that the producer keeps ready";
  EXPECT_TRUE(second.segment != first.segment || second.generation != first.generation);
  EXPECT_TRUE(is_filled((*client)->pin(second).value(), 10 * kMiB, 2));
  EXPECT_EQ((*client)->pin(first).status().code(), Code::kLost);
}

TEST(Store, WhoPutsLargeObjectsFindsTheNextOneReady) {
  TestNode node(128 * kMiB);
  node.start();
  auto client = node.client(1);
  put(*client, 10 * kMiB, 1, 1, 1);
  // Another segment, with its pages, though nobody has asked for it yet.
  ASSERT_TRUE(node.eventually([&](const StoreStats&) { return (*client)->stats().ready_bytes >= 10 * kMiB; }));
  EXPECT_GE(TestNode::resident_bytes(), 20 * kMiB);
  const uint64_t sent = client->sent();
  MutableBlock block = (*client)->create(10 * kMiB, kPatience).value();
  EXPECT_TRUE(node.eventually([&](const StoreStats&) { return (*client)->stats().ready_bytes >= 10 * kMiB; }));
  EXPECT_LE(client->sent(), sent + 1);  // only for the one after it
  // It is nobody's for long: others get it when they need it.
  auto other = node.client(2);
  EXPECT_TRUE((*other)->create(105 * kMiB, kPatience).ok());
  EXPECT_EQ((*client)->stats().ready_bytes, 0u);
}

TEST(Store, WithoutARayletEverythingFailsAndNothingHangs) {
  auto node = std::make_unique<TestNode>(16 * kMiB);
  node->start();
  auto client = node->client(1);
  wire::ObjectLocation at = put(*client, 1'000, 1, 1, 1);
  PinnedBytes pinned = (*client)->pin(at).value();
  MutableBlock block = (*client)->create(1'000, kPatience).value();
  wire::ObjectLocation large = put(*client, 12 * kMiB, 1, 1, 2);
  std::thread waiter([&] { EXPECT_EQ((*client)->create(10 * kMiB, kPatience).status().code(), Code::kUnavailable); });
  EXPECT_TRUE(node->eventually([](const StoreStats& stats) { return stats.waiting_requests == 1; }));
  node.reset();
  waiter.join();
  EXPECT_EQ((*client)->create(10 * kMiB, kPatience).status().code(), Code::kUnavailable);
  EXPECT_EQ((*client)->pin({999, 0, 10, at.slot, at.generation}).ok(),
            true);  // pinned already: the segment named is not looked at
  EXPECT_EQ((*client)->seal(std::move(block), {1, 3}).status().code(), Code::kUnavailable);
  EXPECT_TRUE(is_filled(pinned, 1'000, 1));  // what is mapped stays readable
  (void)large;
  client.reset();
  EXPECT_TRUE(is_filled(pinned, 1'000, 1));
}

TEST(Store, AClientThatBreaksTheProtocolIsCutOffAndCleanedUp) {
  TestNode node(32 * kMiB);
  node.start();
  auto bad = node.client(1), good = node.client(2);
  wire::ObjectLocation at = put(*bad, 1'000, 1, 1, 1);
  wire::Connection raw(node.connect());
  HazardPage hazard = HazardPage::create().value();
  wire::Hello hello;
  hello.process = 3;
  ASSERT_TRUE(raw.send(hello, {hazard.fd().get()}).ok());
  ASSERT_TRUE(raw.receive_one(kPatience).ok());
  ASSERT_TRUE(raw.send(wire::Sealed{3, 1, at}).ok());  // in another's segment
  EXPECT_EQ(raw.receive_one(kPatience).status().code(), Code::kUnavailable);
  EXPECT_TRUE(is_filled((*good)->pin(at).value(), 1'000, 1));
}

}  // namespace
}  // namespace manta::object_store
