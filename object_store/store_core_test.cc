#include "object_store/store_core.h"

#include "object_store/hazard_page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace manta::object_store {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

/// A whole store around the core, in memory: carries effects out, keeps what clients know, and checks what must always hold.
class World {
 public:
  explicit World(uint64_t capacity, uint64_t spill_bytes = 0)
      : capacity_(capacity), core_({capacity, StoreCore::slots_for(capacity), spill_bytes, "/spill"}) {}

  struct Granted {
    ProcessId process;
    uint64_t size_bytes = 0;
    std::vector<std::pair<uint32_t, uint32_t>> slots;  // free, with generations
  };
  struct Known {
    ProcessId producer, owner;
    wire::ObjectLocation at;
    bool reclaimed = false;
  };

  void step(const Event& event) {
    for (Effect& effect : core_.step(event, now)) std::visit([this](auto& e) { carry_out(e); }, effect);
    core_.check_invariants();
  }
  void join(uint64_t process) { step(event::ClientJoined{{process}, static_cast<int>(process * 100)}); }
  void request(uint64_t process, uint64_t id, uint64_t bytes, uint32_t timeout_ms = 0, bool dedicated = false) {
    step(event::Request{{process}, {id, bytes, timeout_ms, dedicated}});
  }
  /// The location of a new object at `offset` of a granted segment; sealed.
  wire::ObjectLocation seal(uint64_t segment, uint64_t offset, uint64_t bytes, uint64_t owner) {
    Granted& granted = grants.at(segment);
    auto [slot, generation] = granted.slots.back();
    granted.slots.pop_back();
    wire::ObjectLocation at{segment, offset, bytes, slot, generation};
    known.push_back({granted.process, {owner}, at});
    step(event::Seal{granted.process, {owner, ++sequence_, at}});
    return at;
  }
  void free(uint64_t process, const wire::ObjectLocation& at) { step(event::Freed{{process}, {at}}); }
  bool is_live(const wire::ObjectLocation& at) { return table[at.slot] == at.generation; }
  void advance(std::chrono::milliseconds by) {
    now += by;
    step(event::Tick{});
  }

  void carry_out(effect::Grant& grant) {
    EXPECT_EQ(grant.slots.size(), grant.generations.size());
    EXPECT_EQ(files.contains(grant.segment.value), !grant.is_new);
    files[grant.segment.value] = grant.size_bytes;
    Granted granted{grant.process, grant.size_bytes, {}};
    for (size_t i = 0; i < grant.slots.size(); ++i) {
      set_generation(grant.slots[i], grant.generations[i]);
      granted.slots.emplace_back(grant.slots[i], grant.generations[i]);
      for (uint64_t pin : pins) EXPECT_NE(slot_of(pin), grant.slots[i]) << "granted while pinned";
    }
    grants[grant.segment.value] = granted;
    answered[grant.request] = grant.segment.value;
    for (Known& object : known) object.reclaimed = object.reclaimed || object.at.segment == grant.segment.value;
  }
  void carry_out(effect::MakeWarm& make) {
    for (const auto& each : make.segments) files[each.segment.value] = each.size_bytes;
  }
  void carry_out(effect::Refuse& refuse) {
    EXPECT_FALSE(answered.contains(refuse.request));
    answered[refuse.request] = 0;
    last_refusal = refuse.status;
  }
  void carry_out(effect::Reclaim& reclaim) {
    for (const wire::ObjectLocation& at : reclaim.objects) {
      EXPECT_EQ(grants.at(at.segment).process, reclaim.process);
      EXPECT_EQ(table[at.slot], at.generation);
      for (uint64_t pin : pins) EXPECT_NE(slot_of(pin), at.slot) << "reclaimed while pinned";
      grants.at(at.segment).slots.emplace_back(at.slot, at.generation);
      reclaimed.push_back(at);
      for (Known& object : known) {
        object.reclaimed = object.reclaimed || (object.at.segment == at.segment && object.at.offset == at.offset);
      }
    }
  }
  void carry_out(effect::SetGeneration& set) { set_generation(set.slot, set.generation); }
  void carry_out(effect::Scan&) { step(event::Scanned{{pins.begin(), pins.end()}}); }
  void carry_out(effect::Punch& punch) {
    EXPECT_EQ(punch.offset % kPageBytes, 0u);
    EXPECT_LE(punch.offset + punch.size_bytes, files.at(punch.segment.value));
    for (const Known& object : known) {
      if (object.at.segment != punch.segment.value || !must_keep(object)) continue;
      EXPECT_TRUE(object.at.offset >= punch.offset + punch.size_bytes ||
                  object.at.offset + object.at.size_bytes <= punch.offset)
          << "punched under an object";
    }
    punched_bytes += punch.size_bytes;
  }
  void carry_out(effect::Retire& retire) {
    for (const Known& object : known)
      EXPECT_FALSE(object.at.segment == retire.segment.value && must_keep(object)) << "retired under an object";
    EXPECT_EQ(files.erase(retire.segment.value), 1u);
    grants.erase(retire.segment.value);
  }
  void carry_out(effect::MakeOwn& make) { EXPECT_TRUE(files.emplace(make.segment.value, make.size_bytes).second); }
  void carry_out(effect::WriteSpill& write) { writes.push_back(write); }
  void carry_out(effect::ReadSpill& read) { reads.push_back(read); }
  void carry_out(effect::Pull&) {}
  void carry_out(effect::ForwardFree&) {}
  void carry_out(effect::DropCopies&) {}
  void carry_out(effect::AskToAdopt&) {}
  void carry_out(effect::RefuseAdoption&) {}
  void carry_out(effect::TellMoved&) {}
  void carry_out(effect::PunchSpill&) {}
  void carry_out(effect::RemoveSpill& remove) { EXPECT_EQ(disk.erase(remove.file), 1u); }
  void carry_out(effect::Restored& restored) {
    EXPECT_FALSE(restores.contains(restored.request)) << "answered twice";
    restores[restored.request] = restored;
  }
  void carry_out(effect::Trim& trim) { trimmed.insert(trim.process.value); }
  void carry_out(effect::Reject& reject) {
    rejected = reject.process;
    last_refusal = reject.status;
  }
  /// Live, or pinned by somebody.
  bool must_keep(const Known& object) {
    return is_live(object.at) || pins.contains(hazard_key(object.at.slot, object.at.generation));
  }
  void set_generation(uint32_t slot, uint32_t generation) {
    EXPECT_GE(generation, table[slot]);
    table[slot] = generation;
  }

  Time now = FakeClock().now();
  std::map<uint64_t, uint64_t> files;
  std::map<uint64_t, Granted> grants;
  std::map<uint64_t, uint64_t> answered;  // request -> segment, 0 refused
  std::map<uint32_t, uint32_t> table;
  std::set<uint64_t> pins;
  std::vector<Known> known;
  std::vector<wire::ObjectLocation> reclaimed;
  uint64_t punched_bytes = 0;
  std::vector<effect::WriteSpill> writes;  // under way
  std::vector<effect::ReadSpill> reads;
  std::set<uint64_t> disk;  // files
  std::map<uint64_t, effect::Restored> restores;
  std::set<uint64_t> trimmed;
  Status last_refusal;
  ProcessId rejected;
  uint64_t capacity_;
  uint64_t sequence_ = 0;
  StoreCore core_;
};

TEST(StoreCore, FirstSegmentIsSmallLaterOnesLarger) {
  World world(1024 * kMiB);
  world.join(1);
  world.request(1, 1, 100'000);
  world.request(1, 2, 100'000);
  world.request(1, 3, 70 * kMiB, 0, true);
  EXPECT_EQ(world.grants.at(world.answered.at(1)).size_bytes, 16 * kMiB);
  EXPECT_EQ(world.grants.at(world.answered.at(1)).slots.size(), 512u);
  EXPECT_EQ(world.grants.at(world.answered.at(2)).size_bytes, 64 * kMiB);
  EXPECT_EQ(world.grants.at(world.answered.at(3)).size_bytes, 70 * kMiB);
  EXPECT_EQ(world.grants.at(world.answered.at(3)).slots.size(), 1u);
  EXPECT_EQ(world.core_.counts().held_bytes, 150 * kMiB);
}

TEST(StoreCore, AFreedObjectIsReclaimedByItsProducer) {
  World world(64 * kMiB);
  world.join(1);
  world.join(2);
  world.request(1, 1, 100'000);
  wire::ObjectLocation at = world.seal(world.answered[1], 0, 100'000, 2);
  EXPECT_EQ(world.core_.counts().objects, 1u);
  world.free(1, at);  // not its owner
  EXPECT_TRUE(world.is_live(at));
  world.free(2, at);
  EXPECT_FALSE(world.is_live(at));
  ASSERT_EQ(world.reclaimed.size(), 1u);
  EXPECT_EQ(world.reclaimed[0].generation, at.generation + 1);
  EXPECT_EQ(world.core_.counts().objects, 0u);
  world.free(2, at);  // a second time: of no effect
  EXPECT_EQ(world.reclaimed.size(), 1u);
}

TEST(StoreCore, APinHoldsItsMemoryUntilItIsGone) {
  World world(64 * kMiB);
  world.join(1);
  world.request(1, 1, 100'000);
  wire::ObjectLocation at = world.seal(world.answered[1], 0, 100'000, 1);
  world.pins.insert(hazard_key(at.slot, at.generation));
  world.free(1, at);
  EXPECT_TRUE(world.reclaimed.empty());
  EXPECT_EQ(world.core_.counts().limbo_objects, 1u);
  world.advance(std::chrono::milliseconds(20));
  EXPECT_TRUE(world.reclaimed.empty());
  ASSERT_TRUE(world.core_.next_deadline());
  world.pins.clear();
  world.advance(std::chrono::milliseconds(20));
  EXPECT_EQ(world.reclaimed.size(), 1u);
  world.advance(std::chrono::seconds(10));
  EXPECT_FALSE(world.core_.next_deadline());
}

TEST(StoreCore, AFreeThatOvertakesItsSealedCounts) {
  World world(64 * kMiB);
  world.join(1);
  world.join(2);
  world.request(1, 1, 100'000);
  auto [slot, generation] = world.grants.at(world.answered[1]).slots.back();
  wire::ObjectLocation at{world.answered[1], 0, 100'000, slot, generation};
  world.free(2, at);
  EXPECT_TRUE(world.is_live(at));
  world.seal(at.segment, 0, 100'000, 2);
  EXPECT_FALSE(world.is_live(at));
  EXPECT_EQ(world.reclaimed.size(), 1u);
}

TEST(StoreCore, ObjectsOfAnOwnerThatEndsAreFreedEvenWhenSealedLater) {
  World world(64 * kMiB);
  world.join(1);
  world.join(2);
  world.request(1, 1, 100'000);
  wire::ObjectLocation early = world.seal(world.answered[1], 0, 100'000, 2);
  world.step(event::ClientGone{{2}});
  EXPECT_FALSE(world.is_live(early));
  wire::ObjectLocation late = world.seal(world.answered[1], 1 << 20, 100'000, 2);
  EXPECT_FALSE(world.is_live(late));
  EXPECT_EQ(world.reclaimed.size(), 2u);
}

TEST(StoreCore, ADeadProducersObjectsLiveOnAndTheRestIsPunchedOut) {
  World world(256 * kMiB);
  world.join(1);
  world.join(2);
  world.request(1, 1, 100'000);
  wire::ObjectLocation kept = world.seal(world.answered[1], 4 * kMiB + 64, 5'000, 2);
  wire::ObjectLocation freed = world.seal(world.answered[1], 0, 8'192, 2);
  uint64_t size = world.grants.at(kept.segment).size_bytes;
  world.step(event::ClientGone{{1}});
  EXPECT_TRUE(world.is_live(kept));
  EXPECT_EQ(world.core_.counts().held_bytes, 2u * 8'192);  // 5,000 bytes at 64 touch two pages
  world.free(2, freed);
  EXPECT_EQ(world.core_.counts().held_bytes, 8'192u);
  EXPECT_EQ(world.files.count(kept.segment), 1u);
  world.free(2, kept);
  EXPECT_EQ(world.core_.counts().held_bytes, 0u);
  EXPECT_TRUE(world.files.empty());
  EXPECT_GE(world.punched_bytes, size - 2u * 8'192);
}

TEST(StoreCore, AnUnsealedObjectOfADeadProducerWaitsForItsReaders) {
  World world(64 * kMiB);
  world.join(1);
  world.join(2);
  world.request(1, 1, 100'000);
  auto [slot, generation] = world.grants.at(world.answered[1]).slots.back();
  world.pins.insert(hazard_key(slot, generation));  // a reader was told, the raylet never
  world.step(event::ClientGone{{1}});
  EXPECT_NE(world.table[slot], generation);
  EXPECT_EQ(world.core_.counts().warm_bytes, 0u);
  world.request(2, 2, 62 * kMiB, 1'000, true);
  EXPECT_FALSE(world.answered.contains(2));
  world.pins.clear();
  world.advance(std::chrono::milliseconds(20));
  EXPECT_TRUE(world.answered.contains(2));
}

TEST(StoreCore, EmptySegmentsAreGrantedWarm) {
  World world(256 * kMiB);
  world.join(1);
  world.join(2);
  world.request(1, 1, 20 * kMiB, 0, true);
  wire::ObjectLocation at = world.seal(world.answered[1], 0, 20 * kMiB, 1);
  world.free(1, at);
  EXPECT_EQ(world.core_.counts().warm_bytes, 20 * kMiB);
  world.request(2, 2, 19 * kMiB, 0, true);
  EXPECT_EQ(world.answered[2], world.answered[1]);
  world.step(event::Return{{2}, {world.answered[2]}});
  world.request(1, 3, 15 * kMiB);  // a dedicated one has one slot: not for many small objects
  EXPECT_NE(world.answered[3], world.answered[1]);
  world.advance(std::chrono::seconds(11));
  EXPECT_EQ(world.core_.counts().warm_bytes, 0u);
  EXPECT_FALSE(world.files.contains(world.answered[1]));
}

TEST(StoreCore, AFullStoreAnswersInOrderAsMemoryComesFree) {
  World world(32 * kMiB);
  for (uint64_t p = 1; p <= 3; ++p) world.join(p);
  world.request(1, 1, 16 * kMiB, 0, true);
  world.request(1, 2, 16 * kMiB, 0, true);
  wire::ObjectLocation a = world.seal(world.answered[1], 0, 16 * kMiB, 1);
  wire::ObjectLocation b = world.seal(world.answered[2], 0, 16 * kMiB, 1);
  world.request(2, 3, 20 * kMiB, 5'000, true);
  world.request(3, 4, 10 * kMiB, 5'000, true);
  world.free(1, a);
  EXPECT_FALSE(world.answered.contains(3));
  EXPECT_FALSE(world.answered.contains(4));  // would fit, but is not first
  world.free(1, b);
  EXPECT_NE(world.answered[3], 0u);
  EXPECT_NE(world.answered[4], 0u);
}

TEST(StoreCore, EmptySegmentsOfOthersAreAskedForWhenMemoryIsShortOrNothingHappens) {
  World world(64 * kMiB);
  world.join(1);
  world.join(2);
  world.request(1, 1, 100'000);
  world.request(2, 2, 62 * kMiB, 5'000, true);
  EXPECT_EQ(world.trimmed, std::set<uint64_t>{1});
  world.trimmed.clear();
  world.advance(std::chrono::milliseconds(100));
  EXPECT_EQ(world.trimmed, std::set<uint64_t>{1});  // again: it may have had objects then
  world.step(event::Return{{1}, {world.answered[1]}});
  EXPECT_NE(world.answered[2], 0u);

  World idle(64 * kMiB);
  idle.join(1);
  idle.request(1, 1, 100'000);
  idle.advance(std::chrono::seconds(9));
  EXPECT_TRUE(idle.trimmed.empty());
  idle.advance(std::chrono::seconds(1));
  EXPECT_EQ(idle.trimmed, std::set<uint64_t>{1});
  EXPECT_FALSE(idle.core_.next_deadline());  // once is enough
}

TEST(StoreCore, FullSaysWhoHoldsWhat) {
  World world(32 * kMiB);
  world.join(1);
  world.join(2);
  world.request(1, 1, 30 * kMiB, 0, true);
  world.seal(world.answered[1], 0, 29 * kMiB, 2);
  world.request(2, 2, 10 * kMiB, 500, true);
  EXPECT_FALSE(world.answered.contains(2));
  world.advance(std::chrono::milliseconds(500));
  EXPECT_EQ(world.answered[2], 0u);
  EXPECT_EQ(world.last_refusal.code(), Code::kFull);
  for (const char* part :
       {"10 MiB", "Capacity 32 MiB", "granted 30 MiB", "pid 100 30 MiB", "pid 200 29 MiB", "500 ms", "MANTA_STORE_BYTES"}) {
    EXPECT_NE(world.last_refusal.message().find(part), std::string::npos) << part << " in " << world.last_refusal.message();
  }
  world.request(2, 3, 33 * kMiB, 60'000, true);
  EXPECT_EQ(world.answered[3], 0u);
  EXPECT_NE(world.last_refusal.message().find("MANTA_STORE_BYTES"), std::string::npos);
}

TEST(StoreCore, ClientsThatBreakTheProtocolAreRejectedAlone) {
  World world(64 * kMiB);
  world.join(1);
  world.join(2);
  world.request(1, 1, 100'000);
  uint64_t segment = world.answered[1];
  auto slots = world.grants.at(segment).slots;
  auto [slot, generation] = slots[0];
  wire::ObjectLocation good{segment, 0, 1'000, slot, generation};
  world.step(event::Seal{{1}, {1, 1, good}});
  ASSERT_FALSE(world.rejected);
  auto other = slots[1];
  auto expect_reject = [&](uint64_t process, wire::ObjectLocation at) {
    world.rejected = {};
    world.step(event::Seal{{process}, {1, 2, at}});
    EXPECT_EQ(world.rejected.value, process);
    EXPECT_EQ(world.last_refusal.code(), Code::kInvalid);
  };
  uint64_t size = world.grants.at(segment).size_bytes;
  expect_reject(2, {segment, 4096, 10, other.first, other.second});
  expect_reject(1, {segment, 4097, 10, other.first, other.second});
  expect_reject(1, {segment, 960, 10, other.first, other.second});
  expect_reject(1, {segment, 0, 10, other.first, other.second});
  expect_reject(1, {segment, size, 1, other.first, other.second});
  expect_reject(1, {segment, size - 64, 65, other.first, other.second});
  expect_reject(1, {segment, 4096, ~uint64_t{0}, other.first, other.second});
  expect_reject(1, {segment, ~uint64_t{63}, 64, other.first, other.second});
  expect_reject(1, {segment, 4096, 10, slot, generation});
  expect_reject(1, {segment, 4096, 10, other.first, other.second + 1});
  expect_reject(1, {segment, 4096, 10, ~uint32_t{0}, 1});
  expect_reject(1, {segment + 1, 4096, 10, other.first, other.second});
  world.rejected = {};
  world.step(event::Return{{1}, {segment}});
  EXPECT_EQ(world.rejected.value, 1u);
  world.free(1, {segment, 64, 1'000, slot, generation});
  world.free(1, {segment, 0, 1'000, ~uint32_t{0}, generation});
  EXPECT_TRUE(world.is_live(good));
}

// Random clients that live, die, pin and free, against what must always hold (checked in World and by check_invariants).
TEST(StoreCore, RandomHistoriesKeepTheInvariants) {
  unsigned base = std::random_device{}();
  for (unsigned round = 0; round < 30; ++round) {
    unsigned seed = base + round;
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    World world(48 * kMiB);
    std::set<uint64_t> alive;
    uint64_t next_process = 1, next_request = 1;
    for (int i = 0; i < 1'500; ++i) {
      auto pick = [&]() -> uint64_t {
        if (alive.empty()) return 0;
        return *std::next(alive.begin(), static_cast<ptrdiff_t>(random() % alive.size()));
      };
      switch (random() % 9) {
        case 0:
          if (alive.size() < 4) world.join(*alive.insert(next_process++).first);
          break;
        case 1:
          if (uint64_t process = pick(); process != 0 && random() % 4 == 0) {
            alive.erase(process);
            std::erase_if(world.grants, [&](const auto& grant) { return grant.second.process.value == process; });
            world.step(event::ClientGone{{process}});
          }
          break;
        case 2:
        case 3:
          if (uint64_t process = pick(); process != 0) {
            bool dedicated = random() % 3 == 0;
            world.request(process, next_request++, random() % (dedicated ? 20 * kMiB : kMiB), random() % 2 == 0 ? 0 : 100,
                          dedicated);
          }
          break;
        case 4:
        case 5:
          if (!world.grants.empty() && !alive.empty()) {
            auto grant = std::next(world.grants.begin(), static_cast<ptrdiff_t>(random() % world.grants.size()));
            if (grant->second.slots.empty() || !alive.contains(grant->second.process.value)) break;
            uint64_t offset = random() % (grant->second.size_bytes / 64) * 64, bytes = random() % 300'000;
            bool fits = offset + bytes + 64 <= grant->second.size_bytes;
            for (const World::Known& object : world.known) {
              if (object.at.segment == grant->first && !object.reclaimed) {
                fits = fits &&
                       (object.at.offset >= offset + bytes + 64 || object.at.offset + object.at.size_bytes + 64 <= offset);
              }
            }
            world.rejected = {};
            if (fits) world.seal(grant->first, offset, bytes, pick());
            ASSERT_FALSE(world.rejected) << world.last_refusal.to_string();
          }
          break;
        case 6:
          if (!world.known.empty()) {
            World::Known& object = world.known[random() % world.known.size()];
            world.free(object.owner.value, object.at);
            if (random() % 2 == 0 && alive.contains(object.owner.value)) world.free(object.owner.value, object.at);
          }
          break;
        case 7:
          if (!world.known.empty() && random() % 2 == 0) {
            const World::Known& object = world.known[random() % world.known.size()];
            if (world.is_live(object.at)) world.pins.insert(hazard_key(object.at.slot, object.at.generation));
          } else if (!world.pins.empty()) {
            world.pins.erase(world.pins.begin());
          }
          break;
        default: world.advance(std::chrono::milliseconds(random() % 30)); break;
      }
    }
    world.pins.clear();
    for (uint64_t process : alive) {
      std::erase_if(world.grants, [&](const auto& grant) { return grant.second.process.value == process; });
      world.step(event::ClientGone{{process}});
    }
    world.advance(std::chrono::milliseconds(20));
    world.advance(std::chrono::seconds(11));
    EXPECT_EQ(world.core_.counts().objects, 0u);
    EXPECT_EQ(world.core_.counts().held_bytes, 0u) << "leaked";
    EXPECT_EQ(world.core_.counts().limbo_objects, 0u);
    EXPECT_TRUE(world.files.empty());
  }
}

}  // namespace
}  // namespace manta::object_store
