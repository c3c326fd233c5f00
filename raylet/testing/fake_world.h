// Everything around a RayletCore, invented: processes that start, say hello, work and die when the test says so. No I/O.
#pragma once

#include "raylet/raylet_core.h"

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace manta::raylet {

class FakeWorld {
 public:
  static constexpr ProcessId kDriver{1};

  explicit FakeWorld(int64_t cpus, int gpus = 0, wire::NodeNumber number = 0, wire::Amounts job_quota = {})
      : core({.node = NodeId{9},
              .number = number,
              .capacity = {.cpus = cpus * wire::kWhole,
                           .memory_bytes = 1 << 30,
                           .custom = {},
                           .devices = std::vector<DeviceSpec>(static_cast<size_t>(gpus), DeviceSpec{1000, ""})},
              .job_quota = std::move(job_quota),
              .session_dir = "/s",
              .raylet_name = "r"}) {
    wire::Hello hello;
    hello.process = kDriver.value;
    hello.role = static_cast<uint8_t>(wire::Role::kDriver);
    hello.program = "p";
    feed(ClientJoined{hello});
  }

  void feed(Event event) {
    for (Effect& effect : core.step(std::move(event), now_us)) std::visit([this](auto& one) { note(one); }, effect);
    core.check_invariants();
  }
  template <typename Message>
  void say(ProcessId from, Message message) {
    feed(FromClient{from, ClientMessage(std::move(message))});
  }

  /// Every process that was spawned and not yet introduced says hello.
  void start_all() {
    while (!starting.empty()) start_one();
  }
  ProcessId start_one() {
    const WorkerToken token = starting.front();
    starting.pop_front();
    const ProcessId process{next_process++};
    feed(WorkerSpawned{token, static_cast<int32_t>(1000 + token.value)});
    process_of[token] = process;
    token_of[process] = token;
    wire::Hello hello;
    hello.process = process.value;
    hello.role = static_cast<uint8_t>(wire::Role::kWorker);
    hello.spawn_token = token.value;
    feed(ClientJoined{hello});
    return process;
  }
  /// The process of this worker ends.
  void exit(WorkerToken token, ExitCause cause = {.by_signal = true, .code = 9}) {
    killed.erase(token);
    std::erase(starting, token);
    live.erase(token);
    feed(WorkerExited{token, cause, "last words"});
  }
  void exit(ProcessId process, ExitCause cause = {.by_signal = true, .code = 9}) { exit(token_of.at(process), cause); }
  /// All that the core asked to kill ends.
  void bury_killed() {
    while (!killed.empty()) exit(*killed.begin());
  }

  void request(ProcessId owner, uint64_t number, double cpus, double gpus = 0) {
    wire::RequestLease request{.request = number, .scheduling_class = {}};
    request.scheduling_class.resources.cpus = static_cast<int64_t>(cpus * wire::kWhole);
    request.scheduling_class.resources.gpus = static_cast<int64_t>(gpus * wire::kWhole);
    say(owner, std::move(request));
  }
  [[nodiscard]] std::optional<wire::LeaseGranted> grant_of(ProcessId owner, uint64_t number) const {
    for (const auto& [to, granted] : grants)
      if (to == owner && granted.request == number) return granted;
    return std::nullopt;
  }

  template <typename Message>
  [[nodiscard]] std::vector<Message> sent(ProcessId to) const {
    std::vector<Message> found;
    for (const Send& send : sends)
      if (const auto* message = std::get_if<Message>(&send.message); message != nullptr && send.to == to)
        found.push_back(*message);
    return found;
  }

  RayletCore core;
  int64_t now_us = 1'000'000;
  std::deque<WorkerToken> starting;  // spawned, silent
  std::set<WorkerToken> killed;      // to end by the core's wish
  std::set<WorkerToken> live;
  std::map<WorkerToken, ProcessId> process_of;
  std::map<ProcessId, WorkerToken> token_of;
  std::vector<Spawn> spawns;
  std::vector<Send> sends;
  std::vector<std::pair<ProcessId, wire::LeaseGranted>> grants;
  std::vector<wire::ToHead> told_head;
  std::vector<JobId> fetches;
  std::vector<JobId> dropped;
  std::vector<HandOn> handed_on;
  std::vector<AskLease> asked;
  std::vector<SpillLease> spilled;
  std::vector<TellLease> told_leases;
  std::vector<TellGone> told_gone;
  std::vector<std::string> removed;
  int reports_wanted = 0;
  std::optional<std::vector<wire::NodeNumber>> receivers;  ///< Of the store's objects.
  std::vector<ListObjects> listed_objects;
  std::vector<Disconnect> disconnected;
  bool is_ended = false;
  EndNode end;

 private:
  void note(Send& effect) {
    if (const auto* granted = std::get_if<wire::LeaseGranted>(&effect.message)) grants.emplace_back(effect.to, *granted);
    sends.push_back(std::move(effect));
  }
  void note(Connect&) {}
  void note(Spawn& effect) {
    starting.push_back(effect.token);
    live.insert(effect.token);
    spawns.push_back(std::move(effect));
  }
  void note(KillWorker& effect) { killed.insert(effect.token); }
  void note(Disconnect& effect) { disconnected.push_back(std::move(effect)); }
  void note(ListObjects& effect) { listed_objects.push_back(std::move(effect)); }
  void note(TellHead& effect) { told_head.push_back(std::move(effect.message)); }
  void note(FetchJob& effect) { fetches.push_back(effect.job); }
  void note(HandOn& effect) { handed_on.push_back(std::move(effect)); }
  void note(AskLease& effect) { asked.push_back(std::move(effect)); }
  void note(SpillLease& effect) { spilled.push_back(std::move(effect)); }
  void note(TellLease& effect) { told_leases.push_back(effect); }
  void note(TellGone& effect) { told_gone.push_back(std::move(effect)); }
  void note(ReportSoon&) { ++reports_wanted; }
  void note(DropJob& effect) { dropped.push_back(effect.job); }
  void note(MoveObjects& effect) { receivers = effect.to; }
  void note(RemovePath& effect) { removed.push_back(effect.path); }
  void note(EndNode& effect) {
    is_ended = true;
    end = effect;
  }

  uint64_t next_process = 100;
};

}  // namespace manta::raylet
