// A data pipeline: rows stream through a class of your own, in a pool of processes, from Parquet to Parquet.
#include <arrow/api.h>
#include <manta/data.h>
#include <manta/manta.h>

#include <cstdio>
#include <filesystem>

// Each actor of the pool makes one of these and keeps it: here is where a model would be loaded.
class Collatz {
 public:
  explicit Collatz(int64_t max_steps) : max_steps_(max_steps) {}

  // A batch in, a batch out: the same rows with one more column. Its columns are views of shared memory, not copies.
  arrow::Result<manta::Batch> operator()(manta::Batch batch) const {
    const auto& numbers = static_cast<const arrow::Int64Array&>(*batch->GetColumnByName("id"));
    arrow::Int64Builder steps;
    ARROW_RETURN_NOT_OK(steps.Reserve(batch->num_rows()));
    for (int64_t row = 0; row < batch->num_rows(); ++row) steps.UnsafeAppend(steps_of(numbers.Value(row)));
    ARROW_ASSIGN_OR_RAISE(const auto column, steps.Finish());
    return batch->AddColumn(1, arrow::field("steps", arrow::int64()), column);
  }

 private:
  int64_t steps_of(int64_t n) const {
    int64_t steps = 0;
    for (; n > 1 && steps < max_steps_; ++steps) n = n % 2 == 0 ? n / 2 : 3 * n + 1;
    return steps;
  }
  int64_t max_steps_;
};

// A filter sees one row; it runs inside the step before it.
bool is_long(const arrow::RecordBatch& rows, int64_t row) {
  return static_cast<const arrow::Int64Array&>(*rows.column(1)).Value(row) >= 330;
}

manta::Async<int> program() {
  // Nothing runs yet: a Dataset is a plan.
  const manta::Dataset long_ones =
      manta::range(100'000)
          .map_batches<Collatz>({.batch_size = 5'000, .pool = {.min = 1, .max = 2}}, int64_t{1'000})
          .filter<&is_long>();

  // An action runs it. Rows keep their order, and "collatz" appears only when it is complete.
  const manta::WriteResult written = co_await long_ones.write_parquet("collatz");
  std::printf("wrote %lld of 100000 rows\n", static_cast<long long>(written.rows));

  const auto table = co_await manta::read_parquet("collatz").take(3);
  for (int64_t row = 0; row < table->num_rows(); ++row) {
    const auto value = [&](int column) { return table->column(column)->GetScalar(row).ValueOrDie()->ToString(); };
    std::printf("%s takes %s steps\n", value(0).c_str(), value(1).c_str());
  }
  std::filesystem::remove_all("collatz");
  co_return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }
