// The bulk port against peers that do not keep to the protocol, and the small parts of bulk transfer each alone.
#include "object_store/transfer/identity.h"
#include "object_store/transfer/spread.h"
#include "object_store/transfer/test_cluster.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>

namespace manta::object_store {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr uint64_t kMiB = uint64_t{1} << 20;

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

/// A peer of the test's own making, which the server takes for node 9.
class RawPeer {
 public:
  explicit RawPeer(const std::string& endpoint)
      : stream_(Stream::connect(parse_endpoint(endpoint).value(), soon()).value()) {}
  [[nodiscard]] static Time soon() { return Clock::real().now() + seconds(20); }

  Status open(const BulkOpening& opening = {.node = 9, .peer = 1}) {
    if (Status status = stream_->write_all(bytes_of(opening), soon()); !status.ok()) return status;
    BulkOpening answer;
    return stream_->read_all(std::as_writable_bytes(std::span(&answer, 1)), soon());
  }
  Result<BulkReply> ask(const BulkRequest& request) {
    if (Status status = stream_->write_all(bytes_of(request), soon()); !status.ok()) return status;
    BulkReply reply;
    if (Status status = stream_->read_all(std::as_writable_bytes(std::span(&reply, 1)), soon()); !status.ok()) return status;
    return reply;
  }
  std::string read_text(uint64_t size) {
    std::string text(size, '\0');
    EXPECT_TRUE(stream_->read_all(std::as_writable_bytes(std::span(text)), soon()).ok());
    return text;
  }
  Stream& stream() { return *stream_; }

 private:
  std::unique_ptr<Stream> stream_;
};

class Port : public ::testing::Test {
 protected:
  Port() {
    cluster.add(1, {});
    cluster.pretend_peer(1, 9);
    owner = cluster.node(1).client(wire::first_id_of(1) + 1);
    MutableBlock block = (*owner)->create(100'000, seconds(20)).value();
    std::memset(block.data(), 7, block.size());
    at = (*owner)->seal(std::move(block), {owner->process(), 1}).value();
  }
  [[nodiscard]] BulkRequest request() const {
    return {.id = 4,
            .segment = at.segment,
            .segment_offset = at.offset,
            .object_bytes = at.size_bytes,
            .offset = 10,
            .size_bytes = 1'000,
            .slot = at.slot,
            .generation = at.generation,
            .timeout_ms = 1'000};
  }
  /// Whatever went before, an honest peer is served.
  void expect_served() {
    RawPeer peer(cluster.endpoint(1));
    ASSERT_TRUE(peer.open().ok());
    const BulkReply reply = peer.ask(request()).value();
    EXPECT_EQ(reply.kind, BulkKind::kData);
    EXPECT_EQ(reply.id, 4u);
    EXPECT_EQ(peer.read_text(reply.size), std::string(1'000, 7));
  }

  TestCluster cluster;
  std::unique_ptr<TestClient> owner;
  wire::ObjectLocation at;
};

TEST_F(Port, HostileOpeningsLoseTheirConnectionOnly) {
  const BulkOpening bad[] = {{.magic = 1, .node = 9},
                             {.version = 99, .node = 9},
                             {.node = 0},
                             {.node = ~uint32_t{0}},
                             {.node = 9, .peer = 3},
                             {.node = 8},
                             {.magic = ~uint64_t{0}, .node = 9}};
  for (const BulkOpening& opening : bad) {
    RawPeer peer(cluster.endpoint(1));
    EXPECT_FALSE(peer.open(opening).ok());
  }
  expect_served();
}

TEST_F(Port, HostileRequestsLoseTheirConnectionOnly) {
  std::vector<BulkRequest> bad(6, request());
  bad[0].size_bytes = kChunkBytes + 1, bad[0].object_bytes = 100 * kMiB;
  bad[1].offset = ~uint64_t{0};
  bad[2].size_bytes = bad[2].object_bytes;  // with the offset, beyond the end
  bad[3].priority = 200;
  bad[4].no_redirect = 2;
  bad[5].segment = 5;
  for (const BulkRequest& each : bad) {
    RawPeer peer(cluster.endpoint(1));
    ASSERT_TRUE(peer.open().ok());
    EXPECT_FALSE(peer.ask(each).ok());
  }
  expect_served();
}

TEST_F(Port, WhatIsNotThereIsSaidToBeLostAndTheConnectionGoesOn) {
  RawPeer peer(cluster.endpoint(1));
  ASSERT_TRUE(peer.open().ok());
  MutableBlock block = (*owner)->create(100'000, seconds(20)).value();  // behind it: what a peer has not named
  std::memset(block.data(), 8, block.size());
  ASSERT_TRUE((*owner)->seal(std::move(block), {owner->process(), 2}).ok());
  std::vector<BulkRequest> lost(8, request());
  lost[0].generation += 1;
  lost[1].slot = ~uint32_t{0};
  lost[2].object_bytes = uint64_t{1} << 60;  // beyond its segment
  lost[3].segment += 77;
  lost[4].object_bytes += 1'000;  // what follows it
  lost[4].offset = at.size_bytes;
  lost[5].segment_offset += 100'032;  // another one
  lost[6].segment_offset += 64;
  lost[7].object_bytes -= 1;
  for (const BulkRequest& each : lost) {
    const BulkReply reply = peer.ask(each).value();
    EXPECT_EQ(reply.kind, BulkKind::kFailed);
    EXPECT_FALSE(peer.read_text(reply.size).empty());
  }
  EXPECT_EQ(peer.ask(request()).value().kind, BulkKind::kData);
}

TEST(BulkServer, AnObjectFromTheDiskIsAsLargeAsItIsWhateverThePeerSays) {
  TestCluster cluster;
  TestNode& node = cluster.add(1, {.capacity_bytes = 32 * kMiB, .spill_bytes = 256 * kMiB});
  cluster.pretend_peer(1, 9);
  const auto owner = node.client(wire::first_id_of(1) + 1);
  wire::ObjectLocation first;
  for (uint64_t i = 0; i < 20; ++i) {
    MutableBlock block = (*owner)->create(4 * kMiB, seconds(20)).value();
    std::memset(block.data(), 7, block.size());
    const wire::ObjectLocation at = (*owner)->seal(std::move(block), {owner->process(), i + 1}).value();
    if (i == 0) first = at;
  }
  ASSERT_TRUE(node.eventually([](const StoreStats& stats) { return stats.spilled_objects > 2; }));
  RawPeer peer(cluster.endpoint(1));
  ASSERT_TRUE(peer.open().ok());
  BulkRequest request{.id = 1,
                      .segment = first.segment,
                      .segment_offset = first.offset,
                      .object_bytes = uint64_t{1} << 40,
                      .offset = uint64_t{1} << 39,
                      .size_bytes = 1'000,
                      .slot = first.slot,
                      .generation = first.generation,
                      .timeout_ms = 20'000};
  const BulkReply refused = peer.ask(request).value();
  EXPECT_EQ(refused.kind, BulkKind::kFailed);
  EXPECT_FALSE(peer.read_text(refused.size).empty());
  request.object_bytes = first.size_bytes;
  request.offset = 0;
  EXPECT_EQ(peer.ask(request).value().kind, BulkKind::kData);
  EXPECT_EQ(peer.read_text(1'000), std::string(1'000, 7));
}

TEST_F(Port, NoiseIsNotAnswered) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 20; ++i) {
    RawPeer peer(cluster.endpoint(1));
    ASSERT_TRUE(i % 2 != 0 || peer.open().ok());
    std::vector<uint64_t> noise(64);
    for (uint64_t& word : noise) word = random();
    (void)peer.stream().write_all(std::as_bytes(std::span(noise)), RawPeer::soon());
    std::byte byte{};
    while (peer.stream().read_some(std::span(&byte, 1), RawPeer::soon()).ok()) {
    }
  }
  expect_served();
}

TEST_F(Port, APeerThatTakesNothingHoldsNoPinForLong) {
  {
    RawPeer peer(cluster.endpoint(1));
    ASSERT_TRUE(peer.open().ok());
    for (int i = 0; i < 300; ++i) ASSERT_TRUE(peer.stream().write_all(bytes_of(request()), RawPeer::soon()).ok());
  }  // and hangs up
  (*owner)->free({&at, 1});
  EXPECT_TRUE(cluster.node(1).eventually([](const StoreStats& stats) { return stats.limbo_objects == 0; }));
}

TEST(BulkServer, ServesInTheClearOnLoopbackOnly) {
  TestCluster cluster;
  cluster.add(1, {});
  cluster.node(1).run([](StoreServer& store) {
    const Status status = Transfer::start(store, {.node = 1, .reader = {77}, .listen = "0.0.0.0:0"}).status();
    EXPECT_EQ(status.code(), Code::kInvalid) << status.to_string();
  });
}

TEST(Endpoint, IsParsedStrictly) {
  EXPECT_EQ(parse_endpoint("host:80").value().port, "80");
  EXPECT_EQ(parse_endpoint("[::1]:80").value().host, "::1");
  for (const char* bad : {"", ":", "host", "host:", ":80", "host:x", "host:99999", "host:1:", "host:-1"})
    EXPECT_FALSE(parse_endpoint(bad).ok()) << bad;
}

TEST(Identity, IsMadeOnceAndKeptForItsOwnerOnly) {
  const std::string path = ::testing::TempDir() + "manta-identity-" + std::to_string(::getpid());
  std::filesystem::remove(path);
  const Identity made = Identity::load_or_make(path).value();
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const Identity again = Identity::load_or_make(path).value();
  EXPECT_EQ(made.fingerprint, again.fingerprint);
  EXPECT_EQ(made.fingerprint.size(), 64u);
  EXPECT_TRUE(TlsContext::create(again.certificate, again.key).ok());
  EXPECT_NE(Identity::make().value().fingerprint, made.fingerprint);
  EXPECT_EQ(TlsContext::create(again.certificate, Identity::make().value().key).status().code(), Code::kInvalid);
  ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
  EXPECT_EQ(Identity::load_or_make(path).status().code(), Code::kInvalid);
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  std::ofstream(path) << "nothing of the kind";
  EXPECT_EQ(Identity::load_or_make(path).status().code(), Code::kInvalid);
  std::filesystem::remove(path);
}

BulkRequest chunk(uint64_t index, uint64_t object_bytes = 40 * kMiB) {
  return {.segment = wire::first_id_of(1) + 1,
          .object_bytes = object_bytes,
          .offset = index * kChunkBytes,
          .size_bytes = kChunkBytes,
          .slot = 3,
          .generation = 1};
}

TEST(Spread, EachChunkIsGivenAwayOnceWhileSeveralRead) {
  Spread spread;
  const Time now = FakeClock().now();
  EXPECT_TRUE(spread.elsewhere(chunk(0), 2, now).empty());
  EXPECT_TRUE(spread.elsewhere(chunk(1), 3, now).empty());
  EXPECT_EQ(spread.elsewhere(chunk(0), 3, now), std::vector<wire::NodeNumber>{2});
  EXPECT_EQ(spread.elsewhere(chunk(1), 2, now), std::vector<wire::NodeNumber>{3});
  EXPECT_EQ(spread.elsewhere(chunk(0), 4, now), std::vector<wire::NodeNumber>{2}) << "3 itself waits for 2";
  EXPECT_TRUE(spread.elsewhere(chunk(0), 2, now).empty()) << "it did not get it, and others wait for it to";
  BulkRequest in_vain = chunk(1);
  in_vain.no_redirect = 1;
  EXPECT_TRUE(spread.elsewhere(in_vain, 4, now).empty());
}

TEST(Spread, WhoIsGoneOrDoneIsNotNamed) {
  Spread spread;
  const Time now = FakeClock().now();
  EXPECT_TRUE(spread.elsewhere(chunk(0), 2, now).empty());
  spread.forget(2);
  EXPECT_TRUE(spread.elsewhere(chunk(0), 3, now).empty());
  EXPECT_TRUE(spread.elsewhere(chunk(0), 4, now + seconds(3)).empty()) << "3 has not asked for long";
  EXPECT_TRUE(spread.elsewhere(chunk(0, kMiB), 5, now).empty()) << "a small one is not worth it";
}

TEST(Spread, WhoReadsItAgainHasDroppedIt) {
  Spread spread;
  const Time now = FakeClock().now(), later = now + seconds(3);
  EXPECT_TRUE(spread.elsewhere(chunk(0), 2, now).empty());
  EXPECT_TRUE(spread.elsewhere(chunk(1), 2, now).empty());
  EXPECT_TRUE(spread.elsewhere(chunk(0), 2, later).empty());
  EXPECT_TRUE(spread.elsewhere(chunk(1), 3, later).empty()) << "2 has not asked for it this time";
  EXPECT_EQ(spread.elsewhere(chunk(1), 2, later), std::vector<wire::NodeNumber>{3});
}

TEST(Spread, ForgetsTheLongestIdle) {
  Spread spread;
  const Time now = FakeClock().now();
  for (uint32_t slot = 0; slot < 200; ++slot) {
    BulkRequest request = chunk(0);
    request.slot = slot;
    (void)spread.elsewhere(request, 2, now + milliseconds(slot));
  }
  EXPECT_EQ(spread.objects(), Spread::kMaxObjects);
}

}  // namespace
}  // namespace manta::object_store
