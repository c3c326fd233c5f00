#include "object_store/spill_disk.h"

#include "common/check.h"
#include "object_store/spill_format.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#define XXH_INLINE_ALL  // the library's header-only form
#include <xxhash.h>

namespace manta::object_store {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

Status system_error(const std::string& what, int error) {
  const bool no_room = error == ENOSPC || error == EDQUOT;
  return Status(no_room ? Code::kFull : Code::kIo, what + ": " + std::strerror(error));
}

Status read_all(int fd, void* data, size_t size, uint64_t offset, const char* what) {
  auto* at = static_cast<char*>(data);
  while (size > 0) {
    ssize_t got = ::pread(fd, at, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(what, errno);
    if (got == 0) return Status(Code::kLost, std::string(what) + ": it ends too early");
    at += got, offset += static_cast<uint64_t>(got), size -= static_cast<size_t>(got);
  }
  return {};
}

Status write_all(int fd, const void* data, size_t size, uint64_t offset, const char* what) {
  const auto* at = static_cast<const char*>(data);
  while (size > 0) {
    ssize_t put = ::pwrite(fd, at, size, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error(what, errno);
    at += put, offset += static_cast<uint64_t>(put), size -= static_cast<size_t>(put);
  }
  return {};
}

/// Copies between two files and returns the checksum of what passed.
Result<uint64_t> copy(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t size_bytes) {
  thread_local std::vector<char> buffer(kBufferBytes);
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_64bits_reset(&state);
  for (uint64_t done = 0; done < size_bytes;) {
    const size_t part = std::min<uint64_t>(kBufferBytes, size_bytes - done);
    MANTA_RETURN_IF_ERROR(read_all(from, buffer.data(), part, from_offset + done, "reading"));
    XXH3_64bits_update(&state, buffer.data(), part);
    MANTA_RETURN_IF_ERROR(write_all(to, buffer.data(), part, to_offset + done, "writing"));
    done += part;
  }
  return XXH3_64bits_digest(&state);
}

uint64_t checksum_of(const SpillHeader& header) { return XXH3_64bits(&header, offsetof(SpillHeader, header_checksum)); }

}  // namespace

Result<std::unique_ptr<SpillDisk>> SpillDisk::create(std::string folder) {
  Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return system_error("eventfd", errno);
  return std::unique_ptr<SpillDisk>(new SpillDisk(std::move(folder), std::move(wake)));
}

SpillDisk::~SpillDisk() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    writes_.wake.notify_all();
    reads_.wake.notify_all();
  }
  for (Lane* lane : {&writes_, &reads_}) {
    if (lane->thread.joinable()) lane->thread.join();
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string SpillDisk::path_of(uint64_t file) const { return folder_ + "/" + std::to_string(file) + ".spill"; }

// ---------------------------------------------------------------------------------------------------- threads

void SpillDisk::post(Lane& lane, std::function<void()> job) {
  std::lock_guard lock(mutex_);
  if (!lane.thread.joinable()) lane.thread = std::thread([this, &lane] { serve(lane); });
  lane.jobs.push_back(std::move(job));
  lane.wake.notify_one();
}

void SpillDisk::serve(Lane& lane) {
  std::unique_lock lock(mutex_);
  while (true) {
    lane.wake.wait(lock, [&] { return stopping_ || !lane.jobs.empty(); });
    if (stopping_) return;
    std::function<void()> job = std::move(lane.jobs.front());
    lane.jobs.pop_front();
    lock.unlock();
    job();
    job = nullptr;  // and the descriptors in it
    lock.lock();
  }
}

void SpillDisk::report(Event event) {
  std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
  const uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) < 0) return;  // full: it is readable anyway
}

std::vector<Event> SpillDisk::take_events() {
  std::lock_guard lock(mutex_);
  uint64_t count = 0;
  if (::read(wake_.get(), &count, sizeof count) < 0) count = 0;  // nothing was rung
  return std::exchange(events_, {});
}

// ---------------------------------------------------------------------------------------------------- jobs

void SpillDisk::start(effect::WriteSpill&& effect, Fd segment) {
  auto job = std::make_shared<std::pair<effect::WriteSpill, Fd>>(std::move(effect), std::move(segment));
  post(writes_, [this, job] {
    Result<std::vector<uint64_t>> checksums = write(job->first, job->second);
    const uint64_t file = job->first.file;
    if (checksums.ok()) return report(event::SpillDone{file, std::move(checksums).value()});
    ::unlink((path_of(file) + ".tmp").c_str());
    report(event::SpillFailed{file, checksums.status()});
  });
}

void SpillDisk::start(const effect::ReadSpill& effect, Fd segment) {
  auto memory = std::make_shared<Fd>(std::move(segment));
  post(reads_, [this, effect, memory] { report(event::RestoreDone{effect.name, read(effect, *memory)}); });
}

void SpillDisk::start(const effect::PunchSpill& effect) {
  post(writes_, [this, effect] { punch(effect); });
}

void SpillDisk::start(const effect::RemoveSpill& effect) {
  post(writes_, [this, effect] { ::unlink(path_of(effect.file).c_str()); });
}

Result<std::vector<uint64_t>> SpillDisk::write(const effect::WriteSpill& write, const Fd& segment) {
  const std::string path = path_of(write.file), temporary = path + ".tmp";
  auto failed = [&](const Status& status) { return status.with_context("spilling to " + path); };
  std::error_code error;
  if (std::filesystem::create_directories(folder_, error); error) return failed(system_error("making it", error.value()));
  if (::chmod(folder_.c_str(), 0700) != 0) return failed(system_error("closing it to others", errno));
  Fd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return failed(system_error("opening it", errno));
  std::vector<uint64_t> checksums;
  if (!segment) return failed(Status(Code::kIo, "no descriptor was left"));
  for (const auto& object : write.objects) {
    Result<uint64_t> checksum =
        copy(segment.get(), object.offset, file.get(), object.record.offset + sizeof(SpillHeader), object.size_bytes);
    if (!checksum.ok()) return failed(checksum.status());
    SpillHeader header{
        .owner = object.id.owner, .sequence = object.id.sequence, .size_bytes = object.size_bytes, .checksum = *checksum};
    header.header_checksum = checksum_of(header);
    Status status = write_all(file.get(), &header, sizeof header, object.record.offset, "writing");
    if (!status.ok()) return failed(status);
    checksums.push_back(*checksum);
  }
  // A disk that has no room may say so only now.
  if (::fsync(file.get()) != 0) return failed(system_error("fsync", errno));
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failed(system_error("renaming it", errno));
  return checksums;
}

Status SpillDisk::read(const effect::ReadSpill& read, const Fd& segment) {
  const std::string what = "object " + read.id.to_string() + " in spill file " + path_of(read.file);
  auto damaged = [&](const std::string& why) { return Status(Code::kLost, what + " is damaged: " + why); };
  if (!segment) return Status(Code::kIo, what + ": the machine has no memory to read it back");
  Fd file(::open(path_of(read.file).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) return damaged("the file is gone");
  if (!file) return system_error(what, errno);
  SpillHeader header;
  Status status = read_all(file.get(), &header, sizeof header, read.record.offset, "reading its header");
  if (status.ok() && (header.magic != kSpillMagic || header.header_checksum != checksum_of(header) ||
                      header.checksum != read.record.checksum || header.size_bytes != read.object_bytes ||
                      header.owner != read.id.owner || header.sequence != read.id.sequence))
    return damaged("its header is not what was written");
  if (status.ok()) {
    Result<uint64_t> checksum =
        copy(file.get(), read.record.offset + sizeof header, segment.get(), read.offset, read.object_bytes);
    if (checksum.ok() && *checksum != header.checksum) return damaged("its checksum is wrong");
    status = checksum.status();
  }
  if (status.code() == Code::kLost) return damaged(status.message());
  return status.ok() ? status : status.with_context(what);
}

void SpillDisk::punch(const effect::PunchSpill& punch) {
  // Whole pages only: what lies before and after belongs to others.
  const uint64_t from = (punch.record.offset + 4095) / 4096 * 4096;
  const uint64_t to = (punch.record.offset + punch.record.size_bytes) / 4096 * 4096;
  Fd file(::open(path_of(punch.file).c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || to <= from) return;
  // Where a file system has no holes, the space comes back with the file.
  if (::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(from),
                  static_cast<off_t>(to - from)) == 0)
    report(event::SpillPunched{punch.file, to - from});
}

}  // namespace manta::object_store
