// The owner of tasks, with workers at the other end of real rings played by the test.
#include "actors/task_owner.h"

#include "wire/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <set>
#include <vector>

namespace manta {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// A peer, and its worker's end of the channel.
struct FakeWorker {
  explicit FakeWorker(uint64_t number) {
    const Fd file = wire::Channel::create_file().value();
    end = wire::Channel::open(file, wire::Channel::Side::kWorker).value();
    peer = std::make_unique<Peer>(ProcessId{wire::first_id_of(2) + number}, 1,
                                  wire::Channel::open(file, wire::Channel::Side::kCaller).value(),
                                  wire::Bell::create().value());
  }
  /// Claims everything; the calls' cookies.
  std::vector<uint64_t> claim() {
    std::vector<uint64_t> cookies;
    while (const std::optional<wire::RingMessage> message = end->requests.claim().value()) {
      if (message->kind == static_cast<uint16_t>(RequestKind::kCall))
        cookies.push_back(Cursor(message->body).read<CallHeader>().cookie);
      claimed.push_back(*message);
    }
    return cookies;
  }
  void reply(ReplyKind kind, uint64_t cookie) {
    ReplyHeader header;
    header.cookie = cookie;
    Pen(end->replies.reserve(sizeof header)).write(header);
    end->replies.publish(static_cast<uint16_t>(kind), sizeof header);
  }

  std::unique_ptr<wire::Channel> end;
  std::unique_ptr<Peer> peer;
  std::vector<wire::RingMessage> claimed;
};

class TaskOwnerTest : public ::testing::Test {
 protected:
  TaskOwnerTest() {
    for (auto& call : calls) {
      call.function = &function;
      call.policy = std::make_shared<CallPolicy>();
      call.retries_left = 3;
      call.task_class = &owner.class_for({});
      owner.enqueue(call, now);
    }
    grant(1, first);
  }
  void grant(uint64_t lease, FakeWorker& worker) {
    ASSERT_FALSE(requests.empty());
    wire::LeaseGranted granted;
    granted.request = requests.back();
    granted.lease = lease;
    requests.pop_back();
    owner.on_granted(granted, *worker.peer, now);
  }
  /// Takes replies as the runtime does.
  void poll(FakeWorker& worker) {
    const Status status = worker.peer->poll([&](Call& call, const Reply& reply) {
      worker.peer->forget(call);
      reply.kind == ReplyKind::kNotBegun ? owner.not_begun(call, now) : owner.finished(call, 1'000, now);
    });
    ASSERT_TRUE(status.ok());
  }
  void give_back_all_but_the_first(FakeWorker& worker) {
    const std::vector<uint64_t> cookies = worker.claim();
    ASSERT_EQ(cookies.size(), 3u);
    for (size_t i = cookies.size() - 1; i > 0; --i) worker.reply(ReplyKind::kNotBegun, cookies[i]);
  }
  /// What was sent to this peer and has no answer, in order.
  std::vector<size_t> sent_to(const FakeWorker& worker) const {
    std::vector<size_t> found;
    for (const auto& lease : calls[0].task_class->leases) {
      if (lease->peer != worker.peer.get()) continue;
      for (const Call* call : lease->in_flight) found.push_back(static_cast<size_t>(call - calls));
    }
    return found;
  }

  const detail::Function function{.key = "f", .thunk = nullptr, .kind = {}, .returns = 1, .signature = ""};
  const Template named{&function, "", ""};
  TimePoint now{std::chrono::hours(1)};
  std::vector<uint64_t> requests;
  std::vector<uint64_t> returned;
  TaskOwner owner{{.request_lease = [this](const wire::RequestLease& asked) { requests.push_back(asked.request); },
                   .cancel_request = [](uint64_t) {},
                   .return_lease = [this](uint64_t lease) { returned.push_back(lease); },
                   .kill_lease = [](uint64_t, const std::string&) {},
                   .send = [this](Call& call, Peer& peer) { return peer.send(call, named); },
                   .fail = [](Call&, const Status&) {}}};
  FakeWorker first{1};
  FakeWorker second{2};
  Call calls[3];
};

TEST_F(TaskOwnerTest, WhatAWorkerGivesBackRunsElsewhereInOrderAndAtNoRetry) {
  ASSERT_THAT(sent_to(first), ElementsAre(0, 1, 2));
  give_back_all_but_the_first(first);
  owner.on_blocked(1, true, now);  // the relay has claimed them: they cannot be taken back
  EXPECT_THAT(sent_to(first), ElementsAre(0, 1, 2));
  poll(first);
  EXPECT_THAT(sent_to(first), ElementsAre(0));
  EXPECT_EQ(owner.pending_count(), 2u);
  grant(2, second);
  EXPECT_THAT(sent_to(second), ElementsAre(1, 2));
  for (const Call& call : calls) {
    EXPECT_EQ(call.retries_left, 3);
    EXPECT_EQ(call.attempt, 0u);
  }
  EXPECT_EQ(first.peer->in_flight(), 1u);
  EXPECT_EQ(second.peer->in_flight(), 2u);
}

TEST_F(TaskOwnerTest, ThatCallsWereGivenBackDoesNotBlockTheLease) {
  // It waited for a moment: that it goes on again was heard before what it gave back.
  give_back_all_but_the_first(first);
  owner.on_blocked(1, true, now);
  owner.on_blocked(1, false, now);
  poll(first);
  EXPECT_EQ(owner.pending_count(), 0u);
  const std::vector<size_t> sent = sent_to(first);
  EXPECT_THAT(std::set<size_t>(sent.begin(), sent.end()), ElementsAre(0, 1, 2));
  EXPECT_EQ(first.claim().size(), 2u);
}

TEST_F(TaskOwnerTest, AnAnswerToACallThatWasGivenBackIsStale) {
  const std::vector<uint64_t> cookies = first.claim();
  owner.on_blocked(1, true, now);
  first.reply(ReplyKind::kNotBegun, cookies[1]);
  first.reply(ReplyKind::kNotBegun, cookies[1]);
  first.reply(ReplyKind::kDone, cookies[1]);
  poll(first);
  EXPECT_EQ(owner.pending_count(), 1u);
  EXPECT_THAT(sent_to(first), ElementsAre(0, 2));
}

TEST_F(TaskOwnerTest, ALeaseThatIsAskedBackGoesWithItsLastCallGivenBack) {
  const std::vector<uint64_t> cookies = first.claim();
  owner.on_asked_back(1, now);
  EXPECT_THAT(returned, IsEmpty());
  first.reply(ReplyKind::kDone, cookies[0]);
  for (const uint64_t cookie : {cookies[2], cookies[1]}) first.reply(ReplyKind::kNotBegun, cookie);
  poll(first);
  EXPECT_THAT(returned, ElementsAre(1));
  EXPECT_EQ(owner.pending_count(), 2u);
}

}  // namespace
}  // namespace manta
