// The logs of submitted jobs as files of the head's node, so that they can be read when the node that ran the driver is
// gone.
//
//   <folder>/<job>/<offset>.<attempt>.<offset in the attempt>     one piece of a log; its bytes are those that were printed
//
// Offsets count from the beginning of the first attempt and never change. A part that comes again is passed over; where
// parts are missing, or the disk refused them, offsets jump and a new piece begins. A log that is too long loses its oldest
// pieces, and so does the longest when all together are.
//
// Not synced: what was written last may be lost with the machine, not with the process. Used by one thread.
#pragma once

#include "wire/job_messages.h"

#include <manta/status.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace manta::head {

class JobLogs {
 public:
  struct Settings {
    uint64_t max_piece_bytes = uint64_t{16} << 20;
    uint64_t max_log_bytes = uint64_t{1} << 30;  ///< Of a job.
    uint64_t max_total_bytes = uint64_t{16} << 30;
  };

  /// Takes up what is there.
  static Result<JobLogs> open(const std::filesystem::path& folder, Settings settings);

  /// How much of the attempt's log is there now, from its beginning: never fails, since a full disk must hold nobody up.
  uint64_t append(const wire::JobLogPart& part);
  /// The bytes at or after this offset, of one attempt and at most kJobLogChunkBytes; `is_over` when none are behind them.
  [[nodiscard]] wire::JobLogChunk read(uint64_t job, uint64_t offset) const;
  void drop(uint64_t job);

  [[nodiscard]] std::vector<uint64_t> jobs() const;
  [[nodiscard]] uint64_t total_bytes() const { return total_bytes_; }

 private:
  struct Piece {
    uint64_t offset = 0;
    uint32_t attempt = 0;
    uint64_t attempt_offset = 0;
    uint64_t bytes = 0;
  };
  struct Log {
    std::vector<Piece> pieces;  ///< By offset; the last one grows.
    uint64_t end = 0;
    uint32_t attempt = 0;
    uint64_t attempt_end = 0;
    uint64_t bytes = 0;
    bool begins_piece = true;
  };

  JobLogs(std::filesystem::path folder, Settings settings) : folder_(std::move(folder)), settings_(settings) {}
  Status take_up();
  [[nodiscard]] std::filesystem::path path_of(uint64_t job, const Piece& piece) const;
  [[nodiscard]] Status write(uint64_t job, const Piece& piece, std::string_view bytes) const;
  void drop_first(uint64_t job, Log& log);
  void make_room();

  std::filesystem::path folder_;
  Settings settings_;
  std::map<uint64_t, Log> logs_;
  uint64_t total_bytes_ = 0;
};

}  // namespace manta::head
