// The streaming executor's decisions: what to send where, when to grow or shrink a pool, what to let go. No I/O, no clock,
// no threads.
//
//            pieces            blocks, in order          blocks, in order
//   source ---------> [queue] -------------> operator ... -------------> last operator ---> deliver (or files)
//   (pool of readers)          rebatched      (pool or tasks)
//
// A block may be lost with the node that it lies on. The core keeps how each was made (its recipe: the piece, or slices of
// which blocks), as long as it or what was made from it may be needed, and makes lost ones again:
//
//   live --last use--> gone --its last child is gone--> forgotten
//   live --found lost--> lost --its call is done--> live          (what was to read it waits, and is sent again then)
//   gone --input of a lost one--> lost --> live --last use--> gone
//   lost --last use--> gone: its call is abandoned
//
// What has gone keeps no value, only its recipe. So a loss costs time, and for what is read again at most another budget (or
// one batch, when that is bigger). Rows are cut by their number, so a call that is made again must give as many.
//
// Each operator has an input queue (a Batcher), calls in flight, and results that wait for earlier ones (so rows keep their
// order). What an operator made and nobody has used up yet is held against its own budget; a full budget stops the operator,
// and so, step by step, the readers. An operator may exceed its budget by one call when the next one could do nothing else:
// a batch bigger than the budget still forms. So the memory in use is bounded by the budgets, whatever the size of the
// input.
//
// Owned by one Pipeline; single-threaded.
#pragma once

#include "data/batcher.h"

#include <manta/status.h>

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>

namespace manta::data {

using Time = std::chrono::steady_clock::time_point;  // tidy: allow(core-clock) the type only; the caller reads the clock
using CallId = uint64_t;

enum class WorkersAre : uint8_t {
  kPool,   ///< Started and stopped one by one; a call goes to one of them.
  kTasks,  ///< Any process; only their number is bounded.
};

struct OperatorPlan {
  WorkersAre workers = WorkersAre::kPool;
  BatchRule rule{};
  int min_workers = 0;
  int max_workers = 1;       ///< Tasks: how many calls at a time.
  int calls_per_worker = 2;  ///< One runs, one waits its turn.
  int64_t budget_bytes = int64_t{64} << 20;
  int64_t limit_rows = -1;   ///< Of its output; -1 for all.
  int most_losses = 20;      ///< Of one block; -1 without limit.
  bool makes_blocks = true;  ///< False for a sink, whose results are files.
};

/// A run of pieces that one reader should read, in order: they share a position in a file.
struct SourceUnit {
  size_t first_piece = 0;
  size_t pieces = 1;
};

struct PipelinePlan {
  std::vector<OperatorPlan> operators;  ///< The first is the source.
  std::vector<int64_t> piece_bytes;     ///< About what each piece makes, in order.
  std::vector<SourceUnit> units;        ///< Cover the pieces, in order.
  std::chrono::milliseconds idle_before_stop{5000};
};

// ---- Events.
struct WorkerReady {
  size_t op = 0;
  int worker = 0;
};
struct CallDone {
  CallId call = 0;
  int64_t rows_in = 0;
  int64_t rows = 0;
  int64_t bytes = 0;
};
/// A call ended without a result, since blocks that it was given are lost, or were when it was sent. `lost`: all blocks that
/// are known to be, maybe also such as it was not given.
struct InputLost {
  CallId call = 0;
  std::vector<BlockId> lost;
};
struct Delivered {};   ///< The rows of the last Deliver.
struct DeliveryLost {  ///< They could not be had.
  std::vector<BlockId> lost;
};
struct Tick {};
using Event = std::variant<WorkerReady, CallDone, InputLost, Delivered, DeliveryLost, Tick>;

// ---- Effects.
struct StartWorker {
  size_t op = 0;
  int worker = 0;
};
struct StopWorker {
  size_t op = 0;
  int worker = 0;
  bool at_once = false;  ///< What it still does is of no use.
};
/// The call's result is of no use any more; nothing is expected of it. It may be dispatched again.
struct Abandon {
  CallId call = 0;
};
/// Run a call. The block it makes, if any, has the call's id. Source: `piece`; others: `slices`. A call is dispatched again,
/// as it was, when its input or its block was lost.
struct Dispatch {
  size_t op = 0;
  int worker = -1;
  CallId call = 0;
  uint64_t sequence = 0;  ///< Counts the calls of this operator, in the order of the rows.
  size_t piece = 0;
  std::vector<Slice> slices;
};
/// Rows that came out of the end, in order. One at a time: answered by Delivered or DeliveryLost.
struct Deliver {
  Slice slice;
};
/// Nobody needs the block any more, or it is lost.
struct Release {
  BlockId block = kNoBlock;
};
/// The pipeline cannot go on: a block was lost again and again.
struct LostTooOften {
  size_t op = 0;
  uint64_t sequence = 0;
  int times = 0;
};
/// The pipeline cannot go on: made again, a block has another number of rows, and some may be in the output.
struct MadeDifferently {
  size_t op = 0;
  uint64_t sequence = 0;
  int64_t rows_before = 0;
  int64_t rows = 0;
};
struct Finished {};
using Effect =
    std::variant<StartWorker, StopWorker, Dispatch, Abandon, Deliver, Release, LostTooOften, MadeDifferently, Finished>;

/// What an operator has done and has at hand; for the progress line and for tests.
struct OperatorState {
  int64_t rows_in = 0;
  int64_t rows_out = 0;
  int64_t held_bytes = 0;
  int64_t most_held_bytes = 0;
  int workers = 0;
  int calls = 0;
  bool done = false;
};

/// Invariants, checked on every step: a block is released once each time it was made, after its last use or when it is lost;
/// calls of an operator start in the order of the rows; when the pipeline has finished no block, call or worker is left.
class PipelineCore {
 public:
  explicit PipelineCore(PipelinePlan plan);
  ~PipelineCore();

  [[nodiscard]] std::vector<Effect> start(Time now);
  [[nodiscard]] std::vector<Effect> step(const Event& event, Time now);

  [[nodiscard]] bool is_finished() const { return finished_; }
  [[nodiscard]] OperatorState state(size_t op) const;
  [[nodiscard]] int64_t held_bytes() const;  ///< Of all blocks that live.

 private:
  struct Worker;
  struct Recipe;
  struct Call;
  struct Output;
  struct Operator;
  struct Block;

  void on(const WorkerReady& event);
  void on(const CallDone& event);
  void on(const InputLost& event);
  void on(const Delivered&);
  void on(const DeliveryLost& event);
  void on(const Tick&) {}

  void pump();
  void dispatch_source();
  void dispatch_operator(size_t op);
  void send_new(size_t op, Worker* worker, Recipe recipe, int64_t input_bytes);
  void send(CallId id, Call& call, Worker* worker = nullptr);
  [[nodiscard]] bool may_produce(size_t op, int64_t estimate, bool is_head) const;
  [[nodiscard]] bool is_starved(size_t op) const;
  [[nodiscard]] int64_t estimate_output(const Operator& op, int64_t input_bytes) const;
  [[nodiscard]] static Worker* free_worker(Operator& op);
  [[nodiscard]] static bool has_room(Operator& op);
  void leave_worker(Call& call);
  void end_call(CallId id);

  void forward(size_t op, const Output& output);
  void pass_on(size_t op, const Slice& slice);
  void deliver();
  void cut_off(size_t last_op);
  void drop_use(BlockId block);
  void drop(const std::vector<Slice>& slices);

  [[nodiscard]] bool is_live(const Slice& slice) const;
  [[nodiscard]] bool is_fed(const Call& call) const;
  void lose(BlockId block);
  void use_again(BlockId block);
  void begin_remakes(size_t op);
  void send_unsent(size_t op);
  void on_remade(const CallDone& event, const Call& call);
  void stop_remake(BlockId block, size_t op);
  void forget_unneeded(BlockId block);

  void finish_done_operators();
  void scale(size_t op);
  void grow(size_t op, int workers);
  void stop_idle(size_t op);
  [[nodiscard]] int wanted_workers(size_t op) const;

  PipelinePlan plan_;
  std::vector<std::unique_ptr<Operator>> operators_;
  std::map<CallId, Call> calls_;
  std::map<BlockId, Block> blocks_;
  std::deque<Slice> delivery_;  // out of the end, and not delivered
  bool is_delivering_ = false;
  std::vector<Effect> effects_;
  Time now_{};
  size_t next_unit_ = 0;
  CallId last_call_ = 0;
  int last_worker_ = 0;
  bool finished_ = false;
};

}  // namespace manta::data
