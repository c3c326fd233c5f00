// Which texts go through the model together: cuts a list of lengths into batches of at most so many tokens.
//
// Longest first, so that the largest buffers are made once and texts of one length (which attention takes in one call) are
// neighbours. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace manta::models {

struct BatchPlan {
  std::vector<uint32_t> order;  ///< The texts, by falling length; of equal length in the order given.
  std::vector<size_t> batches;  ///< Batch i is order[batches[i]] up to order[batches[i + 1]].
};

/// A text longer than `batch_tokens` is a batch of its own. Precondition: no length is 0.
BatchPlan plan_batches(const std::vector<uint32_t>& lengths, size_t batch_tokens);

}  // namespace manta::models
