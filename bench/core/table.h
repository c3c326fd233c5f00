// The one table of `bench core`: what was measured, the goal, the machine's own limit measured in turn with it, their ratio.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bench/stats.h"

namespace manta::bench {

/// What a row should reach; printed, and never more than printed.
struct Goal {
  enum class Kind { kNone, kAtLeast, kAtMost } kind = Kind::kNone;
  double value = 0;
  [[nodiscard]] std::string text() const;
  [[nodiscard]] bool is_reached(double measured) const;
};
inline Goal at_least(double value) { return {Goal::Kind::kAtLeast, value}; }
inline Goal at_most(double value) { return {Goal::Kind::kAtMost, value}; }

/// What the machine does of the same kind without Manta, in the row's unit. Called in turn with the row's own measurement.
struct Limit {
  const char* what = "";
  std::function<double()> measure{};
};

struct Row {
  const char* name = "";   ///< What picks it on the command line.
  const char* title = "";  ///< What the table says.
  const char* unit = "";   ///< "/s" and "GB/s" are better when more, others when less.
  Goal goal{};
  Limit limit{};
  [[nodiscard]] bool more_is_better() const;
};

/// Measures and prints rows. Not thread safe. Three ways to shorten: names given pick rows, MANTA_BENCH_QUICK takes one
/// round and a tenth of the work, MANTA_BENCH_ROUNDS sets the rounds. MANTA_BENCH_TSV prints "name, median, unit" instead,
/// MANTA_BENCH_MARKDOWN the table as a document has it.
class Table {
 public:
  /// Empty `names` picks all.
  explicit Table(std::vector<std::string> names);

  [[nodiscard]] bool wants(const std::string& name) const;
  /// `count`, or a tenth of it in a quick run.
  [[nodiscard]] int scaled(int count) const { return quick_ ? std::max(1, count / 10) : count; }

  /// One row: `measure` gives one figure; called once to warm up unless `rounds` is given, then `rounds` times.
  void row(const Row& row, const std::function<double()>& measure, int rounds = 0);
  /// Several rows out of one measurement, which gives a figure for each.
  void rows(std::span<const Row> rows, const std::function<std::vector<double>()>& measure, int rounds = 0);
  /// A row that cannot be measured, and why.
  void absent(const Row& row, const std::string& why);

  [[nodiscard]] bool has_printed() const { return printed_; }
  static void print_heading();

 private:
  void print(const Row& row, const std::vector<double>& figures, const std::vector<double>& limits);
  std::vector<std::string> names_;
  int rounds_ = 7;
  bool quick_ = false;
  bool plain_ = false;
  bool markdown_ = false;
  bool printed_ = false;
};

/// "1.23 M", "456.7 k", "0.12".
std::string short_number(double value);

}  // namespace manta::bench
