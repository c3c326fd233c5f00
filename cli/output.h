// Rows for people, in columns, or for programs, as JSON.
#pragma once

#include "wire/list_page.h"

#include <string>
#include <vector>

namespace manta::cli {

/// Writes rows as they come: a table whose widths follow the rows of a call, or the elements of a JSON array.
class RowPrinter {
 public:
  RowPrinter(bool as_json, std::vector<std::string> columns) : as_json_(as_json), columns_(std::move(columns)) {}

  /// Of what is in the rows, `columns` come first and in that order; a table has the others that are not empty behind them.
  void print(const std::vector<wire::Row>& rows);
  [[nodiscard]] size_t printed() const { return printed_; }

 private:
  bool as_json_;
  std::vector<std::string> columns_;
  bool has_header_ = false;
  size_t printed_ = 0;
};

/// A JSON string with its quotes.
[[nodiscard]] std::string json_text(const std::string& text);
[[nodiscard]] std::string json_row(const wire::Row& row);

}  // namespace manta::cli
