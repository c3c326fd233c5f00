// A HeadCore with invented nodes: tests say what nodes say and look at what they were told. After each step the invariants
// are checked and the records go to a store.
#pragma once

#include "head/head_core.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace manta::head {

[[nodiscard]] inline wire::NodeResources room(int64_t cpus, int gpus = 0, int64_t gpu_bytes = 1'000) {
  wire::NodeResources out{.cpus = cpus * wire::kWhole, .memory_bytes = int64_t{1} << 40, .custom = {}, .devices = {}};
  out.devices.assign(static_cast<size_t>(gpus), {.share = wire::kWhole, .memory_bytes = gpu_bytes});
  return out;
}

[[nodiscard]] inline wire::SchedulingClass needs(double cpus, double gpus = 0) {
  wire::SchedulingClass out;
  out.resources.cpus = static_cast<int64_t>(cpus * wire::kWhole);
  out.resources.gpus = static_cast<int64_t>(gpus * wire::kWhole);
  return out;
}

class FakeCluster {
 public:
  explicit FakeCluster(HeadSettings settings = {}) : settings_(settings), core(settings) {}

  // ---- what nodes say

  void say(wire::NodeNumber from, wire::ToHead message, uint64_t number = 0) {
    take(core.step(from, std::move(message), now_us, number));
  }

  /// The head's own node first; the number of the node that joined.
  wire::NodeNumber join(const wire::NodeResources& capacity, std::map<std::string, std::string> labels = {}) {
    return join({.info = {.capacity = capacity, .labels = std::move(labels)}});
  }
  struct JoinOptions {
    struct Info {
      wire::NodeResources capacity;
      std::map<std::string, std::string> labels = {};
      bool is_driver = false;
    } info;
    uint64_t nonce = 0;  ///< 0: a new one.
  };
  wire::NodeNumber join(JoinOptions options) {
    const uint64_t nonce = options.nonce != 0 ? options.nonce : ++last_nonce_;
    wire::Join join{.version = "test", .info = {}, .nonce = nonce};
    join.info.name = "n" + std::to_string(nonce);
    join.info.endpoint = "tcp://host:" + std::to_string(nonce);
    join.info.capacity = options.info.capacity;
    join.info.labels = std::move(options.info.labels);
    join.info.is_driver = options.info.is_driver;
    say(core.members().find(wire::kHeadNode) == nullptr ? wire::kHeadNode : 0, join);
    for (const auto& [to, joined] : said<wire::Joined>())
      if (joined.nonce == nonce) return joined.number;
    return 0;
  }
  void beat(wire::NodeNumber node, const wire::NodeResources& available, uint64_t placed_up_to = ~uint64_t{0},
            bool is_draining = false) {
    say(node, wire::Heartbeat{.sequence = ++last_sequence_,
                              .view_version = view_of[node],
                              .has_resources = true,
                              .available = available,
                              .is_draining = is_draining,
                              .placed_up_to = placed_up_to});
    for (const auto& [to, view] : said<wire::View>()) view_of[to] = view.version;
  }
  /// A process of that node; the head hears of it.
  uint64_t process(wire::NodeNumber node, wire::Role role = wire::Role::kWorker) {
    const uint64_t id = wire::first_id_of(node) + ++last_process_;
    say(node, client(id, role));
    return id;
  }
  [[nodiscard]] static wire::HeadClientJoined client(uint64_t id, wire::Role role = wire::Role::kWorker) {
    return {.process = id, .role = static_cast<uint8_t>(role), .pid = 5, .job = id, .job_name = "job"};
  }
  template <typename Request>
  void ask(uint64_t from, Request request) {
    say(wire::node_of(from), wire::HeadRequest{from, std::move(request)});
  }
  wire::ActorKey create(uint64_t owner, wire::SchedulingClass what, int32_t max_restarts = 0, bool detached = false) {
    wire::CreateActor create;
    create.actor = {owner, ++last_sequence_};
    create.class_name = "Class";
    create.scheduling_class = std::move(what);
    create.max_restarts = max_restarts;
    create.detached = detached;
    ask(owner, create);
    return create.actor;
  }
  void report(wire::NodeNumber node, const wire::ActorKey& actor, uint32_t incarnation, wire::ActorEvent event) {
    const bool is_bad = event != wire::ActorEvent::kStarted;
    say(node, wire::HeadActorEvent{.actor = actor,
                                   .incarnation = incarnation,
                                   .event = static_cast<uint8_t>(event),
                                   .worker = wire::first_id_of(node) + 77,
                                   .worker_pid = 7,
                                   .cause = wire::to_wire(is_bad ? Status(Code::kDied, "killed") : Status())});
  }
  /// It was placed and is constructed.
  void start(const wire::ActorKey& actor) {
    report(where(actor), actor, core.find(actor)->incarnation, wire::ActorEvent::kStarted);
  }
  /// Time passes at once: past a second and a half the head stood still. Its own node speaks.
  void wait(int64_t us) {
    now_us += us;
    wire::Heartbeat own;
    own.placed_up_to = ~uint64_t{0};
    if (core.members().find(wire::kHeadNode) != nullptr) say(wire::kHeadNode, own);
    last.clear();
    if (const auto due_us = core.next_deadline_us(); due_us && *due_us <= now_us) take(core.tick(now_us));
  }

  /// Of a call of the core that the test made itself.
  void take_effects(HeadEffects effects) { take(std::move(effects)); }

  // ---- what they were told by the last step

  template <typename Message>
  [[nodiscard]] std::vector<std::pair<wire::NodeNumber, Message>> said() const {
    std::vector<std::pair<wire::NodeNumber, Message>> found;
    for (const wire::ToNode& one : last)
      if (const auto* message = std::get_if<Message>(&one.message)) found.emplace_back(one.to, *message);
    return found;
  }
  [[nodiscard]] std::vector<wire::ActorUpdate> told(uint64_t watcher) const {
    std::vector<wire::ActorUpdate> found;
    for (const auto& [to, notice] : said<wire::ActorNotice>())
      if (notice.to == watcher) found.push_back(notice.update);
    return found;
  }
  [[nodiscard]] wire::NodeNumber where(const wire::ActorKey& actor) const { return core.find(actor)->node; }
  [[nodiscard]] wire::ActorPhase phase(const wire::ActorKey& actor) const { return core.find(actor)->phase; }
  [[nodiscard]] std::string cause(const wire::ActorKey& actor) const { return core.find(actor)->cause.message; }

  // ---- the head's own fate

  [[nodiscard]] HeadCore replayed() {
    HeadCore again(settings_);
    EXPECT_TRUE(again.replay(store.load().value()).ok());
    return again;
  }
  void expect_replay_is_equal() {
    const HeadCore again = replayed();
    again.check_invariants();
    EXPECT_EQ(again.snapshot(), core.snapshot());
  }
  /// The head dies and comes back with what the store has; its own node joins anew.
  void restart_head(const wire::NodeResources& own_capacity) {
    core = replayed();
    JoinOptions own{.info = {.capacity = own_capacity}};
    own.nonce = ++last_nonce_;
    wire::Join join{.version = "test", .info = {}, .nonce = own.nonce};
    join.info.name = "head again";
    join.info.endpoint = "tcp://host:1";
    join.info.capacity = own_capacity;
    say(wire::kHeadNode, join);
  }

 private:
  HeadSettings settings_;

 public:
  HeadCore core;
  MemoryStore store;
  int64_t now_us = 1'000'000;
  std::vector<wire::ToNode> last;
  std::vector<FileOrder> files;  ///< Of the last step.
  std::map<wire::NodeNumber, uint64_t> view_of;

 private:
  void take(HeadEffects effects) {
    last = std::move(effects.messages);
    files = std::move(effects.files);
    EXPECT_TRUE(store.append(effects.records).ok());
    core.check_invariants();
    for (const auto& [to, message] : last) {
      const auto* members = std::get_if<wire::Members>(&message);
      const bool is_to_the_gone = members != nullptr && !members->gone.empty();
      const bool is_member = core.members().find(to) != nullptr || members_before_.contains(to);
      EXPECT_TRUE(to == 0 || is_to_the_gone || is_member) << "told " << to;
    }
    members_before_.clear();
    for (const auto& [number, member] : core.members().members()) members_before_.insert(number);
  }

  std::set<wire::NodeNumber> members_before_;  // the last step
  uint64_t last_nonce_ = 0;
  uint64_t last_process_ = 0;
  uint64_t last_sequence_ = 0;
};

}  // namespace manta::head
