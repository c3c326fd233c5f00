// Relayed channels: what goes in at one node comes out at the other, no more than there is room for, and how they end.
#include "common/random.h"
#include "wire/net/relay_channel.h"
#include "wire/net/testing/links.h"
#include "wire/net/testing/proxy.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace manta::wire {
namespace {

using testing::Local;
using testing::Node;
using testing::Proxy;
using What = LinkEvent::What;

constexpr ChannelId kChannel{77};

/// What message `number` is: any size, now and then the largest there is.
std::vector<std::byte> message_of(uint64_t number) {
  Random random(number);
  const uint64_t dice = random.below(1'000);
  const size_t size = dice == 0 ? kMaxRingMessageBytes : dice < 20 ? random.below(30'000) : random.below(600);
  return std::vector(size, static_cast<std::byte>(random()));
}

/// Sends back what comes, until it is told to stop.
class Echo {
 public:
  explicit Echo(Local& local)
      : thread_([this, &local] {
          while (!is_over_) {
            local.take([&](const RingMessage& message) {
              while (!local.try_send(message.kind, message.body) && !is_over_) std::this_thread::yield();
              local.ring();
            });
            local.wait(10'000);
          }
        }) {}
  ~Echo() {
    is_over_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> is_over_{false};
  std::thread thread_;
};

struct Pair {
  Pair() { testing::introduce(a, b); }
  explicit Pair(std::nullptr_t) {}
  void open() {
    MANTA_CHECK(worker.relay(kChannel, b, 1).ok());
    MANTA_CHECK(caller.relay(kChannel, a, 2).ok());
  }

  Node a{1};
  Node b{2};
  Local caller{Channel::Side::kCaller};
  Local worker{Channel::Side::kWorker};
};

/// Sends `count` messages and checks that they come back the same; calls `at` with how many have.
void check_echo(
    Local& caller, uint64_t count, const std::function<void(uint64_t)>& at = [](uint64_t) {}) {
  uint64_t sent = 0;
  uint64_t back = 0;
  bool is_same = true;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (back < count && is_same) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << back << " of " << sent << " came back";
    for (int i = 0; i < 100 && sent < count; ++i) {
      if (!caller.try_send(static_cast<uint16_t>(sent % 1'000), message_of(sent))) break;
      ++sent;
    }
    caller.ring();
    const size_t taken = caller.take([&](const RingMessage& message) {
      const std::vector<std::byte> wanted = message_of(back);
      is_same = is_same && message.kind == back % 1'000 && std::ranges::equal(message.body, wanted);
      at(++back);
    });
    if (taken == 0) caller.wait(1'000);
  }
  EXPECT_TRUE(is_same) << "message " << back;
}

TEST(LinkChannels, AHundredThousandMessagesComeBackAsTheyWent) {
  Pair pair;
  pair.open();
  const Echo echo(pair.worker);
  check_echo(pair.caller, 100'000);
}

TEST(LinkChannels, EitherEndMayOpenFirst) {
  Pair pair;
  ASSERT_TRUE(pair.caller.relay(kChannel, pair.a, 2).ok());
  const std::vector<std::byte> body = message_of(1);
  ASSERT_TRUE(pair.caller.try_send(1, body));
  pair.caller.ring();
  // A frame that is sent later and has come: the channel's opening is there, and nobody was lost who had no place yet.
  ASSERT_TRUE(pair.a.link->send(2, Heartbeat{}).ok());
  ASSERT_TRUE(pair.b.wait_for(What::kFrame));
  ASSERT_TRUE(pair.worker.relay(kChannel, pair.b, 1).ok());
  EXPECT_EQ(pair.worker.relay(kChannel, pair.b, 1).code(), Code::kExists);
  EXPECT_EQ(pair.worker.relay({5}, pair.b, 3).code(), Code::kNotFound);
  const Echo echo(pair.worker);
  size_t back = 0;
  for (int i = 0; i < 300 && back == 0; ++i) {
    pair.caller.wait();
    back = pair.caller.take([&](const RingMessage& message) { EXPECT_TRUE(std::ranges::equal(message.body, body)); });
  }
  EXPECT_EQ(back, 1u);
}

TEST(LinkChannels, ACutConnectionLosesAndDoublesNothing) {
  Pair pair(nullptr);
  Proxy there(pair.b.link->endpoint());
  Proxy back(pair.a.link->endpoint());
  pair.a.add(pair.b, there.endpoint());
  pair.b.add(pair.a, back.endpoint());
  pair.open();
  const Echo echo(pair.worker);
  check_echo(pair.caller, 20'000, [&](uint64_t done) {
    if (done % 4'000 != 2'000) return;
    there.cut();
    if (done % 8'000 == 2'000) back.cut();
  });
}

TEST(LinkChannels, AWorkerThatDoesNotConsumeStopsTheCallerAndLosesNothing) {
  Pair pair;
  pair.open();
  constexpr size_t kSize = 1'000;
  const std::vector<std::byte> body(kSize, std::byte{3});
  uint64_t sent = 0;
  // A ring's worth here, and the credit there: then it stops, however often it is tried.
  for (int failures = 0; failures < 200;) {
    if (pair.caller.try_send(static_cast<uint16_t>(sent % 1'000), body)) {
      ++sent;
      failures = 0;
      ASSERT_LT(sent * kSize, 2 * kRingBytes);
    } else {
      ++failures;
      pair.caller.wait(1'000);
    }
    pair.caller.ring();
  }
  EXPECT_GT(sent * kSize, kRingBytes + kCreditBytes - kRingBytes / 8);
  uint64_t got = 0;
  for (int i = 0; i < 1'000 && got < sent; ++i) {
    pair.worker.wait(30'000);
    pair.worker.take([&](const RingMessage& message) {
      EXPECT_EQ(message.kind, got % 1'000);
      ++got;
    });
  }
  EXPECT_EQ(got, sent);
}

TEST(LinkChannels, WhatWasSaidBeforeTheEndArrives) {
  Pair pair;
  pair.open();
  constexpr uint64_t kReplies = 1'000;
  for (uint64_t i = 0; i < kReplies; ++i) ASSERT_TRUE(pair.worker.try_send(static_cast<uint16_t>(i), {}));
  pair.b.link->close_channel(kChannel);
  const auto closed = pair.a.wait_for(What::kChannelClosed);
  ASSERT_TRUE(closed);
  EXPECT_EQ(closed->channel, kChannel);
  EXPECT_EQ(closed->from, 2u);
  uint64_t got = 0;
  pair.caller.take([&](const RingMessage& message) { EXPECT_EQ(message.kind, got++); });
  EXPECT_EQ(got, kReplies);
  // What comes for the end that is gone is dropped, and others are not disturbed.
  ASSERT_TRUE(pair.a.link->send(2, Heartbeat{}).ok());
  EXPECT_TRUE(pair.b.wait_for(What::kFrame));
}

TEST(LinkChannels, AnEndThatClosesWhileTheOtherSpeaksDisturbsNobody) {
  Pair pair;
  Local other_caller{Channel::Side::kCaller};
  Local other_worker{Channel::Side::kWorker};
  for (uint64_t round = 1; round <= 50; ++round) {
    Local caller{Channel::Side::kCaller};
    Local worker{Channel::Side::kWorker};
    ASSERT_TRUE(caller.relay({round}, pair.a, 2).ok());
    ASSERT_TRUE(worker.relay({round}, pair.b, 1).ok());
    for (int i = 0; i < 200; ++i) (void)caller.try_send(1, message_of(static_cast<uint64_t>(i)));
    caller.ring();
    (round % 2 == 0 ? pair.a : pair.b).link->close_channel({round});
    (round % 2 == 0 ? pair.b : pair.a).link->close_channel({round});
  }
  pair.open();
  const Echo echo(pair.worker);
  check_echo(pair.caller, 1'000);
}

TEST(LinkChannels, ARingThatHoldsNonsenseBreaksItsChannelOnly) {
  Pair pair;
  pair.open();
  Local scribbler{Channel::Side::kCaller};
  Local victim{Channel::Side::kWorker};
  ASSERT_TRUE(scribbler.relay({5}, pair.a, 2).ok());
  ASSERT_TRUE(victim.relay({5}, pair.b, 1).ok());
  const std::span<std::byte> room = scribbler.out().reserve(64);
  scribbler.out().publish(1, 64);
  std::memset(room.data() - sizeof(SlotHeader), 0xFF, sizeof(SlotHeader));
  scribbler.ring();
  const auto broken = pair.a.wait_for(What::kChannelBroken);
  ASSERT_TRUE(broken);
  EXPECT_EQ(broken->channel.value, 5u);
  EXPECT_EQ(broken->why.code(), Code::kInvalid);
  ASSERT_TRUE(pair.b.wait_for(What::kChannelClosed));
  const Echo echo(pair.worker);
  check_echo(pair.caller, 1'000);
}

TEST(LinkChannels, TheChannelsOfAPeerThatIsRemovedBreak) {
  Pair pair;
  pair.open();
  {
    const Echo echo(pair.worker);
    check_echo(pair.caller, 10);
  }
  pair.a.link->remove_peer(2);
  const auto broken = pair.a.wait_for(What::kChannelBroken);
  ASSERT_TRUE(broken);
  EXPECT_EQ(broken->channel, kChannel);
  // The other side hears of it when this node comes again.
  pair.a.add(pair.b);
  ASSERT_TRUE(pair.a.link->send(2, Heartbeat{}).ok());
  ASSERT_TRUE(pair.b.wait_for(What::kChannelBroken));
  Local caller{Channel::Side::kCaller};
  Local worker{Channel::Side::kWorker};
  ASSERT_TRUE(caller.relay({5}, pair.a, 2).ok());
  ASSERT_TRUE(worker.relay({5}, pair.b, 1).ok());
  const Echo echo(worker);
  check_echo(caller, 100);
}

TEST(LinkChannels, CountersOfStreamsAreCarried) {
  Pair pair;
  pair.open();
  const auto expect_at_worker = [&](int slot, uint64_t value) {
    for (int i = 0; i < 10'000 && pair.worker.channel().stream_consumed(slot) != value; ++i) pair.worker.wait(1'000);
    EXPECT_EQ(pair.worker.channel().stream_consumed(slot), value);
  };
  for (const uint64_t value : {7u, 42u, 0u, 1u}) {
    for (const int slot : {0, 5, 63}) {
      pair.caller.channel().stream_consumed(slot) = value + static_cast<uint64_t>(slot);
      pair.caller.ring();
    }
    for (const int slot : {0, 5, 63}) expect_at_worker(slot, value + static_cast<uint64_t>(slot));
  }
}

TEST(LinkChannels, ManyChannelsToTwoNodesAtOnce) {
  Node a(1);
  Node b(2);
  Node c(3);
  testing::introduce(a, b);
  testing::introduce(a, c);
  std::vector<std::unique_ptr<Local>> callers;
  std::vector<std::unique_ptr<Local>> workers;
  std::vector<std::unique_ptr<Echo>> echoes;
  for (uint64_t i = 1; i <= 8; ++i) {
    Node& there = i % 2 == 0 ? b : c;
    callers.push_back(std::make_unique<Local>(Channel::Side::kCaller));
    workers.push_back(std::make_unique<Local>(Channel::Side::kWorker));
    ASSERT_TRUE(callers.back()->relay({i}, a, there.number).ok());
    ASSERT_TRUE(workers.back()->relay({i}, there, 1).ok());
    echoes.push_back(std::make_unique<Echo>(*workers.back()));
  }
  std::vector<std::thread> threads;
  for (const auto& caller : callers) threads.emplace_back([&caller] { check_echo(*caller, 2'000); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace manta::wire
