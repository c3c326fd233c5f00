#include "data/batcher.h"

#include "common/check.h"

#include <algorithm>

namespace manta::data {

void Batcher::add(const Slice& slice) {
  MANTA_CHECK(!closed_);
  if (slice.length == 0) return;
  queue_.push_back(slice);
  rows_ += slice.length;
  bytes_ += slice.bytes;
}

bool Batcher::is_ready() const {
  if (rows_ == 0) return false;
  if (rule_.rows > 0) return closed_ || rows_ >= rule_.rows;
  if (rule_.bytes > 0) return closed_ || bytes_ >= rule_.bytes;
  return true;
}

int64_t Batcher::ready_count() const {
  if (!is_ready()) return 0;
  if (rule_.rows > 0) return rows_ / rule_.rows + (closed_ && rows_ % rule_.rows != 0 ? 1 : 0);
  if (rule_.bytes > 0) return std::max<int64_t>(1, bytes_ / rule_.bytes);
  return static_cast<int64_t>(queue_.size());
}

Slice Batcher::pop_front(int64_t most_rows) {
  Slice& front = queue_.front();
  Slice out = front;
  if (out.length > most_rows) {
    out.length = most_rows;
    out.bytes = front.bytes / front.length * most_rows;
    front.offset += most_rows;
    front.length -= most_rows;
    front.bytes -= out.bytes;
  } else {
    queue_.pop_front();
  }
  rows_ -= out.length;
  bytes_ -= out.bytes;
  return out;
}

std::vector<Slice> Batcher::take() {
  MANTA_CHECK(is_ready(), rows_, bytes_);
  std::vector<Slice> batch;
  if (rule_.rows > 0) {
    for (int64_t need = std::min(rule_.rows, rows_); need > 0; need -= batch.back().length) batch.push_back(pop_front(need));
  } else if (rule_.bytes > 0) {
    int64_t bytes = 0;
    while (bytes < rule_.bytes && rows_ > 0) bytes += batch.emplace_back(pop_front(rows_)).bytes;
  } else {
    batch.push_back(pop_front(rows_));
  }
  return batch;
}

std::vector<Slice> Batcher::drop() {
  std::vector<Slice> out;
  while (rows_ > 0) out.push_back(pop_front(rows_));
  return out;
}

}  // namespace manta::data
