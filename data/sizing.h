// How much of the node a plan uses: sizes of pools and budgets, from what the node has and what the user asked for.
#pragma once

#include <manta/run.h>

#include "data/pipeline_core.h"
#include "data/plan.h"

namespace manta::data {

struct Sizing {
  std::vector<OperatorPlan> operators;  ///< Of the plan, then the sink's when there is one.
  std::vector<double> cpus;             ///< What each worker of an operator asks for.
};

/// Throws Error(kInvalid), naming the step, when the node can never hold a pool's minimum, or has no GPU for it.
Sizing size_plan(const PhysicalPlan& plan, const NodeInfo& node, const WriteOptions* sink);

/// Throws Error(kFull), naming both sizes and what to change, when a block of about so many bytes can never be in the store.
void check_block_fits(int64_t block_bytes, const NodeInfo& node, const std::string& what);

}  // namespace manta::data
