// Finds the rows of Parquet files whose column `embedding` points where a question's embedding points.
#pragma once

#include <manta/torch.h>

#include <span>
#include <string>
#include <vector>

namespace embed {

struct Hit {
  float score = 0;        ///< Cosine, from -1 to 1.
  std::string place{};    ///< The columns page and heading, or whichever of them there are; else the row's number.
  std::string snippet{};  ///< The beginning of the column text, if there is one.
};

/// The `top` rows with the highest cosine, best first; equal ones in the order of the rows. Rows whose embedding is all
/// zeros have none. Reads *.parquet of the folder in order of name, a few thousand rows at a time, whatever their number.
/// kNotFound without files, kInvalid for damaged ones, without the column, or when it has another dimension than the
/// question.
manta::Result<std::vector<Hit>> nearest_rows(const std::string& folder, std::span<const float> question, size_t top);

}  // namespace embed
