// Cuts a stream of blocks into batches, without touching a row: a batch is a list of slices of blocks.
//
// Pure; owned by the pipeline core.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

namespace manta::data {

using BlockId = uint64_t;
inline constexpr BlockId kNoBlock = 0;

/// Rows [offset, offset + length) of a block, which take about `bytes`.
struct Slice {
  BlockId block = kNoBlock;
  int64_t offset = 0;
  int64_t length = 0;
  int64_t bytes = 0;
};

/// Which slices make a batch. Both 0: each slice is one.
struct BatchRule {
  int64_t rows = 0;   ///< Exactly so many, but for the last batch.
  int64_t bytes = 0;  ///< Whole slices until they have so many bytes.
};

class Batcher {
 public:
  explicit Batcher(BatchRule rule) : rule_(rule) {}

  /// Appends rows. A slice without rows is not kept.
  void add(const Slice& slice);
  /// No more rows will come: what is left may be a smaller batch.
  void close() { closed_ = true; }

  [[nodiscard]] bool is_ready() const;
  /// How many batches could be taken now.
  [[nodiscard]] int64_t ready_count() const;
  /// The next batch, in the order of the rows. Precondition: is_ready().
  [[nodiscard]] std::vector<Slice> take();
  /// Everything that is queued, and then nothing.
  [[nodiscard]] std::vector<Slice> drop();

  /// The block of the next row. Precondition: rows() > 0.
  [[nodiscard]] BlockId front_block() const { return queue_.front().block; }
  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t bytes() const { return bytes_; }
  [[nodiscard]] bool is_closed() const { return closed_; }

 private:
  Slice pop_front(int64_t most_rows);

  BatchRule rule_;
  std::deque<Slice> queue_;
  int64_t rows_ = 0;
  int64_t bytes_ = 0;
  bool closed_ = false;
};

}  // namespace manta::data
