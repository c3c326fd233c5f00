#include "data/steps.h"

#include <arrow/array/builder_primitive.h>
#include <arrow/compute/api_vector.h>
#include <arrow/datum.h>
#include <arrow/table.h>
#include <arrow/util/byte_size.h>

#include <array>
#include <map>

#include "common/check.h"
#include "data/arrow_status.h"

namespace manta::data {
namespace {

std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> all;  // filled before main by enlist_kernel; read-only after
  return all;
}

constexpr char kSeparator = '\n';

struct SelectKernel {
  static Result<Batch> run(const std::string& state, const Batch& batch) {
    std::vector<int> indices;
    for (size_t at = 0; at < state.size();) {
      const size_t end = state.find(kSeparator, at);
      const std::string name = state.substr(at, end - at);
      indices.push_back(batch->schema()->GetFieldIndex(name));
      if (indices.back() < 0) {
        return Status(Code::kInvalid, "there is no column '" + name +
                                          "' (or more than one); there are: " + joined(batch->schema()->field_names()));
      }
      at = end + 1;
    }
    MANTA_ARROW_ASSIGN(Batch out, "", batch->SelectColumns(indices));
    return out;
  }
};

Result<Batch> run_kernel(const KernelSpec& spec, const Batch& batch) {
  const auto kernel = kernels().find(spec.key);
  if (kernel == kernels().end()) return Status(Code::kInternal, spec.label + " is not in this program");
  Result<Batch> out = kernel->second(spec.state, batch);
  if (!out.ok()) return out.status().with_context(spec.label);
  if (!*out) return Status(Code::kInvalid, "it returned a null batch").with_context(spec.label);
  return out;
}

}  // namespace

bool enlist_kernel(const char* key, Kernel kernel) { return kernels().emplace(key, kernel).second; }

std::string joined(const std::vector<std::string>& names) {
  constexpr size_t kMost = 50;
  std::string out;
  for (size_t i = 0; i < names.size() && i < kMost; ++i) out += (i == 0 ? "" : ", ") + names[i];
  return names.size() > kMost ? out + ", and " + std::to_string(names.size() - kMost) + " more" : out;
}

std::string human_bytes(int64_t bytes) {
  const std::array<const char*, 5> units = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < units.size(); ++unit) value /= 1024;
  std::string text = std::to_string(value);
  text.resize(unit == 0 ? text.find('.') : text.find('.') + 2);
  return text + " " + units[unit];
}

KernelSpec select_kernel(const std::vector<std::string>& columns) {
  std::string state;
  for (const std::string& column : columns) state += column + kSeparator;
  return kernel_spec<SelectKernel>("select_columns", std::move(state));
}

std::string schema_difference(const arrow::Schema& one, const arrow::Schema& other) {
  for (const auto& field : one.fields()) {
    const auto counterpart = other.GetFieldByName(field->name());
    if (!counterpart)
      return "column '" + field->name() + "' (" + field->type()->ToString() + ") is in one and not in the other";
    if (!counterpart->type()->Equals(*field->type())) {
      return "column '" + field->name() + "' is " + field->type()->ToString() + " in one and " +
             counterpart->type()->ToString() + " in the other";
    }
  }
  for (const auto& field : other.fields()) {
    if (!one.GetFieldByName(field->name())) return "column '" + field->name() + "' is in one and not in the other";
  }
  if (one.Equals(other, false)) return "";
  return one.field_names() == other.field_names() ? "a column may be null in one and not in the other"
                                                  : "the order of the columns";
}

Result<Batch> concatenate(const std::vector<Batch>& batches) {
  MANTA_CHECK(!batches.empty());
  if (batches.size() == 1) return batches.front();
  for (const Batch& batch : batches) {
    const std::string difference = schema_difference(*batches.front()->schema(), *batch->schema());
    if (!difference.empty()) return Status(Code::kInvalid, "blocks that follow each other differ: " + difference);
  }
  MANTA_ARROW_ASSIGN(Batch out, "putting blocks together", arrow::ConcatenateRecordBatches(batches));
  return out;
}

Batch assemble(const MapRequest& request) {
  constexpr size_t kMostParts = 256;  // a process has so many pins and no more
  std::vector<Batch> parts;
  for (const SliceRef& slice : request.slices) {
    const Batch block = slice.block.get();
    const bool is_whole = slice.offset == 0 && slice.length == block->num_rows();
    parts.push_back(is_whole ? block : block->Slice(slice.offset, slice.length));
    if (parts.size() >= kMostParts) parts = {value_or_throw(concatenate(parts))};
  }
  return value_or_throw(concatenate(parts));
}

BlockAndMeta finish(Batch result, const std::vector<KernelSpec>& specs, bool rows_only, int64_t rows_in) {
  if (!result) throw Error(Status(Code::kInvalid, "a step returned a null batch"));
  for (const KernelSpec& spec : specs) result = value_or_throw(run_kernel(spec, result));
  BlockMeta meta;
  meta.rows_in = rows_in;
  meta.rows = result->num_rows();
  meta.schema = result->schema()->ToString();
  if (rows_only) result = result->Slice(0, 0);
  const auto bytes = arrow::util::ReferencedBufferSize(*result);
  meta.bytes = bytes.ok() ? *bytes : arrow::util::TotalBufferSize(*result);
  return {std::move(result), std::move(meta)};
}

BlockAndMeta run_kernels(const MapRequest& request) {
  Batch batch = assemble(request);
  const int64_t rows_in = batch->num_rows();
  return finish(std::move(batch), request.kernels, request.rows_only, rows_in);
}

Result<Batch> keep_rows(const Batch& batch, const std::shared_ptr<arrow::BooleanArray>& mask) {
  if (!mask || mask->length() != batch->num_rows()) {
    return Status(Code::kInvalid, "a predicate gave a mask of another length than its batch");
  }
  if (mask->null_count() == 0 && mask->true_count() == batch->num_rows()) return batch;
  MANTA_ARROW_ASSIGN(const arrow::Datum kept, "keeping rows",
                     arrow::compute::Filter(arrow::Datum(batch), arrow::Datum(mask)));
  return kept.record_batch();
}

Result<Batch> keep_rows(const Batch& batch, const RowMask& mask) {
  arrow::BooleanBuilder builder;
  MANTA_ARROW_OK("keeping rows", builder.AppendValues(mask.data(), static_cast<int64_t>(mask.size())));
  std::shared_ptr<arrow::BooleanArray> array;
  MANTA_ARROW_OK("keeping rows", builder.Finish(&array));
  return keep_rows(batch, array);
}

}  // namespace manta::data
