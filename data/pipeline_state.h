// What a PipelineCore remembers; for its own sources only.
#pragma once

#include "data/pipeline_core.h"

#include <deque>

namespace manta::data {

struct PipelineCore::Worker {
  bool ready = false;
  int calls = 0;
  Time idle_since{};
  size_t next_piece = 0;  // source: the rest of its unit
  size_t end_piece = 0;
};

/// How a block is made: what a call is given.
struct PipelineCore::Recipe {
  uint64_t sequence = 0;
  size_t piece = 0;           // source
  std::vector<Slice> slices;  // others
};

/// Under way, or to be sent (again) when its input is there. Uses the blocks of its slices.
struct PipelineCore::Call {
  size_t op = 0;
  Recipe recipe;
  int64_t input_bytes = 0;
  int64_t reserved_bytes = 0;
  bool is_remake = false;  // makes a block again
  bool is_sent = false;
  int worker = -1;
};

struct PipelineCore::Output {
  BlockId block = kNoBlock;
  int64_t rows = 0;
  int64_t bytes = 0;
};

struct PipelineCore::Block {
  enum class State : uint8_t { kLive, kLost, kGone };
  size_t op = 0;
  int64_t rows = 0;
  int64_t bytes = 0;
  Recipe recipe;
  State state = State::kLive;
  int uses = 1;      // by queues, calls, outputs that wait, deliveries
  int children = 0;  // blocks that were made from it, by their recipes
  int times_lost = 0;
  bool is_revived = false;  // had gone, and is made again for another
};

struct PipelineCore::Operator {
  explicit Operator(const OperatorPlan& given) : plan(given), queue(given.rule), limit_left(given.limit_rows) {}

  OperatorPlan plan;
  Batcher queue;
  std::map<int, Worker> workers;
  std::map<uint64_t, Output> waiting;  // results whose turn has not come
  BlockId carrier = kNoBlock;          // an empty block, kept for its schema while no row has come
  bool had_input = false;
  bool cut = false;  // a limit after it is reached
  bool done = false;
  int calls = 0;                // sent or not, without those that make a block again
  int sent = 0;                 // of all calls
  int remakes = 0;              // calls that make a block again
  std::set<CallId> unsent;      // calls whose input was lost, and those that make a block again: by age
  std::set<BlockId> to_remake;  // lost blocks whose call is not made yet: by age
  uint64_t next_sequence = 0;   // of the next call
  uint64_t next_output = 0;     // whose turn it is
  int64_t limit_left;
  int64_t reserved_bytes = 0;  // calls in flight, about
  int64_t waiting_bytes = 0;
  int64_t downstream_bytes = 0;  // passed on and not released
  int64_t revived_bytes = 0;     // made again for others that are made again
  int64_t most_held_bytes = 0;
  int64_t rows_in = 0, rows_out = 0, bytes_in = 0, bytes_out = 0;

  [[nodiscard]] int64_t held() const { return waiting_bytes + downstream_bytes; }
  [[nodiscard]] bool has_unsent() const { return !unsent.empty() || !to_remake.empty(); }
  [[nodiscard]] bool has_remakes() const { return remakes > 0 || !to_remake.empty(); }
};

}  // namespace manta::data
