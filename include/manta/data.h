// Data pipelines: Parquet in, functions and classes over batches, Parquet out; streaming, in bounded memory, over many
// processes.
//
//   manta::WriteResult out = co_await manta::read_parquet("in/*.parquet", {.columns = {"id", "text"}})
//       .map_batches<Embedder>({.batch_size = 64, .pool = {.min = 1, .max = 4}}, model_dir)
//       .write_parquet("out", {.compression = manta::Compression::kZstd});
//
// A Dataset is a plan: nothing runs before an action (write_parquet, take, count). Actions are coroutines: `co_await` them,
// or call `.run()` on them to block. They throw manta::Error, which names the step, the file, the column and the type.
//
// Rows keep their order, from the files (sorted by name) to the output. Blocks of rows move between processes through shared
// memory without copies; the driver sees only their sizes. If the whole input has no rows, each step is still called once
// with an empty batch, so that the output has a schema.
#pragma once

#include <manta/detail/data_blocks.h>

#include <arrow/type_fwd.h>

namespace manta {

/// A list of column names: `{"id", "text"}`, or a vector.
using ColumnNames = OptionList;

struct ReadOptions {
  ColumnNames columns{};                   ///< Top-level columns, in this order; empty for all.
  int64_t block_bytes = int64_t{8} << 20;  ///< Rows are cut into blocks of about this size, uncompressed.
};

/// How many actors a step has: `min` from the start, up to `max` as batches queue up; idle ones above `min` end.
struct Pool {
  int min = 1;
  int max = 0;  ///< 0: as many as the node has room for.
};

struct MapOptions {
  int64_t batch_size =
      0;  ///< Exactly so many rows a call, across blocks and files; only the last may have fewer. 0: blocks as they come.
  double cpus = 1;
  double gpus = 0;  ///< Below 1 a share of one device, else a whole number of devices.
  int64_t gpu_memory_bytes = 0;
  int64_t memory_bytes = 0;
  OptionTable<double> resources{};
  Pool pool{};       ///< Classes only; functions run as tasks.
  int retries = 20;  ///< How often one batch is sent again after the death of the process that had it, and made again when
                     ///< what was made of it is lost with its node.
  OptionTable<std::string> env{};
  OptionText name{};  ///< In errors and the progress line, instead of the class's or function's own.
};

enum class Compression : uint8_t { kNone, kSnappy, kZstd };

struct WriteOptions {
  Compression compression = Compression::kZstd;
  int64_t file_bytes = int64_t{64} << 20;  ///< A file is closed when its rows take about this much, before compression.
  int64_t row_group_rows = 1 << 16;
};

struct WriteResult {
  std::string path;
  int64_t rows = 0;
  int64_t files = 0;
  int64_t bytes = 0;  ///< On disk.
};

struct ExecutionOptions {
  int64_t memory_bytes = 0;  ///< Blocks in the object store at a time, about; 0: half of the store, at most 512 MiB.
  bool progress = true;      ///< On standard error. The environment's MANTA_PROGRESS=0 turns it off too.
};

static_assert(std::is_trivially_destructible_v<ReadOptions> && std::is_trivially_destructible_v<MapOptions>,
              "see detail/interned.h");

namespace data {
struct Node;
}

/// An immutable plan; copying one copies a pointer. Thread safety: any thread may read or run it.
class Dataset {
 public:
  explicit Dataset(std::shared_ptr<const data::Node> node) : node_(std::move(node)) {}

  /// Calls `C::operator()(Batch)` in a pool of actors; each makes one C of `args`. A C returns a Batch, an
  /// arrow::Result<Batch> or a manta::Result<Batch>, of any number of rows. An actor that dies is started again and its
  /// batches are sent again, so a batch may be computed twice, but its rows are in the output once. So are those of a batch
  /// whose result was lost with its node; made again, it must have as many rows.
  template <typename C, typename... Args>
  requires data::Maps<C>
  [[nodiscard]] Dataset map_batches(MapOptions options = {}, Args&&... args) const {
    return with_pool(std::make_shared<data::PoolFactoryOf<C, data::kept_argument<Args>...>>(std::forward<Args>(args)...),
                     typeid(C).name(), options);
  }
  /// Calls a function (or a lambda without captures) on batches, in tasks; with batch_size 0 as part of the step before.
  template <auto Fn>
  requires data::Maps<decltype(Fn)>
  [[nodiscard]] Dataset map_batches(MapOptions options = {}) const {
    return with_function(data::kernel_spec<data::MapFunction<Fn>>(""), typeid(data::MapFunction<Fn>).name(),
                         options);
  }

  /// Keeps the rows a predicate holds for: `bool(const arrow::RecordBatch&, int64_t row)`, or for speed
  /// `std::shared_ptr<arrow::BooleanArray>(const Batch&)` (null counts as false).
  template <auto Fn>
  requires(data::RowPredicate<decltype(Fn)> || data::BatchPredicate<decltype(Fn)>) [[nodiscard]] Dataset filter() const {
    return with_kernel(data::kernel_spec<data::FilterFunction<Fn>>("filter"));
  }
  /// The same with a closure, whose captures must be trivially copyable.
  template <typename F>
  requires(data::RowPredicate<F> || data::BatchPredicate<F>) [[nodiscard]] Dataset filter(F predicate) const {
    static_assert(std::is_trivially_copyable_v<F>,
                  "manta: a predicate travels only when all it captures is trivially copyable");
    return with_kernel(data::kernel_spec<data::FilterClosure<F>>(
        "filter", std::string(reinterpret_cast<const char*>(&predicate), sizeof predicate)));
  }

  [[nodiscard]] Dataset select_columns(ColumnNames columns) const;
  /// The first `rows` rows; what comes before stops as soon as it has made them.
  [[nodiscard]] Dataset limit(int64_t rows) const;
  /// How the action that ends this plan runs.
  [[nodiscard]] Dataset with(ExecutionOptions options) const;

  /// Writes `folder`/part-00000.parquet and on, in the order of the rows. The folder must not exist (kExists) and appears,
  /// complete, at the end; until then the files stand beside it in a folder whose name begins with ".manta-", which goes
  /// when the job fails or the program dies. Throws kFull when the disk or the store is.
  [[nodiscard]] Async<WriteResult> write_parquet(std::string folder, WriteOptions options = {}) const;
  /// The first rows, in this process.
  [[nodiscard]] Async<std::shared_ptr<arrow::Table>> take(int64_t rows) const;
  /// From the files' metadata alone when no step changes the number.
  [[nodiscard]] Async<int64_t> count() const;

  /// The steps as they would run, one a line.
  [[nodiscard]] std::string explain() const;

 private:
  [[nodiscard]] Dataset with_pool(std::shared_ptr<const data::PoolFactory> factory, const char* class_key,
                                  MapOptions options) const;
  [[nodiscard]] Dataset with_function(data::KernelSpec kernel, const char* key, MapOptions options) const;
  [[nodiscard]] Dataset with_kernel(data::KernelSpec kernel) const;

  std::shared_ptr<const data::Node> node_;
};

/// The rows of Parquet files: a file, a folder (its *.parquet, and those of folders in it) or a glob (`*`, `?` and `[...]`
/// in any component). Found when an action runs: kNotFound when there are none, kInvalid when their schemas differ.
[[nodiscard]] Dataset read_parquet(std::string path, ReadOptions options = {});
[[nodiscard]] Dataset read_parquet(std::vector<std::string> paths, ReadOptions options = {});
/// The rows of a table in this process.
[[nodiscard]] Dataset from_arrow(std::shared_ptr<arrow::Table> table);
/// One int64 column "id": 0 .. rows - 1.
[[nodiscard]] Dataset range(int64_t rows);

}  // namespace manta
