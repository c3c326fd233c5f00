// What the benchmarks of models share: real text, clocks, and lines with median and spread.
#pragma once

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace manta::bench {

/// The texts of the column `text` of a Parquet file, or of all of a folder in the order of their names: of the first
/// argument, or where the variable MANTA_CORPUS says, or of the demo's corpus. Ends the program, saying so, when there is
/// none.
std::vector<std::string> corpus(int argc, char** argv);

inline std::vector<std::string_view> views(const std::vector<std::string>& texts) { return {texts.begin(), texts.end()}; }

/// This thread's own time: what others do on a shared machine counts as little as it can.
inline double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Some measurements of one thing.
class Samples {
 public:
  void add(double value) { values_.push_back(value); }
  [[nodiscard]] bool empty() const { return values_.empty(); }
  [[nodiscard]] double median() const {
    std::vector<double> sorted = values_;
    std::ranges::sort(sorted);
    return sorted.empty() ? 0 : sorted[sorted.size() / 2];
  }
  /// "<name>   min / median / max unit".
  void print(const std::string& name, const char* unit) const {
    const auto [low, high] = std::ranges::minmax(values_);
    std::printf("  %-58s %10.2f / %10.2f / %10.2f %s\n", name.c_str(), low, median(), high, unit);
    std::fflush(stdout);
  }

 private:
  std::vector<double> values_;
};

}  // namespace manta::bench
