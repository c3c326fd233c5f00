#include "raylet/head_outbox.h"

#include <gmock/gmock.h>

namespace manta::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

wire::HeadClientJoined client(uint64_t process) { return {.process = process, .pid = 7, .job_name = {}}; }
wire::HeadRequest state(uint64_t sequence, std::string text) {
  return {5, wire::SaveActorState{.actor = {5, sequence}, .incarnation = 1, .state = std::move(text)}};
}
wire::HeadActorEvent event(uint64_t sequence, wire::ActorEvent what) {
  return {.actor = {5, sequence}, .incarnation = 1, .event = static_cast<uint8_t>(what), .worker = 9, .cause = {}};
}

std::vector<uint64_t> numbers_in(const HeadOutbox& outbox) {
  std::vector<uint64_t> numbers;
  for (uint64_t last = 0;;) {
    const auto next = outbox.next_after(last);
    if (!next) return numbers;
    const Result<wire::Told> told = wire::decode_to_head(*next->second);
    EXPECT_EQ(told->number, next->first);
    numbers.push_back(last = next->first);
  }
}

TEST(HeadOutbox, KeepsWhatIsNotAcknowledgedInOrder) {
  HeadOutbox outbox;
  EXPECT_FALSE(outbox.next_after(0));
  for (uint64_t i = 1; i <= 4; ++i) ASSERT_TRUE(outbox.add(client(i)).ok());
  EXPECT_THAT(numbers_in(outbox), ElementsAre(1, 2, 3, 4));
  outbox.acknowledge(2);
  EXPECT_THAT(numbers_in(outbox), ElementsAre(3, 4));
  outbox.acknowledge(1);  // late
  outbox.acknowledge(99);
  EXPECT_THAT(numbers_in(outbox), IsEmpty());
  EXPECT_EQ(outbox.size_bytes(), 0u);
  ASSERT_TRUE(outbox.add(client(5)).ok());
  EXPECT_THAT(numbers_in(outbox), ElementsAre(5));
}

TEST(HeadOutbox, OfAnActorsStatesTheNewestStays) {
  HeadOutbox outbox;
  ASSERT_TRUE(outbox.add(state(1, "a")).ok());
  ASSERT_TRUE(outbox.add(state(2, "b")).ok());
  ASSERT_TRUE(outbox.add(state(1, "c")).ok());
  EXPECT_THAT(numbers_in(outbox), ElementsAre(2, 3));
  outbox.acknowledge(3);
  ASSERT_TRUE(outbox.add(state(1, "d")).ok());
  EXPECT_THAT(numbers_in(outbox), ElementsAre(4));
}

// The head hears of the end itself afterwards: how it was, not only that.
TEST(HeadOutbox, WhoEndedUnheardIsNamedAmongTheLiving) {
  HeadOutbox outbox;
  ASSERT_TRUE(outbox.add(client(1)).ok());
  ASSERT_TRUE(outbox.add(client(2)).ok());
  ASSERT_TRUE(outbox.add(event(3, wire::ActorEvent::kStarted)).ok());
  outbox.acknowledge(3);
  ASSERT_TRUE(outbox.add(event(3, wire::ActorEvent::kLeft)).ok());
  ASSERT_TRUE(outbox.add(wire::HeadClientGone{2, {}}).ok());
  wire::HeadNodeReturns returns;
  outbox.complete(returns);
  EXPECT_THAT(returns.clients, SizeIs(2));
  ASSERT_THAT(returns.actors, SizeIs(1));
  EXPECT_EQ(returns.actors[0].actor.sequence, 3u);
  outbox.acknowledge(5);
  wire::HeadNodeReturns later;
  outbox.complete(later);
  ASSERT_THAT(later.clients, SizeIs(1));
  EXPECT_EQ(later.clients[0].process, 1u);
  EXPECT_THAT(later.actors, IsEmpty());
}

TEST(HeadOutbox, IsBounded) {
  HeadOutbox outbox(1'000);
  Status last;
  for (uint64_t i = 1; last.ok(); ++i) last = outbox.add(state(i, std::string(100, 's')));
  EXPECT_EQ(last.code(), Code::kFull);
  EXPECT_LE(outbox.size_bytes(), 1'000u);
  ASSERT_TRUE(outbox.add(state(1, std::string(100, 'n'))).ok());  // takes the place of an older one
  outbox.acknowledge(3);
  EXPECT_TRUE(outbox.add(client(1)).ok());
}

}  // namespace
}  // namespace manta::raylet
