#include "bench/core/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace manta::bench {

std::string short_number(double value) {
  char text[32];
  const double size = std::fabs(value);
  if (size >= 1e6)
    std::snprintf(text, sizeof text, "%.2f M", value / 1e6);
  else if (size >= 1e4)
    std::snprintf(text, sizeof text, "%.1f k", value / 1e3);
  else
    std::snprintf(text, sizeof text, "%.*f", size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 4, value);
  return text;
}

std::string Goal::text() const {
  if (kind == Kind::kNone) return "-";
  return (kind == Kind::kAtLeast ? ">= " : "<= ") + short_number(value);
}

bool Goal::is_reached(double measured) const {
  return kind == Kind::kNone || (kind == Kind::kAtLeast ? measured >= value : measured <= value);
}

bool Row::more_is_better() const { return std::string(unit) == "/s" || std::string(unit) == "GB/s"; }

Table::Table(std::vector<std::string> names)
    : names_(std::move(names)),
      quick_(std::getenv("MANTA_BENCH_QUICK") != nullptr),
      plain_(std::getenv("MANTA_BENCH_TSV") != nullptr),
      markdown_(std::getenv("MANTA_BENCH_MARKDOWN") != nullptr) {
  if (quick_) rounds_ = 1;
  if (const char* rounds = std::getenv("MANTA_BENCH_ROUNDS")) rounds_ = std::max(1, std::atoi(rounds));
}

bool Table::wants(const std::string& name) const {
  return names_.empty() || std::ranges::find(names_, name) != names_.end();
}

void Table::row(const Row& row, const std::function<double()>& measure, int rounds) {
  rows(
      std::span(&row, 1), [&] { return std::vector<double>{measure()}; }, rounds);
}

void Table::rows(std::span<const Row> rows, const std::function<std::vector<double>()>& measure, int rounds) {
  if (std::ranges::none_of(rows, [this](const Row& row) { return wants(row.name); })) return;
  std::vector<std::vector<double>> figures(rows.size()), limits(rows.size());
  const auto measure_round = [&] {
    for (size_t i = 0; i < rows.size(); ++i)
      if (rows[i].limit.measure && wants(rows[i].name)) limits[i].push_back(rows[i].limit.measure());
    const std::vector<double> now = measure();
    for (size_t i = 0; i < rows.size(); ++i) figures[i].push_back(now.at(i));
  };
  try {
    if (rounds == 0) (void)measure();
    for (int i = 0; i < (rounds == 0 ? rounds_ : std::min(rounds, rounds_)); ++i) measure_round();
  } catch (const std::exception& error) {
    for (const Row& row : rows) absent(row, std::string("failed: ") + error.what());
    return;
  }
  for (size_t i = 0; i < rows.size(); ++i)
    if (wants(rows[i].name)) print(rows[i], figures[i], limits[i]);
}

void Table::print_heading() {
  if (std::getenv("MANTA_BENCH_QUICK") != nullptr)
    std::printf("a quick run: one round, and a tenth of the work that the rows name\n");
  if (std::getenv("MANTA_BENCH_MARKDOWN") != nullptr) {
    std::printf(
        "| operation | least / median / most | goal | the machine's limit, same run | part of it "
        "|\n|---|---|---|---|---|\n");
    std::fflush(stdout);
    return;
  }
  std::printf("%-44s %9s /%9s /%9s %-8s %-12s %-32s %s\n", "operation", "least", "median", "most", "", "goal",
              "the machine's limit, same run", "part of it");
  std::fflush(stdout);
}

void Table::print(const Row& row, const std::vector<double>& figures, const std::vector<double>& limits) {
  printed_ = true;
  const ::bench::Spread spread = ::bench::spread_of(figures);
  if (plain_) {
    std::printf("%s\t%.9g\t%s\n", row.name, spread.median, row.unit);
    std::fflush(stdout);
    return;
  }
  std::string goal = row.goal.text(), limit = "-", part = "-";
  if (!row.goal.is_reached(spread.median)) goal += " !";
  if (!limits.empty()) {
    std::vector<double> parts;
    for (size_t i = 0; i < limits.size(); ++i)
      parts.push_back(row.more_is_better() ? figures[i] / limits[i] : limits[i] / figures[i]);
    limit = short_number(::bench::spread_of(limits).median) + " " + row.limit.what;
    char text[32];
    const double median = ::bench::spread_of(parts).median;
    std::snprintf(text, sizeof text, median >= 0.01 ? "%.2f" : "%.4f", median);
    part = text;
  }
  const char* const format =
      markdown_ ? "| %s | %s / **%s** / %s %s | %s | %s | %s |\n" : "%-44s %9s /%9s /%9s %-8s %-12s %-32s %s\n";
  std::printf(format, row.title, short_number(spread.least).c_str(), short_number(spread.median).c_str(),
              short_number(spread.most).c_str(), row.unit, goal.c_str(), limit.c_str(), part.c_str());
  std::fflush(stdout);
}

void Table::absent(const Row& row, const std::string& why) {
  if (!wants(row.name)) return;
  printed_ = true;
  if (plain_) return;
  std::printf(markdown_ ? "| %s | %s | | | |\n" : "%-44s %s\n", row.title, why.c_str());
  std::fflush(stdout);
}

}  // namespace manta::bench
