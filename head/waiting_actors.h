// Actors that wait at a full node, and may go to another that has room first.
//
// The head puts an actor at a node where it could be, and its raylet starts it as soon as there is room; until then it says
// kWaiting. Whenever room grew anywhere, those that wait are looked at, a class at a time, the more urgent first: while a
// class has room at a node where nobody waits, the one that waits longest goes there. Nobody goes again before kStayUs: the
// head's picture of a node is half a second old.
//
// Cost: O(log n) a change; a look costs for each class, not for each that waits, and at most kMostClasses and kMostMoves.
// Pure; owned by the head's core. Not stored: after a restart the raylets say again who waits.
#pragma once

#include "wire/head_link.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace manta::head {

class WaitingActors {
 public:
  static constexpr int64_t kStayUs = 2'000'000;
  static constexpr int64_t kLookEveryUs = 100'000;
  static constexpr size_t kMostClasses = 64;
  static constexpr size_t kMostMoves = 1'000;

  /// Said again, it waits since the first time.
  void add(const wire::ActorKey& actor, const wire::SchedulingClass& what, int64_t now_us);
  void remove(const wire::ActorKey& actor);
  [[nodiscard]] size_t size() const { return by_actor_.size(); }

  void room_grew() { must_look_ = must_begin_ = true; }
  /// None: nobody waits, or nothing has changed.
  [[nodiscard]] std::optional<int64_t> next_look_us() const;

  using HasRoom = std::function<bool(const wire::SchedulingClass&)>;
  using Move = std::function<void(const wire::ActorKey&)>;  ///< Removes it.
  void look(int64_t now_us, const HasRoom& has_room, const Move& move);

 private:
  struct MoreUrgent {
    bool operator()(const wire::SchedulingClass& a, const wire::SchedulingClass& b) const {
      return a.priority != b.priority ? a.priority > b.priority : a < b;
    }
  };
  struct Entry {
    const wire::SchedulingClass* what = nullptr;  // the key in by_class_
    int64_t since_us = 0;
  };

  std::map<wire::SchedulingClass, std::set<std::pair<int64_t, wire::ActorKey>>, MoreUrgent> by_class_;  // by since_us
  std::map<wire::ActorKey, Entry> by_actor_;
  std::optional<wire::SchedulingClass> after_;  // where a look goes on that had too many classes
  bool must_look_ = false;
  bool must_begin_ = false;  // with the first class: room grew since that was done
  int64_t look_at_us_ = 0;
};

}  // namespace manta::head
