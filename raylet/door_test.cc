// Visitors over a real link; the node behind the door is invented.
#include "raylet/door.h"

#include "common/random.h"
#include "raylet/gatekeeper.h"
#include "wire/net/testing/links.h"
#include "wire/net/visitor_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace manta::raylet {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using wire::LinkRole;

wire::Hello hello_of(wire::Role role = wire::Role::kObserver) {
  wire::Hello hello;
  hello.role = static_cast<uint8_t>(role);
  return hello;
}

/// A head's link and door; time is the test's.
struct Head {
  Head()
      : door(*node.link, nullptr,
             {.step = [this](Event event) { events.push_back(std::move(event)); },
              .new_process = [this] { return ProcessId{++last_process}; }}) {}

  std::unique_ptr<wire::VisitorLine> visit(const wire::LinkKeys& keys) {
    return wire::visit_head({node.link->endpoint(), node.keys.public_key, keys}).value();
  }
  /// With a key of this role, which is let in.
  std::unique_ptr<wire::VisitorLine> visit(LinkRole role) {
    const wire::LinkKeys keys = wire::make_keys().value();
    node.link->allow(keys.public_key, role);
    return visit(keys);
  }
  /// Hands the next frame or loss to the door; false when none comes.
  bool turn(std::chrono::milliseconds patience = wire::testing::kPatience) {
    const auto event = node.wait_for([](const wire::LinkEvent& one) { return !one.reply_to.empty(); }, patience);
    if (!event) return false;
    event->what == wire::LinkEvent::What::kLost ? door.on_lost(event->reply_to) : door.on_frame(*event, now_us);
    return true;
  }
  template <typename E>
  const E* last() const {
    return events.empty() ? nullptr : std::get_if<E>(&events.back());
  }
  /// Says Hello on the line; the process that it got.
  ProcessId greet(wire::VisitorLine& line) {
    EXPECT_TRUE(line.send(hello_of()).ok());
    EXPECT_TRUE(turn());
    const auto* joined = last<ClientJoined>();
    return joined == nullptr ? ProcessId{} : ProcessId{joined->hello.process};
  }

  wire::testing::Node node{1};
  std::vector<Event> events;
  uint64_t last_process = 100;
  int64_t now_us = 0;
  Door door;
};

std::string refusal(wire::VisitorLine& line) {
  const Result<wire::Frame> frame = line.receive_one(30s);
  if (!frame.ok()) return "none: " + frame.status().to_string();
  if (frame->type != wire::Type::kRefused) return "another message";
  return wire::from_wire(wire::decode<wire::Refused>(frame->body)->status).message();
}

TEST(Door, AVisitorAsksAndIsAnsweredOverItsOwnConnection) {
  Head head;
  const auto line = head.visit(LinkRole::kDriver);
  const ProcessId process = head.greet(*line);
  EXPECT_TRUE(head.door.is_visitor(process));
  ASSERT_TRUE(line->send(wire::GetNodeState{7}).ok());
  ASSERT_TRUE(head.turn());
  ASSERT_NE(head.last<FromClient>(), nullptr);
  EXPECT_EQ(head.last<FromClient>()->from, process);
  EXPECT_TRUE(head.last<FromClient>()->may_act);
  wire::NodeState state;
  state.request = 7;
  state.workers = 3;
  head.door.send(process, wire::NodeState::kType, wire::encode(state));
  const Result<wire::Frame> frame = line->receive_one(30s);
  ASSERT_TRUE(frame.ok()) << frame.status().to_string();
  EXPECT_EQ(wire::decode<wire::NodeState>(frame->body)->workers, 3u);
}

TEST(Door, AViewersMessagesSayThatItMayOnlyLook) {
  Head head;
  const auto line = head.visit(LinkRole::kViewer);
  head.greet(*line);
  ASSERT_TRUE(line->send(wire::KillActor{.actor = {1, 1}, .reason = ""}).ok());
  ASSERT_TRUE(head.turn());
  ASSERT_NE(head.last<FromClient>(), nullptr);
  EXPECT_FALSE(head.last<FromClient>()->may_act);
}

TEST(Door, OnlyAnObserverOfThisProtocolComesIn) {
  Head head;
  for (const wire::Role role : {wire::Role::kDriver, wire::Role::kWorker}) {
    const auto line = head.visit(LinkRole::kNode);
    ASSERT_TRUE(line->send(hello_of(role)).ok());
    ASSERT_TRUE(head.turn());
    EXPECT_THAT(refusal(*line), HasSubstr("observer"));
  }
  const auto old = head.visit(LinkRole::kNode);
  wire::Hello hello = hello_of();
  hello.protocol = 99;
  ASSERT_TRUE(old->send(hello).ok());
  ASSERT_TRUE(head.turn());
  EXPECT_THAT(refusal(*old), HasSubstr("protocol"));
  const auto rude = head.visit(LinkRole::kNode);
  ASSERT_TRUE(rude->send(wire::GetNodeState{1}).ok());
  ASSERT_TRUE(head.turn());
  EXPECT_THAT(refusal(*rude), HasSubstr("does not know"));
  EXPECT_TRUE(head.events.empty());
}

TEST(Door, NonsenseCostsItsSenderTheVisit) {
  Head head;
  const auto line = head.visit(LinkRole::kDriver);
  const ProcessId process = head.greet(*line);
  ASSERT_TRUE(line->send_frame(wire::Type::kList, "\xC1").ok());
  ASSERT_TRUE(head.turn());
  ASSERT_NE(head.last<ClientGone>(), nullptr);
  EXPECT_EQ(head.last<ClientGone>()->process, process);
  EXPECT_FALSE(head.door.is_visitor(process));
}

TEST(Door, WhoIsSilentForLongIsForgotten) {
  Head head;
  const auto line = head.visit(LinkRole::kDriver);
  const ProcessId process = head.greet(*line);
  head.door.tick(head.now_us + Door::kSilenceUs);
  EXPECT_TRUE(head.door.is_visitor(process));
  head.now_us += Door::kSilenceUs;
  ASSERT_TRUE(line->send_frame(wire::Type{}, "").ok());  // it is still there
  ASSERT_TRUE(head.turn());
  head.door.tick(head.now_us + Door::kSilenceUs);
  EXPECT_TRUE(head.door.is_visitor(process));
  head.door.tick(head.now_us + Door::kSilenceUs + 1);
  EXPECT_FALSE(head.door.is_visitor(process));
  EXPECT_NE(head.last<ClientGone>(), nullptr);
}

TEST(Door, AKeyHasSoManyVisitorsAtATime) {
  Head head;
  const wire::LinkKeys keys = wire::make_keys().value();
  head.node.link->allow(keys.public_key, LinkRole::kDriver);
  std::vector<std::unique_ptr<wire::VisitorLine>> lines;
  for (size_t i = 0; i < Door::kMaxVisitorsOfKey; ++i) {
    lines.push_back(head.visit(keys));
    ASSERT_TRUE(head.greet(*lines.back()));
  }
  const auto more = head.visit(keys);
  ASSERT_TRUE(more->send(hello_of()).ok());
  ASSERT_TRUE(head.turn());
  EXPECT_THAT(refusal(*more), HasSubstr("too many visitors"));
  ASSERT_TRUE(lines.front()->send(wire::Goodbye{}).ok());
  ASSERT_TRUE(head.turn());
  const auto again = head.visit(keys);
  EXPECT_TRUE(head.greet(*again));
}

TEST(Door, WhoIsGoneIsFoundOutByTheNextAnswer) {
  Head head;
  auto line = head.visit(LinkRole::kDriver);
  const ProcessId process = head.greet(*line);
  line.reset();
  const auto deadline = std::chrono::steady_clock::now() + wire::testing::kPatience;
  while (head.door.is_visitor(process) && std::chrono::steady_clock::now() < deadline) {
    head.door.send(process, wire::Goodbye::kType, wire::encode(wire::Goodbye{}));
    head.turn(10ms);
  }
  EXPECT_FALSE(head.door.is_visitor(process));
}

TEST(Door, AKeyThatIsNotLetInIsToldSo) {
  Head head;
  const wire::LinkKeys keys = wire::make_keys().value();
  const auto line = head.visit(keys);
  ASSERT_TRUE(line->send(hello_of()).ok());
  const Result<wire::Frame> frame = line->receive_one(30s);
  EXPECT_EQ(frame.status().code(), Code::kInvalid) << frame.status().to_string();
  EXPECT_THAT(frame.status().message(), HasSubstr("does not let this key in"));
}

// ---------------------------------------------------------------------------------------------------- coming in

class Enrolling : public ::testing::Test {
 protected:
  Enrolling() : keeper_(Gatekeeper::open(folder_.string(), *node_.link).value()) {}
  ~Enrolling() override { std::filesystem::remove_all(folder_); }

  wire::LinkKeys token(LinkRole role, int64_t expires_s = 0) {
    const wire::LinkKeys keys = wire::make_keys().value();
    const wire::KeyRecord record{.role = role, .public_key = keys.public_key, .name = {}, .expires_s = expires_s};
    EXPECT_TRUE(wire::write_record(folder_ / "tokens", record).ok());
    EXPECT_TRUE(keeper_.refresh(0).ok());
    return keys;
  }
  Status enroll(const wire::LinkKeys& with, const std::string& key) {
    return keeper_.enroll(with.public_key, wire::Enroll{key, "me"}, 100);
  }
  [[nodiscard]] wire::KeyRecords allowed() const {
    return wire::read_records(folder_ / "allowed", [](const Status&) {}).value();
  }

  wire::testing::Node node_{1};
  std::filesystem::path folder_ = std::filesystem::temp_directory_path() / ("manta-keys-" + std::to_string(random_id()));
  Gatekeeper keeper_;
};

TEST_F(Enrolling, BringsAKeyInWithTheTokensRoleOnce) {
  const wire::LinkKeys ticket = token(LinkRole::kViewer);
  const std::string mine = wire::make_keys()->public_key;
  ASSERT_TRUE(enroll(ticket, mine).ok());
  EXPECT_EQ(allowed().at(mine).role, LinkRole::kViewer);
  EXPECT_TRUE(enroll(ticket, mine).ok()) << "the answer was lost: it asks again";
  EXPECT_EQ(enroll(ticket, wire::make_keys()->public_key).code(), Code::kInvalid);
  EXPECT_THAT(allowed(), SizeIs(1));
}

TEST_F(Enrolling, NeedsATokenThatIsGood) {
  const std::string mine = wire::make_keys()->public_key;
  EXPECT_EQ(enroll(wire::make_keys().value(), mine).code(), Code::kInvalid);
  EXPECT_EQ(enroll(token(LinkRole::kDriver, 50), mine).code(), Code::kInvalid) << "expired";
  EXPECT_EQ(enroll(token(LinkRole::kDriver), "no key").code(), Code::kInvalid);
  EXPECT_TRUE(allowed().empty());
}

TEST_F(Enrolling, DoesNotChangeTheRoleOfAKeyThatIsIn) {
  const std::string mine = wire::make_keys()->public_key;
  ASSERT_TRUE(enroll(token(LinkRole::kViewer), mine).ok());
  EXPECT_EQ(enroll(token(LinkRole::kNode), mine).code(), Code::kExists);
  EXPECT_EQ(allowed().at(mine).role, LinkRole::kViewer);
}

TEST_F(Enrolling, ARotatedKeyHasTheRoleOfTheOldOneWhichEnds) {
  const std::string old = wire::make_keys()->public_key;
  const std::string fresh = wire::make_keys()->public_key;
  ASSERT_TRUE(enroll(token(LinkRole::kViewer), old).ok());
  const wire::RotateKey wish{.request = 1, .public_key = fresh, .overlap_s = 60};
  ASSERT_TRUE(keeper_.rotate(old, wish, 100).ok());
  EXPECT_TRUE(keeper_.rotate(old, wish, 101).ok()) << "the answer was lost";
  EXPECT_EQ(allowed().at(fresh).role, LinkRole::kViewer);
  EXPECT_EQ(allowed().at(fresh).expires_s, 0);
  EXPECT_EQ(allowed().at(old).expires_s, 160);
  ASSERT_TRUE(keeper_.refresh(160).ok());
  EXPECT_TRUE(keeper_.rotate(old, wish, 160).ok());
  ASSERT_TRUE(keeper_.refresh(161).ok());
  EXPECT_EQ(keeper_.rotate(old, wish, 161).code(), Code::kInvalid) << "it is let in no more";
}

TEST_F(Enrolling, NobodyRotatesIntoAKeyThatIsLetInOrByOneThatIsNot) {
  const std::string viewer = wire::make_keys()->public_key;
  const std::string driver = wire::make_keys()->public_key;
  ASSERT_TRUE(enroll(token(LinkRole::kViewer), viewer).ok());
  ASSERT_TRUE(enroll(token(LinkRole::kDriver), driver).ok());
  EXPECT_EQ(keeper_.rotate(viewer, {.public_key = driver, .overlap_s = 60}, 100).code(), Code::kExists);
  EXPECT_EQ(keeper_.rotate(viewer, {.public_key = viewer, .overlap_s = 60}, 100).code(), Code::kExists);
  EXPECT_EQ(
      keeper_.rotate(wire::make_keys()->public_key, {.public_key = wire::make_keys()->public_key, .overlap_s = 60}, 100)
          .code(),
      Code::kInvalid);
}

}  // namespace
}  // namespace manta::raylet
