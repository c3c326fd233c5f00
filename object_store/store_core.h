// The policy of the object store of one node, without I/O: step(event, now) -> effects. Who has which segment, which objects
// live, what waits; never what the memory holds.
//
//             request                   sealed                 free                    no pin
//   (none) ------------> GRANTED ---------------> objects ---------------> limbo -----------------> reclaimed to its
//   producer
//                           |                                                                        (orphan: punched out)
//     producer returns it,  |  producer gone
//     or its one object is  |  with objects left
//     reclaimed (dedicated) v                      last object reclaimed
//                         WARM <--- no objects --- ORPHAN -----------------> retired (memory back to the system)
//
// Invariants, checked after every step:
//   1 held bytes (granted, orphaned less what was punched, warm) never exceed the capacity
//   2 a slot's generation only grows; a slot belongs to one segment
//   3 no extent is reused, punched or granted anew while a pin names it
//   4 objects in a segment do not overlap and lie inside it
//   5 requests are answered in order, each once
// A client that breaks the protocol gets a Reject and touches nothing else.
//
// Thread safety: none; a value of one event loop.
#pragma once

#include "common/clock.h"
#include "wire/messages.h"

#include <manta/ids.h>
#include <manta/status.h>

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

namespace manta::object_store {

inline constexpr uint64_t kFirstSegmentBytes = uint64_t{16} << 20;  ///< A producer's first standard segment; then:
inline constexpr uint64_t kSegmentBytes = uint64_t{64} << 20;
inline constexpr uint64_t kDedicatedBytes = uint64_t{8} << 20;  ///< Objects above this get a segment of their own.
inline constexpr uint64_t kSegmentGrainBytes = uint64_t{2} << 20;
inline constexpr uint64_t kSlotBytes = uint64_t{32} << 10;  ///< One slot for so much of a standard segment.
inline constexpr uint64_t kAlignment = 64;
inline constexpr uint64_t kPageBytes = 4096;

class StoreCore {
 public:
  struct Options {
    uint64_t capacity_bytes = 0;
    uint32_t slots = 0;  ///< Of the object table; see slots_for.
  };
  /// Slots that a store of this capacity needs.
  [[nodiscard]] static uint32_t slots_for(uint64_t capacity_bytes);

  // Events.
  struct ClientJoined {
    ProcessId process;
    int pid = 0;
  };
  struct ClientGone {
    ProcessId process;
  };
  struct Request {
    ProcessId process;
    wire::RequestSegment message;
  };
  struct Return {
    ProcessId process;
    SegmentId segment;
  };
  struct Failed {
    ProcessId process;
    SegmentId segment;
  };  ///< A new segment could not be made; its request is answered.
  struct Seal {
    ProcessId process;
    wire::Sealed message;
  };
  struct Freed {
    ProcessId process;
    std::vector<wire::ObjectLocation> objects;
  };
  /// Every pin of every client, looked at after the effects of the steps before were carried out.
  struct Scanned {
    std::vector<uint64_t> pins;
  };
  struct Tick {};
  using Event = std::variant<ClientJoined, ClientGone, Request, Return, Failed, Seal, Freed, Scanned, Tick>;

  // Effects, carried out in order.
  struct Grant {
    ProcessId process;
    uint64_t request = 0;
    SegmentId segment;
    uint64_t size_bytes = 0;
    bool is_new = false;  ///< Make it; else it exists and may be warm.
    std::vector<uint32_t> slots, generations;
  };
  struct Refuse {
    ProcessId process;
    uint64_t request = 0;
    Status status;
  };
  struct Reclaim {
    ProcessId process;
    std::vector<wire::ObjectLocation> objects;
  };
  struct SetGeneration {
    uint32_t slot = 0;
    uint32_t generation = 0;
  };
  struct Scan {};  ///< Look at the pins now, then step(Scanned).
  struct Punch {
    SegmentId segment;
    uint64_t offset = 0;
    uint64_t size_bytes = 0;
  };
  struct Retire {
    SegmentId segment;
  };  ///< Give its memory back, tell whoever has it open.
  struct Trim {
    ProcessId process;
    uint64_t wanted_bytes = 0;
  };  ///< Ask it to return segments that hold nothing.
  struct Reject {
    ProcessId process;
    Status status;
  };
  using Effect = std::variant<Grant, Refuse, Reclaim, SetGeneration, Scan, Punch, Retire, Trim, Reject>;
  using Effects = std::vector<Effect>;

  struct Counts {
    uint64_t held_bytes = 0, warm_bytes = 0, objects = 0, object_bytes = 0, limbo_objects = 0, waiting_requests = 0;
    uint64_t ignored_frees = 0;  ///< Of objects that are gone, or by who does not own them.
  };

  explicit StoreCore(const Options& options);

  [[nodiscard]] Effects step(const Event& event, Time now);
  [[nodiscard]] std::optional<Time> next_deadline() const;
  [[nodiscard]] Counts counts() const;
  [[nodiscard]] bool has_segment(SegmentId id) const { return segments_.contains(id.value); }
  /// Dies with the values when an invariant does not hold. Looks at everything: for tests; each step checks what it touched.
  void check_invariants() const;

 private:
  struct Object {
    uint64_t size_bytes = 0;
    uint32_t slot = 0;
    uint32_t generation = 0;  // that readers know it by
    ProcessId owner;
    bool limbo = false;
  };
  enum class Phase : uint8_t { kGranted, kOrphan, kWarm };
  struct Segment {
    uint64_t size_bytes = 0;
    uint64_t held_bytes = 0;  // less than size once an orphan is punched
    Phase phase = Phase::kGranted;
    bool dedicated = false;
    bool quarantined = false;  // orphan: pins on slots that no sealed object has keep its unsealed memory
    ProcessId producer;        // or the last one
    Time idle_since;
    std::vector<uint32_t> slots;
    std::map<uint64_t, Object> objects;  // by offset; live and limbo
  };
  struct Slot {
    uint32_t generation = 1;
    SegmentId segment;      // 0: free
    bool occupied = false;  // an object in `segment` has it, live or limbo
  };
  struct Client {
    int pid = 0;
    uint64_t standard_segments = 0;
    uint64_t held_bytes = 0;
  };
  struct Waiting {
    Request request;
    Time deadline;
  };

  void on(const ClientJoined& event);
  void on(const ClientGone& event);
  void on(const Request& event);
  void on(const Return& event);
  void on(const Failed& event);
  void on(const Seal& event);
  void on(const Freed& event);
  void on(const Scanned& event);
  void on(const Tick& event);

  [[nodiscard]] Status check_seal(const Seal& event) const;
  [[nodiscard]] bool free_one(ProcessId process, const wire::ObjectLocation& object);
  void serve_waiting();
  [[nodiscard]] bool grant(const Request& request);
  [[nodiscard]] uint64_t segment_size(const Request& request, uint64_t available) const;
  [[nodiscard]] std::optional<SegmentId> find_warm(const Request& request) const;
  [[nodiscard]] bool make_room(uint64_t bytes);
  [[nodiscard]] std::optional<std::vector<uint32_t>> take_slots(uint64_t count, SegmentId segment);
  void to_limbo(SegmentId id, uint64_t offset, Object& object);
  void reclaim(SegmentId id, uint64_t offset, std::map<uint64_t, std::vector<wire::ObjectLocation>>& reclaimed);
  void bump(uint32_t slot);
  void orphan(SegmentId id, Segment& segment);
  void settle_orphan(SegmentId id, Segment& segment);
  void punch_gaps(SegmentId id, Segment& segment);
  void release_slot(uint32_t slot);
  void leave_producer(Segment& segment);
  void make_warm(SegmentId id);
  void retire(SegmentId id);
  void set_held(Segment& segment, uint64_t bytes);
  void trim_clients(uint64_t wanted_bytes);
  void request_scan() { scan_now_ = true; }
  [[nodiscard]] Status full(const Request& request) const;

  Options options_;
  Time now_;
  Effects effects_;
  std::unordered_map<uint64_t, Segment> segments_;
  std::unordered_map<uint64_t, Client> clients_;
  std::vector<Slot> slots_;  // as many as were ever taken
  std::vector<uint32_t> free_slots_;
  std::unordered_map<uint32_t, ProcessId> early_frees_;  // slot -> who freed it before its Sealed was read
  std::deque<Waiting> waiting_;
  std::set<std::pair<uint64_t, uint64_t>> limbo_;  // segment, offset
  std::set<uint64_t> quarantine_;                  // segments
  std::optional<Time> scan_at_;
  std::optional<Time> trim_at_;  // producers may hold empty segments: ask then, if nothing happens or somebody still waits
  bool scan_now_ = false;
  std::unordered_set<uint64_t> gone_;  // owners that ended lately, for objects sealed for them later
  std::deque<uint64_t> gone_order_;
  uint64_t last_segment_ = 0;
  uint64_t held_bytes_ = 0;
  uint64_t warm_bytes_ = 0;
  uint64_t objects_ = 0;
  uint64_t object_bytes_ = 0;
  uint64_t ignored_frees_ = 0;
};

}  // namespace manta::object_store
