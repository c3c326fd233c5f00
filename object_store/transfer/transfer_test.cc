// Objects read on another node than the one they were sealed on, end to end.
#include "object_store/transfer/identity.h"
#include "object_store/transfer/test_cluster.h"
#include "object_store/transfer/test_proxy.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>

namespace manta::object_store {
namespace {

using std::chrono::milliseconds;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr milliseconds kPatience{20'000};

/// To read `size` bytes: a sanitizer's build on a busy machine moves and sums a few MiB a second.
milliseconds patience_for(uint64_t size) { return kPatience + milliseconds(size * 1'000 / (4 * kMiB)); }

void fill(std::span<std::byte> bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, 8);
  }
  for (; at < bytes.size(); ++at) bytes[at] = static_cast<std::byte>(seed + at);
}
bool is_filled(std::span<const std::byte> bytes, uint64_t seed) {
  std::vector<std::byte> wanted(bytes.size());
  fill(wanted, seed);
  return std::memcmp(bytes.data(), wanted.data(), bytes.size()) == 0;
}
wire::ObjectLocation put(TestClient& client, size_t size, uint64_t seed) {
  MutableBlock block = client->create(size, kPatience).value();
  fill(block.bytes(), seed);
  return client->seal(std::move(block), {client.process(), seed}).value();
}

TEST(Transfer, AnObjectOfAnotherNodeIsReadAsIfItWereHere) {
  TestCluster cluster;
  TestNode& home = cluster.add(1, {});
  TestNode& away = cluster.add(2, {});
  auto owner = home.client(wire::first_id_of(1) + 1);
  auto reader = away.client(wire::first_id_of(2) + 1);
  const wire::ObjectLocation at = put(*owner, 100'000, 1);
  EXPECT_EQ(wire::node_of(at.segment), 1u);
  {
    Result<PinnedBytes> bytes = (*reader)->pin(at, kPatience);
    ASSERT_TRUE(bytes.ok()) << bytes.status().to_string();
    EXPECT_TRUE(is_filled(bytes->bytes(), 1));
    // Once it is here, nobody is asked.
    const uint64_t sent = reader->sent();
    for (int i = 0; i < 100; ++i) EXPECT_TRUE((*reader)->pin(at).ok());
    EXPECT_EQ(reader->sent(), sent);
    EXPECT_EQ(away.stats().copies, 1u);
    EXPECT_EQ(away.stats().objects, 0u);
    // The copy goes when the owner frees the object; who has it pinned keeps it.
    (*owner)->free({&at, 1});
    EXPECT_TRUE(away.eventually([](const StoreStats& stats) { return stats.copies == 0; }));
    EXPECT_TRUE(is_filled(bytes->bytes(), 1));
  }
  EXPECT_EQ((*reader)->pin(at, kPatience).status().code(), Code::kLost);
  EXPECT_TRUE(home.eventually([](const StoreStats& stats) { return stats.objects + stats.limbo_objects == 0; }));
}

/// Node 1 has what node 2 reads.
class Pair : public ::testing::Test {
 protected:
  void start(const TestCluster::NodeOptions& home_options = {}, const TestCluster::NodeOptions& away_options = {}) {
    home = &cluster.add(1, home_options);
    away = &cluster.add(2, away_options);
    owner = home->client(wire::first_id_of(1) + 1);
    reader = away->client(wire::first_id_of(2) + 1);
  }
  /// Through a proxy that is there when the first connection is made.
  void start_behind(const TestProxy::Watch& watch) {
    start({.capacity_bytes = 128 * kMiB}, {.capacity_bytes = 128 * kMiB, .streams = 1});
    proxy = std::make_unique<TestProxy>(cluster.endpoint(1), watch);
    cluster.pretend_endpoint(1, proxy->endpoint());
  }
  Status read(const wire::ObjectLocation& at, uint64_t seed, milliseconds timeout = kPatience) {
    Result<PinnedBytes> bytes = (*reader)->pin(at, timeout);
    if (!bytes.ok()) return bytes.status();
    EXPECT_EQ(bytes->size(), at.size_bytes);
    EXPECT_TRUE(is_filled(bytes->bytes(), seed));
    return {};
  }
  ~Pair() override {
    reader.reset(), owner.reset();
    proxy.reset();
  }

  TestCluster cluster;
  std::unique_ptr<TestProxy> proxy;
  TestNode* home = nullptr;
  TestNode* away = nullptr;
  std::unique_ptr<TestClient> owner, reader;
};

TEST_F(Pair, EverySizeArrivesWhole) {
  start({.capacity_bytes = 512 * kMiB}, {.capacity_bytes = 512 * kMiB, .streams = 3});
  uint64_t seed = 0;
  for (const uint64_t size : {uint64_t{1}, uint64_t{63}, uint64_t{64}, uint64_t{65'536}, uint64_t{65'537}, 4 * kMiB - 1,
                              4 * kMiB, 4 * kMiB + 1, 9 * kMiB, 300 * kMiB + 13}) {
    const wire::ObjectLocation at = put(*owner, size, ++seed);
    const Status status = read(at, seed, patience_for(size));
    EXPECT_TRUE(status.ok()) << size << ": " << status.to_string();
    (*owner)->free({&at, 1});
  }
  EXPECT_TRUE(
      away->eventually([](const StoreStats& stats) { return stats.copies + stats.pulls + stats.limbo_objects == 0; }));
}

TEST_F(Pair, TenThousandSmallOnesArePipelined) {
  start();
  std::vector<wire::ObjectLocation> objects;
  for (uint64_t i = 1; i <= 3'000; ++i) objects.push_back(put(*owner, 1'000 + i % 500, i));
  (*reader)->prefetch(objects);
  for (uint64_t i = 1; i <= objects.size(); ++i) ASSERT_TRUE(read(objects[i - 1], i).ok()) << i;
  (*owner)->free(objects);
  EXPECT_TRUE(away->eventually([](const StoreStats& stats) { return stats.copies + stats.limbo_objects == 0; }));
  EXPECT_TRUE(home->eventually([](const StoreStats& stats) { return stats.objects + stats.limbo_objects == 0; }));
}

TEST_F(Pair, WhatIsReadSoonIsAskedForAhead) {
  start({.capacity_bytes = 128 * kMiB}, {.capacity_bytes = 128 * kMiB});
  std::vector<wire::ObjectLocation> objects;
  for (uint64_t i = 1; i <= 3'000; ++i) objects.push_back(put(*owner, 1'000 + i % 500, i));
  objects.push_back(put(*owner, 70 * kMiB, 3'001));  // more than is asked ahead at a time
  objects.push_back(put(*owner, 1'000, 3'002));
  (*owner)->free({&objects[20], 1});
  ASSERT_TRUE(home->eventually([&](const StoreStats& stats) { return stats.objects == objects.size() - 1; }));
  (*reader)->read_soon(objects);
  for (uint64_t i = 0; i < objects.size(); ++i) {
    if (i % 100 == 7) continue;  // never read after all
    const Status status = read(objects[i], i + 1);
    EXPECT_EQ(status.code(), i == 20 ? Code::kLost : Code::kOk) << i << ": " << status.to_string();
  }
  (*owner)->free(objects);
  EXPECT_TRUE(away->eventually([](const StoreStats& stats) { return stats.copies + stats.limbo_objects == 0; }));
}

TEST_F(Pair, AFreeByAnOwnerOnTheOtherNodeFreesTheObjectWhereItLies) {
  start();
  MutableBlock block = (*owner)->create(100'000, kPatience).value();
  fill(block.bytes(), 5);
  const wire::ObjectLocation at = (*owner)->seal(std::move(block), {reader->process(), 5}).value();
  EXPECT_TRUE(read(at, 5).ok());
  (*owner)->free({&at, 1});  // not its own
  EXPECT_TRUE(read(at, 5).ok());
  EXPECT_EQ(home->stats().objects, 1u);
  (*reader)->free({&at, 1});
  EXPECT_TRUE(home->eventually([](const StoreStats& stats) { return stats.objects == 0; }));
  EXPECT_TRUE(away->eventually([](const StoreStats& stats) { return stats.copies == 0; }));
  EXPECT_EQ(read(at, 5).code(), Code::kLost);
}

TEST_F(Pair, WhatIsSpilledAtItsHomeIsRestoredThere) {
  start({.capacity_bytes = 32 * kMiB, .spill_bytes = 256 * kMiB}, {.capacity_bytes = 128 * kMiB});
  std::vector<wire::ObjectLocation> objects;
  for (uint64_t i = 1; i <= 6; ++i) objects.push_back(put(*owner, 10 * kMiB, i));
  EXPECT_GT(home->stats().spilled_objects, 2u);
  for (uint64_t i = 1; i <= 6; ++i) EXPECT_TRUE(read(objects[i - 1], i).ok()) << i;
}

TEST_F(Pair, ASmallStoreReadsManyTimesItsSize) {
  start({.capacity_bytes = 256 * kMiB}, {.capacity_bytes = 16 * kMiB});
  std::vector<wire::ObjectLocation> objects;
  for (uint64_t i = 1; i <= 60; ++i) objects.push_back(put(*owner, 100'000 + i % 7 * 600'000, i));
  for (int round = 0; round < 2; ++round) {
    for (uint64_t i = 1; i <= objects.size(); ++i) ASSERT_TRUE(read(objects[i - 1], i).ok()) << i;
  }
  EXPECT_LE(away->stats().granted_bytes, 16 * kMiB);
  EXPECT_EQ(away->stats().spilled_objects, 0u);
}

TEST_F(Pair, AFullStoreSaysSoInTimeAndReadsWhenThereIsRoom) {
  start({.capacity_bytes = 64 * kMiB}, {.capacity_bytes = 16 * kMiB});
  const wire::ObjectLocation first = put(*owner, 10 * kMiB, 1), second = put(*owner, 10 * kMiB, 2);
  PinnedBytes pinned = (*reader)->pin(first, kPatience).value();
  EXPECT_EQ(read(second, 2, milliseconds(100)).code(), Code::kFull);
  pinned = {};
  EXPECT_TRUE(read(second, 2).ok());
}

TEST_F(Pair, ABrokenConnectionIsResumedWithWhatIsMissing) {
  std::atomic<uint64_t> passed{0};
  start_behind([&](std::span<std::byte> bytes, uint64_t offset, int connection) {
    if (connection < 3 && offset > 9 * kMiB) return TestProxy::Verdict::kHangUp;
    passed += bytes.size();
    return TestProxy::Verdict::kPass;
  });
  const wire::ObjectLocation at = put(*owner, 60 * kMiB, 1);
  const Status status = read(at, 1);
  EXPECT_TRUE(status.ok()) << status.to_string();
  EXPECT_EQ(proxy->connections(), 4);
  EXPECT_LT(passed, 60 * kMiB + 3 * 2 * kChunkBytes) << "a chunk that had arrived was asked for again";
}

TEST_F(Pair, AFlippedBitIsFoundAndThatChunkReadAgain) {
  std::atomic<int> flips{0};
  start_behind([&](std::span<std::byte> bytes, uint64_t offset, int) {
    if (offset > 100'000 && flips.fetch_add(1) < 2) bytes[0] ^= std::byte{1};
    return TestProxy::Verdict::kPass;
  });
  EXPECT_TRUE(read(put(*owner, 3 * kMiB, 1), 1).ok());
}

TEST_F(Pair, WhatAlwaysArrivesDamagedIsLost) {
  constexpr uint64_t kBytes = 3 * kMiB, kReplyBytes = sizeof(BulkReply) + kBytes + 8;
  std::atomic<int> flips{0};
  start_behind([&](std::span<std::byte> bytes, uint64_t offset, int) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      const uint64_t at = offset + i;
      if (at < sizeof(BulkOpening) || (at - sizeof(BulkOpening)) % kReplyBytes != 5'000) continue;
      bytes[i] ^= std::byte{1};
      ++flips;
    }
    return TestProxy::Verdict::kPass;
  });
  const Status status = read(put(*owner, kBytes, 1), 1);
  EXPECT_EQ(status.code(), Code::kLost) << status.to_string();
  EXPECT_NE(status.message().find("damaged"), std::string::npos) << status.message();
  EXPECT_EQ(flips, 3);
  EXPECT_EQ(proxy->connections(), 1) << "the connection is none the worse";
  EXPECT_TRUE(away->eventually([](const StoreStats& stats) { return stats.copies + stats.limbo_objects == 0; }));
}

TEST_F(Pair, APeerThatStallsIsGivenUpAtTheDeadline) {
  start_behind([&](std::span<std::byte>, uint64_t offset, int) {
    return offset > kMiB ? TestProxy::Verdict::kStall : TestProxy::Verdict::kPass;
  });
  const wire::ObjectLocation at = put(*owner, 8 * kMiB, 1);
  const auto start = std::chrono::steady_clock::now();
  const Status status = read(at, 1, milliseconds(500));
  EXPECT_EQ(status.code(), Code::kTimeout) << status.to_string();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  // Its memory comes back when the pull has ended, not before.
  EXPECT_TRUE(away->eventually([](const StoreStats& stats) { return stats.pulls + stats.limbo_objects == 0; }));
}

TEST_F(Pair, WhoIsPatientWaitsForASlowLinkAndNotForAStalledOne) {
  const auto stalls = std::make_shared<std::atomic<bool>>(false);  // the proxy outlasts this function
  start_behind([stalls](std::span<std::byte> bytes, uint64_t, int) {
    std::this_thread::sleep_for(std::chrono::nanoseconds(150 * bytes.size()));
    return *stalls ? TestProxy::Verdict::kStall : TestProxy::Verdict::kPass;
  });
  const auto read_patiently = [&](const wire::ObjectLocation& at, milliseconds within) {
    return (*reader)->pin_patiently(at, std::chrono::steady_clock::now() + within, milliseconds(400)).status();
  };
  const wire::ObjectLocation large = put(*owner, 30 * kMiB, 1), other = put(*owner, 8 * kMiB, 2);
  auto start = std::chrono::steady_clock::now();
  const Status status = read_patiently(large, std::chrono::seconds(60));
  EXPECT_TRUE(status.ok()) << status.to_string();
  EXPECT_GT(std::chrono::steady_clock::now() - start, milliseconds(1'500)) << "too fast to show anything";
  EXPECT_EQ(read_patiently(other, milliseconds(100)).code(), Code::kTimeout) << "the reader's own deadline";
  *stalls = true;
  start = std::chrono::steady_clock::now();
  const Status stalled = read_patiently(put(*owner, 8 * kMiB, 3), std::chrono::seconds(60));
  EXPECT_EQ(stalled.code(), Code::kTimeout) << stalled.to_string();
  EXPECT_NE(stalled.message().find("nothing came of an object"), std::string::npos) << stalled.message();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_TRUE(away->eventually([](const StoreStats& stats) { return stats.pulls + stats.limbo_objects == 0; }));
}

TEST_F(Pair, AServerThatIsRestartedGoesOn) {
  start();
  const wire::ObjectLocation first = put(*owner, 5 * kMiB, 1), second = put(*owner, 5 * kMiB, 2);
  EXPECT_TRUE(read(first, 1).ok());
  cluster.stop_transfer(1);
  std::thread later([&] {
    EXPECT_TRUE(away->eventually([](const StoreStats& stats) { return stats.pulls == 1; }));
    cluster.start_transfer(1);
  });
  const Status status = read(second, 2);
  later.join();
  EXPECT_TRUE(status.ok()) << status.to_string();
}

TEST_F(Pair, ALostNodeFailsWhoeverWaitsForItAtOnce) {
  start_behind([&](std::span<std::byte>, uint64_t offset, int) {
    return offset > kMiB ? TestProxy::Verdict::kStall : TestProxy::Verdict::kPass;
  });
  const wire::ObjectLocation at = put(*owner, 8 * kMiB, 1);
  std::thread later([&] {
    EXPECT_TRUE(away->eventually([](const StoreStats& stats) { return stats.pulls == 1; }));
    cluster.lose(1);
  });
  const Status status = read(at, 1);
  later.join();
  EXPECT_EQ(status.code(), Code::kLost);
  EXPECT_NE(status.message().find("node 1 was lost"), std::string::npos) << status.message();
  EXPECT_EQ(read(at, 1).code(), Code::kLost);
  EXPECT_TRUE(
      away->eventually([](const StoreStats& stats) { return stats.pulls + stats.copies + stats.limbo_objects == 0; }));
}

TEST_F(Pair, FreedWhileItIsPulledIsLost) {
  start({.capacity_bytes = 128 * kMiB}, {.capacity_bytes = 128 * kMiB});
  for (uint64_t i = 1; i <= 20; ++i) {
    const wire::ObjectLocation at = put(*owner, 6 * kMiB, i);
    std::thread later([&] { (*owner)->free({&at, 1}); });
    const Status status = read(at, i);
    later.join();
    EXPECT_TRUE(status.ok() || status.code() == Code::kLost) << status.to_string();
    EXPECT_TRUE(away->eventually([](const StoreStats& stats) { return stats.copies + stats.pulls == 0; })) << i;
  }
}

TEST_F(Pair, InsideTlsOnlyWhoIsKnownByItsCertificateIsServed) {
  const Identity identity = Identity::make().value(), other = Identity::make().value();
  const TestCluster::NodeOptions known{
      .certificate = identity.certificate, .key = identity.key, .fingerprint = identity.fingerprint};
  // What it shows is not what the others were told.
  const TestCluster::NodeOptions stranger{
      .certificate = other.certificate, .key = other.key, .fingerprint = identity.fingerprint};
  start(known, known);
  cluster.add(3, stranger);
  auto third = cluster.node(3).client(wire::first_id_of(3) + 1);
  for (uint64_t i = 1; i <= 3; ++i) EXPECT_TRUE(read(put(*owner, i * 3 * kMiB, i), i).ok());
  const Status status = (*third)->pin(put(*owner, 1'000, 9), milliseconds(300)).status();
  EXPECT_TRUE(status.code() == Code::kTimeout || status.code() == Code::kUnavailable) << status.to_string();
  EXPECT_TRUE(read(put(*owner, 1'000, 10), 10).ok());
}

TEST(Broadcast, ManyNodesGiveEachOtherWhatTheyHave) {
  TestCluster cluster;
  constexpr uint64_t kBytes = 120 * kMiB;
  cluster.add(1, {.capacity_bytes = 256 * kMiB});
  auto owner = cluster.node(1).client(wire::first_id_of(1) + 1);
  const wire::ObjectLocation at = put(*owner, kBytes, 1);
  std::vector<std::unique_ptr<TestClient>> readers;
  for (wire::NodeNumber number = 2; number <= 5; ++number) {
    cluster.add(number, {.capacity_bytes = 256 * kMiB});
    readers.push_back(cluster.node(number).client(wire::first_id_of(number) + 1));
  }
  std::vector<std::thread> threads;
  for (auto& reader : readers) {
    threads.emplace_back([&] {
      Result<PinnedBytes> bytes = (*reader)->pin(at, patience_for(readers.size() * kBytes));
      ASSERT_TRUE(bytes.ok()) << bytes.status().to_string();
      EXPECT_TRUE(is_filled(bytes->bytes(), 1));
    });
  }
  for (std::thread& thread : threads) thread.join();
  // Each alone would have taken it all from its home.
  EXPECT_LT(cluster.served_bytes(1), 2 * kBytes);
  (*owner)->free({&at, 1});
  for (wire::NodeNumber number = 2; number <= 5; ++number) {
    EXPECT_TRUE(cluster.node(number).eventually([](const StoreStats& stats) { return stats.copies == 0; })) << number;
  }
}

}  // namespace
}  // namespace manta::object_store
