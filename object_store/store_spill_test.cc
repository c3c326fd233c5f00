// Spilling, with real files: objects that memory has no room for, read back whole, or reported lost.
#include "object_store/test_node.h"

#include <gtest/gtest.h>

#include <algorithm>
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

/// Of the tests about sizes: MANTA_TEST_STORE_MIB=1024 makes it 20 GiB through 1 GiB, and 1 GiB beside 2 GiB of disk.
uint64_t wanted_store_mib() {
  const char* given = std::getenv("MANTA_TEST_STORE_MIB");
  return given != nullptr ? static_cast<uint64_t>(std::atoll(given)) : 16;
}

TEST(Spill, TwentyTimesTheStoreIsHeldAndEveryByteIsRight) {
  const uint64_t store = wanted_store_mib() * kMiB;
  TestNode node(store, 24 * store);
  node.start();
  auto client = node.client(1), reader = node.client(2);
  std::mt19937_64 random(7);
  std::vector<wire::ObjectLocation> objects;
  for (uint64_t bytes = 0; bytes < 20 * store;) {
    // From a byte to more than half of the store.
    const uint64_t most = random() % 40 == 0 ? store * 6 / 10 : random() % 3 == 0 ? store / 16 : store / 200;
    const uint64_t size = 1 + random() % most;
    objects.push_back(put(*client, size, objects.size() + 1));
    bytes += size;
    if (random() % 4 == 0) {  // what was put before is read in between
      const size_t i = random() % objects.size();
      ASSERT_TRUE(is_filled((*reader)->pin(objects[i]).value().bytes(), i + 1)) << i;
    }
  }
  EXPECT_GT(node.stats().spilled_bytes, 15 * store);
  EXPECT_LE(node.stats().granted_bytes, store);
  for (size_t i = 0; i < objects.size(); ++i) {
    TestClient& who = i % 2 == 0 ? *client : *reader;
    ASSERT_TRUE(is_filled(who->pin(objects[i]).value().bytes(), i + 1)) << i;
  }
  (*client)->free(objects);
  EXPECT_TRUE(node.eventually(nothing_left));
  EXPECT_TRUE(node.eventually([&](const StoreStats&) { return files_in(node.spill_folder()).empty(); }));
}

TEST(Spill, ReadersOnManyThreadsShareASmallStore) {
  TestNode node(16 * kMiB, 512 * kMiB);
  node.start();
  auto client = node.client(1), reader = node.client(2);
  std::vector<wire::ObjectLocation> objects;
  for (uint64_t i = 1; i <= 200; ++i) objects.push_back(put(*client, 300'000 + i, i));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      TestClient& who = t % 2 == 0 ? *client : *reader;
      for (int k = 0; k < 100; ++k) {
        const size_t i = random() % objects.size();
        Result<PinnedBytes> bytes = who->pin(objects[i]);
        if (!bytes.ok() || !is_filled(bytes->bytes(), i + 1)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  (*client)->free(objects);
  EXPECT_TRUE(node.eventually(nothing_left));
}

TEST(Spill, AFullSpillDiskIsAnErrorAndTheNodeGoesOn) {
  const uint64_t store = wanted_store_mib(), part = store / 16;  // objects of 1 MiB
  TestNode node(store * kMiB, 2 * store * kMiB);
  node.start();
  auto client = node.client(1), other = node.client(2);
  std::vector<wire::ObjectLocation> objects;
  Status full;
  for (uint64_t i = 1; full.ok(); ++i) {
    Result<wire::ObjectLocation> at = try_put(*client, kMiB, i, milliseconds(300));
    full = at.status();
    if (at.ok()) objects.push_back(*at);
    ASSERT_LT(i, 6 * store);
  }
  EXPECT_EQ(full.code(), Code::kFull);
  for (const std::string& words :
       {std::string("the spill disk is full"), "pid " + std::to_string(::getpid()), node.spill_folder()})
    EXPECT_NE(full.message().find(words), std::string::npos) << words << " in " << full.to_string();
  EXPECT_GE(objects.size(), 40 * part);
  EXPECT_EQ(try_put(*other, kMiB, 10'000, milliseconds(100)).status().code(), Code::kFull);
  for (size_t i = 0; i < objects.size(); ++i) ASSERT_TRUE(is_filled((*other)->pin(objects[i]).value().bytes(), i + 1)) << i;
  (*client)->free(std::span(objects).first(20 * part));
  for (uint64_t i = 0; i < 15 * part; ++i) ASSERT_TRUE(try_put(*other, kMiB, 20'000 + i).ok());
  for (size_t i = 20 * part; i < objects.size(); ++i)
    ASSERT_TRUE(is_filled((*other)->pin(objects[i]).value().bytes(), i + 1)) << i;
  client->hang_up();
  other->hang_up();
  EXPECT_TRUE(node.eventually(nothing_left));
}

TEST(Spill, AFlippedByteIsFoundAndNamed) {
  TestNode node(16 * kMiB, 256 * kMiB);
  node.start();
  auto client = node.client(1);
  std::vector<wire::ObjectLocation> objects;
  for (uint64_t i = 1; i <= 60; ++i) objects.push_back(put(*client, kMiB, i));
  // The oldest ones, whose objects have long made room: what was written last may lie in memory still, or be half written.
  std::vector<fs::path> files;
  for (const fs::path& each : files_in(node.spill_folder()))
    if (each.extension() == ".spill") files.push_back(each);
  std::sort(files.begin(), files.end(), [](const fs::path& one, const fs::path& other) {
    return std::stoull(one.stem().string()) < std::stoull(other.stem().string());
  });
  ASSERT_GE(files.size(), 2u);
  // One byte in the middle of the first object of one file, all of another file.
  const fs::path flipped = files[0], cut = files[1];
  std::fstream file(flipped, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(kMiB / 2);
  const char byte = static_cast<char>(file.get());
  file.seekp(kMiB / 2);
  file.put(static_cast<char>(byte ^ 0x10));
  file.close();
  fs::resize_file(cut, 100);
  int in_flipped = 0, in_cut = 0, right = 0;
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < objects.size(); ++i) {
      Result<PinnedBytes> bytes = (*client)->pin(objects[i]);
      if (bytes.ok()) {
        ASSERT_TRUE(is_filled(bytes->bytes(), i + 1)) << i;
        ++right;
        continue;
      }
      EXPECT_EQ(bytes.status().code(), Code::kLost);
      const std::string& message = bytes.status().message();
      EXPECT_NE(message.find(ObjectId{1, i + 1}.to_string()), std::string::npos) << message;
      in_flipped += message.find(flipped.string()) != std::string::npos ? 1 : 0;
      in_cut += message.find(cut.string()) != std::string::npos ? 1 : 0;
    }
  }
  EXPECT_EQ(in_flipped, 2);
  EXPECT_GE(in_cut, 2);
  EXPECT_EQ(in_flipped + in_cut + right, 120);
  (*client)->free(objects);
  EXPECT_TRUE(node.eventually(nothing_left));
}

TEST(Spill, AFolderThatVanishesFailsThePutAndNotTheNode) {
  TestNode node(16 * kMiB, 256 * kMiB);
  node.start();
  auto client = node.client(1);
  { std::ofstream in_the_way(node.spill_folder()); }  // a file where the folder should be
  std::vector<wire::ObjectLocation> objects;
  Status full;
  for (uint64_t i = 1; full.ok() && i < 100; ++i) {
    Result<wire::ObjectLocation> at = try_put(*client, kMiB, i, milliseconds(300));
    full = at.status();
    if (at.ok()) objects.push_back(*at);
  }
  EXPECT_EQ(full.code(), Code::kFull);
  EXPECT_NE(full.message().find("spilling to " + node.spill_folder()), std::string::npos) << full.to_string();
  fs::remove(node.spill_folder());
  EXPECT_TRUE(try_put(*client, kMiB, 1'000).ok()) << "tried again";
  for (size_t i = 0; i < objects.size(); ++i) ASSERT_TRUE(is_filled((*client)->pin(objects[i]).value().bytes(), i + 1));
}

TEST(Spill, AKilledProducersObjectsAreSpilledAndReadLikeOthers) {
  TestNode node(16 * kMiB, 256 * kMiB);
  node.start();
  auto owner = node.client(2);
  std::vector<wire::ObjectLocation> objects;
  {
    auto producer = node.client(1);
    for (uint64_t i = 1; i <= 30; ++i) {
      MutableBlock block = (*producer)->create(kMiB, kPatience).value();
      fill(block.bytes(), i);
      objects.push_back((*producer)->seal(std::move(block), {2, i}).value());
    }
  }
  std::vector<wire::ObjectLocation> mine;
  for (uint64_t i = 1; i <= 30; ++i) mine.push_back(put(*owner, kMiB, 100 + i));
  for (size_t i = 0; i < objects.size(); ++i) {
    ASSERT_TRUE(is_filled((*owner)->pin(objects[i]).value().bytes(), i + 1)) << i;
    ASSERT_TRUE(is_filled((*owner)->pin(mine[i]).value().bytes(), 101 + i)) << i;
  }
  owner->hang_up();
  EXPECT_TRUE(node.eventually(nothing_left));
}

TEST(Spill, ManyProducersFitIntoASmallStoreWithoutADisk) {
  TestNode node(8 * kMiB);
  node.start();
  std::vector<std::unique_ptr<TestClient>> clients;
  std::vector<std::vector<wire::ObjectLocation>> objects(16);
  for (uint64_t p = 1; p <= 16; ++p) clients.push_back(node.client(p));
  // 16 processes write 440 KiB each into 8 MiB: nearly all of it.
  for (uint64_t i = 1; i <= 11; ++i) {
    for (size_t p = 0; p < 16; ++p) {
      Result<wire::ObjectLocation> at = try_put(*clients[p], 40'000, i, milliseconds(2'000));
      ASSERT_TRUE(at.ok()) << p << " " << i << " " << at.status().to_string();
      objects[p].push_back(*at);
    }
  }
  for (size_t p = 0; p < 16; ++p) {
    for (size_t i = 0; i < 11; ++i) EXPECT_TRUE(is_filled((*clients[0])->pin(objects[p][i]).value().bytes(), i + 1));
  }
}

TEST(Spill, ManySmallObjectsLieInOneSegment) {
  TestNode node(64 * kMiB);
  node.start();
  auto client = node.client(1);
  std::vector<wire::ObjectLocation> objects;
  for (uint64_t i = 1; i <= 50'000; ++i) objects.push_back(put(*client, 100, i));  // of 128 bytes each
  EXPECT_LE(node.stats().granted_bytes, 12 * kMiB);
  for (size_t i = 0; i < objects.size(); i += 997) EXPECT_TRUE(is_filled((*client)->pin(objects[i]).value().bytes(), i + 1));
  (*client)->free(objects);
  EXPECT_TRUE(
      node.eventually([&](const StoreStats& stats) { return nothing_left(stats) && (*client)->stats().used_bytes == 0; }));
}

}  // namespace
}  // namespace manta::object_store
