// How long a waiter looks for its answer before it sleeps. Sleeping costs some 50 us until it runs again, looking costs a
// processor: it looks longer where answers come soon after, and as long as that pays.
//
//   At first it keeps its processor, since an answer of this node comes within microseconds. After that it yields between
//   looks: what makes an answer of another node runs on the same few processors, and finds this one awake and free.
//   expected: a moving average of how long waits take. Soon after: looking twice that long finds nearly all.
//   A look that found nothing: somebody else needs the processor, or the answers became slow. No long one for the next 64
//   waits, twice as many each time.
//
// No clock of its own. Thread safety: none; one for each thread that waits.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>

namespace manta {

class SpinPolicy {
 public:
  using Duration = std::chrono::nanoseconds;
  static constexpr Duration kAlone = std::chrono::microseconds(20);  ///< Without yielding.
  static constexpr Duration kShort = std::chrono::microseconds(30);
  static constexpr Duration kWorthIt = std::chrono::microseconds(250);  ///< Of an expected wait.
  static constexpr Duration kLong = std::chrono::microseconds(400);
  static constexpr uint32_t kFirstPause = 64;  ///< In waits.
  static constexpr uint32_t kLongestPause = 8'192;

  /// Between two looks.
  static void pause(Duration since_start) {
    if (since_start < kAlone)
      __builtin_ia32_pause();
    else
      std::this_thread::yield();
  }

  /// For the wait that begins now.
  [[nodiscard]] Duration limit() const {
    if (pause_ > 0 || expected_ > kWorthIt) return kShort;
    return std::clamp(2 * expected_, kShort, kLong);
  }

  /// The wait is over; `looked` says whether it ended before the limit, that is without sleep.
  void ended(Duration took, bool looked) {
    const bool was_long = limit() > kShort;
    if (pause_ > 0) --pause_;
    if (was_long && !looked) {
      pause_ = next_pause_;
      next_pause_ = std::min(2 * next_pause_, kLongestPause);
    } else if (was_long && took > kShort) {
      next_pause_ = kFirstPause;
    }
    // One that takes for ever says little about the next.
    expected_ += (std::min(took, kForever) - expected_) / 8;
  }

 private:
  static constexpr Duration kForever = std::chrono::milliseconds(2);
  Duration expected_{0};
  uint32_t pause_ = 0;
  uint32_t next_pause_ = kFirstPause;
};

}  // namespace manta
