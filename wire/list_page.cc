#include "wire/list_page.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace manta::wire {

ListPage::ListPage(const ListRequest& request)
    : listed_{.request = request.request, .status = {}, .rows = {}, .cursor = {}},
      limit_(std::clamp(request.limit, 1u, kMaxRows)) {
  for (const std::string& filter : request.filters) {
    const size_t equals = filter.find('=');
    if (equals == std::string::npos)
      listed_.status = to_wire(Status(Code::kInvalid, "a filter is key=value, not '" + filter + "'"));
    else
      filters_.emplace_back(filter.substr(0, equals), filter.substr(equals + 1));
  }
}

bool ListPage::has_room() const {
  return listed_.status.code == 0 && listed_.rows.size() < limit_ && looks_ < kMaxLooks && bytes_ < kMaxBytes;
}

bool ListPage::matches(const Row& row) const {
  return std::ranges::all_of(filters_, [&](const auto& filter) {
    const auto it = row.find(filter.first);
    return it != row.end() && it->second == filter.second;
  });
}

void ListPage::add(std::string key, Row row) {
  ++looks_;
  listed_.cursor = std::move(key);
  if (!matches(row)) return;
  for (const auto& [name, value] : row) bytes_ += name.size() + value.size();
  listed_.rows.push_back(std::move(row));
}

Listed ListPage::finish(bool is_at_end) && {
  if (is_at_end) listed_.cursor.clear();
  return std::move(listed_);
}

std::string amount_text(int64_t fixed_point) {
  char text[32];
  std::snprintf(text, sizeof text, "%.15g", static_cast<double>(fixed_point) / static_cast<double>(kWhole));
  return text;
}

uint64_t take_number(std::string_view& text) {
  uint64_t number = 0;
  const char* const end = std::from_chars(text.data(), text.data() + text.size(), number).ptr;
  text.remove_prefix(std::min(text.size(), static_cast<size_t>(end - text.data()) + 1));
  return number;
}

}  // namespace manta::wire
