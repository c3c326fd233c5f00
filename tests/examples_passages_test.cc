#include "examples/embed/passages.h"

#include <gtest/gtest.h>

#include <random>
#include <sstream>

namespace embed {
namespace {

size_t words_in(const std::string& text) {
  std::istringstream stream(text);
  size_t count = 0;
  for (std::string word; stream >> word;) ++count;
  return count;
}

std::string words(size_t count, const std::string& word) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out.append(" ").append(word).append(std::to_string(i));
  return out;
}

TEST(Passages, OverstrikesBecomeLetters) {
  EXPECT_EQ(strip_overstrikes("N\bNA\bAM\bME\bE _\bx"), "NAME x");
  EXPECT_EQ(strip_overstrikes("\xc3\xa9\b\xc3\xa9t\bt"), "\xc3\xa9t");
  EXPECT_EQ(strip_overstrikes("\b\ba"), "a");
  EXPECT_EQ(strip_overstrikes("a\n\bb"), "a\nb");
  EXPECT_EQ(strip_overstrikes("a\xc2\xa0""b"), "a b");
}

TEST(Passages, PagesAreNamedByTheirFiles) {
  EXPECT_EQ(name_of_page("wait.2.gz").page, "wait(2)");
  EXPECT_EQ(name_of_page("wait.2.gz").section, "2");
  EXPECT_EQ(name_of_page("ld.so.8").page, "ld.so(8)");
  EXPECT_EQ(name_of_page("EVP_sign.3ssl.gz").section, "3ssl");
  for (const char* name : {"README", "notes.txt", ".2", "x.", ".gz", ""}) EXPECT_EQ(name_of_page(name).page, "") << name;
}

TEST(Passages, EndWithSentencesAndKnowTheirHeading) {
  const std::string page = "x(1)  Manual  x(1)\n\nNAME\n      " + words(20, "n") + "\n\nUSE\n       " + words(60, "u") + " end.\n       " +
                           words(30, "v") + "\n   Details\n       " + words(80, "d") + "\n\nLinux  2023  x(1)\n";
  const std::vector<Passage> passages = cut_page(page);
  ASSERT_EQ(passages.size(), 2u);
  // The short NAME flows on into USE. The sentence ends at word 81, too early to cut there; at word 120 it is cut there after all.
  EXPECT_EQ(passages[0].heading, "NAME");
  EXPECT_TRUE(passages[0].text.ends_with(" u59 end.")) << passages[0].text;
  EXPECT_EQ(passages[1].heading, "USE");
  EXPECT_TRUE(passages[1].text.starts_with("v0 v1 ")) << passages[1].text;
  EXPECT_EQ(passages[0].text.find("Manual"), std::string::npos);
  EXPECT_TRUE(passages[1].text.ends_with("d79")) << passages[1].text;
}

TEST(Passages, OfAnyPageHaveSixtyToAHundredAndTwentyWordsAndLoseNone) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    std::string page = "head\n";
    std::vector<std::string> all;
    const size_t lines = random() % 120;
    for (size_t i = 0; i < lines; ++i) {
      const uint32_t kind = random() % 12;
      page += kind == 0 ? "SECTION\n" : kind == 1 ? "   Part\n" : "\n";
      page += "       ";
      for (uint32_t w = random() % 20; w > 0; --w) {
        all.push_back(std::to_string(all.size()).append(random() % 9 == 0 ? "w." : "w"));
        page.append(all.back()).append(" ");
      }
      page += "\n";
    }
    page += "foot\n";
    const std::vector<Passage> passages = cut_page(page);
    std::string joined, wanted;
    for (const Passage& passage : passages) {
      EXPECT_GE(words_in(passage.text), kPassageMinWords);
      EXPECT_LE(words_in(passage.text), kPassageMaxWords);
      joined.append(passage.text).append(" ");
    }
    for (const std::string& word : all) wanted.append(word).append(" ");
    if (all.size() >= kPassageMinWords) {
      EXPECT_EQ(joined, wanted);
    } else {
      EXPECT_TRUE(passages.empty());
    }
  }
}

TEST(Passages, AnyBytesAreSurvived) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::string bytes(random() % 5000, '\0');
    for (char& c : bytes) c = "\b\n\t \xc3\xa9\xe2\x94\x80" "aB.3"[random() % 13];
    for (const Passage& passage : cut_page(bytes)) EXPECT_LE(words_in(passage.text), kPassageMaxWords) << seed;
  }
}

}  // namespace
}  // namespace embed
