// The owner's and a borrower's tables, and lineage, with everything around them invented.
#include "actors/lineage.h"

#include "actors/inline_runtime.h"
#include "actors/task_owner.h"
#include "wire/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <utility>

namespace manta {
namespace {

using detail::Handle;
using detail::ObjectEntry;
using detail::ObjectState;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr wire::NodeNumber kDoomed = 7;
constexpr wire::NodeNumber kSafe = 8;

/// What lets go of handles, here by their owner's number.
class Tables : public InlineRuntime {
 public:
  Tables() { Runtime::install(this); }
  ~Tables() override { Runtime::install(nullptr); }
  void release_exported(ObjectEntry* entry) noexcept override { table_of(*entry).release_exported(entry); }
  void forget(ObjectEntry* entry) noexcept override { table_of(*entry).forget(entry); }
  ObjectTable& table_of(const ObjectEntry& entry) {
    for (ObjectTable* table : tables)
      if (is_in(*table, entry)) return *table;
    return *tables.front();
  }
  std::vector<ObjectTable*> tables;  ///< The owner first.
  std::function<bool(const ObjectTable&, const ObjectEntry&)> is_in =
      [](const ObjectTable& table, const ObjectEntry& entry) { return table.is_own(entry); };
};

class LineageTest : public ::testing::Test {
 protected:
  explicit LineageTest(size_t most_bytes = 1 << 20)
      : lineage(objects, {[this](Call& call) { run(call); }, [this](Call& call) { stop(call); }}, most_bytes) {
    tables.tables = {&objects};
  }
  ~LineageTest() override {
    for (Call* call : std::exchange(running, {})) over(*call);
  }

  ObjectTable::Io io() {
    return {.relay =
                [this](ProcessId to, std::string payload) {
                  said.push_back({to, std::move(payload)});
                },
            .free_stored = [this](const wire::ObjectLocation& at) { freed.push_back(at.offset); },
            .end_actor = [](const ActorId&) {},
            .watch = [](ProcessId) {},
            .rebuild = [this](ObjectEntry& entry, const Status& why) { return lineage.rebuild(entry, why); },
            .unwanted = [this](ObjectEntry& entry) { lineage.unwanted(entry); },
            .read_soon = [this](const wire::ObjectLocation& at) { read_soon.push_back(at.offset); },
            .gone = [this](ObjectEntry& entry) { lineage.gone(entry); }};
  }

  /// Values lie at offsets that tell them apart.
  wire::ObjectLocation place(wire::NodeNumber node) {
    const uint64_t next = ++last_place;
    return {wire::first_id_of(node) + 1, next, 1 << 20, static_cast<uint32_t>(next), 1};
  }

  /// A task that has ended, its results in the store of `node`.
  std::vector<Handle> done(const std::vector<Handle>& arguments, wire::NodeNumber node = kDoomed, int retries = 3,
                           size_t results = 1) {
    auto* const call = new Call();
    call->task_class = &task_class;
    call->retries_left = retries;
    call->first_sequence = objects.reserve(results);
    call->more_results.resize(results - 1);
    std::vector<Handle> out;
    for (size_t i = 0; i < results; ++i) {
      out.push_back(objects.make(call->first_sequence + i));
      call->result_at(i) = out.back();
      objects.complete(*out.back().get(), place(node));
      out.back().get()->maker = detail::Maker::kTask;
    }
    for (const Handle& argument : arguments) call->arguments.push_back({{}, argument, {}});
    over(*call);
    return out;
  }

  void run(Call& call) {
    running.push_back(&call);
    for (const detail::Argument& argument : call.arguments)
      if (argument.ref && objects.is_lost(*argument.ref.get())) objects.lose(*argument.ref.get());
  }
  void stop(Call& call) {
    stopped.push_back(call.first_sequence);
    std::erase(running, &call);
    over(call);
  }
  /// One that runs again returns, with what it was still asked for.
  void finish(Call& call, wire::NodeNumber node = kSafe) {
    for (const detail::Argument& argument : call.arguments) ASSERT_FALSE(argument.ref.get()->awaits_value());
    running.erase(std::find(running.rbegin(), running.rend(), &call).base() - 1);
    call.state = CallState::kDone;
    for (size_t i = 0; i < call.result_count(); ++i)
      if (call.result_entry(i) != nullptr) objects.complete(*call.result_entry(i), place(node));
    over(call);
  }
  void over(Call& call) {
    call.state = CallState::kDone;
    if (!lineage.keep(call)) delete &call;
  }
  Call& last() { return *running.back(); }
  void lose_node() { objects.on_node_lost(kDoomed, Status(Code::kDied, "its power failed")); }
  static uint64_t at(const Handle& handle) { return handle.get()->location.offset; }

  Tables tables;
  std::vector<uint64_t> freed;
  std::vector<uint64_t> read_soon;
  std::vector<std::pair<ProcessId, std::string>> said;
  std::vector<Call*> running;
  std::vector<uint64_t> stopped;
  TaskClass task_class;
  uint64_t last_place = 0;
  ObjectTable objects{ProcessId{1}, io()};
  Lineage lineage;
};

TEST_F(LineageTest, ALostResultIsMadeAgain) {
  const Handle result = done({})[0];
  EXPECT_FALSE(objects.is_lost(*result.get()));
  lose_node();
  ASSERT_TRUE(objects.is_lost(*result.get()));
  objects.lose(*result.get());
  ASSERT_THAT(running, SizeIs(1));
  EXPECT_EQ(last().attempt, 1u);
  EXPECT_EQ(last().retries_left, 2);
  EXPECT_TRUE(result.get()->awaits_value());
  EXPECT_TRUE(result.get()->is_ready());  // once ready, always ready
  bool told = false;
  result.get()->waiters.push_back({[](void* context) { *static_cast<bool*>(context) = true; }, &told});
  finish(last());
  EXPECT_TRUE(told);
  EXPECT_FALSE(result.get()->awaits_value());
  EXPECT_FALSE(objects.is_lost(*result.get()));
  EXPECT_EQ(at(result), 2u);
  EXPECT_THAT(freed, IsEmpty());  // nothing to free on a node that is lost
}

TEST_F(LineageTest, WhatItWasMadeFromIsMadeAgainFirst) {
  Handle first = done({})[0];
  Handle second = done({first})[0];
  Handle third = done({second, first})[0];
  first = {};
  second = {};
  EXPECT_THAT(freed, ElementsAre(1u, 2u));  // their values; what they were made from is known
  EXPECT_EQ(lineage.count(), 3u);
  lose_node();
  objects.lose(*third.get());
  ASSERT_THAT(running, SizeIs(3));
  for (size_t arguments = 0; arguments < 3; ++arguments) {
    const auto next =
        std::find_if(running.begin(), running.end(), [&](const Call* call) { return call->arguments.size() == arguments; });
    ASSERT_NE(next, running.end());
    finish(**next);
  }
  EXPECT_EQ(at(third), 6u);
  EXPECT_THAT(freed, UnorderedElementsAre(1u, 2u, 4u, 5u));
  third = {};
  EXPECT_EQ(lineage.count(), 0u);
  EXPECT_EQ(lineage.bytes(), 0u);
  EXPECT_EQ(objects.exported_count(), 0u);
}

TEST_F(LineageTest, WhatLayOnALostNodeIsMadeAgainAtOnceAndTogether) {
  Handle root = done({})[0];
  const Handle one = done({root})[0], two = done({root})[0], elsewhere = done({root}, kSafe)[0];
  Handle unused = done({})[0];
  root = {};
  unused = {};
  lose_node();
  lineage.on_node_lost();
  ASSERT_THAT(running, SizeIs(3));
  finish(**std::find_if(running.begin(), running.end(), [](const Call* call) { return call->arguments.empty(); }));
  finish(last());
  finish(last());
  EXPECT_FALSE(objects.is_lost(*one.get()) || objects.is_lost(*two.get()) || objects.is_lost(*elsewhere.get()));
}

TEST_F(LineageTest, OnlyALossCostsARetry) {
  Handle root = done({}, kSafe, 1)[0];
  const Handle result = done({root}, kSafe, 9)[0];
  root = {};
  for (int i = 0; i < 5; ++i) {
    objects.lose(*result.get(), result.get()->location, Status(Code::kLost, "damaged"));
    ASSERT_THAT(running, SizeIs(2));
    finish(last());
    finish(last());
  }
  EXPECT_EQ(result.get()->state, ObjectState::kStored);
}

TEST_F(LineageTest, RetriesBoundHowOften) {
  const Handle result = done({}, kDoomed, 1)[0];
  lose_node();
  objects.lose(*result.get());
  finish(last());
  objects.lose(*result.get(), result.get()->location, Status(Code::kLost, "its file is damaged"));
  EXPECT_THAT(running, IsEmpty());
  ASSERT_EQ(result.get()->state, ObjectState::kFailed);
  EXPECT_EQ(result.get()->error.code(), Code::kLost);
  EXPECT_THAT(result.get()->error.message(), HasSubstr("its file is damaged"));
  EXPECT_THAT(result.get()->error.message(), HasSubstr("retries"));
}

TEST_F(LineageTest, ATaskThatMayRunOnceKeepsNothing) {
  const Handle result = done({}, kDoomed, 0)[0];
  EXPECT_EQ(lineage.count(), 0u);
  lose_node();
  objects.lose(*result.get());
  EXPECT_EQ(result.get()->state, ObjectState::kFailed);
}

TEST_F(LineageTest, WhatWasPutIsLost) {
  const Handle put = objects.make();
  objects.complete(*put.get(), place(kSafe));
  objects.lose(*put.get(), put.get()->location, Status(Code::kLost, "its file is damaged"));
  ASSERT_EQ(put.get()->state, ObjectState::kFailed);
  EXPECT_THAT(put.get()->error.message(), HasSubstr("it was put"));
  EXPECT_THAT(freed, ElementsAre(1u));
}

TEST_F(LineageTest, WhatIsMadeFromALostPutIsLost) {
  Handle put = objects.make();
  objects.complete(*put.get(), place(kSafe));
  const Handle result = done({put})[0];
  put = {};
  lose_node();
  objects.lose(*result.get());
  ASSERT_THAT(running, SizeIs(1));
  const Handle argument = last().arguments[0].ref;
  EXPECT_EQ(argument.get()->state, ObjectState::kFailed);
  EXPECT_THAT(argument.get()->error.message(), HasSubstr("it was put"));
}

TEST_F(LineageTest, TwoReadersOfOneLossMakeOneRun) {
  const Handle result = done({})[0];
  const wire::ObjectLocation lost = result.get()->location;
  const Status why(Code::kLost, "nothing there");
  objects.lose(*result.get(), lost, why);
  objects.lose(*result.get(), lost, why);
  EXPECT_THAT(running, SizeIs(1));
  finish(last());
  objects.lose(*result.get(), lost, why);  // it read the old place, and looks again
  EXPECT_THAT(running, IsEmpty());
  EXPECT_FALSE(result.get()->awaits_value());
}

TEST_F(LineageTest, OnlyLostResultsTakeTheirNewValue) {
  const std::vector<Handle> results = done({}, kSafe, 3, 3);
  objects.lose(*results[1].get(), results[1].get()->location, Status(Code::kLost, "damaged"));
  finish(last());
  EXPECT_EQ(at(results[0]), 1u);
  EXPECT_EQ(at(results[1]), 5u);
  EXPECT_EQ(at(results[2]), 3u);
  EXPECT_THAT(freed, ElementsAre(2u, 4u, 6u));  // the rest of the old one, and new values of those that are there
}

TEST_F(LineageTest, AResultThatIsLostAfterItCameAgainTakesOneMoreRun) {
  const std::vector<Handle> results = done({}, kDoomed, 2, 2);
  lose_node();
  objects.lose(*results[0].get());
  objects.lose(*results[1].get());
  ASSERT_THAT(running, SizeIs(1));
  Call& call = last();
  objects.complete(*call.result_entry(0), place(kSafe));
  objects.lose(*results[0].get(), results[0].get()->location, Status(Code::kLost, "damaged"));
  objects.complete(*call.result_entry(1), place(kSafe));
  running.clear();
  lineage.keep(call);
  ASSERT_THAT(running, SizeIs(1));
  EXPECT_FALSE(results[1].get()->awaits_value());
  objects.lose(*results[1].get(), results[1].get()->location, Status(Code::kLost, "damaged"));
  objects.complete(*call.result_entry(0), place(kSafe));
  running.clear();
  lineage.keep(call);  // its retries are used up
  EXPECT_THAT(running, IsEmpty());
  EXPECT_EQ(results[0].get()->state, ObjectState::kStored);
  EXPECT_EQ(results[1].get()->state, ObjectState::kFailed);
}

TEST_F(LineageTest, AResultThatIsLostBeforeItsCallIsOver) {
  for (const int retries : {0, 1}) {
    auto* const call = new Call();
    call->task_class = &task_class;
    call->retries_left = retries;
    const Handle result = objects.make();
    call->first_sequence = result.get()->id.sequence;
    result.get()->producer = call;
    call->result = result;
    objects.complete(*result.get(), place(kSafe));
    objects.lose(*result.get(), result.get()->location, Status(Code::kLost, "damaged"));
    EXPECT_TRUE(running.empty());
    if (!lineage.keep(*call)) delete call;
    ASSERT_EQ(running.size(), size_t{retries > 0});
    EXPECT_EQ(result.get()->state, retries > 0 ? ObjectState::kStored : ObjectState::kFailed);
    if (retries > 0) finish(last());
    EXPECT_FALSE(result.get()->awaits_value());
  }
}

TEST_F(LineageTest, NobodyWantsItAnyMoreAndAllOfItStops) {
  Handle first = done({})[0];
  Handle second = done({first})[0];
  first = {};
  lose_node();
  objects.lose(*second.get());
  ASSERT_THAT(running, SizeIs(2));
  second = {};
  EXPECT_THAT(stopped, IsEmpty());  // not from within
  lineage.tick();
  EXPECT_THAT(stopped, SizeIs(2));
  EXPECT_EQ(lineage.count(), 0u);
  EXPECT_EQ(objects.exported_count(), 0u);
}

TEST_F(LineageTest, AnArgumentThatNobodyAwaitsAnyMoreStaysKnown) {
  Handle first = done({}, kSafe)[0];
  const Handle second = done({first}, kSafe)[0];
  objects.lose(*first.get(), first.get()->location, Status(Code::kLost, "damaged"));
  ASSERT_THAT(running, SizeIs(1));
  first = {};
  lineage.tick();
  EXPECT_THAT(stopped, SizeIs(1));
  objects.lose(*second.get(), second.get()->location, Status(Code::kLost, "damaged"));
  ASSERT_THAT(running, SizeIs(2));
  finish(*running[1]);
  finish(*running[0]);
  EXPECT_FALSE(second.get()->awaits_value());
}

TEST_F(LineageTest, AValueThatComesWhenOnlyLineageIsLeftGoesAgain) {
  Handle first = done({}, kSafe)[0];
  const Handle second = done({first}, kSafe)[0];
  objects.lose(*first.get(), first.get()->location, Status(Code::kLost, "damaged"));
  first = {};
  finish(last());
  EXPECT_THAT(freed, ElementsAre(1u, 3u));
}

TEST_F(LineageTest, SmallArgumentsStayAsLongAsTheyMayBeNeeded) {
  Handle small = objects.make();
  objects.complete(*small.get(), std::string(1000, 'x'));
  Handle result = done({small})[0];
  const size_t before = lineage.bytes();
  small = {};
  EXPECT_EQ(lineage.bytes(), before + 1000);
  lose_node();
  objects.lose(*result.get());
  EXPECT_EQ(last().arguments[0].ref.get()->blob.size(), 1000u);
  finish(last());
  result = {};
  EXPECT_EQ(lineage.bytes(), 0u);
  EXPECT_EQ(objects.exported_count(), 0u);
}

TEST_F(LineageTest, SmallResultsKeepNothing) {
  Call call;
  call.task_class = &task_class;
  call.retries_left = 3;
  call.result = objects.make();
  objects.complete(*call.result.get(), "small");
  EXPECT_FALSE(lineage.keep(call));
}

TEST_F(LineageTest, AChainOfAnyLengthIsMadeAgainAndForgotten) {
  constexpr int kLinks = 1'000;  // of this many records as much as the bound allows
  Handle end = done({})[0];
  for (int i = 1; i < kLinks; ++i) end = done({end})[0];
  EXPECT_EQ(lineage.count(), size_t{kLinks});
  lose_node();
  objects.lose(*end.get());
  ASSERT_THAT(running, SizeIs(kLinks));
  while (!running.empty()) finish(last());
  EXPECT_FALSE(objects.is_lost(*end.get()));
  end = {};
  EXPECT_EQ(lineage.count(), 0u);
}

struct LongLineageTest : LineageTest {
  LongLineageTest() : LineageTest(size_t{1} << 30) {}
};
TEST_F(LongLineageTest, NothingRecursesWithTheDepth) {
  constexpr int kLinks = 50'000;
  Handle end = done({})[0];
  for (int i = 1; i < kLinks; ++i) end = done({end})[0];
  lose_node();
  objects.lose(*end.get());
  ASSERT_THAT(running, SizeIs(kLinks));
  while (!running.empty()) finish(last());
  end = {};
  EXPECT_EQ(lineage.count(), 0u);
  EXPECT_EQ(objects.exported_count(), 0u);
}

TEST_F(LongLineageTest, NorDoesAFailureThatPassesAlongAChain) {
  struct Link {
    ObjectTable* objects;
    Handle next;
  };
  const Handle first = objects.make();
  Handle end = first;
  for (int i = 0; i < 50'000; ++i) {
    Handle next = objects.make();
    end.get()->waiters.push_back({[](void* context) {
                                    const std::unique_ptr<Link> self(static_cast<Link*>(context));
                                    self->objects->fail(*self->next.get(), Status(Code::kLost, "gone"));
                                  },
                                  new Link{&objects, next}});
    end = next;
  }
  objects.fail(*first.get(), Status(Code::kLost, "gone"));
  EXPECT_EQ(end.get()->state, ObjectState::kFailed);
}

struct ShortLineageTest : LineageTest {
  ShortLineageTest() : LineageTest(4'000) {}
};
TEST_F(ShortLineageTest, TheOldestIsForgottenAndSaysSo) {
  std::vector<Handle> results;
  for (int i = 0; i < 20; ++i) results.push_back(done({})[0]);
  EXPECT_LT(lineage.count(), 20u);
  EXPECT_LE(lineage.bytes(), 4'000u);
  lose_node();
  objects.lose(*results[0].get());
  ASSERT_EQ(results[0].get()->state, ObjectState::kFailed);
  EXPECT_THAT(results[0].get()->error.message(), HasSubstr("MANTA_LINEAGE_BYTES"));
  objects.lose(*results[19].get());
  EXPECT_THAT(running, SizeIs(1));
}

/// A second process that borrows from the first; what they say to each other arrives when `deliver` is called.
class BorrowerTest : public LineageTest {
 protected:
  BorrowerTest() {
    tables.tables = {&objects, &borrower};
    tables.is_in = [this](const ObjectTable& table, const ObjectEntry& entry) {
      return &table == &borrower ? theirs.contains(&entry) : !theirs.contains(&entry);
    };
  }
  void TearDown() override {
    deliver();
    while (!running.empty()) finish(last());
    deliver();
    objects.on_process_died(ProcessId{2}, Status(Code::kDied, "the test is over"));
  }
  Handle borrow(const Handle& original) {
    objects.note_exported(*original.get());
    Handle handle = borrower.handle_for(original.get()->id, nullptr);
    theirs.insert(handle.get());
    deliver();
    return handle;
  }
  void deliver() {
    while (!said.empty() || !heard.empty()) {
      for (const auto& [to, payload] : std::exchange(said, {})) hand(borrower, ProcessId{1}, payload);
      for (const auto& [to, payload] : std::exchange(heard, {})) hand(objects, ProcessId{2}, payload);
    }
  }
  static void hand(ObjectTable& table, ProcessId from, const std::string& payload) {
    const std::string_view body = std::string_view(payload).substr(1);
    switch (static_cast<PeerKind>(payload[0])) {
      case PeerKind::kBorrow: table.on_borrow(wire::decode<PeerBorrow>(body).value()); break;
      case PeerKind::kFetch: table.on_fetch(from, wire::decode<PeerFetch>(body).value()); break;
      case PeerKind::kFetched: table.on_fetched(from, wire::decode<PeerFetched>(body).value()); break;
      case PeerKind::kTaken: table.on_taken(from, wire::decode<PeerTaken>(body).value()); break;
      default: FAIL();
    }
  }
  std::vector<std::pair<ProcessId, std::string>> heard;
  std::set<const ObjectEntry*> theirs;
  ObjectTable borrower{ProcessId{2},
                       {.relay =
                            [this](ProcessId to, std::string payload) {
                              heard.push_back({to, std::move(payload)});
                            },
                        .free_stored = [](const wire::ObjectLocation&) { FAIL() << "only owners free"; },
                        .end_actor = [](const ActorId&) {}}};
};

TEST_F(BorrowerTest, ABorrowerThatFindsNothingIsGivenTheNewPlace) {
  const Handle result = done({})[0];
  const Handle borrowed = borrow(result);
  borrower.fetch(*borrowed.get());
  deliver();
  ASSERT_EQ(borrowed.get()->state, ObjectState::kStored);
  const wire::ObjectLocation lost = borrowed.get()->location;
  borrower.lose(*borrowed.get(), lost, Status(Code::kLost, "nothing there"));
  borrower.lose(*borrowed.get(), lost, Status(Code::kLost, "nothing there"));
  EXPECT_THAT(heard, SizeIs(1));
  deliver();
  ASSERT_THAT(running, SizeIs(1));
  EXPECT_TRUE(borrowed.get()->awaits_value());
  finish(last());
  deliver();
  EXPECT_FALSE(borrowed.get()->awaits_value());
  EXPECT_EQ(at(borrowed), at(result));
  // What it finds lost, that the owner has made again since, is no news.
  borrowed.get()->location = lost;
  borrower.lose(*borrowed.get(), lost, Status(Code::kLost, "nothing there"));
  deliver();
  EXPECT_THAT(running, IsEmpty());
  EXPECT_EQ(at(borrowed), at(result));
}

TEST_F(BorrowerTest, AnOwnerThatKnowsOfTheLossAnswersWhenItIsMended) {
  const Handle result = done({})[0];
  const Handle borrowed = borrow(result);
  lose_node();
  borrower.fetch(*borrowed.get());
  deliver();
  EXPECT_FALSE(borrowed.get()->is_ready());
  ASSERT_THAT(running, SizeIs(1));
  finish(last());
  deliver();
  EXPECT_EQ(at(borrowed), at(result));
}

TEST_F(BorrowerTest, ItHearsWhyThereIsNoOther) {
  const Handle put = objects.make();
  objects.complete(*put.get(), place(kSafe));
  const Handle borrowed = borrow(put);
  borrower.fetch(*borrowed.get());
  deliver();
  borrower.lose(*borrowed.get(), borrowed.get()->location, Status(Code::kLost, "its file is damaged"));
  deliver();
  ASSERT_EQ(borrowed.get()->state, ObjectState::kFailed);
  EXPECT_THAT(borrowed.get()->error.message(), HasSubstr("its file is damaged"));
  EXPECT_THAT(borrowed.get()->error.message(), HasSubstr("it was put"));
}

TEST_F(BorrowerTest, AnOwnerSendsNoMoreAtATimeThanWasRead) {
  std::vector<Handle> borrowed;
  for (size_t i = 0; i < 300; ++i) {
    const Handle original = objects.make();
    objects.complete(*original.get(), std::string(50'000, 'x'));
    borrowed.push_back(borrow(original));
  }
  for (const Handle& each : borrowed) borrower.fetch(*each.get());
  while (!borrowed[100].get()->is_ready()) {
    for (const auto& [to, payload] : std::exchange(heard, {})) hand(objects, ProcessId{2}, payload);
    ASSERT_THAT(said, AllOf(Not(IsEmpty()), SizeIs(Le(22))));  // about 1 MiB
    for (const auto& [to, payload] : std::exchange(said, {})) hand(borrower, ProcessId{1}, payload);
  }
  objects.on_process_died(ProcessId{2}, Status(Code::kDied, "killed"));
  EXPECT_EQ(objects.exported_count(), 0u);  // nothing is kept for its sake
}

TEST_F(BorrowerTest, ItHoldsWhatIsMadeAgain) {
  Handle result = done({})[0];
  Handle borrowed = borrow(result);
  result = {};
  lose_node();
  borrower.fetch(*borrowed.get());
  deliver();
  lineage.tick();
  ASSERT_THAT(running, SizeIs(1));
  EXPECT_THAT(stopped, IsEmpty());
  borrowed = {};
  deliver();
  lineage.tick();
  EXPECT_THAT(stopped, IsEmpty());  // there is still the answer to give
  finish(last());
  deliver();
  EXPECT_EQ(lineage.count(), 0u);
}

TEST_F(BorrowerTest, ADeadOwnerHasNoOther) {
  const Handle result = done({})[0];
  const Handle borrowed = borrow(result);
  borrower.fetch(*borrowed.get());
  deliver();
  borrower.lose(*borrowed.get(), borrowed.get()->location, Status(Code::kLost, "nothing there"));
  borrower.on_process_died(ProcessId{1}, Status(Code::kDied, "killed by signal 9"));
  EXPECT_EQ(borrowed.get()->state, ObjectState::kFailed);
  EXPECT_EQ(borrowed.get()->error.code(), Code::kLost);
}

}  // namespace
}  // namespace manta
