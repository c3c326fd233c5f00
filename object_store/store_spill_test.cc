// Spilling, with real files: objects that memory has no room for, read back whole, or reported lost.
#include "object_store/test_node.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

namespace manta::object_store {
namespace {

using std::chrono::milliseconds;
namespace fs = std::filesystem;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr milliseconds kPatience{20'000};

/// Content that says which object and which place of it a byte belongs to.
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

Result<wire::ObjectLocation> try_put(TestClient& client, size_t size, uint64_t seed, milliseconds timeout = kPatience) {
  Result<MutableBlock> block = client->create(size, timeout);
  if (!block.ok()) return block.status();
  fill(block->bytes(), seed);
  return client->seal(std::move(block).value(), {client.process(), seed});
}
wire::ObjectLocation put(TestClient& client, size_t size, uint64_t seed) { return try_put(client, size, seed).value(); }

std::vector<fs::path> files_in(const std::string& folder) {
  std::vector<fs::path> files;
  if (!fs::exists(folder)) return files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}
bool nothing_left(const StoreStats& stats) {
  return stats.objects == 0 && stats.limbo_objects == 0 && stats.spilled_objects == 0 && stats.disk_files == 0 &&
         stats.disk_bytes == 0;
}

TEST(Spill, AnObjectGoesToDiskAndComesBack) {
  TestNode node(32 * kMiB, 256 * kMiB);
  node.start();
  auto client = node.client(1), reader = node.client(2);
  wire::ObjectLocation first = put(*client, 20 * kMiB, 1);
  wire::ObjectLocation second = put(*client, 20 * kMiB, 2);  // no room for both
  EXPECT_EQ(node.stats().spilled_objects, 1u);
  EXPECT_EQ(files_in(node.spill_folder()).size(), 1u);
  for (TestClient* who : {client.get(), reader.get()}) {
    EXPECT_TRUE(is_filled((*who)->pin(first).value().bytes(), 1));
    EXPECT_TRUE(is_filled((*who)->pin(second).value().bytes(), 2));
  }
  // Once it is back, nobody is asked.
  PinnedBytes pinned = (*reader)->pin(second).value();
  uint64_t sent = reader->sent();
  for (int i = 0; i < 100; ++i) EXPECT_TRUE((*reader)->pin(second).ok());
  EXPECT_EQ(reader->sent(), sent);
  pinned = {};
  (*client)->free({&first, 1});
  (*client)->free({&second, 1});
  EXPECT_TRUE(node.eventually(nothing_left));
  EXPECT_TRUE(node.eventually([&](const StoreStats&) { return files_in(node.spill_folder()).empty(); }));
  EXPECT_EQ((*reader)->pin(first).status().code(), Code::kLost);
}

}  // namespace
}  // namespace manta::object_store
