// The protocol of pins (hazard_page.h, store_core_objects.cc) as a model, run through every interleaving of two readers and
// the raylet, on a machine that keeps stores in a buffer before others see them: memory is never reused while somebody reads
// it. The raylet evicts an object, may be asked to give it back where it is (at its next generation), and evicts it again.
// Variants with one step left out or moved show that the search finds the reuse when there is one.
#include <gtest/gtest.h>

#include <array>
#include <set>

namespace manta::object_store {
namespace {

enum class Variant {
  kAsBuilt,
  kPinWithoutFence,         // the reader's pin is an ordinary store
  kGenerationWithoutFence,  // the raylet's new generation is one
  kLookBeforePinning,
  kNoLookAfterPinning,
  kScanBeforeMovingOn,
  kNoScan,
  kScanByGeneration,  // looks for pins of the last generation only
  kLetGoBeforeReading,
};

constexpr int kPins = 0;        // variables 0 and 1: the readers' hazard slots; 0 is none
constexpr int kGeneration = 2;  // what the object table says
constexpr int kContent = 3;     // 0 the object, 1 something else
constexpr int kVariables = 4;
constexpr int kBuffer = 3;  // stores that a thread may have under way

struct Store {
  int variable = 0, value = 0;
  auto operator<=>(const Store&) const = default;
};
struct Thread {
  int step = 0;
  int generation = 1;  // reader: that it was told; raylet: of the object
  int seen = 0;        // reader: reads done; raylet: pins seen
  int buffered = 0;
  std::array<Store, kBuffer> buffer{};
  auto operator<=>(const Thread&) const = default;
};
struct World {
  std::array<int, kVariables> memory{0, 0, 1, 0};
  std::array<Thread, 3> threads;  // two readers, the raylet
  std::array<bool, 2> asked{};
  std::array<int, 2> answer{};  // a generation
  auto operator<=>(const World&) const = default;
};

enum ReaderStep { kPin, kLook, kRead, kLetGo, kAsk, kAwait, kReaderDone };
enum RayletStep { kMoveOn, kScanFirst, kScanSecond, kDecide, kReuse, kRayletDone };

class Search {
 public:
  explicit Search(Variant variant) : variant_(variant) {}

  /// Whether some interleaving reads what is no longer the object.
  bool reads_reused_memory() {
    World world;
    if (variant_ == Variant::kScanBeforeMovingOn) world.threads[2].step = kScanFirst;
    visit(world);
    return wrong_;
  }
  [[nodiscard]] size_t states() const { return seen_.size(); }
  [[nodiscard]] size_t reads() const { return reads_; }
  [[nodiscard]] size_t reads_after_return() const { return reads_after_return_; }
  [[nodiscard]] size_t reuses() const { return reuses_; }

 private:
  void visit(const World& world) {
    if (wrong_ || !seen_.insert(world).second) return;
    for (size_t i = 0; i < 3; ++i) {
      if (world.threads[i].buffered > 0) {
        World next = world;
        drain_one(next, next.threads[i]);
        visit(next);
      }
      World next = world;
      if (i < 2 ? step_reader(next, i) : step_raylet(next)) visit(next);
    }
    if (world.threads[2].step == kDecide) {  // what it does next is its own choice
      World next = world;
      if (give_back(next)) visit(next);
    }
  }

  // ------------------------------------------------------------------------------------------------ the machine

  static void drain_one(World& world, Thread& thread) {
    world.memory[static_cast<size_t>(thread.buffer[0].variable)] = thread.buffer[0].value;
    for (size_t i = 1; i < kBuffer; ++i) thread.buffer[i - 1] = thread.buffer[i];
    thread.buffer[kBuffer - 1] = {};
    --thread.buffered;
  }
  static int load(const World& world, const Thread& thread, int variable) {
    for (int i = thread.buffered - 1; i >= 0; --i) {
      if (thread.buffer[static_cast<size_t>(i)].variable == variable) return thread.buffer[static_cast<size_t>(i)].value;
    }
    return world.memory[static_cast<size_t>(variable)];
  }
  /// Others see it some time later.
  static bool store(Thread& thread, int variable, int value) {
    if (thread.buffered == kBuffer) return false;
    thread.buffer[static_cast<size_t>(thread.buffered++)] = {variable, value};
    return true;
  }
  /// A sequentially consistent store: all that came before is seen first, and this before anything is loaded after it.
  static bool exchange(World& world, Thread& thread, int variable, int value) {
    if (thread.buffered > 0) return false;
    world.memory[static_cast<size_t>(variable)] = value;
    return true;
  }
  bool store_or_exchange(World& world, Thread& thread, int variable, int value, Variant weak) const {
    return variant_ == weak ? store(thread, variable, value) : exchange(world, thread, variable, value);
  }

  // ------------------------------------------------------------------------------------------------ reader

  bool step_reader(World& world, size_t i) {
    Thread& me = world.threads[i];
    const int pin = kPins + static_cast<int>(i);
    const bool looks_first = variant_ == Variant::kLookBeforePinning;
    switch (me.step) {
      case kPin:
        if (looks_first && load(world, me, kGeneration) != me.generation) return me.step = kAsk, true;
        if (looks_first) return me.step = kLook, true;
        if (!store_or_exchange(world, me, pin, me.generation, Variant::kPinWithoutFence)) return false;
        me.step = variant_ == Variant::kNoLookAfterPinning ? kRead : kLook;
        return true;
      case kLook:
        if (looks_first) {
          if (!exchange(world, me, pin, me.generation)) return false;
          me.step = kRead;
        } else if (load(world, me, kGeneration) == me.generation) {
          me.step = kRead;
        } else {
          if (!store(me, pin, 0)) return false;
          me.step = kAsk;
        }
        if (me.step == kRead && variant_ == Variant::kLetGoBeforeReading) (void)store(me, pin, 0);
        return true;
      case kRead:
        wrong_ = wrong_ || load(world, me, kContent) != 0;
        ++reads_;
        if (me.generation > 1) ++reads_after_return_;
        if (++me.seen == 2) me.step = kLetGo;
        return true;
      case kLetGo:
        if (!store(me, pin, 0)) return false;
        me.step = kReaderDone;
        return true;
      case kAsk:  // a message: it comes after all that was stored before it, and once
        if (me.buffered > 0) return false;
        if (me.generation > 1) return me.step = kReaderDone, true;
        world.asked[i] = true;
        me.step = kAwait;
        return true;
      case kAwait:
        if (world.answer[i] == 0) return false;
        me.generation = world.answer[i];
        me.step = kPin;
        return true;
      default: return false;
    }
  }

  // ------------------------------------------------------------------------------------------------ raylet

  [[nodiscard]] bool is_pinned(const World& world, const Thread& me, int reader) const {
    const int pin = load(world, me, kPins + reader);
    return variant_ == Variant::kScanByGeneration ? pin == me.generation - 1 : pin != 0;
  }

  bool step_raylet(World& world) {
    Thread& me = world.threads[2];
    switch (me.step) {
      case kMoveOn:
        if (!store_or_exchange(world, me, kGeneration, me.generation + 1, Variant::kGenerationWithoutFence)) return false;
        ++me.generation;
        me.step = variant_ == Variant::kNoScan || variant_ == Variant::kScanBeforeMovingOn ? kReuse : kScanFirst;
        return true;
      case kScanFirst:
        me.seen = is_pinned(world, me, 0) ? 1 : 0;
        me.step = kScanSecond;
        return true;
      case kScanSecond:
        me.seen += is_pinned(world, me, 1) ? 1 : 0;
        me.step = kDecide;
        return true;
      case kDecide:
        if (variant_ == Variant::kScanBeforeMovingOn) {
          me.step = me.seen == 0 ? kMoveOn : kScanFirst;
        } else {
          me.step = me.seen == 0 ? kReuse : kScanFirst;
        }
        me.seen = 0;
        return true;
      case kReuse:
        if (!store(me, kContent, 1)) return false;
        ++reuses_;
        me.step = kRayletDone;
        return true;
      default: return false;
    }
  }

  /// Somebody asked for what is evicted and still there: it is an object again, at the generation it has now; and evicted
  /// again at once.
  static bool give_back(World& world) {
    Thread& me = world.threads[2];
    if (me.generation != 2 || !(world.asked[0] || world.asked[1])) return false;
    for (size_t i = 0; i < 2; ++i) {
      if (world.asked[i]) world.answer[i] = me.generation;
    }
    world.asked = {};
    me.seen = 0;
    me.step = kMoveOn;
    return true;
  }

  Variant variant_;
  std::set<World> seen_;
  bool wrong_ = false;
  size_t reads_ = 0, reads_after_return_ = 0, reuses_ = 0;
};

TEST(PinModel, NoInterleavingReusesWhatIsRead) {
  Search search(Variant::kAsBuilt);
  EXPECT_FALSE(search.reads_reused_memory());
  EXPECT_GT(search.states(), 1'000u);
  // The search went everywhere that matters.
  EXPECT_GT(search.reads(), 0u);
  EXPECT_GT(search.reads_after_return(), 0u);
  EXPECT_GT(search.reuses(), 0u);
}

TEST(PinModel, EveryStepOfTheProtocolMatters) {
  for (Variant variant : {Variant::kPinWithoutFence, Variant::kGenerationWithoutFence, Variant::kLookBeforePinning,
                          Variant::kNoLookAfterPinning, Variant::kScanBeforeMovingOn, Variant::kNoScan,
                          Variant::kScanByGeneration, Variant::kLetGoBeforeReading}) {
    EXPECT_TRUE(Search(variant).reads_reused_memory()) << static_cast<int>(variant);
  }
}

}  // namespace
}  // namespace manta::object_store
