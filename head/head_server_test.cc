#include "head/head_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <poll.h>

#include <atomic>
#include <semaphore>

namespace manta::head {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kDriver = 1;

/// A disk whose every write waits for the test.
class SlowStore : public Store {
 public:
  struct Controls {
    std::counting_semaphore<> may_write{0};
    std::atomic<int> writes{0};
    std::atomic<bool> is_full{false};
    MemoryStore rows;
  };
  explicit SlowStore(Controls& controls) : controls_(controls) {}
  Status append(const std::vector<Record>& batch) override {
    controls_.may_write.acquire();
    ++controls_.writes;
    if (controls_.is_full) return Status(Code::kFull, "no space left");
    return controls_.rows.append(batch);
  }
  Result<std::vector<Record>> load() override { return controls_.rows.load(); }

 private:
  Controls& controls_;
};

wire::HeadClientJoined driver() { return {.process = kDriver, .role = 0, .pid = 1, .job = 1, .job_name = "job"}; }
wire::HeadRequest create(uint64_t sequence) {
  wire::CreateActor create;
  create.actor = {kDriver, sequence};
  return {kDriver, create};
}

std::vector<wire::ToNode> wait_for_messages(HeadServer& server) {
  pollfd ready{.fd = server.wake_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&ready, 1, 10'000), 1);
  return server.receive();
}

TEST(HeadServer, AnAnswerWaitsForTheDisk) {
  SlowStore::Controls disk;
  auto server = HeadServer::lasting(std::make_unique<SlowStore>(disk)).value();
  ASSERT_TRUE(server->send(wire::kHeadNode, driver()).ok());
  ASSERT_TRUE(server->send(wire::kHeadNode, create(1)).ok());
  EXPECT_THAT(server->receive(), IsEmpty());
  disk.may_write.release(10);
  std::vector<wire::ToNode> messages;
  while (messages.empty()) messages = wait_for_messages(*server);
  EXPECT_THAT(messages, SizeIs(2));  // pending, and where to place it
}

TEST(HeadServer, WhatGathersWhileTheDiskIsBusyIsOneWrite) {
  SlowStore::Controls disk;
  auto server = HeadServer::lasting(std::make_unique<SlowStore>(disk)).value();
  ASSERT_TRUE(server->send(wire::kHeadNode, driver()).ok());
  for (uint64_t i = 1; i <= 100; ++i) ASSERT_TRUE(server->send(wire::kHeadNode, create(i)).ok());
  disk.may_write.release(1000);
  size_t messages = 0;
  while (messages < 200) messages += wait_for_messages(*server).size();
  EXPECT_LE(disk.writes, 101);
  server.reset();
  HeadCore again;
  ASSERT_TRUE(again.replay(disk.rows.load().value()).ok());
  EXPECT_NE(again.find({kDriver, 100}), nullptr);
}

TEST(HeadServer, AFullDiskStopsAnswersAndIsTold) {
  SlowStore::Controls disk;
  auto server = HeadServer::lasting(std::make_unique<SlowStore>(disk)).value();
  disk.is_full = true;
  disk.may_write.release(10);
  ASSERT_TRUE(server->send(wire::kHeadNode, driver()).ok());
  Status status;
  while (status.ok()) status = server->send(wire::kHeadNode, create(1));
  EXPECT_EQ(status.code(), Code::kFull);
  EXPECT_THAT(server->receive(), IsEmpty());
}

TEST(HeadServer, ANewLifeTakesUpTheOldOne) {
  SlowStore::Controls disk;
  disk.may_write.release(100);
  {
    auto server = HeadServer::lasting(std::make_unique<SlowStore>(disk)).value();
    ASSERT_TRUE(server->send(wire::kHeadNode, driver()).ok());
    wire::HeadRequest named = create(1);
    std::get<wire::CreateActor>(named.request).name = "boss";
    ASSERT_TRUE(server->send(wire::kHeadNode, named).ok());
    for (size_t messages = 0; messages < 2;) messages += wait_for_messages(*server).size();
  }
  auto server = HeadServer::lasting(std::make_unique<SlowStore>(disk)).value();
  ASSERT_TRUE(
      server->send(wire::kHeadNode, wire::HeadClientJoined{.process = 5, .role = 1, .pid = 1, .job = 1, .job_name = {}})
          .ok());
  ASSERT_TRUE(
      server->send(wire::kHeadNode, wire::HeadRequest{5, wire::FindActor{.request = 1, .name = "boss", .name_space = ""}})
          .ok());
  const auto messages = server->receive();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(std::get<wire::ActorAnswer>(messages[0].message).found.actor.sequence, 1u);
}

TEST(HeadServer, ALocalNodeDoesNotWaitForItsDisk) {
  auto server = HeadServer::local([]() -> Result<std::unique_ptr<Store>> { return Status(Code::kIo, "no such disk"); });
  ASSERT_TRUE(server->send(wire::kHeadNode, driver()).ok());
  ASSERT_TRUE(server->send(wire::kHeadNode, create(1)).ok());
  EXPECT_THAT(server->receive(), SizeIs(2));
}

}  // namespace
}  // namespace manta::head
