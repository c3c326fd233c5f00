#include "wire/net/node_link.h"

#include "wire/net/testing/links.h"

#include <gtest/gtest.h>

#include <thread>

namespace manta::wire {
namespace {

using testing::Local;
using testing::Node;
using What = LinkEvent::What;

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }
std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

TEST(NodeLink, FramesGoBothWays) {
  for (const bool has_keys : {false, true}) {
    Node a(1, {.has_keys = has_keys});
    Node b(2, {.has_keys = has_keys});
    testing::introduce(a, b);
    ASSERT_TRUE(a.link->send(2, ProcessGone{.process = 7, .cause = {}}).ok());
    const auto there = b.wait_for(What::kFrame);
    ASSERT_TRUE(there);
    EXPECT_EQ(there->from, 1u);
    EXPECT_EQ(there->from_key, a.keys.public_key);
    EXPECT_EQ(there->type, NodeType::kProcessGone);
    EXPECT_EQ(decode<ProcessGone>(there->body).value().process, 7u);
    ASSERT_TRUE(b.link->send(1, ProcessGone{.process = 8, .cause = {}}).ok());
    const auto back = a.wait_for(What::kFrame);
    ASSERT_TRUE(back);
    EXPECT_EQ(decode<ProcessGone>(back->body).value().process, 8u);
    EXPECT_TRUE(a.wait_for(What::kConnected));
  }
}

TEST(NodeLink, AMessageCrossesAChannelAndItsReplyComesBack) {
  Node a(1);
  Node b(2);
  testing::introduce(a, b);
  Local caller(Channel::Side::kCaller);
  Local worker(Channel::Side::kWorker);
  ASSERT_TRUE(caller.relay({77}, a, 2).ok());
  ASSERT_TRUE(caller.try_send(3, bytes_of("call")));
  caller.ring();
  ASSERT_TRUE(worker.relay({77}, b, 1).ok());
  std::string got;
  for (int i = 0; i < 100 && got.empty(); ++i) {
    worker.wait();
    worker.take([&](const RingMessage& message) { got = text_of(message.body) + std::to_string(message.kind); });
  }
  EXPECT_EQ(got, "call3");
  ASSERT_TRUE(worker.try_send(4, bytes_of("reply")));
  worker.ring();
  got.clear();
  for (int i = 0; i < 100 && got.empty(); ++i) {
    caller.wait();
    caller.take([&](const RingMessage& message) { got = text_of(message.body) + std::to_string(message.kind); });
  }
  EXPECT_EQ(got, "reply4");
}

}  // namespace
}  // namespace manta::wire
