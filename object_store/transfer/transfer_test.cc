// Objects read on another node than the one they were sealed on, end to end.
#include "object_store/transfer/test_cluster.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace manta::object_store {
namespace {

using std::chrono::milliseconds;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr milliseconds kPatience{20'000};

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

}  // namespace
}  // namespace manta::object_store
