#include <arrow/table.h>
#include <manta/data.h>

#include <algorithm>

#include "common/check.h"
#include "data/pipeline.h"
#include "data/plan.h"
#include "data/steps.h"

namespace manta {
namespace data {
namespace {

Dataset extend(const std::shared_ptr<const Node>& before, Step step) {
  Node node{before, std::move(step), before ? before->execution : ExecutionOptions{}};
  return Dataset(std::make_shared<const Node>(std::move(node)));
}

/// What a class or function is called in messages: "embed" for MapFunction<&embed>, "Embedder" for Embedder.
std::string short_name(const char* mangled) {
  constexpr std::string_view kUnnamed = "(anonymous namespace)::";
  std::string name = detail::type_name(mangled);
  for (size_t at = 0; (at = name.find(kUnnamed)) != std::string::npos;) name.erase(at, kUnnamed.size());
  if (const size_t open = name.find("MapFunction<"); open != std::string::npos) {
    name = name.substr(open + 12, name.rfind('>') - open - 12);
    if (name.starts_with("&")) name.erase(0, 1);
    if (name.find("{lambda") != std::string::npos) return "lambda";
  }
  return name.substr(0, name.find('('));
}

/// Pieces of `rows` rows that need no file: [offset, offset + rows) each.
void cut_evenly(int64_t rows, int64_t rows_each, int64_t row_bytes, SourcePlan& out) {
  for (int64_t at = 0; at < std::max<int64_t>(rows, 1); at += rows_each) {
    const int64_t here = std::min(rows_each, rows - at);
    out.units.push_back({out.pieces.size(), 1});
    out.pieces.push_back({{{0, 0, at, here}}, here, std::max<int64_t>(1, here * row_bytes)});
  }
  out.rows = rows;
}

int64_t table_bytes(const arrow::Table& table) {
  int64_t bytes = 0;
  for (const auto& column : table.columns()) {
    for (const auto& chunk : column->chunks()) {
      for (const auto& buffer : chunk->data()->buffers) bytes += buffer ? buffer->size() : 0;
      for (const auto& child : chunk->data()->child_data) {
        for (const auto& buffer : child->buffers) bytes += buffer ? buffer->size() : 0;
      }
    }
  }
  return bytes;
}

int64_t limited(int64_t rows, int64_t limit) { return limit < 0 ? rows : std::min(rows, limit); }

}  // namespace

SourcePlan plan_source(const PhysicalPlan& plan) {
  constexpr int64_t kRowsOfARange = 128 << 10;
  constexpr int64_t kBytesOfATable = int64_t{8} << 20;
  SourcePlan out;
  if (const auto* range = std::get_if<RangeStep>(&plan.source)) {
    cut_evenly(limited(range->rows, plan.source_limit), kRowsOfARange, sizeof(int64_t), out);
  } else if (const auto* table = std::get_if<TableStep>(&plan.source)) {
    const int64_t rows = table->table->num_rows();
    const int64_t row_bytes = rows == 0 ? 1 : std::max<int64_t>(1, table_bytes(*table->table) / rows);
    cut_evenly(limited(rows, plan.source_limit), std::max<int64_t>(1, kBytesOfATable / row_bytes), row_bytes, out);
  } else {
    const auto& parquet = std::get<ParquetStep>(plan.source);
    const auto with_label = [](const Status& status) { return Error(status.with_context("read_parquet")); };
    Result<std::vector<std::string>> files = find_files(parquet.paths);
    if (!files.ok()) throw with_label(files.status());
    Result<ParquetLayout> layout =
        lay_out(std::move(files).value(), {parquet.columns, parquet.block_bytes, plan.source_limit});
    if (!layout.ok()) throw with_label(layout.status());
    out.pieces = std::move(layout->pieces);
    out.units = std::move(layout->units);
    out.files = std::move(layout->files);
    out.columns = std::move(layout->columns);
    out.rows = layout->rows;
    out.is_nullable = layout->is_nullable;
  }
  return out;
}

namespace {

Async<WriteResult> write(std::shared_ptr<const Node> node, std::string path, WriteOptions options) {
  PhysicalPlan plan = optimize(*node);
  SourcePlan source = plan_source(plan);
  OutputFolder folder(path);
  WriteResult result;
  {
    Pipeline pipeline(std::move(plan), std::move(source), {.sink = SinkPlan{options, &folder}});
    co_await pipeline.run();
    result = {folder.path(), pipeline.rows(), pipeline.files(), pipeline.file_bytes()};
  }
  folder.publish();
  co_return result;
}

Async<std::shared_ptr<arrow::Table>> take(std::shared_ptr<const Node> node) {
  PhysicalPlan plan = optimize(*node);
  SourcePlan source = plan_source(plan);
  std::vector<Batch> batches;
  PipelineOptions options;
  options.deliver = [&batches](Batch batch) {
    if (batches.empty() || batch->num_rows() > 0) batches.push_back(std::move(batch));
  };
  Pipeline pipeline(std::move(plan), std::move(source), std::move(options));
  co_await pipeline.run();
  auto table = arrow::Table::FromRecordBatches(batches);
  if (!table.ok()) throw_arrow(table.status());
  co_return std::move(table).ValueUnsafe();
}

Async<int64_t> count(std::shared_ptr<const Node> node) {
  PhysicalPlan plan = optimize(*node);
  SourcePlan source = plan_source(plan);
  const PhysicalOperator& last = plan.operators.back();
  const auto is_selection = [](const KernelSpec& kernel) { return kernel.label == "select_columns"; };
  const bool keeps_rows = plan.operators.size() == 1 && std::all_of(last.kernels.begin(), last.kernels.end(), is_selection);
  if (keeps_rows) co_return limited(source.rows, last.limit_rows);
  Pipeline pipeline(std::move(plan), std::move(source), {.rows_only = true});
  co_await pipeline.run();
  co_return pipeline.rows();
}

}  // namespace
}  // namespace data

// ---------------------------------------------------------------------------------------------------- plans

Dataset read_parquet(std::string path, ReadOptions options) {
  return read_parquet(std::vector<std::string>{std::move(path)}, std::move(options));
}
Dataset read_parquet(std::vector<std::string> paths, ReadOptions options) {
  return data::extend(nullptr, data::ParquetStep{std::move(paths), options.columns.value(), options.block_bytes});
}
Dataset from_arrow(std::shared_ptr<arrow::Table> table) {
  if (!table) throw Error(Status(Code::kInvalid, "from_arrow: a null table"));
  return data::extend(nullptr, data::TableStep{std::move(table)});
}
Dataset range(int64_t rows) {
  if (rows < 0) throw Error(Status(Code::kInvalid, "range: a number of rows is not negative"));
  return data::extend(nullptr, data::RangeStep{rows});
}

Dataset Dataset::with_pool(std::shared_ptr<const data::PoolFactory> factory, const char* class_key,
                           MapOptions options) const {
  std::string name = options.name.empty() ? data::short_name(class_key) : options.name.value();
  return data::extend(node_, data::PoolStep{std::move(factory), std::move(name), std::move(options)});
}
Dataset Dataset::with_function(data::KernelSpec kernel, const char* key, MapOptions options) const {
  kernel.label = "map_batches<" + (options.name.empty() ? data::short_name(key) : options.name.value()) + ">";
  return data::extend(node_, data::FunctionStep{std::move(kernel), std::move(options)});
}
Dataset Dataset::with_kernel(data::KernelSpec kernel) const {
  return data::extend(node_, data::KernelStep{std::move(kernel)});
}
Dataset Dataset::select_columns(ColumnNames columns) const { return data::extend(node_, data::SelectStep{columns.value()}); }
Dataset Dataset::limit(int64_t rows) const { return data::extend(node_, data::LimitStep{rows}); }
Dataset Dataset::with(ExecutionOptions options) const {
  data::Node node = *node_;
  node.execution = options;
  return Dataset(std::make_shared<const data::Node>(std::move(node)));
}

// ---------------------------------------------------------------------------------------------------- actions

Async<WriteResult> Dataset::write_parquet(std::string folder, WriteOptions options) const {
  return data::write(node_, std::move(folder), options);
}
Async<std::shared_ptr<arrow::Table>> Dataset::take(int64_t rows) const { return data::take(limit(rows).node_); }
Async<int64_t> Dataset::count() const { return data::count(node_); }

std::string Dataset::explain() const { return data::explain_plan(data::optimize(*node_)); }

}  // namespace manta
