// Attention of one head over one sequence on a CPU with AVX-512: what LibTorch does in several passes over shared buffers,
// in one whose working set stays in the first cache. Its own code because a sentence's heads are small (32 or 64 numbers):
// general kernels spend more time around the products than in them.
//
// Knows no LibTorch type, so that it can be tested by itself. Not thread safe in its workspace: one per thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace manta::models {

/// Queries, keys and values lie in the rows of one matrix, `row_stride` numbers apart; results in rows `out_stride` apart.
template <typename Number>
struct HeadView {
  const Number* query;
  const Number* key;
  const Number* value;
  size_t row_stride;
  Number* out;
  size_t out_stride;
  size_t length;     ///< Tokens, at least 1.
  size_t head_size;  ///< Numbers a head has.
};

using AttentionWorkspace = std::vector<float>;

/// Whether this CPU and head size are ones the kernels below are for. bfloat16 needs its own instructions.
bool has_attention_kernel(size_t head_size, bool bfloat16);

/// out = softmax(query key^T / sqrt(head_size)) value. Sums are float32 in both; bfloat16 numbers are given as their bits.
void attend_head(const HeadView<float>& head, AttentionWorkspace& workspace);
void attend_head(const HeadView<uint16_t>& head, AttentionWorkspace& workspace);

}  // namespace manta::models
