#include "data/parquet_sink.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <parquet/arrow/writer.h>
#include <parquet/properties.h>
#include <stdio.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <random>

#include "common/check.h"
#include "common/fd.h"
#include "data/arrow_status.h"
#include "data/part_file.h"
#include "data/steps.h"

namespace manta::data {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kPartSuffix = ".parquet";

parquet::Compression::type codec_of(Compression compression) {
  switch (compression) {
    case Compression::kNone: return parquet::Compression::UNCOMPRESSED;
    case Compression::kSnappy: return parquet::Compression::SNAPPY;
    case Compression::kZstd: return parquet::Compression::ZSTD;
  }
  return parquet::Compression::UNCOMPRESSED;
}

/// Everything but the name; the file's own failure tells more than Arrow's.
Result<PartMeta> write_rows(const WriteRequest& request, const std::shared_ptr<PartFile>& file) {
  parquet::WriterProperties::Builder properties;
  properties.compression(codec_of(request.compression));
  properties.max_row_group_length(request.row_group_rows);
  const auto arrow_properties = parquet::ArrowWriterProperties::Builder().store_schema()->build();
  std::unique_ptr<parquet::arrow::FileWriter> writer;
  PartMeta meta;
  for (const SliceRef& slice : request.slices) {
    const Batch block = slice.block.get();
    if (!writer) {
      meta.schema = block->schema()->ToString();
      MANTA_ARROW_ASSIGN(writer, "starting the file",
                         parquet::arrow::FileWriter::Open(*block->schema(), arrow::default_memory_pool(), file,
                                                          properties.build(), arrow_properties));
      MANTA_ARROW_OK("starting the file", writer->NewBufferedRowGroup());
    }
    const std::string difference = schema_difference(*writer->schema(), *block->schema());
    if (!difference.empty()) return Status(Code::kInvalid, "blocks that follow each other differ: " + difference);
    MANTA_ARROW_OK("writing rows", writer->WriteRecordBatch(*block->Slice(slice.offset, slice.length)));
    meta.rows += slice.length;
  }
  if (!writer) return Status(Code::kInternal, "a part file without a block");
  MANTA_ARROW_OK("ending the file", writer->Close());
  MANTA_RETURN_IF_ERROR(file->finish());
  meta.bytes = file->size_bytes();
  return meta;
}

void sync_folder(const fs::path& folder) {
  const Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd) (void)::fsync(fd.get());
}

std::string random_name() {
  std::random_device device;
  std::string out;
  for (int i = 0; i < 8; ++i) out += "0123456789abcdefghijklmnopqrstuv"[device() % 32];
  return out;
}

}  // namespace

PartMeta write_part(const WriteRequest& request) {
  const std::string under_way = request.path + "." + std::to_string(::getpid()) + "." + random_name();
  const auto file = std::make_shared<PartFile>(under_way);
  throw_if_error(file->failure());
  Result<PartMeta> meta = write_rows(request, file);
  if (meta.ok() && ::rename(under_way.c_str(), request.path.c_str()) != 0) {
    meta = Status(Code::kIo, "cannot rename '" + under_way + "': " + std::strerror(errno));
  }
  if (!meta.ok()) {
    (void)::unlink(under_way.c_str());
    throw_if_error(file->failure());
  }
  return value_or_throw(std::move(meta));
}

OutputFolder::OutputFolder(const std::string& folder) {
  fs::path path = fs::absolute(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  path_ = path.string();
  std::error_code ignored;
  if (folder.empty() || !path.has_filename())
    throw Error(Status(Code::kInvalid, "'" + folder + "' is not the name of a folder"));
  if (fs::exists(fs::symlink_status(path, ignored))) {
    throw Error(Status(Code::kExists, "the output folder '" + folder + "' exists; remove it or name another"));
  }
  staging_.emplace((path.parent_path() / (".manta-" + path.filename().string() + "-" + random_name())).string());
}

std::string OutputFolder::part_path(uint64_t index) const {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "part-%05llu", static_cast<unsigned long long>(index));
  return staging_->path() + "/" + name.data() + std::string(kPartSuffix);
}

void OutputFolder::publish() {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(staging_->path())) {
    if (entry.path().extension() != kPartSuffix) fs::remove(entry.path(), ignored);
  }
  sync_folder(staging_->path());
  if (::renameat2(AT_FDCWD, staging_->path().c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) != 0) {
    // Some file systems know no RENAME_NOREPLACE; there an empty folder of that name would be replaced.
    const bool is_unknown = errno == EINVAL || errno == ENOSYS;
    if (!is_unknown || fs::exists(path_, ignored) || ::rename(staging_->path().c_str(), path_.c_str()) != 0) {
      const Code code = errno == EEXIST || errno == ENOTEMPTY ? Code::kExists : Code::kIo;
      throw Error(Status(code, "cannot make '" + path_ + "' of the finished files: " + std::strerror(errno)));
    }
  }
  staging_->keep();
  sync_folder(fs::path(path_).parent_path());
}

}  // namespace manta::data
