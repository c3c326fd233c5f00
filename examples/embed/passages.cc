#include "examples/embed/passages.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

namespace embed {
namespace {

constexpr size_t kGoodWords = 85;  // a passage this long ends with the sentence

bool is_space(char c) { return c == ' ' || c == '\t'; }
bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  size_t at = 0;
  while (at < line.size()) {
    while (at < line.size() && is_space(line[at])) ++at;
    size_t end = at;
    while (end < line.size() && !is_space(line[end])) ++end;
    if (end > at) words.push_back(line.substr(at, end - at));
    at = end;
  }
  return words;
}

/// The rules and frames of tables, and rows of dots: no letter or digit in four bytes or more.
bool is_ornament(std::string_view word) {
  if (word.size() < 3) return false;
  const bool is_box = word.starts_with("\xe2\x94") || word.starts_with("\xe2\x95");
  const bool has_letter = std::ranges::any_of(word, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; });
  return is_box || (word.size() >= 4 && !has_letter);
}

bool ends_sentence(std::string_view word) {
  while (!word.empty() && (word.back() == ')' || word.back() == '"' || word.back() == '\'')) word.remove_suffix(1);
  return !word.empty() &&
         (word.back() == '.' || word.back() == '!' || word.back() == '?' || word.back() == ':' || word.back() == ';');
}

/// Fills passages word by word. Words of a section that are too few for a passage flow on into the next one.
class Cutter {
 public:
  void heading(std::string text) { headings_.push_back(std::move(text)); }

  void word(std::string_view text) {
    words_.push_back({text, headings_.size() - 1});
    const size_t count = words_.size();
    if (ends_sentence(text)) sentence_end_ = count;
    if (count >= kGoodWords && sentence_end_ == count) {
      flush(count);
    } else if (count == kPassageMaxWords) {
      flush(sentence_end_ >= kPassageMinWords ? sentence_end_ : count);
    }
  }

  void section_end() {
    if (words_.size() >= kPassageMinWords) flush(words_.size());
  }

  std::vector<Passage> finish() {
    section_end();
    if (!words_.empty() && !cut_.empty()) share_rest_with_last();
    std::vector<Passage> out;
    for (const std::vector<Word>& words : cut_) out.push_back({headings_[words.front().heading], joined(words)});
    return out;
  }

 private:
  struct Word {
    std::string_view text;
    size_t heading;
  };

  void flush(size_t count) {
    const auto end = words_.begin() + static_cast<ptrdiff_t>(count);
    cut_.emplace_back(words_.begin(), end);
    words_.erase(words_.begin(), end);
    sentence_end_ = 0;
    for (size_t i = 0; i < words_.size(); ++i) {
      if (ends_sentence(words_[i].text)) sentence_end_ = i + 1;
    }
  }

  /// The last words of a page join the passage before them, which is halved when that makes it too long.
  void share_rest_with_last() {
    std::vector<Word>& last = cut_.back();
    last.insert(last.end(), words_.begin(), words_.end());
    words_.clear();
    if (last.size() <= kPassageMaxWords) return;
    const auto middle = last.begin() + static_cast<ptrdiff_t>((last.size() + 1) / 2);
    std::vector<Word> second(middle, last.end());
    last.erase(middle, last.end());
    cut_.push_back(std::move(second));
  }

  static std::string joined(const std::vector<Word>& words) {
    std::string out;
    for (const Word& word : words) (out += out.empty() ? "" : " ") += word.text;
    return out;
  }

  std::vector<std::string> headings_{""};
  std::vector<Word> words_;  // not in a passage yet
  size_t sentence_end_ = 0;  // how many of them there are up to the last sentence's end
  std::vector<std::vector<Word>> cut_;
};

std::string single_spaced(std::string_view line) {
  std::string out;
  for (const std::string_view word : words_of(line)) (out += out.empty() ? "" : " ") += word;
  return out;
}

}  // namespace

std::string strip_overstrikes(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c != '\b') {
      out += c;
      if (out.ends_with("\xc2\xa0")) out.replace(out.size() - 2, 2, " ");  // a no-break space is a space here
      continue;
    }
    while (!out.empty() && is_continuation(out.back())) out.pop_back();
    if (!out.empty() && out.back() != '\n') out.pop_back();
  }
  return out;
}

std::vector<Passage> cut_page(std::string_view rendered) {
  const std::string plain = strip_overstrikes(rendered);
  std::vector<std::string_view> lines = lines_of(plain);
  std::erase_if(lines, [](std::string_view line) { return words_of(line).empty(); });
  if (lines.size() < 3) return {};
  Cutter cutter;
  std::string section;
  for (size_t i = 1; i + 1 < lines.size(); ++i) {  // without the running head and foot
    const std::string_view line = lines[i];
    const size_t indent = std::min(line.find_first_not_of(' '), line.size());
    if (indent == 0) {
      cutter.section_end();
      section = single_spaced(line);
      cutter.heading(section);
    } else if (indent == 3) {
      cutter.heading(section + " / " + single_spaced(line));
    } else {
      for (const std::string_view word : words_of(line)) {
        if (!is_ornament(word)) cutter.word(word);
      }
    }
  }
  return cutter.finish();
}

PageName name_of_page(std::string_view file_name) {
  for (const std::string_view end : {".gz", ".bz2", ".xz"}) {
    if (file_name.ends_with(end)) file_name.remove_suffix(end.size());
  }
  const size_t dot = file_name.rfind('.');
  if (dot == std::string_view::npos || dot == 0 || dot + 1 == file_name.size()) return {};
  const std::string_view section = file_name.substr(dot + 1);
  if (section[0] < '1' || section[0] > '9') return {};
  return {std::string(file_name.substr(0, dot)) + "(" + std::string(section) + ")", std::string(section)};
}

}  // namespace embed
