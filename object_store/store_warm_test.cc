// Memory made ready before anybody asks, on a real store.
#include "object_store/test_node.h"

#include <gtest/gtest.h>

#include <cstring>

namespace manta::object_store {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr milliseconds kPatience{20'000};

bool holds(TestNode& node, uint64_t bytes) {
  return node.eventually([&](const StoreStats&) { return TestNode::resident_bytes() == bytes; });
}

TEST(WarmMemory, IsTakenFromTheMachineForClientsAndGivenBackWhenNobodyNeedsIt) {
  TestNode node(256 * kMiB, 0, 0, 32 * kMiB);
  node.start();
  EXPECT_EQ(TestNode::resident_bytes(), 0u);
  const auto client = node.client(1);
  node.clock.advance(milliseconds(200));
  EXPECT_TRUE(holds(node, 32 * kMiB)) << TestNode::resident_bytes();
  EXPECT_EQ(node.stats().warm_bytes, 32 * kMiB);
  node.clock.advance(seconds(60));
  EXPECT_TRUE(holds(node, 0)) << TestNode::resident_bytes();
}

TEST(WarmMemory, IsWhatALargeObjectIsPutInto) {
  TestNode node(256 * kMiB, 0, 0, 32 * kMiB);
  node.start();
  const auto client = node.client(1);
  node.clock.advance(milliseconds(200));
  ASSERT_TRUE(holds(node, 32 * kMiB));
  MutableBlock block = (*client)->create(27 * kMiB, kPatience).value();
  EXPECT_EQ(node.stats().warm_bytes, 4 * kMiB) << "it was put into other memory";  // what is left is for small objects
  for (size_t at = 0; at < block.size(); at += 4'096) ASSERT_EQ(block.data()[at], std::byte{0});
  std::memset(block.data(), 7, block.size());
  const wire::ObjectLocation at = (*client)->seal(std::move(block), {1, 1}).value();
  const PinnedBytes bytes = (*client)->pin(at).value();
  EXPECT_EQ(bytes.data()[27 * kMiB - 1], std::byte{7});
}

TEST(WarmMemory, MayBeGrantedOrGoWhileItIsMade) {
  for (int round = 0; round < 20; ++round) {
    TestNode node(256 * kMiB, 0, 0, 32 * kMiB);
    node.start();
    auto client = node.client(1);
    node.clock.advance(milliseconds(200));
    ASSERT_TRUE(node.eventually([](const StoreStats& stats) { return stats.warm_bytes > 0; }));
    const size_t size = round % 2 == 0 ? 27 * kMiB : 255 * kMiB;  // of what is prepared, or of what must go for it
    MutableBlock block = (*client)->create(size, kPatience).value();
    std::memset(block.data() + size - kMiB, 1, kMiB);
    if (round % 2 == 1) {
      EXPECT_EQ(node.stats().warm_bytes, 0u);
      EXPECT_TRUE(holds(node, size));
    }
  }
}

}  // namespace
}  // namespace manta::object_store
