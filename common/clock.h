// The time seam: code that waits or times out asks a Clock, so a test moves time by hand.
//
// Thread safety: both clocks may be used by any thread.
#pragma once

#include <atomic>
#include <chrono>

namespace manta {

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual Time now() const = 0;

  /// The machine's monotonic clock; lives as long as the process.
  static const Clock& real();
};

/// Stands still until it is moved. Starts well after the epoch, so that tests may look back.
class FakeClock final : public Clock {
 public:
  [[nodiscard]] Time now() const override { return Time(Duration(ticks_.load())); }
  void advance(Duration by) { ticks_ += by.count(); }

 private:
  std::atomic<Duration::rep> ticks_{std::chrono::duration_cast<Duration>(std::chrono::hours(24)).count()};
};

}  // namespace manta
