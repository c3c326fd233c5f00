// Parquet in: which files, which pieces of them make blocks, and the actor that reads the pieces.
#pragma once

#include <manta/detail/data_blocks.h>

#include <memory>
#include <string>
#include <vector>

#include "data/pipeline_core.h"

namespace manta::data {

/// The files that paths, folders and globs name, each once, sorted within what names them. kNotFound, naming what matches
/// nothing.
Result<std::vector<std::string>> find_files(const std::vector<std::string>& paths);

/// Rows [offset, offset + rows) of one row group.
struct FileRange {
  uint32_t file = 0;  ///< Index into ParquetLayout::files.
  int32_t row_group = 0;
  int64_t offset = 0;
  int64_t rows = 0;
};

/// What becomes one block: a part of a row group, or several small row groups, maybe of several files.
struct Piece {
  std::vector<FileRange> ranges;
  int64_t rows = 0;
  int64_t bytes = 0;  ///< Uncompressed, of the columns read; a guess before it is read.
};

struct ParquetLayout {
  std::vector<std::string> files;
  std::vector<std::string> columns;  ///< The ones to read, in order.
  std::vector<Piece> pieces;         ///< At least one, maybe without rows.
  std::vector<SourceUnit> units;
  int64_t rows = 0;
  bool is_nullable = false;  ///< Files differ in which columns may be null: all may, in the blocks.
};

struct LayoutOptions {
  std::vector<std::string> columns{};  ///< Empty: all.
  int64_t block_bytes = int64_t{8} << 20;
  int64_t limit_rows = -1;
};

/// Reads the footers of the files, one at a time. kInvalid, naming the file, for a damaged one, for a missing column (with
/// those there are) and for files whose columns differ (with both types).
Result<ParquetLayout> lay_out(std::vector<std::string> files, const LayoutOptions& options);

/// The rows of all files together; from the footers.
Result<int64_t> count_rows(const std::vector<std::string>& files);

struct NamedRange {
  std::string path{};
  int32_t row_group = 0;
  int64_t offset = 0;
  int64_t rows = 0;
};
/// What a reader is asked for: a piece of Parquet files, or numbers.
struct ReadRequest {
  std::vector<NamedRange> ranges{};
  std::vector<std::string> columns{};
  bool is_nullable = false;
  int64_t first_number = -1;  ///< Numbers: [first_number, first_number + numbers) in the column "id".
  int64_t numbers = 0;
  std::vector<KernelSpec> kernels{};
  bool rows_only = false;
};

/// An actor that reads pieces. It remembers where it stands in a row group, so that the pieces of one cost one pass; a
/// request says all it needs, so a new Reader (after a crash) gives the same rows.
class Reader {
 public:
  Reader();
  ~Reader();
  void ready() {}
  BlockAndMeta read(const ReadRequest& request);

 private:
  class Cursor;
  Result<Batch> read_ranges(const ReadRequest& request);
  std::unique_ptr<Cursor> cursor_;
};

}  // namespace manta::data
