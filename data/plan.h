// The two plans: what the user wrote (a chain of Nodes) and what runs (a PhysicalPlan), and the way from one to the other.
//
// The optimizer reads only the columns that are selected right behind the reader, reads only the rows that a limit there
// lets through, and runs cheap steps (filters, functions on blocks as they come, selections) inside the step before them, so
// that their rows never travel.
#pragma once

#include <manta/data.h>

#include <variant>

namespace manta::data {

struct ParquetStep {
  std::vector<std::string> paths;
  std::vector<std::string> columns;  ///< Empty: all.
  int64_t block_bytes = 0;
};
struct TableStep {
  std::shared_ptr<arrow::Table> table;
};
struct RangeStep {
  int64_t rows = 0;
};
struct PoolStep {
  std::shared_ptr<const PoolFactory> factory;
  std::string name;
  MapOptions options;
};
struct FunctionStep {
  KernelSpec kernel;
  MapOptions options;
};
struct KernelStep {
  KernelSpec kernel;
};
struct SelectStep {
  std::vector<std::string> columns;
};
struct LimitStep {
  int64_t rows = 0;
};
using Step = std::variant<ParquetStep, TableStep, RangeStep, PoolStep, FunctionStep, KernelStep, SelectStep, LimitStep>;

/// One step of the user's plan. Immutable; shared by the plans that begin alike.
struct Node {
  std::shared_ptr<const Node> before;  ///< Null for a source.
  Step step;
  ExecutionOptions execution;
};

using Source = std::variant<ParquetStep, TableStep, RangeStep>;

/// What runs as one stage of processes. The first of a plan is its source.
struct PhysicalOperator {
  std::string label;                           ///< In errors, in the progress line and in explain().
  std::shared_ptr<const PoolFactory> factory;  ///< Null: tasks that run the kernels (or the source).
  MapOptions options;
  std::vector<KernelSpec> kernels;  ///< Run in order on each block it makes.
  int64_t limit_rows = -1;
};

struct PhysicalPlan {
  Source source;
  int64_t source_limit = -1;  ///< Rows to read; -1 for all.
  std::vector<PhysicalOperator> operators;
  ExecutionOptions execution;
};

/// Throws Error(kInvalid) for a plan that can never run, such as one that selects a column an earlier selection left out.
PhysicalPlan optimize(const Node& last);

std::string explain_plan(const PhysicalPlan& plan);

}  // namespace manta::data
