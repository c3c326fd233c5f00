// The policy of the object store of one node, without I/O: step(event, now) -> effects. Who has which segment, which objects
// live and where, what waits; never what the memory holds.
//
// A segment:
//             request                   sealed                 freed, evicted           no pin
//   (none) ------------> GRANTED ---------------> objects ---------------> limbo -----------------> reclaimed to its
//   producer
//                           |                                                                        (orphan: punched out)
//     producer returns it,  |  producer gone
//     or its one object is  |  with objects left
//     reclaimed (dedicated) v                      last object reclaimed
//                         WARM <--- no objects --- ORPHAN -----------------> retired (memory back to the system)
//                           ^   |
//        nothing left in it |   | room for objects that are read back
//                           +- OWN
// An object:
//                 memory short, no pin                 written              scanned, no pin
//   RESIDENT ------------------------------> WRITING ----------> EVICTED ---------------------> ON DISK
//   (dirty)                                                         |                              | asked for
//                 memory short, no pin                              | asked for: it is still there v
//   RESIDENT (clean: has a record on disk) ----------> EVICTED      |                          RESTORING -- damaged --> LOST
//      ^  ^                                                         |                              |
//      |  +---------------------------------------------------------+                              |
//      +-------------------------------------------------------------------------------------------+
//   freed, from any state: the record goes at once, the memory when no pin and no disk thread touches it.
// A copy of another node's object is like one whose record is on disk, with that node for a disk (RESTORING is a pull). It
// is clean, so it goes without writing, and nothing is known of it once it is gone; whoever wants it again names its home
// again.
//
// When the node is drained (MoveAway), its objects go to others:
//   RESIDENT or ON DISK --AskToAdopt--> a copy there becomes an object of that node's --TellMoved--> owner --Free--> freed
//   here
// so the owner decides which of the two is the object, and what is lost on the way is said again. Whoever still has the old
// place finds nothing there, and asks the owner. An owner that does not know the old place yet frees the new one.
//
// Invariants, checked after every step:
//   1 held bytes (granted, own, orphaned less what was punched, warm) never exceed the capacity
//   2 a slot's generation only grows; a slot belongs to one segment
//   3 no extent is reused, punched or granted anew while a pin names its slot, or the disk threads read or write it
//   4 objects in a segment do not overlap and lie inside it
//   5 requests are answered in order, each once; who asks for an object is answered once
//   6 an object that is not freed is in memory, in a whole file, or reported lost; a copy is in memory, asked for, or
//   forgotten 7 a spill file lives as long as an object has a record in it; what the files take never exceeds the budget 8 a
//   node that was given a copy is told once when the object is freed
// A client that breaks the protocol gets a Reject and touches nothing else.
//
// Thread safety: none; a value of one event loop. Cost of a live object: 64 bytes here, and 4 in the object table.
#pragma once

#include "common/clock.h"
#include "object_store/allocator.h"
#include "object_store/store_events.h"
#include "wire/group_messages.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace manta::object_store {

inline constexpr uint64_t kSegmentBytes = uint64_t{64} << 20;   ///< Standard segments grow up to this.
inline constexpr uint64_t kDedicatedBytes = uint64_t{8} << 20;  ///< Objects above this get a segment of their own.
inline constexpr uint64_t kSegmentGrainBytes = uint64_t{2} << 20;
inline constexpr uint64_t kSlotBytes = uint64_t{32} << 10;  ///< One slot for so much of a standard segment, to begin with.
inline constexpr uint64_t kMaxSegmentSlots = uint64_t{1} << 20;
inline constexpr uint64_t kAlignment = 64;
inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kSpillFileBytes = uint64_t{16} << 20;  ///< A spill file is begun no more once it is this long.

class StoreCore {
 public:
  struct Options {
    uint64_t capacity_bytes = 0;
    uint32_t slots = 0;           ///< Of the object table; see slots_for.
    uint64_t spill_bytes = 0;     ///< What spill files may take; 0: nothing is spilled.
    std::string spill_folder;     ///< For messages.
    uint64_t prepared_bytes = 0;  ///< Made warm ahead of need at most; and at most an eighth of the capacity.
    wire::NodeNumber node = 0;    ///< Ids of segments start with it.
    uint64_t ids_from = 0;        ///< And are above this one.
  };
  /// Slots that a store of this capacity needs.
  [[nodiscard]] static uint32_t slots_for(uint64_t capacity_bytes);

  struct Counts {
    uint64_t held_bytes = 0, warm_bytes = 0;
    uint64_t objects = 0, object_bytes = 0;  ///< Sealed and not freed, in memory or not.
    uint64_t limbo_objects = 0, waiting_requests = 0, waiting_restores = 0;
    uint64_t spilled_objects = 0, spilled_bytes = 0;  ///< Of the objects: those on disk only.
    uint64_t disk_bytes = 0, disk_files = 0;
    uint64_t copies = 0, copy_bytes = 0;  ///< Of other nodes' objects, in memory.
    uint64_t pulls = 0;                   ///< Copies on their way.
    uint64_t ignored_frees = 0;           ///< Of objects that are gone, or by who does not own them.
  };

  explicit StoreCore(const Options& options);

  [[nodiscard]] Effects step(const Event& event, Time now);
  [[nodiscard]] std::optional<Time> next_deadline() const;
  /// Where the object of this slot and generation lies, however large; nothing when it is not, or not yet known to be,
  /// there.
  [[nodiscard]] std::optional<wire::ObjectLocation> find(uint32_t slot, uint32_t generation) const;
  [[nodiscard]] Counts counts() const;
  /// A page of the objects that are here, in memory or on disk; see wire/list_page.h. Cost: O(objects on disk) at the end.
  [[nodiscard]] wire::Listed list(const wire::ListRequest& request) const;
  [[nodiscard]] bool has_segment(SegmentId id) const { return segments_.contains(id.value); }
  /// Dies with the values when an invariant does not hold. Looks at everything: for tests; each step checks what it touched.
  void check_invariants() const;

 private:
  static constexpr uint32_t kNoSlot = ~uint32_t{0};
  static constexpr auto kAdoptWithin = std::chrono::seconds(30);
  enum class SlotState : uint8_t { kFree, kIdle, kLive, kLimbo, kRestoring };
  /// A slot of the object table, and the object that has it.
  struct Slot {
    uint64_t segment = 0;  // 0: no segment has it
    uint64_t offset = 0;
    uint64_t size_bytes = 0;
    uint64_t owner = 0;
    uint64_t sequence = 0;
    Name name = 0;  // its entry in spilled_; 0: it has none (never spilled, or freed)
    uint32_t generation = 1;
    uint32_t newer = kNoSlot;  // live: its neighbours by age
    uint32_t older = kNoSlot;
    SlotState state = SlotState::kFree;
    bool writing = false;  // a disk thread reads it
  };
  static_assert(sizeof(Slot) == 64);

  enum class Phase : uint8_t { kGranted, kOrphan, kOwn, kWarm };
  struct Segment {
    uint64_t size_bytes = 0;
    uint64_t held_bytes = 0;  // less than size once an orphan is punched
    Phase phase = Phase::kGranted;
    bool dedicated = false;
    bool is_cut = false;       // its producer gave its end back
    bool is_prepared = false;  // warm, and nobody had it yet
    bool quarantined = false;  // orphan: pins on slots that no sealed object has keep its unsealed memory
    ProcessId producer;        // or the last one
    Time idle_since;
    uint32_t occupied = 0;  // slots with an object: live, limbo or being restored
    std::vector<uint32_t> slots;
    std::vector<uint64_t> used;            // a bit for each 64 bytes that an object has; not of dedicated ones
    std::vector<uint32_t> idle_slots;      // own: to be taken
    std::unique_ptr<Allocator> allocator;  // own
  };
  struct Client {
    int pid = 0;
    uint64_t standard_segments = 0;
    uint64_t held_bytes = 0;
    uint64_t restores = 0;
  };
  struct Waiting {
    event::Request request;
    Time deadline;
  };
  struct Waiter {
    ProcessId process;
    uint64_t request = 0;
    Time deadline;
    uint32_t timeout_ms = 0;
    bool is_patient = false;  // the deadline moves on while copies come
    Time since;
    [[nodiscard]] Duration timeout() const { return std::chrono::milliseconds(timeout_ms); }
  };
  enum class Place : uint8_t { kResident, kDisk, kQueued, kRestoring, kDamaged };
  /// Where in line: priority, then who came first.
  using Turn = std::pair<wire::TransferPriority, uint64_t>;
  using Queue = std::map<Turn, Name>;
  /// What a copy is of, as its home node knows it.
  struct Home {
    wire::ObjectLocation at;
    Time deadline;  // of the pull under way
    Duration patience{};
    ObjectId adopted;  // what it is to be when it is here: this node's object, with this id
  };
  /// An object that has a record on disk, or on another node.
  struct Spilled {
    uint64_t size_bytes = 0;
    std::unique_ptr<Home> home;  // of a copy; it has no file then, and no id
    ObjectId id;
    uint64_t file = 0;
    SpillRecord record;
    Place place = Place::kResident;
    uint32_t slot = kNoSlot;  // where it is, is read to, or (on disk) still lies in limbo
    bool freed = false;       // while it was read
    Time hot_until;           // whoever asked for it is about to pin it
    Time wanted_until;        // by a prefetch, without anybody who waits
    Turn turn;                // while it is queued
    std::vector<Waiter> waiters;
    std::unique_ptr<Status> damage;
  };
  using SpilledEntry = std::unordered_map<Name, Spilled>::iterator;
  /// What is to go to other nodes, while this one is drained.
  struct Moves {
    struct Asked {
      wire::NodeNumber node = 0;
      uint64_t size_bytes = 0;
      Time again_at;
    };
    std::vector<wire::NodeNumber> to;
    std::deque<Name> todo;
    std::vector<Name> fresh;  // perhaps sealed lately: their owners may not know them yet
    std::unordered_map<Name, Asked> asked;
    uint64_t asked_bytes = 0;
    std::map<wire::NodeNumber, uint64_t> given_bytes;
    std::map<wire::NodeNumber, Time> refused_until;
    Time look_at;
  };
  struct File {
    uint64_t records = 0;  // of objects that live; and 1 while it is written
    uint64_t disk_bytes = 0;
    std::vector<uint32_t> writing;  // slots
  };
  struct Pins {
    std::unordered_set<uint32_t> slots;
    [[nodiscard]] bool contains(uint32_t slot) const { return slots.contains(slot); }
  };
  using ReclaimedOf = std::map<uint64_t, std::vector<wire::ObjectLocation>>;

  // store_core.cc: clients, requests, time.
  void on(const event::ClientJoined& event);
  void on(const event::ClientGone& event);
  void on(const event::Request& event);
  void on(const event::Cancel& event);
  void on(const event::Tick& event);
  void remember_gone(ProcessId owner);
  void refuse(const event::Request& event, Code code, const std::string& why);
  void ask_for_memory();
  void trim_clients();
  void serve();
  [[nodiscard]] bool is_short() const { return !waiting_.empty() || has_readers_waiting(); }
  /// For memory, or for the disk.
  [[nodiscard]] bool has_readers_waiting() const { return !restore_queue_.empty() || pulls_lack_room_; }
  void request_scan() { scan_now_ = true; }

  // store_core_segments.cc
  void on(const event::Return& event);
  void on(const event::Failed& event);
  void give_more_slots(const event::Request& event);
  [[nodiscard]] bool grant(const event::Request& request);
  [[nodiscard]] uint64_t grain() const;
  [[nodiscard]] uint64_t needed_bytes(uint64_t size_bytes) const;
  [[nodiscard]] uint64_t available_bytes() const { return options_.capacity_bytes - held_bytes_ + warm_bytes_; }
  [[nodiscard]] uint64_t segment_size(const event::Request& request) const;
  [[nodiscard]] std::optional<SegmentId> find_warm(ProcessId process, uint64_t size_bytes, bool dedicated) const;
  /// A warm segment or a new one, of no phase yet; `is_new` says which.
  [[nodiscard]] std::optional<SegmentId> take_segment(ProcessId process, uint64_t size_bytes, uint64_t object_bytes,
                                                      bool dedicated, bool& is_new);
  [[nodiscard]] std::optional<SegmentId> make_segment(uint64_t size_bytes, bool dedicated);
  [[nodiscard]] bool make_room(uint64_t bytes);
  [[nodiscard]] std::optional<std::vector<uint32_t>> take_slots(uint64_t count, SegmentId segment);
  void release_slot(uint32_t slot);
  void orphan(SegmentId id, Segment& segment);
  void settle_orphan(SegmentId id, Segment& segment);
  void punch_gaps(SegmentId id, Segment& segment);
  void punch_freed(SegmentId id, Segment& segment, uint64_t offset, uint64_t bytes);
  void leave_producer(Segment& segment);
  void make_warm(SegmentId id);
  void retire(SegmentId id);
  void set_held(Segment& segment, uint64_t bytes);

  // store_core_warm.cc
  [[nodiscard]] Duration kept_warm(const Segment& segment) const;
  void want_prepared(Duration in);
  void want_prepared_for_first();
  void want_prepared_again();
  [[nodiscard]] std::pair<uint64_t, uint64_t> prepared_sizes() const;
  void prepare();
  void prepare_one(uint64_t size_bytes, bool dedicated, effect::MakeWarm& effect);

  // store_core_objects.cc
  void on(const event::Seal& event);
  void on(const event::Freed& event);
  void on(const event::Scanned& event);
  [[nodiscard]] Status check_seal(const event::Seal& event);
  void free_all_of(const std::function<bool(uint64_t owner)>& is_gone);
  [[nodiscard]] bool free_one(ProcessId process, const wire::ObjectLocation& object);
  void free_slot(uint32_t slot);
  void to_limbo(uint32_t slot);
  void reclaim(uint32_t slot, ReclaimedOf& reclaimed);
  void bump(uint32_t slot);
  void make_newest(uint32_t slot);
  void unlink(uint32_t slot);
  [[nodiscard]] wire::ObjectLocation location_of(uint32_t slot) const;

  // store_core_spill.cc
  void on(const event::Restore& event);
  void on(const event::SpillDone& event);
  void on(const event::SpillFailed& event);
  void on(const event::SpillPunched& event);
  void on(const event::RestoreDone& event);
  [[nodiscard]] uint64_t wanted_bytes() const;
  void relieve(const Pins& pins);
  [[nodiscard]] uint64_t evict_with_neighbours(uint32_t first, const Pins& pins, uint64_t wanted_bytes);
  [[nodiscard]] bool is_victim(uint32_t slot, const Pins& pins) const;
  void write_out(std::vector<uint32_t> slots, uint64_t disk_bytes);
  [[nodiscard]] bool can_write(uint64_t disk_bytes) const;
  [[nodiscard]] bool disk_has_room(uint64_t bytes) const;
  void evict(uint32_t slot);
  void free_spilled(SpilledEntry entry);
  void free_spilled(SpilledEntry entry, const Status& why);
  void comes_to_memory(Spilled& spilled);
  void leaves_memory(Spilled& spilled);
  void drop_record(uint64_t file, const SpillRecord& record);
  void leave_file(uint64_t id);
  void answer(const Waiter& waiter, const wire::ObjectLocation& location, const Status& status);
  void answer_all(Spilled& spilled, const wire::ObjectLocation& location, const Status& status);
  void is_back(Spilled& spilled);
  void bring(SpilledEntry entry, wire::TransferPriority priority);
  void enqueue(SpilledEntry entry, wire::TransferPriority priority);
  void dequeue(Spilled& spilled);
  void consider_restore_deadline(Time at) { restore_due_ = restore_due_ ? std::min(*restore_due_, at) : at; }
  void serve_restores();
  void restore_failed(SpilledEntry entry, const Status& status);
  [[nodiscard]] bool begin_restore(Name name, Spilled& spilled);
  [[nodiscard]] std::optional<uint32_t> room_to_restore(uint64_t size_bytes);
  [[nodiscard]] std::optional<uint32_t> room_in(SegmentId id, Segment& segment, uint64_t size_bytes);
  void expire_restores();
  [[nodiscard]] Status why_waiting(const Spilled& spilled, const Waiter& waiter) const;
  [[nodiscard]] bool goes_on_waiting(Waiter& waiter) const;
  [[nodiscard]] static Status nothing_came(const Spilled& spilled, const Waiter& waiter, const Status& why);
  void drop_restores_of(ProcessId process);
  void give_up_unless_wanted(SpilledEntry entry);

  // store_core_copies.cc
  void on(const event::Prefetch& event);
  void on(const event::Copied& event);
  void on(const event::CopiesFreed& event);
  void on(const event::OwnerGone& event);
  void on(const event::NodeLost& event);
  void on(const event::NodeBack& event);
  [[nodiscard]] bool is_remote(const wire::ObjectLocation& at) const;
  /// Whether what gave out this id is gone for good: its node, or an earlier life of it.
  [[nodiscard]] bool is_lost(uint64_t id) const;
  [[nodiscard]] static std::pair<wire::NodeNumber, Name> home_key(const wire::ObjectLocation& at);
  [[nodiscard]] Status check_home(const wire::ObjectLocation& at) const;
  [[nodiscard]] SpilledEntry copy_of(const wire::ObjectLocation& at);
  void restore_copy(const wire::RestoreObject& asked, const Waiter& waiter, wire::TransferPriority priority);
  [[nodiscard]] bool may_pull(const Spilled& spilled) const;
  void begin_pull(Name name, Spilled& spilled);
  void pull_failed(SpilledEntry entry, const Status& status);
  void expire_pulls();
  void forget_copy(SpilledEntry entry);
  void forward_frees(const event::Freed& event);
  void tell_holders(Name name);

  // store_core_moves.cc
  struct Own {
    ObjectId id;
    wire::ObjectLocation at;
  };
  void on(const event::MoveAway& event);
  void on(const event::Adopt& event);
  void on(const event::AdoptionRefused& event);
  [[nodiscard]] std::optional<Own> own_object(Name name) const;
  [[nodiscard]] std::optional<wire::NodeNumber> receiver_of(Name name, const ObjectId& id) const;
  void move_some();
  void move_again(Name name);
  void no_move(Name name);
  void look_at_moves();
  void lose_receiver(wire::NodeNumber node);
  [[nodiscard]] bool may_adopt(const wire::ObjectLocation& at) const;
  void adopt(Name copy);
  void refuse_adoption(const wire::ObjectLocation& at);
  [[nodiscard]] wire::ObjectLocation adopted(const wire::ObjectLocation& at);

  // store_core_report.cc
  [[nodiscard]] Status full(uint64_t size_bytes, uint32_t timeout_ms) const;
  [[nodiscard]] std::string disk_report() const;
  void check_segments() const;
  void check_copy(Name name, const Spilled& spilled) const;

  Options options_;
  Time now_;
  Effects effects_;
  std::unordered_map<uint64_t, Segment> segments_;
  std::unordered_map<uint64_t, Client> clients_;
  std::vector<Slot> slots_;  // as many as were ever taken
  std::vector<uint32_t> free_slots_;
  uint32_t oldest_ = kNoSlot;  // live objects in memory, by age
  uint32_t newest_ = kNoSlot;
  std::unordered_map<uint32_t, ProcessId> early_frees_;  // slot -> who freed it before its Sealed was read
  std::deque<Waiting> waiting_;
  std::unordered_set<uint32_t> limbo_;  // slots
  std::set<uint64_t> quarantine_;       // segments
  std::optional<Time> scan_at_;
  std::optional<Time> trim_at_;  // producers may hold empty segments: ask then, if nothing happens or somebody still waits
  bool scan_now_ = false;
  std::optional<Time> prepare_at_;
  Time prepared_until_;
  std::unordered_set<uint64_t> gone_;  // owners that ended lately, for objects sealed for them later
  std::deque<uint64_t> gone_order_;

  std::unordered_map<Name, Spilled> spilled_;
  std::unordered_map<uint64_t, File> files_;
  Queue restore_queue_;  // for the disk
  Queue pull_queue_;     // for other nodes
  uint64_t last_turn_ = 0;
  bool pulls_lack_room_ = false;                              // what stands first in pull_queue_ waits for memory
  std::optional<Time> restore_due_;                           // no waiter's deadline is before this
  std::map<std::pair<wire::NodeNumber, Name>, Name> copies_;  // home and name there -> name here
  Name last_copy_ = 0;
  std::unordered_set<Name> pulling_;
  uint64_t pulling_bytes_ = 0;
  uint64_t resident_copies_ = 0;
  uint64_t copy_bytes_ = 0;
  std::unordered_map<Name, std::vector<wire::NodeNumber>> holders_;  // of copies, elsewhere
  std::map<wire::NodeNumber, std::vector<Name>> dropped_;            // in this step: to be told to holders
  std::map<wire::NodeNumber, std::string> lost_nodes_;               // and why
  std::map<wire::NodeNumber, uint64_t> back_from_;                   // lost before, back with ids above this one
  std::set<uint64_t> own_;                                           // segments of phase kOwn
  std::unique_ptr<Moves> moves_;
  std::map<std::pair<wire::NodeNumber, Name>, wire::ObjectLocation> adopted_;  // home and name there -> here
  uint64_t adopting_bytes_ = 0;                                                // on their way
  std::map<wire::NodeNumber, std::vector<Name>> refused_;                      // in this step
  std::optional<Time> relieve_at_;  // producers were given memory back: what they do with it is seen by then
  std::optional<Time> disk_again_at_;
  Status disk_status_;  // why the last write failed
  uint64_t last_file_ = 0;
  uint64_t writes_ = 0;         // WriteSpills under way
  uint64_t writing_bytes_ = 0;  // in them
  uint64_t reads_ = 0;
  uint64_t clean_ = 0;  // objects in memory that have a record on disk
  uint64_t disk_bytes_ = 0;
  uint64_t spilled_objects_ = 0;
  uint64_t spilled_bytes_ = 0;
  uint64_t evicted_ = 0;  // of the slots in limbo: not freed

  uint64_t last_segment_ = 0;
  uint64_t held_bytes_ = 0;
  uint64_t warm_bytes_ = 0;
  uint64_t objects_ = 0;
  uint64_t object_bytes_ = 0;
  uint64_t ignored_frees_ = 0;
};

}  // namespace manta::object_store
