#include "bench/models_bench.h"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>

#include <cstdlib>
#include <filesystem>

namespace manta::bench {
namespace {

namespace fs = std::filesystem;

arrow::Status read_texts(const fs::path& path, std::vector<std::string>& out) {
  ARROW_ASSIGN_OR_RAISE(auto file, arrow::io::ReadableFile::Open(path.string()));
  ARROW_ASSIGN_OR_RAISE(auto reader, parquet::arrow::OpenFile(file, arrow::default_memory_pool()));
  ARROW_ASSIGN_OR_RAISE(const std::shared_ptr<arrow::Table> table, reader->ReadTable());
  const auto column = table->GetColumnByName("text");
  if (column == nullptr || column->type()->id() != arrow::Type::STRING)
    return arrow::Status::Invalid("no text column 'text'");
  for (const auto& chunk : column->chunks()) {
    const auto& strings = static_cast<const arrow::StringArray&>(*chunk);
    for (int64_t i = 0; i < strings.length(); ++i) out.emplace_back(strings.GetView(i));
  }
  return arrow::Status::OK();
}

}  // namespace

std::vector<std::string> corpus(int argc, char** argv) {
  const char* const named = argc > 1 ? argv[1] : std::getenv("MANTA_CORPUS");
  const fs::path place = named != nullptr ? named : ".demo/corpus";
  std::vector<fs::path> files;
  if (fs::is_directory(place)) {
    for (const auto& entry : fs::directory_iterator(place))
      if (entry.path().extension() == ".parquet") files.push_back(entry.path());
    std::ranges::sort(files);
  } else if (fs::exists(place)) {
    files.push_back(place);
  }
  std::vector<std::string> out;
  for (const fs::path& file : files)
    if (const arrow::Status status = read_texts(file, out); !status.ok()) {
      std::fprintf(stderr, "%s: %s\n", file.c_str(), status.ToString().c_str());
      std::exit(1);
    }
  if (out.empty()) {
    std::printf("skipped: no corpus in %s (`./run demo` makes one; an argument or MANTA_CORPUS names another)\n",
                place.c_str());
    std::exit(0);
  }
  return out;
}

}  // namespace manta::bench
