#include "torch/batch_plan.h"

#include <algorithm>
#include <numeric>

namespace manta::models {

BatchPlan plan_batches(const std::vector<uint32_t>& lengths, size_t batch_tokens) {
  BatchPlan plan;
  plan.order.resize(lengths.size());
  std::iota(plan.order.begin(), plan.order.end(), 0u);
  std::ranges::stable_sort(plan.order, std::ranges::greater(), [&](uint32_t text) { return lengths[text]; });
  size_t tokens = 0;
  for (size_t i = 0; i < plan.order.size(); ++i) {
    const size_t length = lengths[plan.order[i]];
    if (i == 0 || tokens + length > batch_tokens) {
      plan.batches.push_back(i);
      tokens = 0;
    }
    tokens += length;
  }
  plan.batches.push_back(plan.order.size());
  return plan;
}

}  // namespace manta::models
