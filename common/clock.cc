#include "common/clock.h"

namespace manta {
namespace {

class RealClock final : public Clock {
 public:
  [[nodiscard]] Time now() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace

const Clock& Clock::real() {
  static const RealClock& clock = *new RealClock;  // never destroyed: a thread may ask while the process exits
  return clock;
}

}  // namespace manta
