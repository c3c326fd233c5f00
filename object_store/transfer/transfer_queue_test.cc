#include "object_store/transfer/transfer_queue.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <cstring>
#include <thread>

namespace manta::object_store {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Part = TransferQueue::Part;
constexpr TransferQueue::Limits kAll{1'000, ~uint64_t{0}};

class Queue : public ::testing::Test {
 protected:
  StoreServer::Pull pull(uint64_t name, wire::NodeNumber home, uint64_t size, milliseconds time = seconds(60)) {
    Fd fd = create_shared_memory("manta-test", size).value();
    auto mapping = std::make_shared<Mapping>(Mapping::map(fd, size, Mapping::Access::kReadWrite).value());
    return {.name = name,
            .from = {wire::first_id_of(home) + 1, 0, size, static_cast<uint32_t>(name), 1},
            .priority = wire::TransferPriority::kGet,
            .deadline = now + time,
            .segment = std::move(mapping),
            .offset = 0};
  }
  std::vector<Part> take(wire::NodeNumber node) { return queue.take(node, kAll, now); }
  bool is_rung() {
    pollfd wait{wake.fd(), POLLIN, 0};
    return ::poll(&wait, 1, 0) == 1;
  }
  /// What is done, in short: the name, or its failure.
  std::string done() {
    std::string text;
    for (const TransferQueue::Done& each : queue.take_done())
      text += std::to_string(each.name) + ":" + std::string(code_name(each.status.code())) + " ";
    return text;
  }

  const Time now = Clock::real().now();
  Wake wake = Wake::create().value();
  TransferQueue queue{wake, 2};
};

TEST_F(Queue, IsDoneWhenEveryPartHasArrived) {
  queue.add(pull(1, 5, 9 << 20));
  std::vector<Part> parts = take(5);
  ASSERT_EQ(parts.size(), 3u);
  uint64_t bytes = 0;
  for (Part& part : parts) {
    EXPECT_EQ(done(), "");
    bytes += part.size_bytes();
    queue.arrived(std::move(part));
  }
  EXPECT_EQ(bytes, uint64_t{9} << 20);
  EXPECT_TRUE(is_rung());
  EXPECT_EQ(done(), "1:ok ");
}

TEST_F(Queue, AFailureWaitsForThoseWhoWriteIntoItsMemory) {
  queue.add(pull(1, 5, 9 << 20));
  std::vector<Part> parts = take(5);
  queue.fail(std::move(parts[0]), Status(Code::kLost, "freed"));
  queue.put_back(std::move(parts[1]));
  EXPECT_EQ(done(), "");
  queue.arrived(std::move(parts[2]));
  EXPECT_EQ(done(), "1:lost ");
  EXPECT_TRUE(take(5).empty()) << "what was put back is not wanted";
}

TEST_F(Queue, DamagedThreeTimesIsLost) {
  queue.add(pull(1, 5, 100));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(done(), "");
    std::vector<Part> parts = take(5);
    ASSERT_EQ(parts.size(), 1u);
    queue.damaged(std::move(parts[0]));
  }
  EXPECT_EQ(done(), "1:lost ");
}

TEST_F(Queue, UrgentPartsGoFirstAndLimitsHold) {
  StoreServer::Pull argument = pull(1, 5, 100), get = pull(2, 5, 100);
  argument.priority = wire::TransferPriority::kArgument;
  queue.add(std::move(argument));
  queue.add(std::move(get));
  std::vector<Part> first = queue.take(5, {1, 1'000}, now);
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].order().name, 2u);
  EXPECT_EQ(queue.take(5, {10, 1}, now).size(), 1u) << "one at least";
  EXPECT_TRUE(queue.take(5, {10, 0}, now).empty());
}

TEST_F(Queue, ExpiredPullsFail) {
  queue.add(pull(1, 5, 100, milliseconds(10)));
  queue.add(pull(2, 5, 100, milliseconds(10)));
  queue.add(pull(3, 5, 100, seconds(10)));
  queue.expire(5, Status(Code::kUnavailable, "connection refused"), now + milliseconds(20));
  EXPECT_EQ(done(), "1:unavailable 2:unavailable ");
  EXPECT_TRUE(queue.take(5, kAll, now + seconds(20)).empty());
  EXPECT_EQ(done(), "3:timeout ");
}

TEST_F(Queue, ALostNodeFailsItsOwnAndSendsHomeWhatItWasToServeOn) {
  queue.add(pull(1, 5, 100));
  queue.add(pull(2, 6, 100));
  (void)queue.take_wanted_streams();
  std::vector<Part> parts = take(5);
  queue.elsewhere(std::move(parts[0]), 6);
  EXPECT_EQ(queue.take_wanted_streams().size(), 0u) << "one to 6 was wanted before";
  queue.lose(6, Status(Code::kDied, "power"));
  EXPECT_EQ(done(), "2:lost ");
  parts = take(5);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_TRUE(parts[0].no_redirect);
  queue.add(pull(3, 6, 100));
  EXPECT_EQ(done(), "3:lost ");
}

TEST_F(Queue, StreamsAreWantedAsWorkGrowsAndLeaveWhenThereIsNone) {
  queue.add(pull(1, 5, 100));
  EXPECT_EQ(queue.take_wanted_streams(), std::vector<wire::NodeNumber>{5});
  EXPECT_FALSE(queue.leave(5));
  queue.add(pull(2, 5, 40 << 20));
  EXPECT_EQ(queue.take_wanted_streams(), std::vector<wire::NodeNumber>{5});
  queue.add(pull(3, 5, 40 << 20));
  EXPECT_TRUE(queue.take_wanted_streams().empty()) << "two are the most";
  for (Part& part : take(5)) queue.arrived(std::move(part));
  EXPECT_TRUE(queue.leave(5) && queue.leave(5));
  queue.add(pull(4, 5, 100));
  EXPECT_EQ(queue.take_wanted_streams(), std::vector<wire::NodeNumber>{5});
}

TEST_F(Queue, PartsAreServedOnWhenTheyArriveAndNoLongerThanThePullLasts) {
  StoreServer::Pull order = pull(1, 5, 9 << 20);
  const wire::ObjectLocation at = order.from;
  queue.add(std::move(order));
  BulkRequest request{.segment = at.segment,
                      .object_bytes = at.size_bytes,
                      .offset = kChunkBytes,
                      .size_bytes = kChunkBytes,
                      .slot = at.slot,
                      .generation = at.generation};
  std::vector<std::byte> bytes;
  EXPECT_EQ(queue.read_part(request, bytes, now).code(), Code::kTimeout);
  std::vector<Part> parts = take(5);
  std::thread reader([&] {
    EXPECT_TRUE(queue.read_part(request, bytes, now + seconds(60)).ok());
    EXPECT_EQ(bytes, std::vector<std::byte>(kChunkBytes, std::byte{3}));
  });
  for (Part& part : parts) {
    if (part.index != 1) continue;
    std::memset(part.memory().data(), 3, part.memory().size());
    queue.arrived(std::move(part));
    break;
  }
  reader.join();
  request.size_bytes -= 1;
  EXPECT_EQ(queue.read_part(request, bytes, now).code(), Code::kNotFound) << "no part of it";
  request.size_bytes += 1;
  for (Part& part : parts) {
    if (part.pull) queue.arrived(std::move(part));
  }
  EXPECT_EQ(done(), "1:ok ");
  EXPECT_EQ(queue.read_part(request, bytes, now).code(), Code::kNotFound);
}

}  // namespace
}  // namespace manta::object_store
