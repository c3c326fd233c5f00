#include "head/job_files.h"

#include "common/check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace manta::head {
namespace {

namespace fs = std::filesystem;

Status os_error(const std::string& what) {
  return Status(errno == ENOSPC || errno == EDQUOT ? Code::kFull : Code::kIo, what + ": " + std::strerror(errno));
}

Status seal(int file, const std::string& part, const std::string& path) {
  if (::fdatasync(file) != 0) return os_error("syncing " + part);
  // Gone already: no job needs it any more.
  if (::rename(part.c_str(), path.c_str()) != 0 && errno != ENOENT) return os_error("renaming " + part);
  const Fd folder(::open(fs::path(path).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || ::fsync(folder.get()) != 0) return os_error("syncing the folder of " + path);
  return {};
}

}  // namespace

Result<JobFiles> JobFiles::open(const fs::path& folder, JobLogs::Settings settings) {
  MANTA_ASSIGN_OR_RETURN(JobLogs logs, JobLogs::open(folder / "job-logs", settings));
  JobFiles files(folder / "programs", std::move(logs));
  MANTA_RETURN_IF_ERROR(files.take_up());
  return files;
}

Status JobFiles::take_up() {
  std::error_code error;
  fs::create_directories(folder_, error);
  std::vector<fs::path> strays;
  for (fs::directory_iterator file(folder_, error), end; !error && file != end; file.increment(error)) {
    const std::string name = file->path().filename();
    std::error_code ignored;
    if (wire::is_hash(name)) {
      found_.push_back({name, fs::file_size(file->path(), ignored)});
    } else {
      strays.push_back(file->path());
    }
  }
  for (const fs::path& stray : strays) fs::remove(stray, error);
  if (error) return Status(Code::kIo, "the folder of programs " + folder_.string() + ": " + error.message());
  return {};
}

JobFiles::Done JobFiles::carry_out(FileOrder order, int64_t now_us) {
  return std::visit([&](auto& one) { return carry_out(one, now_us); }, order);
}

// ---------------------------------------------------------------------------------------------------- programs

JobFiles::Done JobFiles::carry_out(StoreProgram& order, int64_t) {
  Done done;
  const Result<uint64_t> next = store(order, done);
  if (!next.ok()) uploads_.erase(order.part.hash);  // from the beginning, should anybody try again
  done.answers.push_back(
      {order.asker.node,
       wire::JobsAnswer{order.asker.client,
                        wire::ProgramReceived{.request = order.part.request,
                                              .status = wire::to_wire(next.ok() ? Status() : next.status()),
                                              .next_offset = next.ok() ? *next : 0}}});
  return done;
}

Result<uint64_t> JobFiles::store(StoreProgram& order, Done& done) {
  const std::string& hash = order.part.hash;
  if (!uploads_.contains(hash) && uploads_.size() >= kMaxUploads)
    return Status(Code::kUnavailable, "the head takes " + std::to_string(kMaxUploads) +
                                          " programs and libraries at a time: submit it again, with the same --key");
  Upload& upload = uploads_[hash];
  if (!upload.file) {
    const fs::path path = folder_ / (hash + ".part");
    upload.file = Fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!upload.file) return os_error("writing " + path.string());
  }
  std::string_view bytes = order.part.bytes;
  if (order.part.offset > upload.bytes || order.part.offset + bytes.size() <= upload.bytes) return upload.bytes;
  bytes.remove_prefix(upload.bytes - order.part.offset);
  upload.sum.add(bytes);
  while (!bytes.empty()) {
    const ssize_t size = ::pwrite(upload.file.get(), bytes.data(), bytes.size(), static_cast<off_t>(upload.bytes));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return os_error("storing a program");
    upload.bytes += static_cast<uint64_t>(size);
    bytes.remove_prefix(static_cast<size_t>(size));
  }
  const uint64_t have = upload.bytes;
  if (have == order.total_bytes) MANTA_RETURN_IF_ERROR(finish(hash, upload, done));
  return have;
}

Status JobFiles::finish(const std::string& hash, Upload& upload, Done& done) {
  if (const std::string came = upload.sum.finish(); came != hash)
    return Status(Code::kInvalid, "the program that came is not the one that was promised: its SHA-256 is " + came);
  done.stored = Stored{hash, upload.bytes};
  done.seal = [file = std::make_shared<Fd>(std::move(upload.file)), part = (folder_ / (hash + ".part")).string(),
               path = (folder_ / hash).string()] { return seal(file->get(), part, path); };
  uploads_.erase(hash);
  return {};
}

JobFiles::Done JobFiles::carry_out(ReadProgram& order, int64_t) {
  wire::ProgramChunk part{.status = {}, .hash = order.part.hash, .offset = order.part.offset, .bytes = {}};
  Result<std::string> bytes = read(order.part);
  if (bytes.ok()) part.bytes = std::move(*bytes);
  if (!bytes.ok()) part.status = wire::to_wire(bytes.status());
  Done done;
  done.answers.push_back({order.node, std::move(part)});
  return done;
}

Result<std::string> JobFiles::read(const wire::GetProgramPart& part) const {
  const fs::path path = folder_ / part.hash;
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) return os_error("the program " + path.string());
  const auto size = static_cast<uint64_t>(info.st_size);
  if (part.offset >= size)
    return Status(Code::kInvalid,
                  "the program has " + std::to_string(size) + " bytes, none at " + std::to_string(part.offset));
  std::string bytes(std::min<uint64_t>(wire::kJobChunkBytes, size - part.offset), '\0');
  for (size_t have = 0; have < bytes.size();) {
    const ssize_t got =
        ::pread(file.get(), bytes.data() + have, bytes.size() - have, static_cast<off_t>(part.offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return os_error("reading " + path.string());
    have += static_cast<size_t>(got);
  }
  return bytes;
}

JobFiles::Done JobFiles::carry_out(DropProgram& order, int64_t) {
  uploads_.erase(order.hash);
  std::error_code ignored;
  fs::remove(folder_ / order.hash, ignored);
  fs::remove(folder_ / (order.hash + ".part"), ignored);
  return {};
}

// ---------------------------------------------------------------------------------------------------- logs

JobFiles::Done JobFiles::carry_out(AppendLog& order, int64_t) {
  const uint64_t noted = logs_.append(order.part);
  Done done;
  done.answers.push_back(
      {order.node, wire::JobNoted{.job = order.part.job, .attempt = order.part.attempt, .log_bytes = noted}});
  wake(order.part.job, false, done.answers);
  return done;
}

wire::ToNode JobFiles::answer(const ReadLog& order) const {
  wire::JobLogChunk chunk = logs_.read(order.request.job, order.request.offset);
  chunk.request = order.request.request;
  chunk.is_over = chunk.is_over && order.is_over;
  return {order.asker.node, wire::JobsAnswer{order.asker.client, std::move(chunk)}};
}

JobFiles::Done JobFiles::carry_out(ReadLog& order, int64_t now_us) {
  Done done;
  const bool has_more = !logs_.read(order.request.job, order.request.offset).bytes.empty();
  const int64_t wait_us = std::clamp<int64_t>(order.request.wait_us, 0, kMaxWaitUs);
  if (has_more || order.is_over || wait_us == 0 || waiting_.size() >= kMaxWaiting) {
    done.answers.push_back(answer(order));
  } else {
    waiting_.emplace(order.request.job, Waiting{order, now_us + wait_us});
  }
  return done;
}

void JobFiles::wake(uint64_t job, bool is_over, std::vector<wire::ToNode>& answers) {
  const auto [first, last] = waiting_.equal_range(job);
  for (auto it = first; it != last; ++it) {
    it->second.order.is_over = is_over;
    answers.push_back(answer(it->second.order));
  }
  waiting_.erase(first, last);
}

std::vector<wire::ToNode> JobFiles::tick(int64_t now_us) {
  std::vector<wire::ToNode> answers;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const bool is_due = it->second.until_us <= now_us;
    if (is_due) answers.push_back(answer(it->second.order));
    it = is_due ? waiting_.erase(it) : std::next(it);
  }
  return answers;
}

std::optional<int64_t> JobFiles::next_deadline_us() const {
  std::optional<int64_t> first;
  for (const auto& [job, one] : waiting_) first = std::min(first.value_or(one.until_us), one.until_us);
  return first;
}

JobFiles::Done JobFiles::carry_out(EndLog& order, int64_t) {
  Done done;
  wake(order.job, true, done.answers);
  return done;
}

JobFiles::Done JobFiles::carry_out(DropLog& order, int64_t) {
  logs_.drop(order.job);
  return {};
}

}  // namespace manta::head
