#include "wire/channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace manta::wire {
namespace {

constexpr int64_t kForever = 1'000'000'000;  // a lost ring shows as a test that hangs until its time limit

/// A ring in ordinary memory, of any size, with both ends and a door to what a hostile peer would write.
struct SmallRing {
  explicit SmallRing(size_t capacity)
      : data(capacity / 8),
        producer(&header, bytes(), capacity, Ring::End::kProducer),
        consumer(&header, bytes(), capacity, Ring::End::kConsumer) {}
  std::byte* bytes() { return reinterpret_cast<std::byte*>(data.data()); }
  alignas(64) RingHeader header{};
  std::vector<uint64_t> data;
  Ring producer, consumer;
};

bool push(Ring& ring, uint16_t kind, std::string_view text, uint64_t* position = nullptr) {
  std::span<std::byte> room = ring.reserve(text.size());
  if (room.empty()) return false;
  std::memcpy(room.data(), text.data(), text.size());
  uint64_t at = ring.publish(kind, text.size());
  if (position != nullptr) *position = at;
  return true;
}
std::string text_of(const RingMessage& message) {
  return {reinterpret_cast<const char*>(message.body.data()), message.body.size()};
}
/// The text of the next message, "-" for none, "!" for a broken ring.
std::string pop(Ring& ring) {
  Result<std::optional<RingMessage>> message = ring.claim();
  if (!message.ok()) return "!";
  if (!message->has_value()) return "-";
  std::string text = text_of(**message);
  ring.release(**message);
  return text;
}

TEST(Ring, MessagesKeepOrderKindAndBytes) {
  SmallRing ring(1024);
  EXPECT_EQ(pop(ring.consumer), "-");
  EXPECT_TRUE(ring.consumer.is_empty());
  ASSERT_TRUE(push(ring.producer, 7, "seven"));
  ASSERT_TRUE(push(ring.producer, 8, ""));
  EXPECT_FALSE(ring.consumer.is_empty());
  RingMessage message = *ring.consumer.claim().value();
  EXPECT_EQ(message.kind, 7);
  EXPECT_EQ(text_of(message), "seven");
  ring.consumer.release(message);
  EXPECT_EQ(pop(ring.consumer), "");
  EXPECT_EQ(pop(ring.consumer), "-");
  EXPECT_TRUE(ring.producer.is_empty());
}

TEST(Ring, LessMayBePublishedThanReserved) {
  SmallRing ring(4096);
  for (int i = 0; i < 100; ++i) {
    std::span<std::byte> room = ring.producer.reserve(500);
    ASSERT_GE(room.size(), 500u);
    std::memcpy(room.data(), "abc", 3);
    ring.producer.publish(1, 3);
    ASSERT_EQ(pop(ring.consumer), "abc");
  }
}

TEST(Ring, FullIsSaidAndPasses) {
  SmallRing ring(256);
  int pushed = 0;
  while (push(ring.producer, 1, "0123456789")) ++pushed;
  EXPECT_EQ(pushed, 7);  // one header is always kept free
  EXPECT_EQ(pop(ring.consumer), "0123456789");
  EXPECT_TRUE(push(ring.producer, 1, "x"));
  EXPECT_FALSE(push(ring.producer, 1, "x"));
}

TEST(Ring, RandomSizesWrapAround) {
  unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  SmallRing ring(4096);
  std::vector<std::string> expected;
  size_t taken = 0;
  for (int round = 0; round < 100'000; ++round) {
    if (random() % 2 == 0) {
      std::string text(random() % 900, static_cast<char>('a' + round % 26));
      if (push(ring.producer, 3, text)) expected.push_back(text);
    } else {
      std::string text = pop(ring.consumer);
      if (text == "-") continue;
      ASSERT_EQ(text, expected.at(taken++));
    }
  }
  EXPECT_GT(taken, 1'000u);
}

TEST(Ring, SeveralMayBeClaimedBeforeTheFirstIsReleased) {
  SmallRing ring(1024);
  uint64_t second = 0;
  push(ring.producer, 1, "a");
  push(ring.producer, 1, "b", &second);
  push(ring.producer, 1, "c");
  RingMessage a = *ring.consumer.claim().value();
  EXPECT_TRUE(ring.producer.take_back(second));
  RingMessage c = *ring.consumer.claim().value();
  EXPECT_EQ(text_of(c), "c");
  EXPECT_TRUE(ring.consumer.is_empty());  // nothing to claim, though nothing is released
  EXPECT_FALSE(ring.producer.is_empty());
  ring.consumer.release(a);
  ring.consumer.release(c);
  EXPECT_TRUE(ring.producer.is_empty());
}

TEST(Ring, TakenBackMessagesGiveTheirRoomBack) {
  SmallRing ring(256);
  for (int round = 0; round < 50; ++round) {
    std::vector<uint64_t> positions(7);
    for (uint64_t& position : positions) ASSERT_TRUE(push(ring.producer, 1, "x", &position));
    for (uint64_t position : positions) EXPECT_TRUE(ring.producer.take_back(position));
    for (uint64_t position : positions) EXPECT_FALSE(ring.producer.take_back(position));
    EXPECT_EQ(pop(ring.consumer), "-");
    EXPECT_TRUE(ring.producer.is_empty());
  }
}

TEST(Ring, WhatIsQueuedCanBeLookedAt) {
  SmallRing ring(256);
  for (int round = 0; round < 50; ++round) {  // over the end of the ring, too
    push(ring.producer, 1, "first");
    const RingMessage first = *ring.consumer.claim().value();
    uint64_t position = 0;
    EXPECT_FALSE(ring.consumer.peek(position)) << "that one is claimed";
    uint64_t third = 0;
    push(ring.producer, 1, "second");
    push(ring.producer, 1, "third", &third);
    push(ring.producer, 2, "fourth");
    EXPECT_TRUE(ring.producer.take_back(third));
    EXPECT_EQ(text_of(ring.consumer.peek(position).value()), "second");
    EXPECT_EQ(text_of(ring.consumer.peek(position).value()), "fourth");
    EXPECT_FALSE(ring.consumer.peek(position));
    ring.consumer.release(first);
    EXPECT_EQ(pop(ring.consumer), "second") << "looking changed nothing";
    push(ring.producer, 1, "fifth");
    const RingMessage fifth = ring.consumer.peek(position).value();
    EXPECT_EQ(text_of(fifth), "fifth");
    position = 0;
    EXPECT_EQ(text_of(ring.consumer.peek(position).value()), "fourth");
    EXPECT_EQ(pop(ring.consumer), "fourth");
    EXPECT_EQ(pop(ring.consumer), "fifth");
  }
}

TEST(Ring, AClaimedMessageCannotBeTakenBack) {
  SmallRing ring(256);
  uint64_t position = 0;
  push(ring.producer, 1, "x", &position);
  EXPECT_FALSE(ring.producer.is_claimed(position));
  RingMessage message = *ring.consumer.claim().value();
  EXPECT_TRUE(ring.producer.is_claimed(position));
  EXPECT_FALSE(ring.producer.take_back(position));
  ring.consumer.release(message);
  EXPECT_FALSE(ring.producer.take_back(position));
  for (int i = 0; i < 30; ++i) {  // its bytes become other messages
    push(ring.producer, 1, "y");
    EXPECT_EQ(pop(ring.consumer), "y");
  }
  push(ring.producer, 1, "z");
  EXPECT_TRUE(ring.producer.is_claimed(position));
  EXPECT_FALSE(ring.producer.take_back(position));
  EXPECT_EQ(pop(ring.consumer), "z");
}

TEST(Ring, TwoThreadsKeepContent) {
  unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Fd file = Channel::create_file().value();
  auto caller = Channel::open(file, Channel::Side::kCaller).value();
  auto worker = Channel::open(file, Channel::Side::kWorker).value();
  constexpr uint64_t kMessages = 200'000;
  std::thread producer([&] {
    std::mt19937 random(seed);
    for (uint64_t i = 0; i < kMessages; ++i) {
      size_t size = 8 + random() % (random() % 64 == 0 ? 40'000 : 200);
      std::span<std::byte> room;
      while ((room = caller->requests.reserve(size)).empty()) std::this_thread::yield();
      std::memset(room.data(), static_cast<int>(i & 0xff), size);
      std::memcpy(room.data(), &i, sizeof i);
      caller->requests.publish(static_cast<uint16_t>(i % 1000), size);
    }
  });
  std::mt19937 random(seed);
  for (uint64_t i = 0; i < kMessages; ++i) {
    Result<std::optional<RingMessage>> message = worker->requests.claim();
    while (message.ok() && !message->has_value()) {
      std::this_thread::yield();
      message = worker->requests.claim();
    }
    ASSERT_TRUE(message.ok()) << message.status().to_string();
    const RingMessage& got = **message;
    size_t size = 8 + random() % (random() % 64 == 0 ? 40'000 : 200);
    ASSERT_EQ(got.body.size(), size);
    ASSERT_EQ(got.kind, i % 1000);
    uint64_t number = 0;
    std::memcpy(&number, got.body.data(), sizeof number);
    ASSERT_EQ(number, i);
    for (size_t at = 8; at < size; ++at) ASSERT_EQ(got.body[at], static_cast<std::byte>(i & 0xff));
    worker->requests.release(got);
  }
  producer.join();
}

// Each message is seen by exactly one: the consumer that claims it, or the producer that takes it back.
TEST(Ring, TakeBackAndClaimNeverBothWin) {
  SmallRing ring(4096);
  constexpr uint64_t kMessages = 300'000;
  std::vector<uint8_t> taken_back(kMessages), claimed(kMessages);
  std::atomic<bool> done{false};
  std::thread consumer([&] {
    while (true) {
      bool last = done.load();
      Result<std::optional<RingMessage>> message = ring.consumer.claim();
      ASSERT_TRUE(message.ok());
      if (!message->has_value()) {
        if (last) return;
        continue;
      }
      uint64_t number = 0;
      std::memcpy(&number, (*message)->body.data(), sizeof number);
      ++claimed[number];
      ring.consumer.release(**message);
    }
  });
  std::mt19937 random(1);
  std::array<std::pair<uint64_t, uint64_t>, 16> recent{};
  for (uint64_t i = 0; i < kMessages; ++i) {
    std::span<std::byte> room;
    while ((room = ring.producer.reserve(8)).empty()) std::this_thread::yield();
    std::memcpy(room.data(), &i, sizeof i);
    recent[i % recent.size()] = {i, ring.producer.publish(1, 8)};
    const auto& [number, position] = recent[random() % std::min<uint64_t>(i + 1, recent.size())];
    if (ring.producer.take_back(position)) ++taken_back[number];
  }
  done = true;
  consumer.join();
  uint64_t by_producer = 0;
  for (uint64_t i = 0; i < kMessages; ++i) {
    ASSERT_EQ(taken_back[i] + claimed[i], 1) << i;
    by_producer += taken_back[i];
  }
  EXPECT_GT(by_producer, 0u);
  EXPECT_TRUE(ring.producer.is_empty());
}

TEST(Ring, AScribblingProducerIsFoundOut) {
  for (uint32_t size : {4081u, 4096u, 0x80000000u, 0xfffffff0u, 0xffffffffu}) {
    for (uint16_t kind : {uint16_t{1}, uint16_t{0xffff}}) {
      SmallRing ring(4096);
      push(ring.producer, 1, "x");
      std::memcpy(ring.bytes(), &size, 4);
      std::memcpy(ring.bytes() + 4, &kind, 2);
      EXPECT_EQ(pop(ring.consumer), "!") << size << " " << kind;
      EXPECT_TRUE(ring.consumer.is_broken());
      EXPECT_EQ(pop(ring.consumer), "!");
    }
  }
  SmallRing state(4096);
  push(state.producer, 1, "x");
  uint32_t nonsense = 77;
  std::memcpy(state.bytes() + 8, &nonsense, 4);
  EXPECT_EQ(pop(state.consumer), "!");

  SmallRing circle(256);  // taken back messages all around: a consumer must not walk for ever
  const uint32_t header[4] = {112, 1, static_cast<uint32_t>(SlotState::kTakenBack), 0};
  std::memcpy(circle.bytes(), header, sizeof header);
  std::memcpy(circle.bytes() + 128, header, sizeof header);
  EXPECT_EQ(pop(circle.consumer), "!");
}

TEST(Ring, AScribblingConsumerOnlyStopsTheRing) {
  for (uint64_t lie : {uint64_t{8}, uint64_t{1} << 40, ~uint64_t{0}, uint64_t{64 + 16}}) {
    SmallRing ring(64);
    push(ring.producer, 1, "x");
    ring.header.tail = lie;
    EXPECT_FALSE(push(ring.producer, 1, "z")) << lie;
    EXPECT_TRUE(ring.producer.is_broken());
  }
}

// Random bytes over the whole ring while it is in use: messages may be wrong, but nothing outside is touched and nothing
// hangs.
TEST(Ring, RandomScribblingStaysInside) {
  unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 2'000; ++round) {
    SmallRing ring(1024);
    for (int i = 0; i < 200 && !ring.consumer.is_broken(); ++i) {
      push(ring.producer, 1, std::string(random() % 100, 'q'));
      if (random() % 4 == 0) ring.data[random() % ring.data.size()] = random();
      if (random() % 40 == 0) ring.header.tail = (random() % 8192) & ~15ull;
      uint64_t position = 0;
      for (int looks = 0; const auto seen = ring.consumer.peek(position); ++looks) {
        ASSERT_GE(seen->body.data(), ring.bytes());
        ASSERT_LE(seen->body.data() + seen->body.size(), ring.bytes() + 1024);
        ASSERT_LE(looks, 1024 / 16);
      }
      Result<std::optional<RingMessage>> message = ring.consumer.claim();
      if (!message.ok() || !message->has_value()) continue;
      ASSERT_GE((*message)->body.data(), ring.bytes());
      ASSERT_LE((*message)->body.data() + (*message)->body.size(), ring.bytes() + 1024);
      ring.consumer.release(**message);
    }
  }
}

TEST(Channel, OnlySealedFilesOfItsSizeAreOpened) {
  Fd loose(::memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(loose.get(), 1 << 22), 0);
  EXPECT_EQ(Channel::open(loose, Channel::Side::kWorker).status().code(), Code::kInvalid);
  EXPECT_EQ(Bell::open(loose).status().code(), Code::kInvalid);
  Fd bell = Channel::create_file().value();
  EXPECT_EQ(Bell::open(bell).status().code(), Code::kInvalid);
  EXPECT_EQ(Channel::open(Fd(::open("/dev/null", O_RDWR | O_CLOEXEC)), Channel::Side::kWorker).status().code(),
            Code::kInvalid);
  Fd file = Channel::create_file().value();
  EXPECT_NE(::ftruncate(file.get(), 0), 0);
}

TEST(Channel, StreamCountersAreShared) {
  Fd file = Channel::create_file().value();
  auto caller = Channel::open(file, Channel::Side::kCaller).value();
  auto worker = Channel::open(file, Channel::Side::kWorker).value();
  caller->stream_consumed(63) = 9;
  EXPECT_EQ(worker->stream_consumed(63), 9u);
  EXPECT_EQ(worker->stream_consumed(0), 0u);
}

// A peer that is killed in the middle of writing leaves whole messages and then nothing.
TEST(Channel, AKilledProducerLeavesOnlyWholeMessages) {
  Fd file = Channel::create_file().value();
  pid_t child = ::fork();
  if (child == 0) {
    auto caller = Channel::open(file, Channel::Side::kCaller).value();
    for (uint64_t i = 0;; ++i) {
      std::span<std::byte> room;
      while ((room = caller->requests.reserve(3'000)).empty()) {
      }
      for (size_t at = 0; at < 3'000; ++at) room[at] = static_cast<std::byte>(i);
      caller->requests.publish(1, 3'000);
    }
  }
  auto worker = Channel::open(file, Channel::Side::kWorker).value();
  uint64_t seen = 0;
  auto take = [&] {
    Result<std::optional<RingMessage>> message = worker->requests.claim();
    EXPECT_TRUE(message.ok());
    if (!message->has_value()) return false;
    for (std::byte byte : (*message)->body) EXPECT_EQ(byte, static_cast<std::byte>(seen));
    ++seen;
    worker->requests.release(**message);
    return true;
  };
  while (seen < 5'000) take();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  while (take()) {
  }
  EXPECT_GE(seen, 5'000u);
}

TEST(Bell, WakesASleeper) {
  Bell mine = Bell::create().value();
  Bell peers = Bell::open(mine.fd()).value();
  std::atomic<int> work{0};
  std::thread owner([&] {
    int seen = 0;
    while (seen < 20'000) {
      uint32_t ticket = mine.prepare_sleep(Bell::Line::kReplies);
      int now = work.load(std::memory_order_acquire);
      if (now != seen) {
        mine.cancel_sleep(Bell::Line::kReplies);
        seen = now;
        continue;
      }
      mine.sleep(Bell::Line::kReplies, ticket, kForever);
    }
  });
  for (int i = 0; i < 20'000; ++i) {
    work.fetch_add(1, std::memory_order_release);
    peers.ring(Bell::Line::kReplies);
    if (i % 64 == 0) std::this_thread::yield();
  }
  owner.join();
}

TEST(Bell, WakesEverySleeperOfTheLineAndOnlyOfTheLine) {
  Bell bell = Bell::create().value();
  std::atomic<int> asleep{0}, woken{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      uint32_t ticket = bell.prepare_sleep(Bell::Line::kRequests);
      ++asleep;
      bell.sleep(Bell::Line::kRequests, ticket, kForever);
      ++woken;
    });
  }
  while (asleep < 3) std::this_thread::yield();
  bell.ring(Bell::Line::kReplies);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(woken, 0);
  bell.ring(Bell::Line::kRequests);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(woken, 3);
}

TEST(Bell, ACancelledSleepLeavesOthersToBeWoken) {
  Bell bell = Bell::create().value();
  uint32_t ticket = bell.prepare_sleep(Bell::Line::kRequests);
  (void)bell.prepare_sleep(Bell::Line::kRequests);
  bell.cancel_sleep(Bell::Line::kRequests);
  bell.ring(Bell::Line::kRequests);
  bell.sleep(Bell::Line::kRequests, ticket, kForever);
}

TEST(Bell, SleepEndsAtItsDeadline) {
  Bell bell = Bell::create().value();
  bell.sleep(Bell::Line::kRequests, bell.prepare_sleep(Bell::Line::kRequests), 1'000);
  bell.sleep(Bell::Line::kRequests, bell.prepare_sleep(Bell::Line::kRequests), 0);
}

}  // namespace
}  // namespace manta::wire
