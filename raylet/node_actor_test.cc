// Actors on a real mantad: creation, channels, death, restart with saved state, names, owners.
#include "raylet/testing/test_node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

namespace manta::raylet {
namespace {

using ::testing::HasSubstr;
using wire::ActorPhase;

wire::CreateActor actor(uint64_t sequence, const std::string& class_key = "fine", double cpus = 1) {
  wire::CreateActor create;
  create.actor = {TestNode::kDriver, sequence};
  create.class_key = class_key;
  create.class_name = "Class";
  create.scheduling_class = needs(cpus);
  return create;
}

/// The next update in this phase; those before it are dropped.
wire::ActorUpdate wait_for(TestNode& node, ActorPhase phase) {
  for (int i = 0; i < 1000; ++i) {
    auto update = node.expect<wire::ActorUpdate>();
    if (update.phase == static_cast<uint8_t>(phase)) return update;
  }
  ADD_FAILURE() << "the phase " << static_cast<int>(phase) << " never came";
  return {};
}

std::string message_of(const wire::ActorUpdate& update) { return wire::from_wire(update.cause).message(); }

TEST(NodeActors, AnActorComesAliveWithAChannel) {
  TestNode node({"--cpus", "1"});
  node.join();
  node.send(actor(1));
  wire::Frame frame;
  auto update = node.expect<wire::ActorUpdate>(&frame);
  EXPECT_EQ(update.phase, static_cast<uint8_t>(ActorPhase::kPending));
  update = node.expect<wire::ActorUpdate>(&frame);
  EXPECT_EQ(update.phase, static_cast<uint8_t>(ActorPhase::kAlive));
  EXPECT_EQ(update.incarnation, 1u);
  EXPECT_TRUE(update.new_channel);
  EXPECT_EQ(frame.descriptors.size(), 2u);
  EXPECT_EQ(kill(update.worker_pid, 0), 0);
  EXPECT_EQ(node.state().actors, 1u);
  EXPECT_EQ(node.state().available.cpus, 0);
}

TEST(NodeActors, ADeadActorRestartsWithItsStateUntilNoRestartIsLeft) {
  TestNode node({"--cpus", "1"});
  node.join();
  wire::CreateActor create = actor(1, "saves");
  create.max_restarts = 2;
  node.send(create);
  auto update = wait_for(node, ActorPhase::kAlive);
  for (uint32_t incarnation = 2; incarnation <= 3; ++incarnation) {
    node.tell(update.worker, "echo");  // its state, sent before, has arrived when this is answered
    node.expect<wire::Relay>();
    ASSERT_EQ(kill(update.worker_pid, SIGKILL), 0);
    const auto restarting = wait_for(node, ActorPhase::kRestarting);
    EXPECT_EQ(message_of(restarting), "killed by signal 9 (SIGKILL)");
    update = wait_for(node, ActorPhase::kAlive);
    EXPECT_EQ(update.incarnation, incarnation);
    EXPECT_TRUE(update.new_channel);
  }
  node.tell(update.worker, "exit 5");
  EXPECT_EQ(message_of(wait_for(node, ActorPhase::kDead)), "exited with code 5");
  EXPECT_EQ(node.state().actors, 0u);
  EXPECT_EQ(node.state().available.cpus, wire::kWhole);
}

TEST(NodeActors, AConstructorThatThrowsIsNotTriedAgain) {
  TestNode node({"--cpus", "1"});
  node.join();
  wire::CreateActor create = actor(1, "throws");
  create.max_restarts = -1;
  node.send(create);
  const auto dead = wait_for(node, ActorPhase::kDead);
  EXPECT_EQ(message_of(dead), "the constructor threw");
  EXPECT_EQ(wire::from_wire(dead.cause).code(), Code::kTaskFailed);
  EXPECT_EQ(node.expect<wire::ProcessDied>().pid > 0, true);
  EXPECT_EQ(node.state().available.cpus, wire::kWhole);
}

TEST(NodeActors, AnActorThatNeverFitsSaysWhy) {
  TestNode node({"--cpus", "1"});
  node.join();
  node.send(actor(1, "fine", 3));
  EXPECT_THAT(message_of(wait_for(node, ActorPhase::kDead)), HasSubstr("asked for 3 CPUs"));
}

TEST(NodeActors, AnActorThatWaitsSaysForWhat) {
  TestNode node({"--cpus", "1"});
  node.join();
  node.send(actor(1));
  wait_for(node, ActorPhase::kAlive);
  node.send(actor(2));
  wait_for(node, ActorPhase::kPending);
  EXPECT_THAT(message_of(wait_for(node, ActorPhase::kPending)), HasSubstr("needs 1 CPUs, 0 of 1 are free"));
  node.send(wire::KillActor{.actor = {TestNode::kDriver, 1}, .drain = true, .reason = {}});
  EXPECT_EQ(wait_for(node, ActorPhase::kDead).actor.sequence, 1u);
  EXPECT_EQ(wait_for(node, ActorPhase::kAlive).actor.sequence, 2u);
}

TEST(NodeActors, NamesFindTheLivingOnly) {
  TestNode node({"--cpus", "4"});
  node.join();
  wire::CreateActor named = actor(1);
  named.name = "boss";
  node.send(named);
  wait_for(node, ActorPhase::kAlive);
  node.send(wire::FindActor{.request = 5, .name = "boss", .name_space = ""});
  const auto found = node.expect<wire::ActorFound>();
  EXPECT_EQ(found.actor.sequence, 1u);
  EXPECT_EQ(found.class_name, "Class");

  named.actor.sequence = 2;
  node.send(named);
  const auto refused = wait_for(node, ActorPhase::kDead);
  EXPECT_EQ(refused.actor.sequence, 2u);
  EXPECT_EQ(wire::from_wire(refused.cause).code(), Code::kExists);

  named.actor.sequence = 3;
  named.get_if_exists = true;
  node.send(named);
  const auto existing = node.expect<wire::ActorUpdate>();
  EXPECT_EQ(existing.actor.sequence, 1u);
  EXPECT_EQ(existing.instead_of.sequence, 3u);
  EXPECT_FALSE(existing.new_channel);

  node.send(wire::KillActor{.actor = {TestNode::kDriver, 1}, .reason = "enough"});
  EXPECT_EQ(message_of(wait_for(node, ActorPhase::kDead)), "killed by Manta: enough");
  node.send(wire::FindActor{.request = 6, .name = "boss", .name_space = ""});
  EXPECT_EQ(wire::from_wire(node.expect<wire::ActorFound>().status).code(), Code::kNotFound);
}

TEST(NodeActors, AnActorWhoseWorkerCannotStartIsDead) {
  TestNode node({"--cpus", "1"});
  node.join("broken");
  node.send(actor(1));
  EXPECT_THAT(message_of(wait_for(node, ActorPhase::kDead)), HasSubstr("cannot find my libraries"));
}

TEST(NodeActors, ManyActorsStart) {
  TestNode node({"--cpus", "2"});
  node.join();
  constexpr uint64_t kActors = 100;
  for (uint64_t i = 1; i <= kActors; ++i) node.send(actor(i, "fine", 0));
  for (uint64_t i = 1; i <= kActors; ++i) wait_for(node, ActorPhase::kAlive);
  EXPECT_EQ(node.state().actors, kActors);
}

}  // namespace
}  // namespace manta::raylet
