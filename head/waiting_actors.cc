#include "head/waiting_actors.h"

#include "common/check.h"

namespace manta::head {

using wire::ActorKey;
using wire::SchedulingClass;

void WaitingActors::add(const ActorKey& actor, const SchedulingClass& what, int64_t now_us) {
  if (by_actor_.contains(actor)) return;
  const auto waits = by_class_.try_emplace(what).first;
  waits->second.emplace(now_us, actor);
  by_actor_[actor] = {&waits->first, now_us};
  room_grew();  // there may be some already, of which its node does not know
}

void WaitingActors::remove(const ActorKey& actor) {
  const auto entry = by_actor_.find(actor);
  if (entry == by_actor_.end()) return;
  const auto waits = by_class_.find(*entry->second.what);
  waits->second.erase({entry->second.since_us, actor});
  by_actor_.erase(entry);
  if (waits->second.empty()) by_class_.erase(waits);
}

std::optional<int64_t> WaitingActors::next_look_us() const {
  if (!must_look_ || by_actor_.empty()) return std::nullopt;
  return look_at_us_;
}

void WaitingActors::look(int64_t now_us, const HasRoom& has_room, const Move& move) {
  look_at_us_ = now_us + kLookEveryUs;
  auto next = after_ ? by_class_.upper_bound(*after_) : by_class_.begin();
  must_look_ = after_ && must_begin_;
  must_begin_ = must_look_;
  after_.reset();
  size_t classes = 0;
  size_t moves = 0;
  for (; next != by_class_.end(); ++classes) {
    const SchedulingClass what = next->first;  // a move may end the entry
    while (moves < kMostMoves && has_room(what)) {
      const auto waits = by_class_.find(what);
      if (waits == by_class_.end()) break;
      const auto [since_us, actor] = *waits->second.begin();
      if (since_us + kStayUs > now_us) {
        must_look_ = true;
        break;
      }
      move(actor);
      MANTA_CHECK(!by_actor_.contains(actor) || by_actor_.at(actor).since_us > since_us, actor.owner, actor.sequence);
      ++moves;
    }
    next = by_class_.upper_bound(what);
    if (next != by_class_.end() && (classes + 1 == kMostClasses || moves == kMostMoves)) {
      after_ = what;
      must_look_ = true;
      return;
    }
  }
  must_look_ = must_look_ || moves == kMostMoves;
}

}  // namespace manta::head
