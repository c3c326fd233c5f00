// Cuts a rendered manual page into passages of 60 to 120 words, each with the heading it stands under.
//
// Pure text work: no files, no processes. Thread safety: functions without state.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace embed {

inline constexpr size_t kPassageMinWords = 60;
inline constexpr size_t kPassageMaxWords = 120;

struct Passage {
  std::string
      heading{};  ///< Of the passage's first word, such as "DESCRIPTION" or "NOTES / BUGS"; a page's first may be empty.
  std::string text{};  ///< Words with one space between them.
};

/// "letters with backspaces", as terminals printed bold and underlined, as plain letters, and no-break spaces as spaces.
std::string strip_overstrikes(std::string_view text);

/// The passages of a page as `mandoc -T utf8` prints it: a running head, sections flush left, subsections indented by three,
/// text by more, and a running foot. A passage ends with a sentence where it can. A page with fewer than kPassageMinWords
/// words has none: such pages only point to others.
std::vector<Passage> cut_page(std::string_view rendered);

/// What a page's file is called: "wait.2.gz" is page "wait(2)" of section "2". Empty strings when it is no such name.
struct PageName {
  std::string page{};
  std::string section{};
};
PageName name_of_page(std::string_view file_name);

}  // namespace embed
