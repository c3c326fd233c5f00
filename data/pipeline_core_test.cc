#include "data/pipeline_core.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace manta::data {
namespace {

using Rows = std::vector<int64_t>;

/// Runs a core against processes that finish in random order, and checks what they are asked on the way.
class World {
 public:
  using Function = std::function<Rows(const Rows&)>;

  World(PipelinePlan plan, std::vector<Rows> pieces, std::vector<Function> functions, unsigned seed)
      : plan_(plan), core_(plan), pieces_(std::move(pieces)), functions_(std::move(functions)), random_(seed) {}

  void run(int most_steps = 200'000) {
    apply(core_.start(now()));
    while (!core_.is_finished()) {
      ASSERT_GT(most_steps--, 0) << "no end";
      ASSERT_FALSE(pending_.empty()) << "nothing is under way and the pipeline has not finished";
      const size_t index = random_() % pending_.size();
      const auto event = pending_[index].second;
      pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(index));
      ++clock_ms_;
      most_live_ = std::max(most_live_, live_bytes());
      apply(core_.step(event, now()));
      if (testing::Test::HasFatalFailure()) return;
    }
    EXPECT_TRUE(blocks_.empty());
    EXPECT_TRUE(pending_.empty());
    EXPECT_TRUE(workers_.empty());
  }

  Rows delivered;                             ///< What came out of the end.
  std::map<size_t, std::vector<Rows>> calls;  ///< By operator: the batches in order of their sequence.
  int most_workers = 0;
  int64_t most_live_ = 0;

 private:
  Time now() const { return Time{} + std::chrono::milliseconds(clock_ms_); }
  int64_t live_bytes() const {
    int64_t bytes = 0;
    for (const auto& [id, rows] : blocks_) bytes += static_cast<int64_t>(rows.size()) * 10;
    return bytes;
  }

  void apply(const std::vector<Effect>& effects) {
    for (const Effect& effect : effects) std::visit([this](const auto& given) { act(given); }, effect);
  }
  void act(const StartWorker& start) {
    workers_.emplace(start.worker, start.op);
    most_workers = std::max(most_workers,
                            static_cast<int>(std::count_if(workers_.begin(), workers_.end(),
                                                           [&](const auto& worker) { return worker.second == start.op; })));
    pending_.emplace_back(0, WorkerReady{start.op, start.worker});
  }
  void act(const StopWorker& stop) {
    ASSERT_EQ(workers_.erase(stop.worker), 1u);
    std::erase_if(pending_, [&](const auto& pending) {
      const auto* ready = std::get_if<WorkerReady>(&pending.second);
      return ready != nullptr && ready->worker == stop.worker;
    });
  }
  void act(const Abandon& abandon) {
    blocks_.erase(abandon.call);
    ASSERT_EQ(std::erase_if(pending_, [&](const auto& pending) { return pending.first == abandon.call; }), 1u);
  }
  void act(const Dispatch& dispatch) {
    if (plan_.operators[dispatch.op].workers == WorkersAre::kPool) {
      ASSERT_TRUE(workers_.contains(dispatch.worker));
    }
    Rows input;
    if (dispatch.op == 0) {
      input = pieces_[dispatch.piece];
    } else {
      for (const Slice& slice : dispatch.slices) {
        const Rows& block = blocks_.at(slice.block);
        ASSERT_LE(slice.offset + slice.length, static_cast<int64_t>(block.size()));
        input.insert(input.end(), block.begin() + slice.offset, block.begin() + slice.offset + slice.length);
      }
    }
    auto& batches = calls[dispatch.op];
    if (batches.size() <= dispatch.sequence) batches.resize(dispatch.sequence + 1);
    batches[dispatch.sequence] = input;
    const Rows output = functions_[dispatch.op](input);
    const auto rows = static_cast<int64_t>(output.size());
    if (plan_.operators[dispatch.op].makes_blocks) blocks_.emplace(dispatch.call, output);
    pending_.emplace_back(dispatch.call, CallDone{dispatch.call, static_cast<int64_t>(input.size()), rows, rows * 10});
  }
  void act(const Deliver& deliver) {
    const Rows& block = blocks_.at(deliver.slice.block);
    delivered.insert(delivered.end(), block.begin() + deliver.slice.offset,
                     block.begin() + deliver.slice.offset + deliver.slice.length);
  }
  void act(const Release& release) { ASSERT_EQ(blocks_.erase(release.block), 1u) << "released twice, or never made"; }
  void act(const Finished&) {}

  PipelinePlan plan_;
  PipelineCore core_;
  std::vector<Rows> pieces_;
  std::vector<Function> functions_;
  std::mt19937 random_;
  int64_t clock_ms_ = 0;
  std::vector<std::pair<CallId, Event>> pending_;
  std::map<BlockId, Rows> blocks_;
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

TEST(PipelineCore, RandomPipelinesGiveWhatANaiveModelGives) {
  for (unsigned seed = 0; seed < 1500; ++seed) {
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
    for (size_t i = 0; i < operators; ++i) {
      OperatorPlan op = random_operator(random);
      if (i == 0) op.workers = WorkersAre::kPool, op.rule = {};
      functions.push_back(known[random() % known.size()]);
      expected = functions.back()(expected);
      if (op.limit_rows >= 0) expected.resize(std::min(expected.size(), static_cast<size_t>(op.limit_rows)));
      plan.operators.push_back(op);
    }
    World world(plan, input.pieces, functions, seed);
    world.run();
    if (HasFatalFailure()) return;
    ASSERT_EQ(world.delivered, expected);
    for (size_t i = 1; i < operators; ++i) {
      const auto& batches = world.calls[i];
      for (size_t b = 0; plan.operators[i].rule.rows > 0 && b + 1 < batches.size(); ++b) {
        ASSERT_EQ(static_cast<int64_t>(batches[b].size()), plan.operators[i].rule.rows)
            << "operator " << i << " batch " << b;
      }
    }
  }
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

TEST(PipelineCore, HoldsNoMoreThanTheBudgetsWhateverTheSizeOfTheInput) {
  int64_t most[2] = {};
  for (int i = 0; i < 2; ++i) {
    const Input input = regular_input(i == 0 ? 100 : 2000, 20);  // 200 bytes a piece
    PipelinePlan plan =
        plan_of(input, {{.max_workers = 3, .budget_bytes = 1000},
                        {.rule = {.rows = 7}, .max_workers = 2, .budget_bytes = 500},
                        {.workers = WorkersAre::kTasks, .rule = {.bytes = 400}, .budget_bytes = 0, .makes_blocks = false}});
    World world(plan, input.pieces, {same, same, same}, 7);
    world.run();
    most[i] = world.most_live_;
    EXPECT_LE(world.most_live_, 2 * (1000 + 500) + 2 * 200);
    Rows written;
    for (const Rows& file : world.calls[2]) written.insert(written.end(), file.begin(), file.end());
    EXPECT_EQ(written, input.all);
  }
  EXPECT_LE(most[1], 2 * most[0]);
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
