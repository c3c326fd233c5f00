#include "data/part_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "data/steps.h"

namespace manta::data {

constexpr size_t kBufferBytes = size_t{1} << 20;

PartFile::PartFile(std::string path) : path_(std::move(path)) {
  fd_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!fd_) error_ = errno;
  buffer_.reserve(kBufferBytes);
}
PartFile::~PartFile() = default;

arrow::Status PartFile::fail() { return arrow::Status::IOError(failure().message()); }

Status PartFile::failure() const {
  if (error_ == 0) return {};
  const bool is_full = error_ == ENOSPC || error_ == EDQUOT || error_ == EFBIG;
  const std::string what = is_full ? "the disk is full" : std::string("cannot write");
  return Status(is_full ? Code::kFull : Code::kIo,
                what + ": '" + path_ + "' after " + human_bytes(size_bytes_) + ": " + std::strerror(error_));
}

arrow::Status PartFile::write_all(const char* data, size_t size_bytes) {
  while (size_bytes > 0) {
    const ssize_t written = ::write(fd_.get(), data, size_bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      error_ = written < 0 ? errno : EIO;
      return fail();
    }
    data += written;
    size_bytes -= static_cast<size_t>(written);
  }
  return arrow::Status::OK();
}

arrow::Status PartFile::drain() {
  if (error_ != 0) return fail();
  const arrow::Status status = write_all(buffer_.data(), buffer_.size());
  buffer_.clear();
  return status;
}

arrow::Status PartFile::Write(const void* data, int64_t size_bytes) {
  if (error_ != 0) return fail();
  const auto size = static_cast<size_t>(size_bytes);
  if (buffer_.size() + size > kBufferBytes) ARROW_RETURN_NOT_OK(drain());
  if (size >= kBufferBytes) {
    ARROW_RETURN_NOT_OK(write_all(static_cast<const char*>(data), size));
  } else {
    buffer_.append(static_cast<const char*>(data), size);
  }
  size_bytes_ += size_bytes;
  return arrow::Status::OK();
}

arrow::Status PartFile::Close() {
  if (!fd_) return arrow::Status::OK();
  const arrow::Status drained = drain();
  if (drained.ok() && ::fsync(fd_.get()) != 0) error_ = errno;
  if (::close(fd_.release()) != 0 && error_ == 0) error_ = errno;
  return error_ == 0 ? arrow::Status::OK() : fail();
}

Status PartFile::finish() {
  (void)Close();
  return failure();
}

}  // namespace manta::data
