#include "wire/net/inbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <map>

namespace manta::wire {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

bool is_raised(int fd) {
  pollfd wake{fd, POLLIN, 0};
  return ::poll(&wake, 1, 0) == 1;
}

class InboxTest : public ::testing::Test {
 protected:
  void put(NodeNumber from, size_t count, size_t bytes = 10) {
    for (size_t i = 0; i < count; ++i)
      inbox.put({.from = from, .type = static_cast<NodeType>(said[from]++), .body = std::string(bytes, 'x')});
  }

  Signal room = Signal::create().value();
  Inbox inbox{size_t{1} << 20, Signal::create().value(), room};
  std::map<NodeNumber, uint16_t> said;
};

TEST_F(InboxTest, EachSendersEventsComeInOrderAndTheSignalStaysUntilAllWereTaken) {
  EXPECT_FALSE(is_raised(inbox.fd()));
  put(1, 1'000), put(2, 100), put(0, 1), put(1, 10);
  std::map<NodeNumber, uint16_t> heard;
  for (int takes = 0; is_raised(inbox.fd()); ++takes) {
    ASSERT_LT(takes, 10);
    for (const LinkEvent& event : inbox.take()) EXPECT_EQ(static_cast<uint16_t>(event.type), heard[event.from]++);
  }
  EXPECT_EQ(heard, said);
  EXPECT_THAT(inbox.take(), IsEmpty());
  put(1, 1);
  EXPECT_TRUE(is_raised(inbox.fd()));
  EXPECT_THAT(inbox.take(), SizeIs(1));
}

TEST_F(InboxTest, OneThatSaysMuchKeepsNobodyWaiting) {
  put(7, 10'000);
  (void)inbox.take();
  put(0, 1), put(3, 20);
  const std::vector<LinkEvent> next = inbox.take();
  EXPECT_THAT(next, SizeIs(Inbox::kAtOnce));
  EXPECT_EQ(std::ranges::count(next, NodeNumber{0}, &LinkEvent::from), 1);
  EXPECT_EQ(std::ranges::count(next, NodeNumber{3}, &LinkEvent::from), 20);
}

TEST_F(InboxTest, OneThatWasFullSaysOnceThatThereIsRoom) {
  put(1, 300, 4'096);
  EXPECT_TRUE(inbox.is_full());
  EXPECT_FALSE(is_raised(room.fd()));
  (void)inbox.take();
  EXPECT_TRUE(is_raised(room.fd()));
  room.clear();
  EXPECT_FALSE(inbox.is_full());
  (void)inbox.take();
  EXPECT_FALSE(is_raised(room.fd()));
}

}  // namespace
}  // namespace manta::wire
