#include "data/pipeline_core.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <random>

namespace manta::data {
namespace {

using Rows = std::vector<int64_t>;

/// Runs a core against processes that finish in random order and a store that loses blocks, and checks what they are asked
/// on the way.
class World {
 public:
  using Function = std::function<Rows(const Rows&)>;

  World(PipelinePlan plan, std::vector<Rows> pieces, std::vector<Function> functions, unsigned seed)
      : plan_(plan), core_(plan), pieces_(std::move(pieces)), functions_(std::move(functions)), random_(seed) {}

  void run(int most_steps = 200'000) {
    apply(core_.start(now()));
    while (!core_.is_finished() && !given_up) {
      ASSERT_GT(most_steps--, 0) << "no end";
      ASSERT_FALSE(pending_.empty()) << "nothing is under way and the pipeline has not finished";
      if (one_in_is_lost > 0 && deaths_left > 0 && random_() % one_in_is_lost == 0) lose_some();
      const size_t index = random_() % pending_.size();
      const Pending pending = pending_[index];
      pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(index));
      ++clock_ms_;
      most_live_ = std::max(most_live_, live_bytes());
      apply(core_.step(outcome(pending), now()));
      if (testing::Test::HasFatalFailure()) return;
    }
    if (given_up) return;
    EXPECT_TRUE(blocks_.empty());
    EXPECT_TRUE(pending_.empty());
    EXPECT_TRUE(workers_.empty());
  }

  unsigned one_in_is_lost = 0;                ///< Of the steps; 0: none.
  int deaths_left = 200;                      ///< Without an end to them there may be none to the work.
  std::optional<size_t> loses_only{};         ///< The operator whose blocks are lost; any.
  Rows delivered;                             ///< What came out of the end.
  std::map<size_t, std::vector<Rows>> calls;  ///< By operator: the batches in order of their sequence.
  std::map<size_t, int> dispatches;           ///< By operator.
  int most_workers = 0;
  int64_t most_live_ = 0;
  int losses = 0;
  std::optional<Effect> given_up{};

 private:
  struct Block {
    Rows rows;
    int made = 0;  // which of its lives this is
    size_t op = 0;
    bool is_lost = false;
  };
  struct Pending {
    CallId call = 0;
    Event event;
    int worker = -1;
    size_t op = 0;
    std::vector<std::pair<BlockId, int>> reads{};  // at its end: what it was given then
    Rows output{};
    std::optional<Slice> delivery{};
  };

  Time now() const { return Time{} + std::chrono::milliseconds(clock_ms_); }
  int64_t live_bytes() const {
    int64_t bytes = 0;
    for (const auto& [id, block] : blocks_) bytes += static_cast<int64_t>(block.rows.size()) * 10;
    return bytes;
  }

  /// A node is gone, with a part of the blocks.
  void lose_some() {
    --deaths_left;
    const unsigned part = 1 + random_() % 6;
    for (auto& [id, block] : blocks_) {
      if (random_() % part != 0 || block.is_lost || (loses_only && *loses_only != block.op)) continue;
      block.is_lost = true;
      lost_.emplace(id, block.made);
      ++losses;
    }
  }
  std::vector<BlockId> lost_blocks() const {
    std::vector<BlockId> lost;
    for (const auto& [id, block] : blocks_) {
      if (block.is_lost) lost.push_back(id);
    }
    return lost;
  }

  bool hand_over(const Slice& slice) {
    const auto block = blocks_.find(slice.block);
    if (block == blocks_.end() || block->second.is_lost) return false;
    const auto first = block->second.rows.begin() + slice.offset;
    delivered.insert(delivered.end(), first, first + slice.length);
    return true;
  }

  Event outcome(const Pending& pending) {
    if (pending.delivery) {
      const Slice& slice = *pending.delivery;
      if (pending.event.index() == Event(Delivered{}).index()) return pending.event;
      return hand_over(slice) ? Event(Delivered{}) : Event(DeliveryLost{lost_blocks()});
    }
    if (pending.call == 0) return pending.event;
    const bool is_unfed =
        std::any_of(pending.reads.begin(), pending.reads.end(), [&](const auto& read) { return lost_.contains(read); });
    if (is_unfed) return InputLost{pending.call, lost_blocks()};
    if (plan_.operators[pending.op].makes_blocks) {
      const bool is_new = blocks_.emplace(pending.call, Block{pending.output, ++made_[pending.call], pending.op}).second;
      EXPECT_TRUE(is_new) << "made while it is there";
    }
    return pending.event;
  }

  void apply(const std::vector<Effect>& effects) {
    for (const Effect& effect : effects) std::visit([this](const auto& given) { act(given); }, effect);
  }
  void act(const StartWorker& start) {
    workers_.emplace(start.worker, start.op);
    most_workers = std::max(most_workers,
                            static_cast<int>(std::count_if(workers_.begin(), workers_.end(),
                                                           [&](const auto& worker) { return worker.second == start.op; })));
    pending_.push_back({0, WorkerReady{start.op, start.worker}});
  }
  void act(const StopWorker& stop) {
    ASSERT_EQ(workers_.erase(stop.worker), 1u);
    std::erase_if(pending_, [&](const Pending& pending) {
      const auto* ready = std::get_if<WorkerReady>(&pending.event);
      return ready != nullptr && ready->worker == stop.worker;
    });
    for (const Pending& pending : pending_) ASSERT_NE(pending.worker, stop.worker) << "a call is lost with its worker";
  }
  void act(const Abandon& abandon) {
    ASSERT_EQ(std::erase_if(pending_, [&](const Pending& pending) { return pending.call == abandon.call; }), 1u);
  }
  void act(const Dispatch& dispatch) {
    ++dispatches[dispatch.op];
    if (plan_.operators[dispatch.op].workers == WorkersAre::kPool) {
      ASSERT_TRUE(workers_.contains(dispatch.worker));
    }
    Pending pending;
    pending.call = dispatch.call;
    pending.worker = dispatch.worker;
    pending.op = dispatch.op;
    const bool reads_at_once = random_() % 2 == 0;
    Rows input;
    if (dispatch.op == 0) {
      input = pieces_[dispatch.piece];
    } else {
      for (const Slice& slice : dispatch.slices) {
        const Block& block = blocks_.at(slice.block);
        ASSERT_LE(slice.offset + slice.length, static_cast<int64_t>(block.rows.size()));
        input.insert(input.end(), block.rows.begin() + slice.offset, block.rows.begin() + slice.offset + slice.length);
        if (block.is_lost || !reads_at_once) pending.reads.emplace_back(slice.block, block.made);
      }
    }
    auto& batches = calls[dispatch.op];
    if (batches.size() <= dispatch.sequence) batches.resize(dispatch.sequence + 1);
    if (!batches[dispatch.sequence].empty()) {
      ASSERT_EQ(batches[dispatch.sequence], input) << "sent again, with other rows";
    }
    batches[dispatch.sequence] = input;
    pending.output = functions_[dispatch.op](input);
    const auto rows = static_cast<int64_t>(pending.output.size());
    pending.event = CallDone{dispatch.call, static_cast<int64_t>(input.size()), rows, rows * 10};
    pending_.push_back(std::move(pending));
  }
  void act(const Deliver& deliver) {
    Pending pending;
    pending.delivery = deliver.slice;
    if (random_() % 2 == 0 && hand_over(deliver.slice)) pending.event = Delivered{};
    pending_.push_back(std::move(pending));
  }
  void act(const Release& release) { ASSERT_EQ(blocks_.erase(release.block), 1u) << "released twice, or never made"; }
  void act(const LostTooOften& effect) { given_up = effect; }
  void act(const MadeDifferently& effect) { given_up = effect; }
  void act(const Finished&) {}

  PipelinePlan plan_;
  PipelineCore core_;
  std::vector<Rows> pieces_;
  std::vector<Function> functions_;
  std::mt19937 random_;
  int64_t clock_ms_ = 0;
  std::vector<Pending> pending_;
  std::map<BlockId, Block> blocks_;
  std::map<BlockId, int> made_;
  std::set<std::pair<BlockId, int>> lost_;
  std::map<int, size_t> workers_;
};

Rows same(const Rows& rows) { return rows; }
Rows odd(const Rows& rows) {
  Rows out;
  for (const int64_t row : rows) {
    if (row % 2 != 0) out.push_back(row);
  }
  return out;
}
Rows twice(const Rows& rows) {
  Rows out;
  for (const int64_t row : rows) out.insert(out.end(), {row, row});
  return out;
}

struct Input {
  std::vector<Rows> pieces;
  Rows all;
  void put_into(PipelinePlan& plan, std::mt19937& random) const {
    for (const Rows& piece : pieces) plan.piece_bytes.push_back(static_cast<int64_t>(piece.size()) * 10);
    for (size_t at = 0; at < pieces.size(); at += plan.units.back().pieces) {
      plan.units.push_back({at, std::min<size_t>(1 + random() % 5, pieces.size() - at)});
    }
  }
};
Input random_input(std::mt19937& random) {
  Input input;
  int64_t next = 0;
  const size_t pieces = 1 + random() % 30;
  for (size_t i = 0; i < pieces; ++i) {
    Rows rows;
    for (size_t rest = random() % 4 == 0 ? 0 : random() % 50; rest > 0; --rest) rows.push_back(next++);
    input.all.insert(input.all.end(), rows.begin(), rows.end());
    input.pieces.push_back(std::move(rows));
  }
  return input;
}

OperatorPlan random_operator(std::mt19937& random) {
  OperatorPlan op;
  op.workers = random() % 3 == 0 ? WorkersAre::kTasks : WorkersAre::kPool;
  op.min_workers = static_cast<int>(random() % 3);
  op.max_workers = std::max(1, op.min_workers) + static_cast<int>(random() % 3);
  op.calls_per_worker = 1 + static_cast<int>(random() % 3);
  op.budget_bytes = 1 + random() % 2000;
  if (random() % 2) op.rule.rows = 1 + random() % 120;
  if (random() % 4 == 0) op.limit_rows = random() % 600;
  return op;
}

/// What comes out of random plans over random input, compared with a naive model. Every `one_in_is_lost`th step, a part of
/// the blocks is lost.
void run_random_pipelines(unsigned seeds, unsigned one_in_is_lost) {
  int64_t losses = 0;
  for (unsigned seed = 0; seed < seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const Input input = random_input(random);
    PipelinePlan plan;
    input.put_into(plan, random);
    plan.idle_before_stop = std::chrono::milliseconds(random() % 20);
    const std::vector<World::Function> known = {same, odd, twice};
    std::vector<World::Function> functions;
    Rows expected = input.all;
    const size_t operators = 1 + random() % 4;
    const bool is_written = operators > 1 && random() % 4 == 0;
    for (size_t i = 0; i < operators; ++i) {
      OperatorPlan op = random_operator(random);
      if (i == 0) op.workers = WorkersAre::kPool, op.rule = {};
      if (is_written && i + 1 == operators) {
        op = {.workers = WorkersAre::kTasks, .rule = {.bytes = 400}, .makes_blocks = false};
      }
      op.most_losses = -1;
      functions.push_back(op.makes_blocks ? known[random() % known.size()] : same);
      expected = functions.back()(expected);
      if (op.limit_rows >= 0) expected.resize(std::min(expected.size(), static_cast<size_t>(op.limit_rows)));
      plan.operators.push_back(op);
    }
    World world(plan, input.pieces, functions, seed);
    world.one_in_is_lost = one_in_is_lost;
    world.run();
    losses += world.losses;
    if (testing::Test::HasFatalFailure()) return;
    Rows out = world.delivered;
    for (const Rows& file : world.calls[operators - 1]) {
      if (is_written) out.insert(out.end(), file.begin(), file.end());
    }
    ASSERT_EQ(out, expected);
    for (size_t i = 1; i < operators; ++i) {
      const auto& batches = world.calls[i];
      for (size_t b = 0; plan.operators[i].rule.rows > 0 && b + 1 < batches.size(); ++b) {
        ASSERT_EQ(static_cast<int64_t>(batches[b].size()), plan.operators[i].rule.rows)
            << "operator " << i << " batch " << b;
      }
    }
  }
  EXPECT_EQ(losses > 0, one_in_is_lost > 0);
}

TEST(PipelineCore, RandomPipelinesGiveWhatANaiveModelGives) { run_random_pipelines(1500, 0); }

TEST(PipelineCore, WhatIsLostIsMadeAgainAndChangesNothing) {
  run_random_pipelines(1000, 200);
  run_random_pipelines(1500, 20);
  run_random_pipelines(500, 4);
}

PipelinePlan plan_of(const Input& input, std::vector<OperatorPlan> operators) {
  PipelinePlan plan;
  std::mt19937 random(1);
  input.put_into(plan, random);
  plan.operators = std::move(operators);
  return plan;
}
Input regular_input(size_t pieces, size_t rows) {
  Input input;
  for (size_t i = 0; i < pieces; ++i) {
    Rows piece;
    for (size_t r = 0; r < rows; ++r) piece.push_back(static_cast<int64_t>(i * rows + r));
    input.all.insert(input.all.end(), piece.begin(), piece.end());
    input.pieces.push_back(std::move(piece));
  }
  return input;
}

/// The most bytes held while `pieces` pieces of 200 bytes pass operators with budgets of 1000 and 500.
int64_t most_held(size_t pieces, unsigned one_in_is_lost) {
  const Input input = regular_input(pieces, 20);
  PipelinePlan plan =
      plan_of(input, {{.max_workers = 3, .budget_bytes = 1000, .most_losses = -1},
                      {.rule = {.rows = 7}, .max_workers = 2, .budget_bytes = 500, .most_losses = -1},
                      {.workers = WorkersAre::kTasks, .rule = {.bytes = 400}, .budget_bytes = 0, .makes_blocks = false}});
  World world(plan, input.pieces, {same, same, same}, 7);
  world.one_in_is_lost = one_in_is_lost;
  world.run();
  Rows written;
  for (const Rows& file : world.calls[2]) written.insert(written.end(), file.begin(), file.end());
  EXPECT_EQ(written, input.all);
  return world.most_live_;
}

TEST(PipelineCore, HoldsNoMoreThanTheBudgetsWhateverTheSizeOfTheInput) {
  const int64_t some = most_held(100, 0), many = most_held(2000, 0);
  EXPECT_LE(std::max(some, many), 2 * (1000 + 500) + 2 * 200);
  EXPECT_LE(many, 2 * some);
}

TEST(PipelineCore, HoldsAtMostAnotherBudgetForWhatIsReadAgain) {
  EXPECT_LE(most_held(2000, 30), 2 * (1000 + 500) + 2 * 200 + 1000);
}

TEST(PipelineCore, MakesALostBatchAgainFromItsPieceAlone) {
  const Input input = regular_input(60, 10);
  PipelinePlan plan = plan_of(input, {{}, {.rule = {.rows = 10}}, {.rule = {.rows = 10}}});
  World world(plan, input.pieces, {same, same, same}, 11);
  world.one_in_is_lost = 40;
  world.loses_only = 1;
  world.run();
  EXPECT_EQ(world.delivered, input.all);
  EXPECT_GT(world.losses, 0);
  EXPECT_LE(world.dispatches[1], 60 + world.losses);
  EXPECT_LE(world.dispatches[0], 60 + world.losses) << "a batch comes from one piece";
}

TEST(PipelineCore, GivesUpOnABlockThatIsLostAgainAndAgain) {
  const Input input = regular_input(20, 10);
  World world(plan_of(input, {{.most_losses = 3}, {.rule = {.rows = 5}, .most_losses = -1}}), input.pieces, {same, same}, 3);
  world.one_in_is_lost = 1;
  world.loses_only = 0;
  world.run();
  ASSERT_TRUE(world.given_up && std::holds_alternative<LostTooOften>(*world.given_up));
  EXPECT_EQ(std::get<LostTooOften>(*world.given_up).op, 0u);
  EXPECT_EQ(std::get<LostTooOften>(*world.given_up).times, 4);
}

TEST(PipelineCore, GivesUpWhenABlockThatIsMadeAgainHasOtherRows) {
  const Input input = regular_input(20, 10);
  int calls = 0;
  const World::Function changing = [&calls](const Rows& rows) {
    Rows out = rows;
    out.resize(rows.size() + static_cast<size_t>(calls++));
    return out;
  };
  World world(plan_of(input, {{}, {.rule = {.rows = 5}}}), input.pieces, {same, changing}, 3);
  world.one_in_is_lost = 5;
  world.loses_only = 1;
  world.run();
  ASSERT_TRUE(world.given_up && std::holds_alternative<MadeDifferently>(*world.given_up));
  EXPECT_EQ(std::get<MadeDifferently>(*world.given_up).op, 1u);
}

TEST(PipelineCore, FormsABatchThatIsBiggerThanTheBudget) {
  const Input input = regular_input(50, 10);
  World world(plan_of(input, {{.budget_bytes = 10}, {.rule = {.rows = 200}, .budget_bytes = 10}}), input.pieces,
              {same, same}, 3);
  world.run();
  EXPECT_EQ(world.delivered, input.all);
  EXPECT_EQ(world.calls[1].size(), 3u);
}

TEST(PipelineCore, GrowsThePoolWithTheQueueInOneStepAndStopsItAtTheEnd) {
  const Input input = regular_input(40, 50);
  World world(plan_of(input, {{.max_workers = 2}, {.rule = {.rows = 5}, .min_workers = 1, .max_workers = 6}}), input.pieces,
              {same, same}, 3);
  world.run();
  EXPECT_EQ(world.most_workers, 6);
}

TEST(PipelineCore, StopsAWorkerThatHasBeenIdle) {
  PipelinePlan plan = plan_of(regular_input(2, 10), {{}, {.rule = {.rows = 5}, .min_workers = 1, .max_workers = 2}});
  plan.units = {{0, 1}, {1, 1}};
  plan.idle_before_stop = std::chrono::milliseconds(10);
  PipelineCore core(plan);
  Time now{};
  std::map<int, size_t> workers;
  std::vector<Dispatch> calls;
  const auto apply = [&](const std::vector<Effect>& effects) {
    for (const Effect& effect : effects) {
      if (const auto* start = std::get_if<StartWorker>(&effect)) workers.emplace(start->worker, start->op);
      if (const auto* stop = std::get_if<StopWorker>(&effect)) workers.erase(stop->worker);
      if (const auto* call = std::get_if<Dispatch>(&effect)) calls.push_back(*call);
    }
  };
  const auto pool = [&] {
    return std::count_if(workers.begin(), workers.end(), [](const auto& worker) { return worker.second == 1; });
  };
  apply(core.start(now));
  EXPECT_EQ(pool(), 1);
  for (const auto& [id, op] : std::map(workers)) {
    if (op == 0) apply(core.step(WorkerReady{0, id}, now));
  }
  ASSERT_EQ(calls.size(), 2u);
  apply(core.step(CallDone{calls[0].call, 100, 100, 1000}, now));  // 20 batches
  EXPECT_EQ(pool(), 2);
  for (const auto& [id, op] : std::map(workers)) {
    if (op == 1) apply(core.step(WorkerReady{1, id}, now));
  }
  for (size_t done = 2; done < calls.size(); ++done) apply(core.step(CallDone{calls[done].call, 5, 5, 50}, now));
  EXPECT_EQ(pool(), 2) << "it has not been idle for long";
  apply(core.step(Tick{}, now + std::chrono::milliseconds(11)));
  EXPECT_EQ(pool(), 1) << "the minimum stays, since more input may come";
}

TEST(PipelineCore, AReachedLimitAbandonsWhatIsUnderWay) {
  const Input input = regular_input(1000, 10);
  World world(plan_of(input, {{.max_workers = 4, .limit_rows = 25}}), input.pieces, {same}, 5);
  world.run();
  EXPECT_EQ(world.delivered.size(), 25u);
  EXPECT_LT(world.calls[0].size(), 40u);
}

TEST(PipelineCore, CallsEachOperatorOnceWithAnEmptyBatchWhenThereAreNoRows) {
  Input input;
  input.pieces = {{}, {}, {}};
  World world(
      plan_of(input,
              {{}, {.rule = {.rows = 5}}, {.workers = WorkersAre::kTasks, .rule = {.bytes = 100}, .makes_blocks = false}}),
      input.pieces, {same, same, same}, 5);
  world.run();
  EXPECT_EQ(world.calls[1].size(), 1u);
  EXPECT_EQ(world.calls[2].size(), 1u);
}

}  // namespace
}  // namespace manta::data
