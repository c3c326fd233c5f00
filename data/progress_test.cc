#include "data/progress.h"

#include <gtest/gtest.h>

namespace manta::data {
namespace {

TEST(Progress, SaysRowsRateTimeLeftAndActors) {
  EXPECT_EQ(progress_text({"embed", 1234, 5000, 2, 0}, 310.4),
            "embed: 1,234 of 5,000 rows (24%), 310 rows/s, 13 s left, 2 actors");
  EXPECT_EQ(progress_text({"embed", 0, 5000, 1, 0}, 0), "embed: 0 of 5,000 rows (0%), 1 actor");
  EXPECT_EQ(progress_text({"filter", 1'000'000, -1, 0, 0}, 1e6), "filter: 1,000,000 rows, 1,000,000 rows/s");
  EXPECT_EQ(progress_text({"x", 10, 10, 0, 0}, 5), "x: 10 of 10 rows (100%), 5 rows/s");
  EXPECT_EQ(progress_text({"x", 0, 7200, 0, 0}, 1), "x: 0 of 7,200 rows (0%), 1 rows/s, 2 h 0 min left");
  EXPECT_EQ(progress_text({"x", 0, 0, 0, 0}, 0), "x: 0 of 0 rows (0%)");
}

TEST(Progress, ABarFitsTheTerminal) {
  EXPECT_EQ(progress_bar({"x", 5, 10, 0, 0}, 0, 80), "[##########..........] x: 5 of 10 rows (50%)");
  EXPECT_EQ(progress_bar({"x", 5, 10, 0, 0}, 0, 35), "[#####.....] x: 5 of 10 rows (50%)");
  EXPECT_EQ(progress_bar({"x", 5, 10, 0, 0}, 0, 28), "x: 5 of 10 rows (50%)") << "the numbers matter more than the bar";
  EXPECT_EQ(progress_bar({"x", 20, 10, 0, 0}, 0, 10).size(), 9u);
}

}  // namespace
}  // namespace manta::data
