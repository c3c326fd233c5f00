// Frames between links, what a slow peer costs, and what becomes of a peer that ends.
#include "wire/net/node_link.h"

#include "common/random.h"
#include "wire/net/batch.h"
#include "wire/net/testing/links.h"
#include "wire/net/testing/proxy.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace manta::wire {
namespace {

using testing::Node;
using testing::Proxy;
using What = LinkEvent::What;

/// Sends its number in the first bytes.
Status send_number(Node& from, NodeNumber to, uint64_t number, size_t size_bytes = 8) {
  std::string body(std::max<size_t>(size_bytes, 8), '\0');
  std::memcpy(body.data(), &number, 8);
  return from.link->send_frame(to, NodeType::kForward, std::move(body));
}
uint64_t number_of(const LinkEvent& event) {
  uint64_t number = UINT64_MAX;
  if (event.body.size() >= 8) std::memcpy(&number, event.body.data(), 8);
  return number;
}
/// Checks that the frames `first` to `end - 1` of `from` come next, and nothing between them.
void expect_numbers(Node& at, NodeNumber from, uint64_t first, uint64_t end) {
  for (uint64_t number = first; number < end; ++number) {
    const auto event = at.wait_for([&](const LinkEvent& one) { return one.what == What::kFrame && one.from == from; });
    ASSERT_TRUE(event) << "frame " << number << " did not come";
    ASSERT_EQ(number_of(*event), number);
  }
}

TEST(NodeLink, FramesGoBothWays) {
  for (const bool has_keys : {false, true}) {
    Node a(1, {.has_keys = has_keys});
    Node b(2, {.has_keys = has_keys});
    testing::introduce(a, b);
    ASSERT_TRUE(a.link->send(2, ProcessGone{.process = 7, .pid = 3, .cause = {}}).ok());
    const auto there = b.wait_for(What::kFrame);
    ASSERT_TRUE(there);
    EXPECT_EQ(there->from, 1u);
    EXPECT_EQ(there->from_key, a.keys.public_key);
    EXPECT_EQ(there->role, LinkRole::kNode);
    EXPECT_EQ(there->type, NodeType::kProcessGone);
    EXPECT_EQ(decode<ProcessGone>(there->body).value().process, 7u);
    ASSERT_TRUE(send_number(b, 1, 8).ok());
    expect_numbers(a, 2, 8, 9);
    EXPECT_TRUE(a.wait_for(What::kConnected));
  }
}

TEST(NodeLink, FramesComeInOrderFromEachOfSeveral) {
  Node a(1);
  Node b(2);
  Node c(3);
  testing::introduce(a, b);
  testing::introduce(a, c);
  testing::introduce(b, c);
  for (uint64_t i = 0; i < 5'000; ++i) {
    ASSERT_TRUE(send_number(a, 3, i).ok());
    ASSERT_TRUE(send_number(b, 3, i, i % 3'000).ok());
    ASSERT_TRUE(send_number(c, 1, i).ok());
  }
  expect_numbers(c, 1, 0, 5'000);
  expect_numbers(c, 2, 0, 5'000);
  expect_numbers(a, 3, 0, 5'000);
}

TEST(NodeLink, LargeFramesArriveWhole) {
  Node a(1);
  Node b(2);
  testing::introduce(a, b);
  Random random(5);
  for (const size_t size : {kBatchBytes - 100, kBatchBytes, kBatchBytes + 1, kMaxFrameBytes}) {
    std::string body(size, '\0');
    for (char& byte : body) byte = static_cast<char>(random());
    ASSERT_TRUE(a.link->send_frame(2, NodeType::kProgramChunk, body).ok());
    const auto event = b.wait_for(What::kFrame);
    ASSERT_TRUE(event);
    EXPECT_TRUE(event->body == body) << size;
  }
  EXPECT_EQ(a.link->send_frame(2, NodeType::kProgramChunk, std::string(kMaxFrameBytes + 1, 'x')).code(), Code::kInvalid);
}

TEST(NodeLink, WhatIsSentBeforeTheOtherKnowsThisNodeIsNotLost) {
  Node a(1);
  Node b(2);
  b.link->allow(a.keys.public_key, LinkRole::kNode);
  a.add(b);
  for (uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(send_number(a, 2, i).ok());
  ASSERT_TRUE(a.wait_for(What::kConnected));
  while (b.link->stats().batches_refused == 0) (void)b.wait_for(What::kFrame, std::chrono::milliseconds(1));
  b.add(a);
  expect_numbers(b, 1, 0, 100);
}

TEST(NodeLink, APeerThatDoesNotReadFillsTheOutboxAndLosesNothing) {
  Node a(1, {.max_outbox_bytes = size_t{8} << 20});
  Node b(2, {.max_inbox_bytes = size_t{1} << 20});
  testing::introduce(a, b);
  constexpr size_t kFrame = size_t{64} << 10;
  uint64_t sent = 0;
  // What fits into both boxes and the sockets between them has an end.
  for (Status status; status.ok(); sent += status.ok() ? 1 : 0) {
    status = send_number(a, 2, sent, kFrame);
    if (status.ok()) {
      ASSERT_LT(sent * kFrame, size_t{256} << 20);
    } else {
      ASSERT_EQ(status.code(), Code::kFull) << status.to_string();
    }
  }
  expect_numbers(b, 1, 0, sent);
  // There is room again as soon as what arrived is acknowledged.
  const auto deadline = std::chrono::steady_clock::now() + testing::kPatience;
  while (!send_number(a, 2, sent, kFrame).ok()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    (void)a.wait_for(What::kFrame, std::chrono::milliseconds(1));
  }
  expect_numbers(b, 1, sent, sent + 1);
}

TEST(NodeLink, FramesForAPeerThatNeverAnswersAreBounded) {
  Node a(1, {.max_outbox_bytes = size_t{1} << 20});
  const std::string nowhere = Node(2).link->endpoint();
  ASSERT_TRUE(a.link->add_peer({.number = 2, .endpoint = nowhere, .public_key = a.keys.public_key}).ok());
  size_t taken = 0;
  Status last;
  // A batch counts with the buffer it lies in, for a moment a larger one: room may come back.
  for (int tries = 0; tries < 1'000; ++tries) {
    last = send_number(a, 2, 0, 10'000);
    taken += last.ok() ? 1 : 0;
  }
  EXPECT_EQ(last.code(), Code::kFull);
  EXPECT_GE(taken, 50u);
  EXPECT_LE(taken, 135u);  // the batch that is being made is not counted
  const auto lost = a.wait_for(What::kLost);
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->from, 2u);
  EXPECT_EQ(lost->why.code(), Code::kDied) << lost->why.to_string();
}

TEST(NodeLink, ThatAPeerEndedIsTold) {
  Node a(1);
  auto b = std::make_unique<Node>(2);
  testing::introduce(a, *b);
  ASSERT_TRUE(send_number(a, 2, 0).ok());  // the first word connects
  ASSERT_TRUE(a.wait_for(What::kConnected));
  b.reset();
  const auto ended = a.wait_for(What::kLost, std::chrono::seconds(2));
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->from, 2u);
  EXPECT_EQ(ended->why.code(), Code::kUnavailable) << ended->why.to_string();
  const auto refused = a.wait_for(What::kLost, std::chrono::seconds(2));
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->why.code(), Code::kDied) << refused->why.to_string();
}

TEST(NodeLink, FramesAreHeardBeforeTheyAreReceived) {
  Node a(1);
  Node b(2);
  testing::introduce(a, b);
  EXPECT_TRUE(b.link->heard().empty());
  const Time before = Clock::real().now();
  ASSERT_TRUE(send_number(a, 2, 0).ok());
  const Time deadline = before + testing::kPatience;
  while (b.link->heard().empty() && Clock::real().now() < deadline) std::this_thread::yield();
  const auto heard = b.link->heard();
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_EQ(heard[0].first, 1u);
  EXPECT_GE(heard[0].second, before);
  expect_numbers(b, 1, 0, 1);
}

TEST(NodeLink, APeerThatIsRemovedIsForgotten) {
  Node a(1);
  Node b(2);
  testing::introduce(a, b);
  EXPECT_EQ(a.link->add_peer({.number = 2, .endpoint = b.link->endpoint(), .public_key = b.keys.public_key}).code(),
            Code::kExists);
  a.link->remove_peer(2);
  EXPECT_EQ(send_number(a, 2, 0).code(), Code::kNotFound);
  a.add(b);
  ASSERT_TRUE(send_number(a, 2, 5).ok());
  expect_numbers(b, 1, 5, 6);
  ASSERT_TRUE(send_number(b, 1, 6).ok());
  expect_numbers(a, 2, 6, 7);
}

TEST(NodeLink, EndsInTimeAndSendsWhatWaits) {
  auto a = std::make_unique<Node>(1);
  Node b(2);
  testing::introduce(*a, b);
  ASSERT_TRUE(send_number(*a, 2, 0).ok());
  ASSERT_TRUE(a->wait_for(What::kConnected));
  ASSERT_TRUE(a->link->add_peer({.number = 3, .endpoint = "tcp://127.0.0.1:1", .public_key = b.keys.public_key})
                  .ok());  // nobody is there
  ASSERT_TRUE(send_number(*a, 3, 1).ok());
  for (uint64_t i = 1; i < 100; ++i) ASSERT_TRUE(send_number(*a, 2, i).ok());
  const auto start = std::chrono::steady_clock::now();
  a.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  expect_numbers(b, 1, 0, 100);
}

TEST(NodeLink, AConnectionThatIsCutAgainAndAgainLosesAndDoublesNothing) {
  Node a(1);
  Node b(2);
  Proxy there(b.link->endpoint());
  Proxy back(a.link->endpoint());
  a.add(b, there.endpoint());
  b.add(a, back.endpoint());
  constexpr uint64_t kFrames = 20'000;
  std::thread sending([&] {
    for (uint64_t i = 0; i < kFrames;) {
      if (send_number(a, 2, i, i % 4'000).ok()) ++i;
    }
  });
  for (uint64_t first = 0; first < kFrames; first += 2'000) {
    expect_numbers(b, 1, first, first + 2'000);
    there.cut();
    back.cut();
  }
  sending.join();
  EXPECT_TRUE(a.wait_for(What::kLost));
  EXPECT_GT(a.link->stats().batches_resent, 0u) << "no cut hit anything under way";
}

}  // namespace
}  // namespace manta::wire
