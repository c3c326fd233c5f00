#include "data/sizing.h"

#include <algorithm>
#include <cmath>

#include "data/steps.h"

namespace manta::data {
namespace {

constexpr int64_t kDefaultMemory = int64_t{512} << 20;
constexpr int64_t kLeastBudget = int64_t{1} << 20;
constexpr int kMostWriters = 2;
constexpr int kMostLossesOfAPiece = 20;
constexpr int kMostWithoutLimit = 1024;  // of a pool whose actors ask for nothing

int64_t memory_of(const PhysicalPlan& plan, const NodeInfo& node) {
  if (plan.execution.memory_bytes > 0) return plan.execution.memory_bytes;
  if (node.store_capacity_bytes == 0) return kDefaultMemory;
  return std::min(kDefaultMemory, static_cast<int64_t>(node.store_capacity_bytes) / 2);
}

int most_by(double total, double each) {
  return each <= 0 ? kMostWithoutLimit : static_cast<int>(std::floor(total / each + 1e-6));
}

/// The largest pool the node can hold beside the minimum of the others.
void size_pool(const PhysicalOperator& op, const NodeInfo& node, double other_cpus, double cpus, OperatorPlan& out) {
  const Pool& pool = op.options.pool;
  if (pool.min < 0 || (pool.max != 0 && pool.max < std::max(1, pool.min))) {
    throw Error(Status(Code::kInvalid,
                       op.label + ": a pool is {.min, .max} with 0 <= min <= max and max at least 1 (or 0 for as many "
                                  "as fit)"));
  }
  const double gpus = op.options.gpus;
  const int by_gpus = gpus <= 0  ? kMostWithoutLimit
                      : gpus < 1 ? static_cast<int>(node.gpus) * static_cast<int>(std::floor(1 / gpus + 1e-6))
                                 : most_by(node.gpus, gpus);
  if (by_gpus < std::max(1, pool.min)) {
    throw Error(Status(Code::kInvalid, op.label + ": " + std::to_string(std::max(1, pool.min)) +
                                           " actors of gpus = " + std::to_string(gpus) + " need more than this node's " +
                                           std::to_string(static_cast<int>(node.gpus)) + " GPUs"));
  }
  const int by_cpus = most_by(std::max(0.0, node.cpus - other_cpus), cpus);
  const int room = std::max({1, pool.min, std::min(by_cpus, by_gpus)});
  out.min_workers = pool.min;
  const int wanted = pool.max > 0 ? pool.max : cpus <= 0 && gpus <= 0 ? static_cast<int>(node.cpus) : room;
  out.max_workers = std::max(1, std::min(wanted, room));
}

}  // namespace

Sizing size_plan(const PhysicalPlan& plan, const NodeInfo& node, const WriteOptions* sink) {
  Sizing out;
  double least_cpus = 0;
  bool has_pool = false;
  for (const PhysicalOperator& op : plan.operators) {
    if (op.factory) least_cpus += std::max(1, op.options.pool.min) * op.options.cpus;
    has_pool = has_pool || op.factory;
  }
  // On a machine too small for the minimum of all pools at once, their actors share the CPUs.
  const double scale = least_cpus > node.cpus && least_cpus > 0 ? node.cpus / least_cpus : 1;
  const int64_t budget = std::max(kLeastBudget, memory_of(plan, node) / static_cast<int64_t>(plan.operators.size() + 1));
  const int cpus = std::max(1, static_cast<int>(node.cpus));
  for (size_t i = 0; i < plan.operators.size(); ++i) {
    const PhysicalOperator& op = plan.operators[i];
    OperatorPlan sized;
    sized.rule.rows = std::max<int64_t>(0, op.options.batch_size);
    sized.budget_bytes = budget;
    sized.limit_rows = op.limit_rows;
    double worker_cpus = 0;
    sized.most_losses = i == 0 ? kMostLossesOfAPiece : op.options.retries;
    if (i == 0) {
      sized.max_workers = cpus;
    } else if (op.factory) {
      worker_cpus = op.options.cpus * scale;
      size_pool(op, node, (least_cpus - std::max(1, op.options.pool.min) * op.options.cpus) * scale, worker_cpus, sized);
    } else {
      // Tasks beside pools ask for nothing: the pools may hold every CPU for as long as they wait for these tasks.
      sized.workers = WorkersAre::kTasks;
      sized.max_workers = cpus;
      worker_cpus = has_pool ? 0 : op.options.cpus;
    }
    out.operators.push_back(sized);
    out.cpus.push_back(worker_cpus);
  }
  if (sink != nullptr) {
    OperatorPlan writers;
    writers.workers = WorkersAre::kTasks;
    writers.rule.bytes = std::clamp<int64_t>(sink->file_bytes, 1, std::max(kLeastBudget, budget / 2));
    writers.max_workers = std::min(cpus, kMostWriters);
    writers.makes_blocks = false;
    out.operators.push_back(writers);
    out.cpus.push_back(0);
  }
  return out;
}

void check_block_fits(int64_t block_bytes, const NodeInfo& node, const std::string& what) {
  const auto capacity = static_cast<int64_t>(node.store_capacity_bytes);
  if (capacity == 0 || block_bytes <= capacity) return;
  throw Error(Status(Code::kFull, what + ": a block of about " + human_bytes(block_bytes) +
                                      " does not fit the object store of " + human_bytes(capacity) +
                                      "; set MANTA_STORE_BYTES to at least " + std::to_string(4 * block_bytes) +
                                      ", or ask for smaller blocks (block_bytes)"));
}

}  // namespace manta::data
