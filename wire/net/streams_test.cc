#include "wire/net/incoming.h"
#include "wire/net/outgoing.h"

#include "common/random.h"

#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <vector>

namespace manta::wire {
namespace {

using Verdict = Incoming::Verdict;

TEST(Incoming, EachBatchCountsOnceAndInOrder) {
  Incoming incoming;
  EXPECT_EQ(incoming.accept("k", 5, 2), Verdict::kGap);
  EXPECT_EQ(incoming.accept("k", 5, 1), Verdict::kNew);
  EXPECT_EQ(incoming.accept("k", 5, 1), Verdict::kDuplicate);
  EXPECT_EQ(incoming.accept("k", 5, 3), Verdict::kGap);
  EXPECT_EQ(incoming.accept("k", 5, 2), Verdict::kNew);
  EXPECT_EQ(incoming.last("k", 5), 2u);
  EXPECT_EQ(incoming.last("other", 5), 0u) << "a stream belongs to its key";
}

TEST(Incoming, AKeyWithTooManyStreamsLosesTheLongestSilentAndNobodyElses) {
  Incoming incoming;
  EXPECT_EQ(incoming.accept("quiet", 1, 1), Verdict::kNew);
  for (uint64_t stream = 1; stream <= Incoming::kMaxStreamsOfKey; ++stream) incoming.accept("loud", stream, 1);
  EXPECT_EQ(incoming.last("loud", 1), 1u);  // heard of just now
  incoming.accept("loud", 1'000'000, 1);
  EXPECT_EQ(incoming.last("loud", 1), 1u);
  EXPECT_EQ(incoming.last("loud", 2), 0u);
  EXPECT_EQ(incoming.last("quiet", 1), 1u);
}

TEST(Outgoing, LetsGoOfWhatHasComeAndKeepsTheRest) {
  Outgoing<std::string> outgoing;
  const Time start{std::chrono::hours(1)};
  for (const char* text : {"a", "b", "c"}) outgoing.keep(text, 10, start);
  EXPECT_EQ(outgoing.held_bytes(), 30u);
  EXPECT_EQ(outgoing.acknowledge(2, start), 20u);
  EXPECT_EQ(outgoing.acknowledge(1, start), 0u) << "an old acknowledgement";
  EXPECT_EQ(outgoing.acknowledge(99, start), 0u) << "of what was never sent";
  std::vector<std::string> again;
  outgoing.resend(start, [&](std::string& text) { again.push_back(text); });
  EXPECT_EQ(again, std::vector<std::string>{"c"});
  EXPECT_EQ(outgoing.next_sequence(), 4u);
}

TEST(Outgoing, AsksAfterAWhileWithoutProgress) {
  Outgoing<int> outgoing;
  Time now{std::chrono::hours(1)};
  EXPECT_FALSE(outgoing.must_ask(now));
  outgoing.keep(1, 1, now);
  EXPECT_FALSE(outgoing.must_ask(now));
  now += Outgoing<int>::kAskAfter;
  EXPECT_TRUE(outgoing.must_ask(now));
  outgoing.asked(now);
  EXPECT_FALSE(outgoing.must_ask(now));
  now += Outgoing<int>::kAskAfter;
  outgoing.acknowledge(1, now);
  EXPECT_FALSE(outgoing.must_ask(now)) << "nothing is missing";
}

TEST(Incoming, OfAStrangerEveryLaterOneIsNew) {
  Incoming incoming;
  EXPECT_EQ(incoming.accept_later("k", 9, 3), Verdict::kNew);  // the first ones were lost
  EXPECT_EQ(incoming.accept_later("k", 9, 3), Verdict::kDuplicate);
  EXPECT_EQ(incoming.accept_later("k", 9, 2), Verdict::kDuplicate);
  EXPECT_EQ(incoming.accept("k", 9, 4), Verdict::kNew);  // it has joined
  EXPECT_EQ(incoming.accept("k", 9, 6), Verdict::kGap);
}

// A line that loses runs of batches, and repeats what was sent when it is asked: everything counts once and in order.
TEST(Streams, WhatALineLosesIsSentAgain) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    Outgoing<uint64_t> outgoing;
    Incoming incoming;
    std::deque<uint64_t> line;
    std::vector<uint64_t> got;
    const Time now{std::chrono::hours(1)};
    const auto resend = [&] {
      outgoing.acknowledge(incoming.last("k", 9), now);
      outgoing.resend(now, [&](uint64_t& sequence) { line.push_back(sequence); });
    };
    for (int step = 0; step < 500; ++step) {
      switch (random.below(8)) {
        case 0: line.erase(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(random.below(line.size() + 1))); break;
        case 1: outgoing.acknowledge(incoming.last("k", 9), now); break;
        case 2:
        case 3:
        case 4:
          line.push_back(outgoing.next_sequence());
          outgoing.keep(outgoing.next_sequence(), 1, now);
          break;
        default:
          if (line.empty()) break;
          const uint64_t sequence = line.front();
          line.pop_front();
          const Verdict verdict = incoming.accept("k", 9, sequence);
          if (verdict == Verdict::kNew) got.push_back(sequence);
          if (verdict == Verdict::kGap) resend();
      }
    }
    resend();
    for (const uint64_t sequence : line)
      if (incoming.accept("k", 9, sequence) == Verdict::kNew) got.push_back(sequence);
    ASSERT_EQ(got.size(), outgoing.last_sequence()) << "seed " << seed;
    for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], i + 1) << "seed " << seed;
  }
}

}  // namespace
}  // namespace manta::wire
