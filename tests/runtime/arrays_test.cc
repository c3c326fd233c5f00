// Arrays that are made where they will lie. The suite Anywhere runs in inline mode too, where they lie on the heap.
#include "tests/runtime/errors.h"
#include "tests/runtime/program.h"

#include <gtest/gtest.h>

namespace program {
namespace {

using manta::Code;
using Values = manta::Array<double>;
using namespace std::chrono_literals;

constexpr size_t kCount = 100'000;
constexpr size_t kStoreBytes = size_t{256} << 20;

Values counted(size_t count, double from = 0) {
  Values out = Values::uninitialized(count);
  std::iota(out.writable().begin(), out.writable().end(), from);
  return out;
}
bool is_counted(const Values& values, size_t count, double from = 0) {
  if (values.size() != count) return false;
  for (size_t i = 0; i < count; ++i) {
    if (values[i] != from + static_cast<double>(i)) return false;
  }
  return true;
}

struct Labelled {
  std::string label;
  Values values;
  std::vector<manta::Ref<int>> refs;
};
Labelled labelled(size_t count) { return {"label", counted(count), {manta::put(1), manta::put(2)}}; }
Labelled with_a_long_label(size_t count) { return {std::string(3'000, 'l'), counted(count), {}}; }
std::tuple<Values, Values> two(size_t count) { return {counted(count), Values(count, 0.5)}; }
manta::Generator<Values> stream(int items) {
  for (int i = 0; i < items; ++i) co_yield counted(kCount, i);
}
double sum_of_two(const Values& a, const Values& b) { return sum_array(a) + sum_array(b); }
Values throws_with_one(size_t count) {
  const Values lost = counted(count);
  throw std::runtime_error("not today");
}

/// Keeps what it returns.
struct Maker {
  std::vector<Values> kept;
  Values make(size_t count, double from) { return kept.emplace_back(counted(count, from)); }
  Values again(size_t index) { return kept.at(index); }
  bool is_in_place(const Values& values, size_t index) { return values.data() == kept.at(index).data(); }
  bool is_whole(size_t index, double from) { return is_counted(kept.at(index), kept.at(index).size(), from); }
  bool may_write(size_t index) {
    try {
      return !kept.at(index).writable().empty();
    } catch (const manta::Error& error) {
      return error.code() != Code::kInvalid;
    }
  }
};

bool has_freed_everything() {
  for (int i = 0; i < 500 && manta::node_info().store_objects > 0; ++i) std::this_thread::sleep_for(10ms);
  return manta::node_info().store_objects == 0;
}

TEST(Anywhere, ValuesOfAnySizeOutliveTheirRefs) {
  for (const size_t count : {size_t{100}, size_t{600}, size_t{12'500}, kCount}) {
    Values of_put, again, of_task;
    {
      const manta::Ref<Values> put = manta::put(counted(count));
      of_put = put.get(), again = put.get();
      of_task = manta::remote<&counted>(count, 5.0).get();
    }
    for (int i = 0; i < 20; ++i) (void)manta::put(counted(count, 9));
    EXPECT_TRUE(is_counted(of_put, count) && is_counted(again, count) && is_counted(of_task, count, 5));
    for (const Values* each : {&of_put, &again, &of_task}) EXPECT_EQ(reinterpret_cast<uintptr_t>(each->data()) % 64, 0u);
    EXPECT_EQ(error_of([&] { (void)of_put.writable(); }).code(), Code::kInvalid);
  }
}

TEST(Anywhere, ArraysHoldWhatWasWritten) {
  EXPECT_TRUE(Values::uninitialized(0).writable().empty());
  EXPECT_EQ(Values(0, 1.0).size(), 0u);
  EXPECT_EQ(Values(3, 1.5)[2], 1.5);
  for (const size_t count : {size_t{1}, size_t{1'000}, kCount, 50 * kCount}) {
    const Values values = counted(count);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(values.data()) % 64, 0u);
    EXPECT_TRUE(is_counted(manta::put(values).get(), count));
    EXPECT_TRUE(is_counted(values, count)) << "what was put is still there to be read";
    EXPECT_DOUBLE_EQ(manta::remote<&sum_array>(values).get(), sum_array(values));
  }
}

TEST(Anywhere, ArraysAreResultsOfEveryKind) {
  EXPECT_TRUE(is_counted(manta::remote<&counted>(kCount, 7.0).get(), kCount, 7));
  const auto [first, second] = manta::remote<&two>.each()(kCount);
  EXPECT_TRUE(is_counted(first.get(), kCount));
  EXPECT_EQ(second.get()[kCount - 1], 0.5);
  const auto both = manta::remote<&two>(kCount).get();
  EXPECT_EQ(sum_of_two(std::get<0>(both), std::get<1>(both)), sum_of_two(first.get(), second.get()));
  const Labelled value = manta::remote<&labelled>(kCount).get();
  EXPECT_EQ(value.label, "label");
  EXPECT_EQ(value.refs.at(1).get(), 2);
  EXPECT_TRUE(is_counted(value.values, kCount));
  EXPECT_TRUE(is_counted(manta::remote<&with_a_long_label>(kCount).get().values, kCount));
  manta::Stream<Values> items = manta::remote<&stream>(20);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(is_counted(items.next()->get(), kCount, i));
  EXPECT_EQ(error_of([] { (void)manta::remote<&throws_with_one>(kCount).get(); }).code(), Code::kTaskFailed);
}

TEST(Anywhere, OnlyOneWhoIsAloneMayWrite) {
  Values values = counted(kCount);
  {
    const Values copy = values;
    EXPECT_EQ(error_of([&] { (void)values.writable(); }).code(), Code::kInvalid);
  }
  values.writable()[0] = 5;
  (void)manta::put(values);
  const manta::Error error = error_of([&] { (void)values.writable(); });
  EXPECT_NE(std::string(error.what()).find("has been put"), std::string::npos) << error.what();
  Values moved = counted(1'000);
  Values target = std::move(moved);
  EXPECT_EQ(target.writable().size(), 1'000u);
  EXPECT_EQ(error_of([] {
              Values got = manta::put(counted(kCount)).get();
              (void)got.writable();
            }).code(),
            Code::kInvalid);
}

TEST(Arrays, BecomeTheObjectWhereTheyWereMade) {
  for (const size_t count : {kCount, 20 * kCount}) {  // in a segment with others, and in one of its own
    const Values values = counted(count);
    const manta::Ref<Values> ref = manta::put(values);
    EXPECT_EQ(ref.get().data(), values.data());
    const manta::Ref<Values> second = manta::put(values);
    EXPECT_NE(second.get().data(), values.data()) << "one memory is one object";
    EXPECT_TRUE(is_counted(second.get(), count));
  }
  const Labelled value = labelled(kCount);
  EXPECT_EQ(manta::put(value).get().values.data(), value.values.data());
  const Labelled wide = with_a_long_label(kCount);
  EXPECT_NE(manta::put(wide).get().values.data(), wide.values.data());
}

TEST(Arrays, ResultsThatAreKeptOutliveTheirObject) {
  const auto maker = manta::spawn<Maker>();
  for (size_t i = 0; i < 4; ++i) {
    const manta::Ref<Values> ref = maker.call<&Maker::make>(kCount, static_cast<double>(i));
    EXPECT_TRUE(maker.call<&Maker::is_in_place>(ref, i).get()) << "it was copied";
    EXPECT_TRUE(is_counted(maker.call<&Maker::again>(i).get(), kCount, static_cast<double>(i)));
    EXPECT_FALSE(maker.call<&Maker::may_write>(i).get());
  }
  EXPECT_TRUE(has_freed_everything());
  // Others take memory in the same segment: none of it is what the actor still looks at.
  for (int i = 0; i < 200; ++i) EXPECT_TRUE(is_counted(maker.call<&Maker::again>(size_t{0}).get(), kCount));
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(maker.call<&Maker::is_whole>(i, static_cast<double>(i)).get());
}

TEST(Arrays, GiveTheirMemoryBackWhenDropped) {
  for (int i = 0; i < 50; ++i) {
    { const Values dropped = Values(kStoreBytes / 4 / sizeof(double), 1.0); }
    const Values values = counted(kCount);
    ASSERT_EQ(manta::put(values).get().data(), values.data());
    (void)manta::remote<&counted>(kCount, 0.0).get();
  }
  EXPECT_TRUE(has_freed_everything());
}

TEST(Arrays, LieOnTheHeapWhenTheStoreHasNotPlenty) {
  constexpr size_t kEach = kStoreBytes / 8;
  std::vector<Values> many;
  for (int i = 0; i < 16; ++i) many.push_back(counted(kEach / sizeof(double), i));  // twice what the store has
  int in_place = 0;
  for (int i = 0; i < 16; ++i) {
    const Values& values = many[static_cast<size_t>(i)];
    const manta::Ref<Values> ref = manta::put(values);
    in_place += ref.get().data() == values.data() ? 1 : 0;
    ASSERT_TRUE(is_counted(ref.get(), values.size(), i));
  }
  EXPECT_GT(in_place, 0);
  EXPECT_LT(in_place, 8) << "half of the store is for those who need it";
}

}  // namespace
}  // namespace program

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  ::setenv("MANTA_STORE_BYTES", std::to_string(program::kStoreBytes).c_str(), 1);
  return manta::run(argc, argv, [] { return RUN_ALL_TESTS(); });
}
