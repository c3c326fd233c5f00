// The rings and the bells under the model checker: this program is compiled with its own channel.cc and bell.cc, whose
// atomics are the checker's, and runs them through every interleaving of small scenarios. Each claim is also tried with the
// protocol broken on purpose, which must be found.
#include "wire/channel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace manta::wire {
namespace {

using model::explore;
using model::Fault;
using model::Outcome;
using model::Scenario;

constexpr uint16_t kKind = 1;
constexpr uint16_t kLast = 2;

/// Both ends of one ring over memory that stays at its place from one execution to the next.
template <size_t kCapacity>
struct Ends {
  struct Memory {
    RingHeader header;
    alignas(64) std::byte data[kCapacity];
  };
  static Memory& memory() {
    static Memory instance;
    return instance;
  }
  Ends() {
    std::memset(static_cast<void*>(&memory()), 0, sizeof(Memory));
    producer = Ring(&memory().header, memory().data, kCapacity, Ring::End::kProducer);
    consumer = Ring(&memory().header, memory().data, kCapacity, Ring::End::kConsumer);
  }
  static std::span<const std::byte> bytes() { return std::as_bytes(std::span(&memory(), 1)); }

  Ring producer, consumer;
  std::vector<int> came;
  std::vector<int> taken_back;

  uint64_t publish(int id, uint16_t kind, size_t size) {
    std::span<std::byte> room;
    while ((room = producer.reserve(size)).empty()) {
      if (producer.is_broken()) return model::fail("the producer found the ring broken"), 0;
      model::wait_for_change();
    }
    std::memset(room.data(), id, size);
    return producer.publish(kind, size);
  }
  /// False when there is nothing now.
  bool consume(bool& ended) {
    const auto claimed = consumer.claim();
    if (!claimed.ok()) return model::fail("the consumer found the ring broken"), ended = true;
    if (!claimed->has_value()) return false;
    const RingMessage message = **claimed;
    const int id = static_cast<int>(message.body[0]);
    for (const std::byte each : message.body)
      if (each != static_cast<std::byte>(id)) model::fail("a message came torn");
    came.push_back(id);
    ended = message.kind == kLast;
    consumer.release(message);
    return true;
  }
  [[nodiscard]] std::string each_once(int last) const {
    std::vector<int> all = came;
    if (!std::is_sorted(came.begin(), came.end())) return "messages came out of order";
    all.insert(all.end(), taken_back.begin(), taken_back.end());
    std::sort(all.begin(), all.end());
    for (int id = 1; id <= last; ++id)
      if (std::count(all.begin(), all.end(), id) != 1)
        return "message " + std::to_string(id) + " ran " + std::to_string(std::count(came.begin(), came.end(), id)) +
               " times and was taken back " + std::to_string(std::count(taken_back.begin(), taken_back.end(), id)) +
               " times";
    return {};
  }
};

/// Three messages and the last one through a ring that holds two, the second and the third taken back when that is possible.
Scenario take_backs() {
  auto ends = std::make_shared<Ends<128>>();
  const auto produce = [ends] {
    ends->publish(1, kKind, 16);
    const uint64_t second = ends->publish(2, kKind, 16);
    if (ends->producer.take_back(second)) ends->taken_back.push_back(2);
    const uint64_t third = ends->publish(3, kKind, 40);
    if (ends->producer.take_back(third)) ends->taken_back.push_back(3);
    ends->publish(4, kLast, 16);
  };
  const auto consume = [ends] {
    bool ended = false;
    while (!ended)
      if (!ends->consume(ended)) model::wait_for_change();
  };
  return {{produce, consume}, {Ends<128>::bytes()}, [ends] { return ends->each_once(4); }};
}

TEST(RingModel, EachMessageIsClaimedOrTakenBackOnceInOrderAndWhole) {
  const Outcome outcome = explore(take_backs);
  EXPECT_EQ(outcome.failure, "");
  EXPECT_GT(outcome.states, 1'000u);
  std::printf("%llu executions, %llu states\n", static_cast<unsigned long long>(outcome.executions),
              static_cast<unsigned long long>(outcome.states));
}

TEST(RingModel, ATakeBackThatIsNotAtomicIsFound) {
  EXPECT_NE(explore(take_backs, Fault::kSplitCompareExchange).failure, "");
}

TEST(RingModel, AMessageThatShowsBeforeWhatFollowsItIsFound) {
  EXPECT_NE(explore(take_backs, Fault::kReleaseIsRelaxed).failure, "");
}

// -------------------------------------------------------------------------------------------------------------- bells

/// A worker that sleeps when it finds nothing; its caller rings after each message.
Scenario rung(Bell& bell, std::span<const std::byte> page) {
  auto ends = std::make_shared<Ends<256>>();
  const auto produce = [ends, &bell] {
    ends->publish(1, kKind, 16);
    bell.ring(Bell::Line::kRequests);
    ends->publish(2, kLast, 16);
    bell.ring(Bell::Line::kRequests);
  };
  const auto consume = [ends, &bell] {
    bool ended = false;
    while (!ended) {
      if (ends->consume(ended)) continue;
      const uint32_t ticket = bell.prepare_sleep(Bell::Line::kRequests);
      if (ends->consume(ended)) {
        bell.cancel_sleep(Bell::Line::kRequests);
      } else {
        bell.sleep(Bell::Line::kRequests, ticket, 1'000'000);
      }
    }
  };
  return {{produce, consume}, {page, Ends<256>::bytes()}, [ends] { return ends->each_once(2); }};
}

/// Two threads of one process sleep on one line; a ring wakes both.
Scenario two_sleepers(Bell& bell, std::span<const std::byte> page) {
  static Atomic<uint32_t> flag;
  std::memset(static_cast<void*>(&flag), 0, sizeof flag);
  const auto sleeper = [&bell] {
    while (flag.load(std::memory_order_acquire) == 0) {
      const uint32_t ticket = bell.prepare_sleep(Bell::Line::kReplies);
      if (flag.load(std::memory_order_acquire) != 0) {
        bell.cancel_sleep(Bell::Line::kReplies);
      } else {
        bell.sleep(Bell::Line::kReplies, ticket, 1'000'000);
      }
    }
  };
  const auto ringer = [&bell] {
    flag.store(1, std::memory_order_release);
    bell.ring(Bell::Line::kReplies);
  };
  return {{sleeper, sleeper, ringer}, {page, std::as_bytes(std::span(&flag, 1))}, {}};
}

class BellModel : public testing::Test {
 protected:
  BellModel() : bell_(Bell::create().value()), page_(Mapping::map(bell_.fd(), 4096, Mapping::Access::kReadWrite).value()) {}
  Outcome explore_with(Scenario (*make)(Bell&, std::span<const std::byte>), Fault fault = Fault::kNone) {
    return explore(
        [&] {
          std::memset(page_.data(), 0, 4096);
          return make(bell_, {page_.data(), 256});
        },
        fault);
  }
  Bell bell_;
  Mapping page_;
};

TEST_F(BellModel, NoRingIsLost) {
  const Outcome outcome = explore_with(rung);
  EXPECT_EQ(outcome.failure, "");
  std::printf("%llu executions, %llu states\n", static_cast<unsigned long long>(outcome.executions),
              static_cast<unsigned long long>(outcome.states));
}
TEST_F(BellModel, ABellWithoutFencesLosesOne) {
  EXPECT_NE(explore_with(rung, Fault::kNoFences).failure.find("sleeps for ever"), std::string::npos);
}
TEST_F(BellModel, ARingWakesEverySleeper) { EXPECT_EQ(explore_with(two_sleepers).failure, ""); }
TEST_F(BellModel, SleepersWithoutFencesAreLeft) {
  EXPECT_NE(explore_with(two_sleepers, Fault::kNoFences).failure.find("sleeps for ever"), std::string::npos);
}

}  // namespace
}  // namespace manta::wire
