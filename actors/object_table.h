// The objects of one process: those it owns, and those of others that it borrows. Reference counts, values, waiters.
//
// An owner frees an object when no handle to it is left anywhere. Handles of other processes are counted as tokens in the
// owner's entry, by process. A token is counted each time a Ref travels in a result or a fetched value; a borrower gives
// back all it got when its last handle goes. Token messages may overtake each other (they are sums, and an object is freed
// only when the tokens of every process are zero). While a Ref travels as an argument, the caller's own handle covers it: no
// message; what the worker keeps past its reply is listed in the reply, and the caller counts it before it lets its own
// handle go. When a process dies, its tokens go.
//
// A stored value can be lost (its node died, its file is damaged). Who finds that out says so (`lose`): the owner has the
// value made again, a borrower asks its owner for another location; either way the entry awaits a value until it comes, and
// fails with kLost when it cannot. An object that only lineage refers to (`hold_for_lineage`) stays in the table without its
// stored value, and is lost until somebody needs it.
//
// Values of any number may be asked for at once. Their owner sends a process at most 1 MiB (and one more) that it has not
// said to have read (PeerTaken); the rest waits here, where it lies anyway, and not in the queues on the way.
//
// Thread safety: under the runtime's lock, but for the inline checks on entries. Nothing here blocks or does I/O: `Io`
// sends.
#pragma once

#include "actors/object_entry.h"
#include "actors/peer_messages.h"

#include <deque>
#include <functional>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace manta {

/// Refs that came with the arguments of a running call, or in values read during it, and that nothing but the caller covers.
struct Uncovered {
  std::vector<detail::Handle> borrowed;
};

class ObjectTable {
 public:
  struct Io {
    std::function<void(ProcessId to, std::string payload)> relay;
    std::function<void(const wire::ObjectLocation&)> free_stored;
    std::function<void(const ActorId&)> end_actor;  ///< Nobody references the actor any more.
    std::function<void(ProcessId)> watch{};         ///< Its end must be heard of: `on_process_died`.
    /// Sees to it that the entry's lost value is made again; else says why that cannot be. May not complete it at once.
    std::function<Status(detail::ObjectEntry&, const Status& why)> rebuild{};
    std::function<void(detail::ObjectEntry&)> unwanted{};  ///< Nobody waits any more for its value that is made again.
    std::function<void(const wire::ObjectLocation&)> read_soon{};  ///< Of an entry that `is_read_soon`.
    std::function<void(detail::ObjectEntry&)> gone{};              ///< An entry with a `producer` is about to be deleted.
  };

  ObjectTable(ProcessId self, Io io) : self_(self), io_(std::move(io)) {}

  /// `count` new pending objects of consecutive ids; returns the first sequence.
  uint64_t reserve(uint64_t count) { return std::exchange(next_, next_ + count); }
  detail::Handle make(uint64_t sequence);
  detail::Handle make() { return make(reserve(1)); }

  /// The object becomes ready; waiters are called. Ignored when it is ready already (a duplicate, a late reply).
  void complete(detail::ObjectEntry& entry, std::string blob);
  void complete(detail::ObjectEntry& entry, std::shared_ptr<detail::OwnMemory> blob);
  void complete(detail::ObjectEntry& entry, const wire::ObjectLocation& location);
  void fail(detail::ObjectEntry& entry, const Status& status);
  /// Notes the Refs inside a value that came from `sender`, so that they live as long as it.
  void hold_inside(detail::ObjectEntry& entry, std::span<const std::byte> blob);

  void note_exported(detail::ObjectEntry& entry);
  /// A handle for an id that came from elsewhere. `uncovered` collects it when only the running call covers it; without it
  /// the owner is told at once.
  detail::Handle handle_for(const ObjectId& id, Uncovered* uncovered);
  /// After the call: the ids among `uncovered` that somebody here still holds, for the reply.
  std::vector<ObjectId> keep(Uncovered& uncovered);
  /// The caller of a worker that keeps `id`.
  void kept_by(const ObjectId& id, ProcessId worker);
  /// A Ref leaves this process in a result for `receiver`.
  void sent_in_result(const ObjectId& id, ProcessId receiver);
  /// A Ref came in a result or fetched value: takes over the token that its sender counted.
  detail::Handle received(const ObjectId& id);

  /// Asks the owner for a borrowed object's value, once.
  void fetch(detail::ObjectEntry& entry);

  /// Whether a stored value is known to be gone, before anybody tried to read it.
  [[nodiscard]] bool is_lost(const detail::ObjectEntry& entry) const;
  [[nodiscard]] bool may_lose() const { return may_lose_; }  ///< False: nothing was ever lost here.
  /// A reader found nothing at `location`. Afterwards the entry awaits a value, or has failed, or never lay there any more.
  void lose(detail::ObjectEntry& entry, const wire::ObjectLocation& location, const Status& why);
  /// The same for one that `is_lost`.
  void lose(detail::ObjectEntry& entry);
  void on_node_lost(uint32_t node, const Status& cause);
  /// A value lies elsewhere now. Of the two places, the one that is not needed is freed.
  void on_moved(const wire::ObjectLocation& from, const wire::ObjectLocation& to);
  /// It is there again, with segments above `ids_from`: what it had before stays lost.
  void on_node_back(uint32_t node, uint64_t ids_from);
  /// Whether anybody but lineage refers to it.
  [[nodiscard]] static bool is_wanted(const detail::ObjectEntry& entry);
  /// Its value is not made again after all, since nobody wants it.
  void stop_rebuilding(detail::ObjectEntry& entry);
  /// Its value came, and only lineage refers to it by now.
  void drop_unwanted(detail::ObjectEntry& entry);

  /// From a handle to a reference of lineage, and back. The object must be this process's own.
  void hold_for_lineage(detail::Handle handle);
  detail::Handle take_from_lineage(detail::ObjectEntry& entry);
  void release_from_lineage(detail::ObjectEntry& entry);
  [[nodiscard]] bool is_own(const detail::ObjectEntry& entry) const { return !is_borrowed(entry); }
  /// Inline values that only lineage refers to.
  [[nodiscard]] size_t lineage_bytes() const { return lineage_bytes_; }

  void on_borrow(const PeerBorrow& message);
  void on_fetch(ProcessId from, const PeerFetch& message);
  void on_fetched(ProcessId from, const PeerFetched& message);
  void on_taken(ProcessId from, const PeerTaken& message);
  void on_process_died(ProcessId process, const Status& cause);
  /// This process leaves: what others hold of its own counts no more.
  void forget_borrowers();

  /// One handle less to an exported object.
  void release_exported(detail::ObjectEntry* entry);
  /// The last handle here is gone: gives tokens back, or frees an owned object that nobody else holds.
  void forget(detail::ObjectEntry* entry);

  /// Whether another process holds a reference to something this one owns.
  [[nodiscard]] bool is_needed() const;
  [[nodiscard]] size_t exported_count() const { return exported_.size(); }

 private:
  bool is_borrowed(const detail::ObjectEntry& entry) const { return entry.id.owner != self_.value; }
  void add_tokens(const ObjectId& id, ProcessId who, int64_t delta);
  void ready(detail::ObjectEntry& entry, detail::ObjectState state);
  void free_if_unused(detail::ObjectEntry& entry);
  void drop_value(detail::ObjectEntry& entry);
  /// Why what lay in this segment is gone; null: it is not known to be.
  [[nodiscard]] const Status* lost_with(uint64_t segment) const;
  /// Once it has a value, and `to` has read enough of what it was sent.
  void answer_in_time(ProcessId to, detail::ObjectEntry& entry);
  void answer(ProcessId to, detail::ObjectEntry& entry);
  void send_answer(ProcessId to, const PeerFetched& message);
  void destroy(detail::ObjectEntry* entry);
  void watch(ProcessId process);
  /// The entry of a borrowed id, made if there is none; null for an owned object that is gone.
  detail::Handle borrow(const ObjectId& id);
  detail::ObjectEntry* find(const ObjectId& id) const;
  /// Of an object of another node's store: what every location of it has.
  using Place = std::pair<uint32_t, uint64_t>;
  static Place place_of(const wire::ObjectLocation& location);
  void note_place(detail::ObjectEntry& entry);
  void forget_place(const detail::ObjectEntry& entry);

  ProcessId self_;
  Io io_;
  uint64_t next_ = 1;
  std::unordered_map<ObjectId, detail::ObjectEntry*> exported_;  ///< Owned ones whose id left, and all borrowed ones.
  std::map<Place, detail::ObjectEntry*> places_;  ///< Owned ones whose value lies, or lay last, on another node.
  std::unordered_set<ProcessId> dead_;
  std::unordered_set<ProcessId> watched_;
  static constexpr uint64_t kAll = ~uint64_t{0};
  struct Lost {
    Status why;
    uint64_t up_to = kAll;  // segments up to this one; a node that came back has others
  };
  std::unordered_map<uint32_t, Lost> lost_nodes_;
  /// An owner's side of the answers to one process.
  struct Answers {
    uint64_t unread_bytes = 0;
    std::deque<detail::Handle> waiting;  // one for each time it asked
  };
  std::unordered_map<ProcessId, Answers> answers_;
  std::unordered_map<ProcessId, uint64_t> read_bytes_;  ///< Of an owner's answers, that it was not told of.
  std::deque<detail::Waiter> to_tell_;                  ///< Bounded by who waits.
  bool is_telling_ = false;
  size_t lineage_bytes_ = 0;
  bool may_lose_ = false;
};

}  // namespace manta
