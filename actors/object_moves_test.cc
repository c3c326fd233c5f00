// The owner's table when values lie elsewhere: it keeps one of the two places, and frees the other.
#include "actors/inline_runtime.h"
#include "actors/object_table.h"
#include "wire/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta {
namespace {

using detail::Handle;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr wire::NodeNumber kOwn = 3, kDrained = 7, kNext = 8, kLast = 9;

class ObjectMoves : public ::testing::Test, public InlineRuntime {
 protected:
  ObjectMoves() { Runtime::install(this); }
  ~ObjectMoves() override { Runtime::install(nullptr); }
  void release_exported(detail::ObjectEntry* entry) noexcept override { objects.release_exported(entry); }
  void forget(detail::ObjectEntry* entry) noexcept override { objects.forget(entry); }

  wire::ObjectLocation place(wire::NodeNumber node) {
    ++last;
    return {wire::first_id_of(node) + 1, last * 64, 1 << 20, static_cast<uint32_t>(last), 1};
  }
  Handle stored(const wire::ObjectLocation& at) {
    Handle handle = objects.make();
    objects.complete(*handle.get(), at);
    return handle;
  }
  /// As the store says it of one that was spilled: with a segment and offset of its own choice.
  static wire::ObjectLocation named(const wire::ObjectLocation& at) {
    return {wire::first_id_of(wire::node_of(at.segment)) + 9, 0, at.size_bytes, at.slot, at.generation};
  }
  std::vector<uint64_t> take_freed() { return std::exchange(freed, {}); }

  uint64_t last = 0;
  std::vector<uint64_t> freed;  // by offset
  ObjectTable objects{ProcessId{wire::first_id_of(kOwn) + 1},
                      {.relay = [](ProcessId, const std::string&) {},
                       .free_stored = [this](const wire::ObjectLocation& at) { freed.push_back(at.offset); },
                       .end_actor = [](const ActorId&) {},
                       .rebuild = [](detail::ObjectEntry&, const Status&) { return Status(); }}};
};

TEST_F(ObjectMoves, TheOldPlaceIsFreedAndTheNewOneWhenNobodyNeedsTheObject) {
  const wire::ObjectLocation old = place(kDrained), next = place(kNext), last_place = place(kOwn);
  {
    const Handle handle = stored(old);
    objects.on_moved(named(old), next);
    EXPECT_EQ(handle.get()->location.offset, next.offset);
    EXPECT_THAT(take_freed(), ElementsAre(old.offset));
    objects.on_moved(named(old), next);  // said again
    EXPECT_THAT(take_freed(), IsEmpty());
    const wire::ObjectLocation another = place(kLast);
    objects.on_moved(old, another);  // and by another that was asked
    EXPECT_THAT(take_freed(), ElementsAre(another.offset));
    objects.on_node_lost(kDrained, Status(Code::kDied, "drained"));
    EXPECT_FALSE(objects.is_lost(*handle.get()));
    for (int i = 0; i < 2; ++i) objects.on_moved(next, last_place);  // also drained; to the owner's own node
    EXPECT_THAT(take_freed(), ElementsAre(next.offset));
  }
  EXPECT_THAT(take_freed(), ElementsAre(last_place.offset));
}

TEST_F(ObjectMoves, WhatIsNotNeededAnyMoreIsFreedWhereItIsNow) {
  const wire::ObjectLocation old = place(kDrained), next = place(kNext);
  stored(old);
  EXPECT_THAT(take_freed(), ElementsAre(old.offset));
  objects.on_moved(old, next);
  EXPECT_THAT(take_freed(), ElementsAre(next.offset));
}

TEST_F(ObjectMoves, AResultThatHasNotBeenHeardOfStaysWhereItIs) {
  const wire::ObjectLocation old = place(kDrained), next = place(kNext);
  const Handle handle = objects.make();
  objects.on_moved(old, next);
  EXPECT_THAT(take_freed(), ElementsAre(next.offset));
  objects.complete(*handle.get(), old);  // it is offered again
  objects.on_moved(old, place(kNext));
  EXPECT_THAT(take_freed(), ElementsAre(old.offset));
}

TEST_F(ObjectMoves, AMoveToANodeThatIsGoneIsNone) {
  const wire::ObjectLocation old = place(kDrained);
  const Handle handle = stored(old);
  objects.on_node_lost(kNext, Status(Code::kDied, "power"));
  objects.on_moved(old, place(kNext));
  EXPECT_EQ(handle.get()->location.offset, old.offset);
  EXPECT_THAT(take_freed(), IsEmpty());
}

TEST_F(ObjectMoves, WhatMovedInTimeIsNotLostWithTheNodeWhereItWas) {
  const wire::ObjectLocation old = place(kDrained), next = place(kNext);
  const Handle handle = stored(old);
  objects.on_node_lost(kDrained, Status(Code::kDied, "its time was up"));
  objects.on_moved(old, next);  // heard after that
  EXPECT_FALSE(objects.is_lost(*handle.get()));
  EXPECT_THAT(take_freed(), IsEmpty());
}

TEST_F(ObjectMoves, WhatIsMadeAgainHasNoUseForTheOldValue) {
  const wire::ObjectLocation old = place(kDrained), next = place(kNext), again = place(kLast);
  const Handle handle = stored(old);
  objects.lose(*handle.get(), old, Status(Code::kLost, "damaged"));
  EXPECT_THAT(take_freed(), ElementsAre(old.offset));
  objects.on_moved(old, next);
  EXPECT_THAT(take_freed(), ElementsAre(next.offset));
  objects.complete(*handle.get(), again);
  EXPECT_EQ(handle.get()->location.offset, again.offset);
  EXPECT_THAT(take_freed(), IsEmpty());
}

}  // namespace
}  // namespace manta
