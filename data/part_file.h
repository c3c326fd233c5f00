// A file under way, as Arrow wants it: keeps the error number of the system, which Arrow's own stream turns into text.
#pragma once

#include <manta/status.h>

#include <arrow/io/interfaces.h>
#include <arrow/result.h>

#include <string>

#include "common/fd.h"

namespace manta::data {

class PartFile final : public arrow::io::OutputStream {
 public:
  /// Creates or truncates the file.
  explicit PartFile(std::string path);
  ~PartFile() override;

  arrow::Status Write(const void* data, int64_t size_bytes) override;
  using arrow::io::OutputStream::Write;
  arrow::Result<int64_t> Tell() const override { return size_bytes_; }
  arrow::Status Flush() override { return drain(); }
  arrow::Status Close() override;
  [[nodiscard]] bool closed() const override { return !fd_; }

  /// On disk: written, and fsync'ed.
  Status finish();
  /// The first failure: kFull when the disk or the quota is, else kIo; ok when there was none.
  [[nodiscard]] Status failure() const;
  [[nodiscard]] int64_t size_bytes() const { return size_bytes_; }

 private:
  arrow::Status drain();
  arrow::Status write_all(const char* data, size_t size_bytes);
  arrow::Status fail();

  std::string path_;
  Fd fd_;
  std::string buffer_;
  int64_t size_bytes_ = 0;
  int error_ = 0;
};

}  // namespace manta::data
