// What the benchmarks share: repeat, take the median and the spread, print one line.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace bench {

struct Spread {
  double least = 0, median = 0, most = 0;
};

inline Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back()};
}

inline double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// `measure` gives one figure; it is called once to warm up and `rounds` times that count.
inline Spread repeat(int rounds, const std::function<double()>& measure) {
  (void)measure();
  std::vector<double> values;
  for (int i = 0; i < rounds; ++i) values.push_back(measure());
  return spread_of(std::move(values));
}

/// "name   least / median / most unit   beside": what it is compared with, or nothing.
inline void print_row(const std::string& name, const Spread& figures, const char* unit, const std::string& beside = "") {
  const int digits = figures.median < 10 ? 2 : figures.median < 1'000 ? 1 : 0;
  std::printf("%-46s %12.*f / %12.*f / %12.*f %-9s %s\n", name.c_str(), digits, figures.least, digits, figures.median,
              digits, figures.most, unit, beside.c_str());
  std::fflush(stdout);
}

inline void print_heading(const char* title) {
  std::printf("\n%s\n%-46s %12s / %12s / %12s %-9s %s\n", title, "", "least", "median", "most", "", "goal or bound");
}

}  // namespace bench
