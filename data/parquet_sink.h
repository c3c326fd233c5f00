// Parquet out: the task that writes one part file, and the folder that appears when all are there.
#pragma once

#include <manta/data.h>
#include <manta/run.h>

#include <optional>

namespace manta::data {

struct WriteRequest {
  std::vector<SliceRef> slices{};
  std::string path{};
  Compression compression = Compression::kZstd;
  int64_t row_group_rows = 0;
};
struct PartMeta {
  int64_t rows = 0;
  int64_t bytes = 0;  ///< Of the file.
  std::string schema{};
};

/// Writes the file whole and on disk (fsync), under a name of its own, and renames it to `path`: run again, it gives the
/// same file. Throws Error: kFull when the disk is, naming the path and how far it came.
PartMeta write_part(const WriteRequest& request);

/// The output folder in the making: files go to a hidden folder beside it, and one rename makes them visible together.
class OutputFolder {
 public:
  /// Throws kExists when `folder` is there, before anything is done.
  explicit OutputFolder(const std::string& folder);

  [[nodiscard]] std::string part_path(uint64_t index) const;
  /// Removes what failed attempts left, and makes the folder visible. Throws kExists when it has come to be meanwhile.
  void publish();
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::optional<StagingFolder> staging_;
};

}  // namespace manta::data
