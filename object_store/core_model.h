// For tests of StoreCore's spilling: a model of a whole node around the core. Memory, disk, producers and readers, with
// every write and read of the disk ending when the test says so, and as it says; what the core does to memory that somebody
// uses is a failure of the test.
#pragma once

#include "object_store/hazard_page.h"
#include "object_store/store_core.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

namespace manta::object_store::testing {

using std::chrono::milliseconds;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kNothing = ~uint64_t{0};
constexpr wire::NodeNumber kSelf = 7;

class ModelNode {
 public:
  explicit ModelNode(uint64_t capacity, uint64_t spill_bytes, uint64_t prepared_bytes = 0)
      : core({capacity, StoreCore::slots_for(capacity), spill_bytes, "/spill", prepared_bytes, kSelf}) {}

  struct Object {
    uint64_t sequence = 0, owner = 0;
    wire::ObjectLocation at;  // where it was sealed
    bool freed = false, damaged = false, lost = false;
    [[nodiscard]] bool is_remote() const { return wire::node_of(at.segment) != kSelf; }
    [[nodiscard]] Name name() const { return hazard_key(at.slot, at.generation); }
  };
  struct Pin {
    uint64_t process = 0, sequence = 0;
    wire::ObjectLocation at;
  };
  struct Producer {
    struct Segment {
      explicit Segment(uint64_t size) : allocator(size) {}
      Allocator allocator;
      std::vector<std::pair<uint32_t, uint32_t>> slots;
    };
    std::map<uint64_t, Segment> segments;
  };
  struct Put {
    uint64_t process = 0, size = 0, owner = 0;
    bool dedicated = false;
  };

  /// What follows from an effect happens when all effects before it were carried out, as messages arrive in order.
  void step(const Event& event) {
    to_happen.push_back(event);
    if (to_happen.size() > 1) return;
    while (!to_happen.empty()) {
      for (Effect& effect : core.step(to_happen.front(), now)) std::visit([this](auto& e) { carry_out(e); }, effect);
      to_happen.pop_front();
    }
  }
  void join(uint64_t process) {
    producers.try_emplace(process);
    step(event::ClientJoined{{process}, static_cast<int>(process)});
  }
  void kill(uint64_t process) {
    producers.erase(process);
    std::erase_if(waiting, [&](const auto& each) { return each.second.process == process; });
    std::erase_if(pins, [&](const Pin& pin) { return pin.process == process; });
    std::erase_if(asked, [&](const auto& each) { return each.second.first == process; });
    for (Object& object : objects) object.freed = object.freed || object.owner == process;
    step(event::ClientGone{{process}});
  }

  /// Seals at once when there is room, else when memory is granted.
  void put(const Put& what, uint32_t timeout_ms = 1'000) {
    if (!what.dedicated && place(what)) return;
    const uint64_t request = ++last_request;
    waiting[request] = what;
    step(event::Request{{what.process}, {request, what.size, timeout_ms, what.dedicated}});
    settle();
  }
  void settle() {
    while (!granted.empty()) {
      const uint64_t request = granted.back();
      granted.pop_back();
      auto found = waiting.find(request);
      if (found == waiting.end()) continue;
      const Put what = found->second;
      waiting.erase(found);
      if (!what.dedicated && !place(what)) put(what);
    }
    for (auto it = waiting.begin(); it != waiting.end();) {  // room may have come back by itself
      auto [request, what] = *it++;
      if (what.dedicated || !place(what)) continue;
      waiting.erase(request);
      step(event::Cancel{{what.process}, request});
    }
  }
  bool place(const Put& what) {
    for (auto& [id, segment] : producers.at(what.process).segments) {
      if (segment.slots.empty()) continue;
      std::optional<uint64_t> offset = segment.allocator.allocate(what.size);
      if (!offset) continue;
      auto [slot, generation] = segment.slots.back();
      segment.slots.pop_back();
      seal(what, {id, *offset, what.size, slot, generation});
      return true;
    }
    return false;
  }
  void seal(const Put& what, const wire::ObjectLocation& at) {
    Object object{objects.size() + 1, what.owner, at};
    const bool is_remote_owner = wire::node_of(what.owner) != 0;
    object.freed = what.owner == 0 || (!is_remote_owner && !producers.contains(what.owner));
    EXPECT_EQ(memory[at.segment].count(at.offset), 0u) << "sealed over an object";
    memory[at.segment][at.offset] = object.sequence;
    objects.push_back(object);
    step(event::Seal{{what.process}, {what.owner, object.sequence, at}});
    EXPECT_FALSE(rejected) << last_status.to_string();
  }
  void free(Object& object) {
    if (object.freed) return;
    object.freed = true;
    if (object.is_remote()) return step(event::CopiesFreed{wire::node_of(object.at.segment), {object.name()}});
    step(event::Freed{{object.owner}, {object.at}});
  }

  /// One that was sealed on another node.
  Object& add_remote(wire::NodeNumber home, uint64_t size) {
    const auto slot = static_cast<uint32_t>(objects.size());
    objects.push_back({objects.size() + 1, 0, {wire::first_id_of(home) + 1, 0, size, slot, 1}});
    return objects.back();
  }
  /// Another node has a copy, or is about to.
  void copy_to(wire::NodeNumber node, Object& object) {
    holders.emplace(node, object.name());
    step(event::Copied{node, {object.at}});
  }
  void lose(wire::NodeNumber node) {
    for (Object& object : objects) object.lost = object.lost || wire::node_of(object.at.segment) == node;
    std::erase_if(holders, [&](const auto& each) { return each.first == node; });
    step(event::NodeLost{node, Status(Code::kDied, "power")});
  }

  bool is_at(const wire::ObjectLocation& at) const {
    if (wire::node_of(at.segment) != kSelf) return false;
    auto slot = table.find(at.slot);
    return slot != table.end() && slot->second == at.generation;
  }
  /// Pins where it lies, or asks for it: then `answers` says.
  uint64_t read(uint64_t process, Object& object, uint32_t timeout_ms = 1'000, bool is_patient = false) {
    if (is_at(object.at)) {
      pin(process, object, object.at);
      return 0;
    }
    const uint64_t request = ++last_request;
    asked[request] = {process, object.sequence};
    step(event::Restore{{process},
                        {.request = request, .location = object.at, .timeout_ms = timeout_ms, .is_patient = is_patient}});
    return request;
  }
  void pin(uint64_t process, Object& object, const wire::ObjectLocation& at) {
    EXPECT_EQ(content(at), object.sequence);
    pins.push_back({process, object.sequence, at});
  }
  void unpin(size_t index) {
    EXPECT_EQ(content(pins[index].at), pins[index].sequence) << "changed while pinned";
    std::swap(pins[index], pins.back());
    pins.pop_back();
  }
  uint64_t content(const wire::ObjectLocation& at) {
    auto segment = memory.find(at.segment);
    if (segment == memory.end() || !segment->second.contains(at.offset)) return kNothing;
    return segment->second.at(at.offset);
  }

  enum class Outcome { kOk, kDiskFull, kDamaged, kBusy };
  void finish_write(size_t index, Outcome outcome = Outcome::kOk) {
    const effect::WriteSpill write = writes[index];
    writes.erase(writes.begin() + static_cast<ptrdiff_t>(index));
    event::SpillDone done{write.file, {}};
    for (const auto& object : write.objects) {
      EXPECT_EQ(content({write.segment.value, object.offset, 0, 0, 0}), object.id.sequence) << "reused while written";
      if (outcome == Outcome::kOk) disk[write.file][object.record.offset] = object.id.sequence;
      done.checksums.push_back(object.id.sequence * 7);
    }
    if (outcome == Outcome::kOk) return step(done);
    disk.erase(write.file);
    step(event::SpillFailed{write.file, Status(Code::kFull, "no space left on device")});
  }
  void finish_read(size_t index, Outcome outcome = Outcome::kOk) {
    const effect::ReadSpill read = reads[index];
    reads.erase(reads.begin() + static_cast<ptrdiff_t>(index));
    EXPECT_EQ(read.record.checksum, read.id.sequence * 7);
    EXPECT_EQ(disk.at(read.file).at(read.record.offset), read.id.sequence);
    EXPECT_EQ(content({read.segment.value, read.offset, 0, 0, 0}), kNothing) << "read over an object";
    memory[read.segment.value][read.offset] = read.id.sequence;
    if (outcome == Outcome::kDamaged) objects[read.id.sequence - 1].damaged = true;
    step(event::RestoreDone{read.name, outcome == Outcome::kOk        ? Status()
                                       : outcome == Outcome::kDamaged ? Status(Code::kLost, "/spill/1.spill is damaged")
                                                                      : Status(Code::kIo, "try again")});
    settle();
  }
  void finish_pull(size_t index, const Status& status = {}) {
    const effect::Pull pull = pulls[index];
    pulls.erase(pulls.begin() + static_cast<ptrdiff_t>(index));
    EXPECT_EQ(content({pull.segment.value, pull.offset, 0, 0, 0}), kNothing) << "pulled over an object";
    const auto object = std::find_if(objects.begin(), objects.end(), [&](const Object& each) {
      return each.at.segment == pull.from.segment && each.at.slot == pull.from.slot;
    });
    memory[pull.segment.value][pull.offset] = object->sequence;
    step(event::RestoreDone{pull.name, status});
    settle();
  }
  void finish_all() {
    while (!writes.empty() || !reads.empty() || !pulls.empty()) {
      if (!pulls.empty()) finish_pull(0);
      if (!writes.empty()) finish_write(0);
      if (!reads.empty()) finish_read(0);
    }
    settle();
  }
  void advance(milliseconds by) {
    now += by;
    step(event::Tick{});
    settle();
  }

  void carry_out(effect::Grant& grant) {
    std::vector<std::pair<uint32_t, uint32_t>> slots;
    for (size_t i = 0; i < grant.slots.size(); ++i) {
      set(grant.slots[i], grant.generations[i]);
      slots.emplace_back(grant.slots[i], grant.generations[i]);
      EXPECT_FALSE(is_pinned(grant.slots[i])) << "granted while pinned";
    }
    if (!grant.only_slots) memory[grant.segment.value].clear();
    auto found = waiting.find(grant.request);
    if (found == waiting.end()) {  // what was asked for came otherwise
      step(event::Return{grant.process, grant.segment});
      return;
    }
    if (found->second.dedicated) {
      const Put what = found->second;
      waiting.erase(found);
      return seal(what, {grant.segment.value, 0, what.size, slots[0].first, slots[0].second});
    }
    auto& segment =
        producers.at(grant.process.value).segments.try_emplace(grant.segment.value, grant.size_bytes).first->second;
    segment.slots = std::move(slots);
    granted.push_back(grant.request);
  }
  void carry_out(effect::Refuse& refuse) {
    last_status = refuse.status;
    waiting.erase(refuse.request);
  }
  void carry_out(effect::Reclaim& reclaim) {
    auto producer = producers.find(reclaim.process.value);
    ASSERT_NE(producer, producers.end());
    for (const wire::ObjectLocation& at : reclaim.objects) {
      EXPECT_FALSE(is_pinned(at.slot)) << "reclaimed while pinned";
      EXPECT_EQ(memory[at.segment].erase(at.offset), 1u);
      auto& segment = producer->second.segments.at(at.segment);
      EXPECT_TRUE(segment.allocator.give_back(at.offset, at.size_bytes));
      segment.slots.emplace_back(at.slot, at.generation);
    }
  }
  void carry_out(effect::SetGeneration& set_to) { set(set_to.slot, set_to.generation); }
  void carry_out(effect::Scan&) {
    event::Scanned scanned;
    for (const Pin& pin : pins) scanned.pins.push_back(hazard_key(pin.at.slot, pin.at.generation));
    step(scanned);
  }
  void carry_out(effect::Punch& punch) {
    auto& segment = memory[punch.segment.value];
    for (auto it = segment.begin(); it != segment.end();) {
      const bool inside = it->first >= punch.offset && it->first < punch.offset + punch.size_bytes;
      it = inside ? segment.erase(it) : std::next(it);
    }
  }
  void carry_out(effect::Retire& retire) {
    memory.erase(retire.segment.value);
    for (auto& [process, producer] : producers) producer.segments.erase(retire.segment.value);
  }
  void carry_out(effect::Trim& trim) {
    auto producer = producers.find(trim.process.value);
    if (producer == producers.end()) return;
    std::vector<event::Return> returns;
    for (auto it = producer->second.segments.begin(); it != producer->second.segments.end();) {
      auto& [id, segment] = *it;
      const uint64_t before = segment.allocator.size_bytes();
      if (segment.allocator.is_empty()) {
        returns.push_back({trim.process, {id}, 0});
        it = producer->second.segments.erase(it);
        continue;
      }
      if (uint64_t end = segment.allocator.cut_tail(65'536); trim.wanted_bytes > 0 && end < before)
        returns.push_back({trim.process, {id}, end});
      ++it;
    }
    for (const event::Return& each : returns) step(each);
  }
  void carry_out(effect::Reject& reject) {
    rejected = reject.process;
    last_status = reject.status;
  }
  void carry_out(effect::MakeOwn&) {}
  void carry_out(effect::MakeWarm& make) {
    for (const auto& each : make.segments) prepared.push_back(each.segment);
  }
  void carry_out(effect::WriteSpill& write) {
    writes.push_back(write);
    EXPECT_TRUE(disk.emplace(write.file, std::map<uint64_t, uint64_t>()).second);
  }
  void carry_out(effect::ReadSpill& read) {
    memory[read.segment.value].erase(read.offset);  // what a freed object left there
    reads.push_back(read);
  }
  void carry_out(effect::Pull& pull) {
    EXPECT_GE(pull.deadline, now);
    memory[pull.segment.value].erase(pull.offset);
    pulls.push_back(pull);
  }
  void carry_out(effect::ForwardFree& free) { forwarded.push_back(free); }
  void carry_out(effect::DropCopies& drop) {
    for (Name name : drop.names) {
      EXPECT_EQ(holders.erase({drop.node, name}), 1u) << "told twice, or who has none";
      for (const Object& object : objects) {
        const bool is_it = !object.is_remote() && object.name() == name;
        EXPECT_TRUE(!is_it || object.freed);
      }
    }
  }
  void carry_out(effect::AskToAdopt& ask) { asked_to_adopt.push_back(ask); }
  void carry_out(effect::RefuseAdoption& refuse) { refusals.push_back(refuse); }
  void carry_out(effect::TellMoved& moved) { told_moved.push_back(moved); }
  void carry_out(effect::PunchSpill&) {}
  void carry_out(effect::RemoveSpill& remove) { EXPECT_EQ(disk.erase(remove.file), 1u); }
  void carry_out(effect::Restored& restored) {
    auto found = asked.find(restored.request);
    if (found == asked.end()) return;  // its process is gone
    auto [process, sequence] = found->second;
    asked.erase(found);
    answers[restored.request] = restored.status;
    Object& object = objects[sequence - 1];
    if (!restored.status.ok()) return;
    EXPECT_FALSE(object.freed);
    EXPECT_TRUE(is_at(restored.location));
    pin(process, object, restored.location);
  }

  bool is_pinned(uint32_t slot) const {
    return std::any_of(pins.begin(), pins.end(), [&](const Pin& pin) { return pin.at.slot == slot; });
  }
  void set(uint32_t slot, uint32_t generation) {
    EXPECT_GE(generation, table[slot]);
    table[slot] = generation;
  }

  StoreCore core;
  Time now = FakeClock().now();
  std::map<uint64_t, Producer> producers;
  std::map<uint64_t, std::map<uint64_t, uint64_t>> memory;  // segment -> offset -> sequence
  std::map<uint64_t, std::map<uint64_t, uint64_t>> disk;    // file -> offset -> sequence
  std::map<uint32_t, uint32_t> table;
  std::vector<Object> objects;
  std::vector<Pin> pins;
  std::vector<SegmentId> prepared;
  std::vector<effect::WriteSpill> writes;
  std::vector<effect::ReadSpill> reads;
  std::vector<effect::Pull> pulls;
  std::vector<effect::ForwardFree> forwarded;
  std::vector<effect::AskToAdopt> asked_to_adopt;
  std::vector<effect::RefuseAdoption> refusals;
  std::vector<effect::TellMoved> told_moved;
  std::set<std::pair<wire::NodeNumber, Name>> holders;  // that are to be told when the object is freed
  std::map<uint64_t, Put> waiting;
  std::deque<Event> to_happen;
  std::vector<uint64_t> granted;  // requests
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> asked;
  std::map<uint64_t, Status> answers;
  uint64_t last_request = 0;
  Status last_status;
  ProcessId rejected;
};

}  // namespace manta::object_store::testing
