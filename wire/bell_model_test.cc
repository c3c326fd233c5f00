// The bell's protocol (bell.cc) as a model, run through every interleaving of two sleepers and two ringers: nobody sleeps on
// while a message lies there. Variants with one step moved show that the search finds a lost ring when there is one.
#include <gtest/gtest.h>

#include <array>
#include <set>
#include <vector>

namespace manta::wire {
namespace {

enum class Order { kAsBuilt, kTicketAfterArming, kLookBeforeArming, kRungBeforeClearing };

struct Sleeper {
  int step = 0;  // 0 ticket, 1 arm, 2 look, 3 wait, 4 asleep, 5 leave, 6 done
  int ticket = 0;
  bool has_message = false;
  auto operator<=>(const Sleeper&) const = default;
};
struct World {
  std::array<Sleeper, 2> sleepers;
  std::array<int, 2> ringers{};  // 0 publish, 1 look at the mark, 2 clear it, 3 move rung, 4 wake, 5 done
  int messages = 0;
  int sleeping = 0;
  bool armed = false;
  int rung = 0;
  auto operator<=>(const World&) const = default;
};

class Search {
 public:
  explicit Search(Order order) : order_(order) {}

  /// Whether some interleaving ends with a sleeper that nobody will wake.
  bool loses_a_ring() {
    visit(World{});
    return lost_;
  }
  [[nodiscard]] size_t states() const { return seen_.size(); }

 private:
  void visit(const World& world) {
    if (lost_ || !seen_.insert(world).second) return;
    bool moved = false;
    for (size_t i = 0; i < 2; ++i) {
      World next = world;
      if (step_sleeper(next, next.sleepers[i])) moved = true, visit(next);
      next = world;
      if (step_ringer(next, next.ringers[i])) moved = true, visit(next);
    }
    if (moved) return;
    for (const Sleeper& sleeper : world.sleepers) lost_ = lost_ || sleeper.step != 6;
  }

  static void look(World& world, Sleeper& sleeper) {
    if (world.messages == 0) return;
    --world.messages;
    sleeper.has_message = true;
  }
  static void arm(World& world) {
    ++world.sleeping;
    world.armed = true;
  }

  bool step_sleeper(World& world, Sleeper& sleeper) const {
    switch (sleeper.step) {
      case 0:
        if (order_ == Order::kTicketAfterArming) {
          arm(world);
        } else if (order_ == Order::kLookBeforeArming) {
          look(world, sleeper);
        } else {
          sleeper.ticket = world.rung;
        }
        break;
      case 1:
        if (order_ == Order::kTicketAfterArming) {
          sleeper.ticket = world.rung;
        } else {
          if (order_ == Order::kLookBeforeArming) sleeper.ticket = world.rung;
          arm(world);
        }
        break;
      case 2:
        if (order_ != Order::kLookBeforeArming) look(world, sleeper);
        if (sleeper.has_message) return sleeper.step = 5, true;
        break;
      case 3: sleeper.step = world.rung == sleeper.ticket ? 4 : 5; return true;  // the kernel compares and sleeps in one
      case 5:
        if (--world.sleeping == 0) world.armed = false;
        sleeper.step = sleeper.has_message ? 6 : 0;
        return true;
      default: return false;  // asleep, or done
    }
    ++sleeper.step;
    return true;
  }

  bool step_ringer(World& world, int& step) const {
    switch (step) {
      case 0: ++world.messages; break;
      case 1:
        if (!world.armed) return step = 5, true;
        break;
      case 2:
        if (order_ == Order::kRungBeforeClearing) {
          ++world.rung;
        } else {
          if (!world.armed) return step = 5, true;
          world.armed = false;
        }
        break;
      case 3:
        if (order_ == Order::kRungBeforeClearing) {
          if (!world.armed) return step = 5, true;
          world.armed = false;
        } else {
          ++world.rung;
        }
        break;
      case 4:
        for (Sleeper& sleeper : world.sleepers) {
          if (sleeper.step == 4) sleeper.step = 5;
        }
        break;
      default: return false;
    }
    ++step;
    return true;
  }

  Order order_;
  std::set<World> seen_;
  bool lost_ = false;
};

TEST(BellModel, NoInterleavingLosesARing) {
  Search search(Order::kAsBuilt);
  EXPECT_FALSE(search.loses_a_ring());
  EXPECT_GT(search.states(), 1'000u);
}

TEST(BellModel, TheOrderOfItsStepsMatters) {
  EXPECT_TRUE(Search(Order::kTicketAfterArming).loses_a_ring());
  EXPECT_TRUE(Search(Order::kLookBeforeArming).loses_a_ring());
  EXPECT_TRUE(Search(Order::kRungBeforeClearing).loses_a_ring());
}

}  // namespace
}  // namespace manta::wire
