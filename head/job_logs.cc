#include "head/job_logs.h"

#include "common/check.h"
#include "common/fd.h"
#include "common/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

namespace manta::head {

namespace fs = std::filesystem;

Result<JobLogs> JobLogs::open(const fs::path& folder, Settings settings) {
  JobLogs logs(folder, settings);
  MANTA_RETURN_IF_ERROR(logs.take_up());
  return logs;
}

Status JobLogs::take_up() {
  std::error_code error;
  fs::create_directories(folder_, error);
  for (fs::directory_iterator job(folder_, error), end; !error && job != end; job.increment(error)) {
    const uint64_t number = std::strtoull(job->path().filename().c_str(), nullptr, 10);
    Log& log = logs_[number];
    std::error_code inner;
    for (fs::directory_iterator file(job->path(), inner); !inner && file != end; file.increment(inner)) {
      Piece piece;
      if (std::sscanf(file->path().filename().c_str(), "%" SCNu64 ".%" SCNu32 ".%" SCNu64, &piece.offset, &piece.attempt,
                      &piece.attempt_offset) != 3)
        continue;
      piece.bytes = fs::file_size(file->path(), inner);
      log.pieces.push_back(piece);
      log.bytes += piece.bytes;
    }
    std::ranges::sort(log.pieces, {}, &Piece::offset);
    total_bytes_ += log.bytes;
    if (log.pieces.empty()) continue;
    const Piece& last = log.pieces.back();
    log.end = last.offset + last.bytes;
    log.attempt = last.attempt;
    log.attempt_end = last.attempt_offset + last.bytes;
    log.begins_piece = false;
  }
  if (error) return Status(Code::kIo, "the folder of job logs " + folder_.string() + ": " + error.message());
  return {};
}

std::vector<uint64_t> JobLogs::jobs() const {
  std::vector<uint64_t> out;
  for (const auto& [job, log] : logs_) out.push_back(job);
  return out;
}

fs::path JobLogs::path_of(uint64_t job, const Piece& piece) const {
  char name[80];
  std::snprintf(name, sizeof name, "%020" PRIu64 ".%" PRIu32 ".%" PRIu64, piece.offset, piece.attempt, piece.attempt_offset);
  return folder_ / std::to_string(job) / name;
}

// At the piece's end, whatever an earlier write left behind it.
Status JobLogs::write(uint64_t job, const Piece& piece, std::string_view bytes) const {
  const fs::path path = path_of(job, piece);
  std::error_code ignored;
  if (piece.bytes == 0) fs::create_directories(path.parent_path(), ignored);
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return Status(Code::kIo, path.string() + ": " + std::strerror(errno));
  for (size_t have = 0; have < bytes.size();) {
    const ssize_t size =
        ::pwrite(file.get(), bytes.data() + have, bytes.size() - have, static_cast<off_t>(piece.bytes + have));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) {
      const Status status(Code::kIo, path.string() + ": " + std::strerror(errno));
      [[maybe_unused]] const int cut = ::ftruncate(file.get(), static_cast<off_t>(piece.bytes));
      return status;
    }
    have += static_cast<size_t>(size);
  }
  return {};
}

uint64_t JobLogs::append(const wire::JobLogPart& part) {
  Log& log = logs_[part.job];
  if (part.attempt < log.attempt) return part.offset + part.bytes.size();
  if (part.attempt > log.attempt) {
    log.attempt = part.attempt;
    log.attempt_end = 0;
    log.begins_piece = true;
  }
  if (part.offset > log.attempt_end) {
    log.end += part.offset - log.attempt_end;
    log.attempt_end = part.offset;
    log.begins_piece = true;
  }
  std::string_view bytes = part.bytes;
  bytes.remove_prefix(std::min<uint64_t>(bytes.size(), log.attempt_end - part.offset));
  if (bytes.empty()) return log.attempt_end;
  if (log.begins_piece || log.pieces.back().bytes >= settings_.max_piece_bytes)
    log.pieces.push_back({.offset = log.end, .attempt = log.attempt, .attempt_offset = log.attempt_end});
  Piece& piece = log.pieces.back();
  const Status status = write(part.job, piece, bytes);
  log.end += bytes.size();
  log.attempt_end += bytes.size();
  log.begins_piece = !status.ok();
  if (status.ok()) {
    piece.bytes += bytes.size();
    log.bytes += bytes.size();
    total_bytes_ += bytes.size();
    while (log.bytes > settings_.max_log_bytes && log.pieces.size() > 1) drop_first(part.job, log);
    make_room();
  } else {
    MANTA_LOG(kWarn, "head", "a part of a job's log is lost", {"job", part.job}, {"bytes", bytes.size()}, {"why", status});
    if (piece.bytes == 0) log.pieces.pop_back();
  }
  return log.attempt_end;
}

void JobLogs::drop_first(uint64_t job, Log& log) {
  const Piece& first = log.pieces.front();
  std::error_code ignored;
  fs::remove(path_of(job, first), ignored);
  log.bytes -= first.bytes;
  total_bytes_ -= first.bytes;
  log.pieces.erase(log.pieces.begin());
}

void JobLogs::make_room() {
  while (total_bytes_ > settings_.max_total_bytes) {
    const auto longest = std::ranges::max_element(
        logs_, {}, [](const auto& entry) { return entry.second.pieces.size() > 1 ? entry.second.bytes : 0; });
    if (longest == logs_.end() || longest->second.pieces.size() < 2) return;
    drop_first(longest->first, longest->second);
  }
}

wire::JobLogChunk JobLogs::read(uint64_t job, uint64_t offset) const {
  wire::JobLogChunk chunk{.status = {}, .offset = offset, .bytes = {}, .is_over = true};
  const auto found = logs_.find(job);
  if (found == logs_.end()) return chunk;
  const Log& log = found->second;
  const auto after =
      std::ranges::upper_bound(log.pieces, offset, {}, [](const Piece& one) { return one.offset + one.bytes; });
  if (after == log.pieces.end()) {
    chunk.offset = std::max(offset, log.end);
    return chunk;
  }
  chunk.offset = std::max(offset, after->offset);
  chunk.attempt = after->attempt;
  const uint64_t skip = chunk.offset - after->offset;
  chunk.bytes.resize(std::min<uint64_t>(wire::kJobLogChunkBytes, after->bytes - skip));
  const fs::path path = path_of(job, *after);
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  for (size_t have = 0; have < chunk.bytes.size();) {
    const ssize_t size =
        ::pread(file.get(), chunk.bytes.data() + have, chunk.bytes.size() - have, static_cast<off_t>(skip + have));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) {
      chunk.status =
          wire::to_wire(Status(Code::kIo, path.string() + ": " + (size < 0 ? std::strerror(errno) : "cut short")));
      chunk.bytes.clear();
      return chunk;
    }
    have += static_cast<size_t>(size);
  }
  chunk.is_over = chunk.offset + chunk.bytes.size() >= log.end;
  return chunk;
}

void JobLogs::drop(uint64_t job) {
  const auto log = logs_.extract(job);
  if (!log.empty()) total_bytes_ -= log.mapped().bytes;
  std::error_code ignored;
  fs::remove_all(folder_ / std::to_string(job), ignored);
}

}  // namespace manta::head
