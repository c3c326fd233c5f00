// Random lives of a node against the invariants: a failure prints the seed that replays it.
#include "raylet/testing/fake_world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace manta::raylet {
namespace {

class RandomLife {
 public:
  explicit RandomLife(uint32_t seed)
      : random_(seed),
        world_(1 + static_cast<int64_t>(seed % 4), static_cast<int>(seed % 3), 0, seed % 2 == 0 ? wire::Amounts() : kQuota) {
  }

  void live(int steps) {
    for (int i = 0; i < steps; ++i) {
      world_.now_us += pick(200'000);
      act();
      hear();
      if (const auto due = world_.core.next_deadline_us(); due && *due <= world_.now_us) world_.feed(Tick{});
    }
  }

  /// Faults stop: everything runs to its end. Every request must have been answered, nothing may be held.
  void come_to_rest() {
    for (int round = 0; round < 5000 && !(world_.core.is_at_rest() && world_.killed.empty()); ++round) {
      world_.now_us += 50'000;
      world_.start_all();
      world_.bury_killed();
      hear();
      for (ProcessId process : std::vector(blocked_.begin(), blocked_.end())) unblock(process);
      for (const auto& [key, incarnation] : std::map(actors_))
        world_.feed(HeadSays{wire::EndActor{.actor = key, .incarnation = incarnation, .reason = "over"}});
      actors_.clear();
      return_all();
      if (const auto due = world_.core.next_deadline_us(); due && *due <= world_.now_us) world_.feed(Tick{});
    }
    EXPECT_TRUE(world_.core.is_at_rest());
    for (const auto& [owner, number] : open_)
      EXPECT_FALSE(is_alive(owner)) << "request " << number << " of process " << owner.value << " was never answered";
  }

 private:
  uint32_t pick(uint32_t below) { return static_cast<uint32_t>(random_() % below); }
  bool is_alive(ProcessId process) const {
    return process == FakeWorld::kDriver ||
           (world_.token_of.contains(process) && world_.live.contains(world_.token_of.at(process)));
  }
  ProcessId any_client() {
    std::vector<ProcessId> candidates{FakeWorld::kDriver};
    for (const auto& [process, token] : world_.token_of)
      if (world_.live.contains(token)) candidates.push_back(process);
    return candidates[pick(static_cast<uint32_t>(candidates.size()))];
  }

  void act() {
    switch (pick(12)) {
      case 0:
      case 1:
      case 2: return ask();
      case 3:
      case 4: return give_back_one();
      case 5: return start_or_fail();
      case 6: return kill_one();
      case 7: return toggle_blocked();
      case 8: return place_or_end_actor();
      case 9: return run_out_of_memory();
      case 10: return world_.say(any_client(), wire::WatchProcess{pick(3) == 0 ? 12'345u : any_client().value});
      default: return cancel_one();
    }
  }

  void ask() {
    const ProcessId owner = any_client();
    const double gpus = pick(6) == 0 ? (pick(2) == 0 ? 0.5 : 1) : 0;
    open_.insert({owner, next_request_});
    world_.request(owner, next_request_++, pick(4) * 0.5, gpus);
  }
  void cancel_one() {
    if (open_.empty()) return;
    const auto it = std::next(open_.begin(), pick(static_cast<uint32_t>(open_.size())));
    const auto [owner, number] = *it;
    if (!is_alive(owner)) return;
    world_.say(owner, wire::CancelLeaseRequest{number});
    hear();  // a grant may have come just before; it counts as held
    open_.erase({owner, number});
  }
  void give_back_one() {
    if (held_.empty()) return;
    const auto it = std::next(held_.begin(), pick(static_cast<uint32_t>(held_.size())));
    const auto [lease, owner] = *it;
    held_.erase(it);
    world_.say(owner, wire::ReturnLease{lease});
  }
  void return_all() {
    while (!held_.empty()) give_back_one();
  }
  void start_or_fail() {
    if (world_.starting.empty()) return;
    if (pick(8) == 0) return world_.exit(world_.starting.front(), {.by_signal = false, .code = 1});
    // Killed before it could say hello: it never does.
    if (world_.killed.contains(world_.starting.front())) return world_.exit(world_.starting.front());
    world_.start_one();
  }
  void kill_one() {
    if (!world_.killed.empty()) return world_.exit(*world_.killed.begin());
    const ProcessId victim = any_client();
    if (victim != FakeWorld::kDriver) world_.exit(victim);
  }
  void toggle_blocked() {
    const ProcessId process = any_client();
    if (process == FakeWorld::kDriver) return;
    if (blocked_.contains(process)) return unblock(process);
    blocked_.insert(process);
    world_.say(process, wire::Blocked{true});
  }
  void unblock(ProcessId process) {
    blocked_.erase(process);
    if (is_alive(process)) world_.say(process, wire::Blocked{false});
  }
  void place_or_end_actor() {
    if (!actors_.empty() && pick(2) == 0) {
      const auto it = std::next(actors_.begin(), pick(static_cast<uint32_t>(actors_.size())));
      const wire::EndActor end{.actor = it->first, .incarnation = it->second, .drain = pick(2) == 0, .reason = {}};
      if (!end.drain) actors_.erase(it);
      return world_.feed(HeadSays{end});
    }
    wire::PlaceActor place;
    place.owner = any_client().value;
    place.start.actor = {place.owner, next_request_++};
    place.start.incarnation = 1;
    place.delay_us = pick(3) == 0 ? pick(300'000) : 0;
    place.scheduling_class.resources.cpus = static_cast<int64_t>(pick(3)) * wire::kWhole / 2;
    actors_[place.start.actor] = 1;
    world_.feed(HeadSays{place});
  }

  void run_out_of_memory() {
    MemorySampled sampled{.used_bytes = 1000, .limit_bytes = 1000, .whose = "the node", .workers = {}};
    for (const WorkerToken token : world_.live) sampled.workers.push_back({token, pick(500), pick(500)});
    world_.feed(std::move(sampled));
  }

  /// The head, as far as quotas go: this node has all that the job may have. It is late at times.
  void give_shares() {
    for (; asked_head_ < world_.told_head.size() && pick(3) != 0; ++asked_head_) {
      const auto* report = std::get_if<wire::QuotaReport>(&world_.told_head[asked_head_]);
      if (report == nullptr) continue;
      wire::Amounts share = report->keeps;
      for (const wire::QuotaWant& want : report->wants)
        for (uint32_t i = 0; i < want.count && wire::kind_above(kQuota, share, want.each).empty(); ++i)
          wire::add_amounts(share, want.each);
      world_.feed(HeadSays{wire::QuotaShare{
          .job = report->job, .number = ++shares_, .report = report->number, .share = share, .held = share}});
    }
  }

  /// Takes note of what the core sent since the last time, and reacts as good clients do.
  void hear() {
    give_shares();
    for (; heard_ < world_.sends.size(); ++heard_) {
      const Send send = world_.sends[heard_];
      if (const auto* granted = std::get_if<wire::LeaseGranted>(&send.message)) {
        EXPECT_TRUE(open_.erase({send.to, granted->request}) == 1) << "granted twice, or after it was cancelled";
        held_[granted->lease] = send.to;
      } else if (const auto* refused = std::get_if<wire::LeaseRefused>(&send.message)) {
        EXPECT_EQ(open_.erase({send.to, refused->request}), 1u);
      } else if (const auto* reclaimed = std::get_if<wire::ReclaimLease>(&send.message)) {
        if (const auto it = held_.find(reclaimed->lease); it != held_.end()) {
          held_.erase(it);
          world_.say(send.to, wire::ReturnLease{reclaimed->lease});
        }
      } else if (std::holds_alternative<wire::Goodbye>(send.message) ||
                 std::holds_alternative<wire::StopActor>(send.message)) {
        if (is_alive(send.to)) world_.exit(send.to, {.by_signal = false, .code = 0});
      }
    }
  }

  static inline const wire::Amounts kQuota{{"cpus", 3 * wire::kWhole / 2}};

  std::mt19937 random_;
  FakeWorld world_;
  size_t asked_head_ = 0;
  uint64_t shares_ = 0;
  size_t heard_ = 0;
  uint64_t next_request_ = 1;
  std::set<std::pair<ProcessId, uint64_t>> open_;
  std::map<uint64_t, ProcessId> held_;
  std::set<ProcessId> blocked_;
  std::map<wire::ActorKey, uint32_t> actors_;
};

TEST(RayletCoreRandom, NoLifeBreaksAnInvariantAndAllComeToRest) {
  for (uint32_t seed = 0; seed < 300 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    RandomLife life(seed);
    life.live(400);
    life.come_to_rest();
  }
}

}  // namespace
}  // namespace manta::raylet
