#include "actors/spin.h"

#include <gtest/gtest.h>

namespace manta {
namespace {

using std::chrono::microseconds;

SpinPolicy after(int waits, microseconds each, bool looked = true) {
  SpinPolicy policy;
  for (int i = 0; i < waits; ++i) policy.ended(each, looked);
  return policy;
}

TEST(SpinPolicy, LooksTwiceAsLongAsAnswersTake) {
  EXPECT_EQ(SpinPolicy().limit(), SpinPolicy::kShort);
  EXPECT_EQ(after(100, microseconds(5)).limit(), SpinPolicy::kShort);
  const auto limit = after(100, microseconds(100)).limit();
  EXPECT_GT(limit, microseconds(190));
  EXPECT_LE(limit, microseconds(200));
  EXPECT_EQ(after(100, microseconds(240)).limit(), SpinPolicy::kLong);
}

TEST(SpinPolicy, DoesNotLookLongForWhatTakesLong) {
  EXPECT_EQ(after(100, microseconds(300)).limit(), SpinPolicy::kShort);
  SpinPolicy policy = after(100, microseconds(20));
  policy.ended(std::chrono::hours(1), false);
  policy.ended(std::chrono::hours(1), false);
  EXPECT_EQ(policy.limit(), SpinPolicy::kShort);
  for (int i = 0; i < 100; ++i) policy.ended(microseconds(100), policy.limit() > SpinPolicy::kShort);
  EXPECT_GT(policy.limit(), SpinPolicy::kShort) << "one long wait is forgotten";
}

TEST(SpinPolicy, PausesLongerEachTimeThatLookingDoesNotPay) {
  SpinPolicy policy = after(100, microseconds(100), false);
  while (policy.limit() == SpinPolicy::kShort) policy.ended(microseconds(100), false);
  int before = 0;
  for (int round = 0; round < 10; ++round) {
    policy.ended(microseconds(100), false);
    int pause = 0;
    for (; policy.limit() == SpinPolicy::kShort; ++pause) policy.ended(microseconds(100), false);
    EXPECT_GE(pause, std::min<int>(2 * before, SpinPolicy::kLongestPause));
    EXPECT_GE(pause, static_cast<int>(SpinPolicy::kFirstPause));
    EXPECT_LE(pause, static_cast<int>(SpinPolicy::kLongestPause));
    before = pause;
  }
  policy.ended(microseconds(100), true);  // found: the next disappointment costs a short pause only
  policy.ended(microseconds(100), false);
  int pause = 0;
  for (; policy.limit() == SpinPolicy::kShort; ++pause) policy.ended(microseconds(100), false);
  EXPECT_EQ(pause, static_cast<int>(SpinPolicy::kFirstPause));
}

}  // namespace
}  // namespace manta
