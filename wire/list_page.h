// One page of a list: rows of text ordered by key, filtered where the rows are so that only what is wanted travels.
//
// A page looks at kMaxLooks entries at most, so that a filter that matches little does not hold everybody else up: it may be
// short or empty and still have a cursor. A cursor is the key of the last entry that was looked at; lists of what nodes know
// of themselves have the node's number and a colon before it.
// Thread safety: none; values.
#pragma once

#include "wire/group_messages.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace manta::wire {

using Row = std::map<std::string, std::string>;

class ListPage {
 public:
  static constexpr uint32_t kMaxRows = 1'000;
  static constexpr int kMaxLooks = 10'000;
  static constexpr size_t kMaxBytes = size_t{1} << 20;

  explicit ListPage(const ListRequest& request);

  /// kInvalid: a filter is none. Then nothing is looked at.
  [[nodiscard]] Status status() const { return from_wire(listed_.status); }
  /// Whether another entry may be looked at.
  [[nodiscard]] bool has_room() const;
  /// Looks at the entry of this key: keeps its row if all filters hold.
  void add(std::string key, Row row);

  /// Precondition of use: `add` was called for every entry after the request's cursor, or until has_room was false.
  [[nodiscard]] Listed finish(bool is_at_end) &&;

 private:
  [[nodiscard]] bool matches(const Row& row) const;

  Listed listed_;
  std::vector<std::pair<std::string, std::string>> filters_;
  size_t limit_ = 0;
  size_t bytes_ = 0;
  int looks_ = 0;
};

/// "1.5" for 15'000.
[[nodiscard]] std::string amount_text(int64_t fixed_point);

/// The number at the start of `text`, which is left without it and one character behind it; 0 when there is none.
[[nodiscard]] uint64_t take_number(std::string_view& text);

}  // namespace manta::wire
