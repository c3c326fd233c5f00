#include "raylet/log_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

TEST(LogStream, CutsRawTextIntoLines) {
  LogStream stream(7, true);
  const auto batches = stream.feed("one\ntwo\nthr", 0);
  ASSERT_THAT(batches, SizeIs(1));
  EXPECT_THAT(batches[0].lines, ElementsAre("one", "two"));
  EXPECT_TRUE(batches[0].is_error_stream);
  EXPECT_THAT(stream.feed("ee\n", 0)[0].lines, ElementsAre("three"));
}

TEST(LogStream, LabelsHoldUntilTheNextRecord) {
  LogStream stream(7, false);
  const auto batches = stream.feed(
      "raw\n\x1e"
      "a\x1fx\ny\n\x1e"
      "b\x1fz\n",
      0);
  ASSERT_THAT(batches, SizeIs(3));
  EXPECT_EQ(batches[0].label, "");
  EXPECT_EQ(batches[1].label, "a");
  EXPECT_THAT(batches[1].lines, ElementsAre("x", "y"));
  EXPECT_EQ(batches[2].label, "b");
}

TEST(LogStream, RecordsMayBeCutAnywhere) {
  const std::string text =
      "\x1e"
      "task#1\x1fhello\nworld\n\x1e"
      "task#2\x1f"
      "again\n";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    LogStream stream(7, false);
    std::string seen;
    for (const std::string& part : {text.substr(0, cut), text.substr(cut)})
      for (const auto& batch : stream.feed(part, 0))
        for (const std::string& line : batch.lines) seen += batch.label + ":" + line + ";";
    EXPECT_EQ(seen, "task#1:hello;task#1:world;task#2:again;") << "cut at " << cut;
  }
}

TEST(LogStream, AnUnfinishedLineComesAtTheEnd) {
  LogStream stream(7, false);
  EXPECT_THAT(stream.feed("half", 0), SizeIs(0));
  EXPECT_THAT(stream.finish(0)[0].lines, ElementsAre("half"));
  EXPECT_EQ(stream.last_words(), "half");
}

TEST(LogStream, AFloodIsCountedAndDropped) {
  LogStream stream(7, false);
  std::string flood;
  for (int i = 0; i < 20'000; ++i) flood += "x\n";
  size_t lines = 0;
  for (const auto& batch : stream.feed(flood, 1'000'000)) lines += batch.lines.size();
  EXPECT_EQ(lines, 5'000u);  // a tenth of a second's worth
  const auto later = stream.feed("y\n", 2'000'000);
  EXPECT_THAT(later[0].lines, ElementsAre("15000 lines dropped: too many a second", "y"));
}

TEST(LogStream, NothingGrowsWithoutBound) {
  LogStream stream(7, false);
  size_t bytes = 0;
  for (int i = 0; i < 100; ++i)
    for (const auto& batch : stream.feed(std::string(10'000, 'x'), i * 1'000'000))
      for (const auto& line : batch.lines) {
        EXPECT_LE(line.size(), LogStream::kMaxLineBytes);
        bytes += line.size();
      }
  EXPECT_GT(bytes, 900'000u);
  EXPECT_TRUE(stream.feed("\x1e" + std::string(1'000'000, 'l'), 0).empty());
  stream.feed("\x1ftext\n", 0);
  const auto batch = stream.feed("more\n", 0);
  EXPECT_LE(batch[0].label.size(), LogStream::kMaxLabelBytes);
}

}  // namespace
}  // namespace manta::raylet
