#include <algorithm>

#include "data/plan.h"
#include "data/steps.h"

namespace manta::data {
namespace {

class Optimizer {
 public:
  explicit Optimizer(PhysicalPlan& plan) : plan_(plan) {}

  void operator()(const ParquetStep& step) { begin(step, "read_parquet"); }
  void operator()(const TableStep& step) { begin(step, "from_arrow"); }
  void operator()(const RangeStep& step) { begin(step, "range"); }

  void operator()(const PoolStep& step) {
    PhysicalOperator op;
    op.label = "map_batches<" + step.name + ">";
    op.factory = step.factory;
    op.options = step.options;
    plan_.operators.push_back(std::move(op));
  }

  void operator()(const FunctionStep& step) {
    const MapOptions& options = step.options;
    const bool is_cheap = options.batch_size == 0 && options.cpus <= 1 && options.gpus == 0 && options.memory_bytes == 0 &&
                          options.resources.empty() && options.env.empty();
    if (is_cheap) return add_kernel(step.kernel);
    PhysicalOperator op;
    op.label = step.kernel.label;
    op.options = options;
    op.kernels.push_back(step.kernel);
    plan_.operators.push_back(std::move(op));
  }

  void operator()(const KernelStep& step) { add_kernel(step.kernel); }

  void operator()(const SelectStep& step) {
    auto* parquet = std::get_if<ParquetStep>(&plan_.source);
    if (parquet == nullptr || plan_.operators.size() > 1 || !plan_.operators.back().kernels.empty()) {
      return add_kernel(select_kernel(step.columns));
    }
    for (const std::string& column : step.columns) {
      const auto& there = parquet->columns;
      if (there.empty() || std::find(there.begin(), there.end(), column) != there.end()) continue;
      throw Error(
          Status(Code::kInvalid, "select_columns: there is no column '" + column + "'; there are: " + joined(there)));
    }
    parquet->columns = step.columns;
  }

  void operator()(const LimitStep& step) {
    if (step.rows < 0) throw Error(Status(Code::kInvalid, "limit: a number of rows is not negative"));
    PhysicalOperator& last = plan_.operators.back();
    last.limit_rows = last.limit_rows < 0 ? step.rows : std::min(last.limit_rows, step.rows);
    if (plan_.operators.size() == 1 && last.kernels.empty()) plan_.source_limit = last.limit_rows;
  }

 private:
  template <typename S>
  void begin(const S& source, const char* label) {
    plan_.source = source;
    PhysicalOperator op;
    op.label = label;
    plan_.operators.push_back(std::move(op));
  }

  /// Behind a limit, and behind rows that this process holds, a step needs processes of its own.
  void add_kernel(const KernelSpec& kernel) {
    const bool is_table = plan_.operators.size() == 1 && std::holds_alternative<TableStep>(plan_.source);
    if (plan_.operators.back().limit_rows >= 0 || is_table) {
      PhysicalOperator op;
      op.label = kernel.label;
      plan_.operators.push_back(std::move(op));
    }
    plan_.operators.back().kernels.push_back(kernel);
  }

  PhysicalPlan& plan_;
};

}  // namespace

PhysicalPlan optimize(const Node& last) {
  std::vector<const Node*> chain;
  for (const Node* node = &last; node != nullptr; node = node->before.get()) chain.push_back(node);
  PhysicalPlan plan;
  plan.execution = last.execution;
  Optimizer optimizer(plan);
  for (auto node = chain.rbegin(); node != chain.rend(); ++node) std::visit(optimizer, (*node)->step);
  return plan;
}

std::string explain_plan(const PhysicalPlan& plan) {
  std::string out;
  for (const PhysicalOperator& op : plan.operators) {
    out += op.label;
    const auto* parquet = std::get_if<ParquetStep>(&plan.source);
    if (&op == &plan.operators.front() && parquet != nullptr) {
      out.append("(").append(joined(parquet->paths)).append(")");
      if (!parquet->columns.empty()) out += " columns " + joined(parquet->columns);
    }
    if (&op == &plan.operators.front() && plan.source_limit >= 0)
      out += " first " + std::to_string(plan.source_limit) + " rows";
    if (op.options.batch_size > 0) out += " in batches of " + std::to_string(op.options.batch_size);
    for (const KernelSpec& kernel : op.kernels) {
      if (kernel.label != op.label) out += " + " + kernel.label;
    }
    if (op.limit_rows >= 0) out += " | limit " + std::to_string(op.limit_rows);
    out += "\n";
  }
  return out;
}

}  // namespace manta::data
