// What runs in the processes of a pipeline besides the user's code: the kernels we bring, and how batches are put together.
#pragma once

#include <manta/detail/data_blocks.h>

#include <string>
#include <vector>

namespace manta::data {

/// "a, b, c", shortened after the first fifty.
std::string joined(const std::vector<std::string>& names);
/// "12.3 MiB".
std::string human_bytes(int64_t bytes);

/// Keeps the named columns, in this order.
KernelSpec select_kernel(const std::vector<std::string>& columns);

/// One batch of the rows of several with one schema; no copy when there is one. kInvalid, naming the column, when schemas
/// differ.
Result<Batch> concatenate(const std::vector<Batch>& batches);

/// Where two schemas differ first: "column 'x' is int64 here and string there"; empty when they agree.
std::string schema_difference(const arrow::Schema& one, const arrow::Schema& other);

/// The task behind map_batches<&f> and behind filters that cannot run inside another step.
BlockAndMeta run_kernels(const MapRequest& request);

}  // namespace manta::data
