#include "raylet/lease_queue.h"

#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

Claim claim_of(uint64_t job, uint64_t owner, uint64_t number, int32_t priority = 0) {
  Claim claim{.owner = ProcessId{owner}, .request = number, .job = JobId{job}, .scheduling_class = {}, .actor = {}};
  claim.scheduling_class.resources.cpus = wire::kWhole;
  claim.scheduling_class.priority = priority;
  claim.sequence = number;
  return claim;
}

std::pair<int, int> nothing(const Claim&) { return {0, 0}; }

TEST(LeaseQueue, AJobWithManyDemandsDoesNotKeepAnotherWaiting) {
  LeaseQueue queue;
  uint64_t number = 0;
  for (int i = 0; i < 10'000; ++i) ASSERT_TRUE(queue.push(claim_of(1, 11, ++number)).ok());
  for (uint64_t owner = 20; owner < 120; ++owner) ASSERT_TRUE(queue.push(claim_of(1, owner, ++number)).ok());
  ASSERT_TRUE(queue.push(claim_of(2, 200, ++number)).ok());
  // One CPU, given back before the next is served: nobody holds anything then.
  EXPECT_EQ(queue.pop(*queue.fronts(nothing).front()).job, JobId{1});
  EXPECT_EQ(queue.pop(*queue.fronts(nothing).front()).job, JobId{2});
  // The owners of one job come in turn.
  EXPECT_EQ(queue.pop(*queue.fronts(nothing).front()).owner, ProcessId{20});
}

TEST(LeaseQueue, TheJobAndTheOwnerThatHoldLeastComeFirst) {
  LeaseQueue queue;
  ASSERT_TRUE(queue.push(claim_of(1, 11, 1)).ok());
  ASSERT_TRUE(queue.push(claim_of(1, 12, 2)).ok());
  ASSERT_TRUE(queue.push(claim_of(2, 21, 3)).ok());
  const auto holding = [](const Claim& claim) {
    return claim.job == JobId{1} ? std::pair(3, claim.owner == ProcessId{11} ? 3 : 0) : std::pair(2, 2);
  };
  EXPECT_EQ(queue.pop(*queue.fronts(holding).front()).owner, ProcessId{21});
  EXPECT_EQ(queue.pop(*queue.fronts(holding).front()).owner, ProcessId{12});
  EXPECT_EQ(queue.pop(*queue.fronts(holding).front()).owner, ProcessId{11});
}

TEST(LeaseQueue, OfWhatHoldsTheSameThePriorityIsFirst) {
  LeaseQueue queue;
  ASSERT_TRUE(queue.push(claim_of(1, 11, 1)).ok());
  ASSERT_TRUE(queue.push(claim_of(1, 11, 2, 5)).ok());
  EXPECT_EQ(queue.pop(*queue.fronts(nothing).front()).request, 2u);
}

}  // namespace
}  // namespace manta::raylet
