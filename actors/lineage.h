// Lineage: the ended tasks whose results lie in the object store, kept as long as one of these results may be needed, so
// that a lost one can be made again by running its task again.
//
//   done --keep--> kept --rebuild: a result was lost--> runs again --keep--> kept
//                  kept --its last result is gone, or lineage is over its bound--> forgotten
//
// A kept call holds its arguments by references of lineage (object_table.h): the values of stored arguments may go, what
// they were made from is kept. So lineage is closed under ancestors, but for what was never made by a task that may run
// again (puts, results of actors), and what was forgotten: what needs that is lost, and its error says so. Arguments of
// other owners are held as they are, with their values.
//
// Running again costs one of the call's retries, if its result was lost; not if its value was let go and is needed for
// another that was lost: that one paid. Of its results only those that are awaited take their new value.
//
// When a node is lost, what lay on it and is referred to is made again at once: together, so that what several of them were
// made from is made again once.
//
// Invariants: a kept call has a result in the table, or is deleted soon. A running one is never forgotten. Its results point
// to it (`producer`) and it to them, without holding them. Under the runtime's lock; nothing blocks, nothing recurses with
// the depth of the graph.
#pragma once

#include "actors/call.h"
#include "actors/object_table.h"

#include <functional>
#include <list>
#include <vector>

namespace manta {

class Lineage {
 public:
  struct Io {
    std::function<void(Call&)> run;   ///< Submits it again, now or later; `keep` follows when it is over.
    std::function<void(Call&)> stop;  ///< Nobody wants it: if it has not begun, end it.
  };
  /// Keeps about `most_bytes`; 0: nothing.
  Lineage(ObjectTable& objects, Io io, size_t most_bytes);
  ~Lineage();
  Lineage(const Lineage&) = delete;
  Lineage& operator=(const Lineage&) = delete;

  /// A call is over (again). True: it belongs to the lineage now, and may be gone already.
  bool keep(Call& call);
  /// For ObjectTable::Io. kLost with the reason when it cannot be made again.
  Status rebuild(detail::ObjectEntry& entry, const Status& why);
  void on_node_lost();
  void unwanted(detail::ObjectEntry& entry);
  void gone(detail::ObjectEntry& entry);
  /// Stops what runs again for nobody. Not from within other calls: it ends calls.
  void tick();
  /// Forgets all that does not run: the end of the process.
  void clear();

  [[nodiscard]] size_t bytes() const { return bytes_ + objects_.lineage_bytes(); }
  [[nodiscard]] size_t count() const { return order_.size(); }

 private:
  bool begin(Call& call);
  void end_run(Call& call);
  void run_again(Call& call, bool costs_retry);
  void hold_arguments(Call& call);
  void restore_arguments(Call& call);
  void start_all();
  void forget(Call& call);
  void forget_oldest(size_t most_bytes);
  void delete_dead();
  [[nodiscard]] bool is_awaited(const Call& call) const;
  [[nodiscard]] Status cannot(const detail::ObjectEntry& entry, const Status& why) const;

  ObjectTable& objects_;
  Io io_;
  size_t most_bytes_;
  size_t bytes_ = 0;
  std::list<Call*> order_;  ///< Oldest first.
  std::vector<Call*> starting_;
  std::vector<Call*> unwanted_;
  std::vector<Call*> dead_;
  bool is_starting_ = false;
  bool is_deleting_ = false;
};

}  // namespace manta
