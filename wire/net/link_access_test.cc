// Who may speak to a link, and what somebody costs who may but sends nonsense.
#include "common/random.h"
#include "wire/net/batch.h"
#include "wire/net/node_link.h"
#include "wire/net/testing/links.h"

#include <gtest/gtest.h>

#include <zmq.hpp>

namespace manta::wire {
namespace {

using testing::Node;
using What = LinkEvent::What;

/// Somebody with a key and a socket, who writes his batches himself.
class Raw {
 public:
  Raw(const Node& node, const LinkKeys& keys) : socket_(context_, zmq::socket_type::dealer) {
    socket_.set(zmq::sockopt::linger, 0);
    if (keys.are_given()) {
      socket_.set(zmq::sockopt::curve_publickey, keys.public_key);
      socket_.set(zmq::sockopt::curve_secretkey, keys.secret_key);
      socket_.set(zmq::sockopt::curve_serverkey, node.keys.public_key);
    }
    socket_.connect(node.link->endpoint());
  }
  void send(const std::string& bytes) { socket_.send(zmq::buffer(bytes), zmq::send_flags::none); }
  void send_in_parts(const std::string& bytes) {
    socket_.send(zmq::buffer(bytes), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(bytes), zmq::send_flags::none);
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

std::string batch_of(NodeNumber from, const std::vector<Entry>& entries, uint64_t sequence = 1) {
  std::string bytes(kBatchBytes, '\0');
  BatchWriter writer(std::as_writable_bytes(std::span(bytes)));
  for (const Entry& entry : entries) writer.add(entry);
  writer.finish({.flags = 0, .from = from, .stream = 99, .sequence = sequence, .ack_stream = 0, .ack = 0});
  bytes.resize(writer.size_bytes());
  return bytes;
}
const Entry kFrame{EntryWhat::kFrame, static_cast<uint16_t>(NodeType::kHeartbeat), {}, {}};

bool is_frame_of(const LinkEvent& event, NodeNumber from) { return event.what == What::kFrame && event.from == from; }

TEST(LinkAccess, WithoutKeysOnlyLoopbackIsListenedOn) {
  for (const char* address : {"tcp://*:*", "tcp://0.0.0.0:*", "tcp://localhost:*", "tcp://[::]:*"}) {
    const auto link = NodeLink::start({.listen = address, .advertise = {}, .keys = {}});
    EXPECT_EQ(link.status().code(), Code::kInvalid) << address;
  }
  EXPECT_TRUE(NodeLink::start({.listen = "tcp://127.0.0.2:*", .advertise = {}, .keys = {}}).ok());
  const auto link = NodeLink::start({.listen = "tcp://0.0.0.0:*", .advertise = "head.example", .keys = make_keys().value()});
  ASSERT_TRUE(link.ok());
  EXPECT_TRUE((*link)->endpoint().starts_with("tcp://head.example:")) << (*link)->endpoint();
}

TEST(LinkAccess, APortThatIsTakenIsAnError) {
  Node a(1);
  const auto link = NodeLink::start({.listen = a.link->endpoint(), .advertise = {}, .keys = make_keys().value()});
  EXPECT_EQ(link.status().code(), Code::kIo);
  EXPECT_EQ(NodeLink::start({.listen = "tcp://127.0.0.1:*", .advertise = {}, .keys = {"short", "keys"}}).status().code(),
            Code::kInvalid);
}

TEST(LinkAccess, AKeyThatIsNotAllowedIsTurnedAwayAndMayComeAgain) {
  Node a(1);
  Node b(2);
  a.add(b);
  ASSERT_TRUE(a.link->send(2, Heartbeat{}).ok());
  ASSERT_TRUE(a.wait_for(What::kLost));
  EXPECT_EQ(b.link->stats().batches_received, 0u);
  EXPECT_FALSE(a.wait_for(What::kConnected, std::chrono::milliseconds(0)));
  b.add(a);
  EXPECT_TRUE(b.wait_for(What::kFrame)) << "it comes again by itself, and nothing was lost";
}

TEST(LinkAccess, ARevokedKeyIsRefusedAtOnceAndLosesNothingWhenItIsAllowedAgain) {
  Node a(1);
  Node b(2);
  testing::introduce(a, b);
  ASSERT_TRUE(a.link->send(2, Heartbeat{}).ok());
  ASSERT_TRUE(b.wait_for(What::kFrame));
  b.link->revoke(a.keys.public_key);
  ASSERT_TRUE(a.link->send(2, ProcessGone{.process = 4, .pid = 0, .cause = {}}).ok());
  while (b.link->stats().batches_refused == 0)
    ASSERT_FALSE(b.wait_for(What::kFrame, std::chrono::milliseconds(5))) << "through a connection that stood";
  b.link->allow(a.keys.public_key, LinkRole::kNode);
  const auto event = b.wait_for(What::kFrame);
  ASSERT_TRUE(event);
  EXPECT_EQ(decode<ProcessGone>(event->body).value().process, 4u);
}

TEST(LinkAccess, TheRoleOfAKeyComesWithEachFrame) {
  Node b(2);
  const LinkKeys token = make_keys().value();
  b.link->allow(token.public_key, LinkRole::kJoin);
  Raw joiner(b, token);
  joiner.send(batch_of(0, {kFrame}));
  const auto event = b.wait_for(What::kFrame);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->from, 0u);
  EXPECT_EQ(event->role, LinkRole::kJoin);
  EXPECT_EQ(event->from_key, token.public_key);
}

TEST(LinkAccess, ANodeJoinsByATokenAndGoesOnUnderItsOwnKey) {
  Node head(1);
  Node node(0);
  const LinkKeys token = make_keys().value();
  head.link->allow(token.public_key, LinkRole::kJoin);
  node.link->allow(head.keys.public_key, LinkRole::kNode);
  const LinkPeer as_token{.number = 1, .endpoint = head.link->endpoint(), .public_key = head.keys.public_key, .as = token};
  ASSERT_TRUE(node.link->add_peer(as_token).ok());
  ASSERT_TRUE(node.link->send(1, Heartbeat{}).ok());
  const auto join = head.wait_for(What::kFrame);
  ASSERT_TRUE(join);
  EXPECT_EQ(join->role, LinkRole::kJoin);
  head.link->allow(node.keys.public_key, LinkRole::kNode);
  ASSERT_TRUE(
      head.link->add_peer({.number = 9, .endpoint = node.link->endpoint(), .public_key = node.keys.public_key}).ok());
  ASSERT_TRUE(head.link->send(9, Heartbeat{}).ok());
  ASSERT_TRUE(node.wait_for([](const LinkEvent& event) { return is_frame_of(event, 1); }));
  node.link->set_number(9);
  node.link->remove_peer(1);
  ASSERT_TRUE(
      node.link->add_peer({.number = 1, .endpoint = head.link->endpoint(), .public_key = head.keys.public_key}).ok());
  ASSERT_TRUE(node.link->send(1, Heartbeat{}).ok());
  const auto heard = head.wait_for([](const LinkEvent& event) { return is_frame_of(event, 9); });
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->from_key, node.keys.public_key);
  ASSERT_TRUE(head.link->send(9, Heartbeat{}).ok());
  EXPECT_TRUE(node.wait_for([](const LinkEvent& event) { return is_frame_of(event, 1); }));
}

TEST(LinkAccess, ANumberThatAnotherKeyHasIsRefused) {
  Node a(1);
  Node b(2);
  testing::introduce(a, b);
  const LinkKeys thief = make_keys().value();
  b.link->allow(thief.public_key, LinkRole::kNode);
  Raw raw(b, thief);
  raw.send(batch_of(1, {kFrame}));
  const auto lost = b.wait_for(What::kLost);
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->why.code(), Code::kInvalid);
  EXPECT_EQ(lost->from_key, thief.public_key);
  EXPECT_EQ(lost->from, 0u) << "node 1 has done nothing";
  ASSERT_TRUE(a.link->send(2, Heartbeat{}).ok());
  ASSERT_TRUE(b.wait_for(What::kFrame));
  EXPECT_FALSE(b.wait_for(What::kFrame, std::chrono::milliseconds(0)));
}

TEST(LinkAccess, AViewerHasNoNumberAndNoChannel) {
  const Entry message{EntryWhat::kMessage, 1, {5}, {}};
  for (const std::string& bytes : {batch_of(7, {kFrame}), batch_of(0, {kFrame, message})}) {
    Node b(2);
    const LinkKeys viewer = make_keys().value();
    b.link->allow(viewer.public_key, LinkRole::kViewer);
    Raw raw(b, viewer);
    raw.send(bytes);
    ASSERT_TRUE(b.wait_for(What::kLost));
    EXPECT_FALSE(b.wait_for(What::kFrame, std::chrono::milliseconds(0)));
  }
}

std::vector<std::string> hostile_batches() {
  const std::string good = batch_of(7, {kFrame});
  std::vector<std::string> out{"", "x", std::string(kBatchHeaderBytes, '\0'), good.substr(0, good.size() - 1),
                               std::string(1 << 20, '\xFF')};
  std::string huge = good;
  std::memset(huge.data() + kBatchHeaderBytes, 0xFF, 4);
  out.push_back(huge);
  Random random(11);
  for (int i = 0; i < 20; ++i) {
    std::string bytes(random.below(500), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    out.push_back(bytes);
  }
  return out;
}

TEST(LinkAccess, AMalformedBatchCostsItsSenderAndNobodyElse) {
  Node a(1);
  Node b(2);
  testing::introduce(a, b);
  NodeNumber number = 10;
  for (const std::string& bytes : hostile_batches()) {
    const LinkKeys keys = make_keys().value();
    b.link->allow(keys.public_key, LinkRole::kNode);
    ASSERT_TRUE(b.link->add_peer({.number = ++number, .endpoint = "tcp://127.0.0.1:1", .public_key = keys.public_key}).ok());
    Raw raw(b, keys);
    bytes.empty() ? raw.send_in_parts(batch_of(number, {kFrame})) : raw.send(bytes);
    raw.send(batch_of(number, {kFrame}));
    const auto lost =
        b.wait_for([&](const LinkEvent& event) { return event.what == What::kLost && event.why.code() == Code::kInvalid; });
    ASSERT_TRUE(lost);
    EXPECT_EQ(lost->from, number) << lost->why.to_string();
    b.link->remove_peer(number);
  }
  ASSERT_TRUE(a.link->send(2, Heartbeat{}).ok());
  const auto frame = b.wait_for(What::kFrame);
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->from, 1u) << "a frame of a sender that was shut out";
}

TEST(LinkAccess, WithoutKeysAMalformedBatchCostsItsConnection) {
  Node a(1, {.has_keys = false});
  Node b(2, {.has_keys = false});
  testing::introduce(a, b);
  Raw raw(b, {});
  raw.send("nonsense");
  raw.send(batch_of(0, {kFrame}));
  ASSERT_TRUE(b.wait_for([](const LinkEvent& event) { return event.why.code() == Code::kInvalid; }));
  ASSERT_TRUE(a.link->send(2, Heartbeat{}).ok());
  const auto frame = b.wait_for(What::kFrame);
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->from, 1u);
}

}  // namespace
}  // namespace manta::wire
