// Opening one Parquet file, for the layout and for the reader alike.
#pragma once

#include <manta/status.h>

#include <memory>
#include <string>
#include <vector>

namespace parquet::arrow {
class FileReader;
}

namespace manta::data {

/// kNotFound, kIo, or kInvalid ("not a whole Parquet file"), naming the file.
Result<std::unique_ptr<parquet::arrow::FileReader>> open_parquet(const std::string& path);

/// The leaf columns under the named top-level ones, ascending. kInvalid with the columns there are when one is missing.
Result<std::vector<int>> leaf_columns(const parquet::arrow::FileReader& reader, const std::vector<std::string>& columns,
                                      const std::string& path);

}  // namespace manta::data
