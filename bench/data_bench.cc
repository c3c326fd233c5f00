// Pipelines that do nothing to their rows: what moving them costs, beside Arrow alone in one process on the same files.
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <manta/data.h>
#include <manta/manta.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/writer.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>

#include "bench/models_bench.h"

namespace manta::bench {
namespace {

constexpr int kRuns = 5;
constexpr int64_t kRows = 1'000'000;
constexpr int64_t kRowsOfAFile = 250'000;

const ExecutionOptions kQuiet{.memory_bytes = 0, .progress = false};

template <typename T>
T must(arrow::Result<T> result) {
  if (!result.ok()) throw Error(Status(Code::kInternal, result.status().ToString()));
  return std::move(result).ValueUnsafe();
}
void must(const arrow::Status& status) {
  if (!status.ok()) throw Error(Status(Code::kInternal, status.ToString()));
}

/// An id and a text of about a hundred bytes that compresses as text does.
std::shared_ptr<arrow::Table> rows_from(int64_t first) {
  const char* words[] = {"wait", "child", "process", "status", "signal", "memory", "file", "change", "owner", "array"};
  arrow::Int64Builder ids;
  arrow::StringBuilder texts;
  auto state = static_cast<uint64_t>(first) * 2654435761u + 1;
  for (int64_t i = first; i < first + kRowsOfAFile; ++i) {
    must(ids.Append(i));
    std::string text;
    while (text.size() < 100) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      text.append(words[(state >> 33) % 10]).append(" ");
    }
    must(texts.Append(text));
  }
  const auto schema = arrow::schema({arrow::field("id", arrow::int64()), arrow::field("text", arrow::utf8())});
  return arrow::Table::Make(schema, std::vector{must(ids.Finish()), must(texts.Finish())});
}

void write_table(const std::string& path, const arrow::Table& table) {
  auto file = must(arrow::io::FileOutputStream::Open(path));
  const auto properties = parquet::WriterProperties::Builder().compression(parquet::Compression::ZSTD)->build();
  must(parquet::arrow::WriteTable(table, arrow::default_memory_pool(), file, 1 << 16, properties));
  must(file->Close());
}

/// The same work without Manta: one thread reads the files and writes them again.
void copy_with_arrow_alone(const std::string& folder) {
  std::filesystem::create_directory(folder + "/alone");
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/in")) {
    parquet::arrow::FileReaderBuilder builder;
    must(builder.Open(must(arrow::io::ReadableFile::Open(entry.path().string()))));
    auto reader = must(builder.Build());
    reader->set_use_threads(false);
    write_table(folder + "/alone/" + entry.path().filename().string(), *must(reader->ReadTable()));
  }
  std::filesystem::remove_all(folder + "/alone");
}

struct Same {
  Batch operator()(Batch batch) { return batch; }
};
bool ends_in_seven(const arrow::RecordBatch& batch, int64_t row) {
  return static_cast<const arrow::Int64Array&>(*batch.column(0)).Value(row) % 10 == 7;
}

template <typename F>
double seconds_of(F&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Runs each in turn, so that what else the machine does falls on all alike.
void measure(const std::string& folder) {
  const auto input = read_parquet(folder + "/in").with(kQuiet);
  Samples alone, copy, pool, count, small, numbers;
  const double bytes = 1e-6 * static_cast<double>(kRows) * (8 + 4 + 103);
  for (int run = 0; run <= kRuns; ++run) {
    const auto add = [run](Samples& to, double value) {
      if (run > 0) to.add(value);  // the first warms caches, workers and the store
    };
    const std::string out = folder + "/out";
    const auto written = [&out](const Dataset& dataset) {
      const double seconds = seconds_of([&] { (void)dataset.write_parquet(out).run(); });
      std::filesystem::remove_all(out);
      return seconds;
    };
    add(alone, bytes / seconds_of([&] { copy_with_arrow_alone(folder); }));
    add(copy, bytes / written(input));
    add(pool, bytes / written(input.map_batches<Same>({.batch_size = 1024})));
    add(count, 1e-6 * kRows / seconds_of([&] { (void)input.filter<&ends_in_seven>().count().run(); }));
    add(small, 100'000 / 64.0 / seconds_of([&] {
                 (void)input.limit(100'000).map_batches<Same>({.batch_size = 64, .pool = {.max = 1}}).count().run();
               }));
    add(numbers,
        80 / seconds_of([&] {
          (void)manta::range(10'000'000).map_batches<Same>({.cpus = 0, .pool = {.max = 1}}).with(kQuiet).count().run();
        }));
  }
  std::printf("data: %lld rows of id and text in %lld files, %.0f MB uncompressed; min / median / max of %d runs\n",
              static_cast<long long>(kRows), static_cast<long long>(kRows / kRowsOfAFile), bytes, kRuns);
  alone.print("Parquet to Parquet (ZSTD), Arrow alone, one thread", "MB/s");
  copy.print("Parquet to Parquet (ZSTD), reader and writer processes", "MB/s");
  pool.print("  with an actor pool between, batches of 1,024", "MB/s");
  count.print("filter by row and count", "M rows/s");
  small.print("batches of 64 rows through one actor", "batches/s");
  numbers.print("blocks of a range through one actor", "MB/s");
}

int program() {
  std::string folder = (std::filesystem::temp_directory_path() / "manta-bench-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  std::filesystem::create_directory(folder + "/in");
  for (int64_t first = 0; first < kRows; first += kRowsOfAFile) {
    write_table(folder + "/in/" + std::to_string(100 + first / kRowsOfAFile) + ".parquet", *rows_from(first));
  }
  measure(folder);
  std::filesystem::remove_all(folder);
  return 0;
}

}  // namespace
}  // namespace manta::bench

int main(int argc, char** argv) { return manta::run(argc, argv, manta::bench::program); }
