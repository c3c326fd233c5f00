#include "cli/output.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <set>

namespace manta::cli {
namespace {

constexpr size_t kMaxWidth = 60;

void print_line(const std::vector<std::string>& cells, const std::vector<size_t>& widths) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    line += cells[i];
    if (i + 1 < cells.size()) line.append(std::max(widths[i], cells[i].size()) - cells[i].size() + 2, ' ');
  }
  std::printf("%s\n", line.c_str());
}

}  // namespace

std::string json_text(const std::string& text) {
  // What a worker wrote may be no UTF-8.
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string json_row(const wire::Row& row) {
  std::string text = "{";
  for (const auto& [key, value] : row) text += (text.size() > 1 ? ", " : "") + json_text(key) + ": " + json_text(value);
  return text + "}";
}

void RowPrinter::print(const std::vector<wire::Row>& rows) {
  if (as_json_) {
    for (const wire::Row& row : rows) std::printf("%s\n    %s", printed_++ == 0 ? "" : ",", json_row(row).c_str());
    return;
  }
  if (rows.empty()) return;
  if (!has_header_) {
    std::set<std::string> more;
    for (const wire::Row& row : rows)
      for (const auto& [key, value] : row)
        if (!value.empty()) more.insert(key);
    std::erase_if(columns_, [&](const std::string& column) { return more.erase(column) == 0; });
    columns_.insert(columns_.end(), more.begin(), more.end());
  }
  std::vector<size_t> widths;
  for (const std::string& column : columns_) {
    size_t width = column.size();
    for (const wire::Row& row : rows)
      if (const auto it = row.find(column); it != row.end()) width = std::max(width, std::min(kMaxWidth, it->second.size()));
    widths.push_back(width);
  }
  if (!std::exchange(has_header_, true)) print_line(columns_, widths);
  for (const wire::Row& row : rows) {
    std::vector<std::string> cells;
    for (const std::string& column : columns_) {
      const auto it = row.find(column);
      cells.push_back(it == row.end() ? "" : it->second);
    }
    print_line(cells, widths);
    ++printed_;
  }
}

}  // namespace manta::cli
