#include "data/sizing.h"

#include <gtest/gtest.h>

namespace manta::data {
namespace {

struct Same {
  Batch operator()(Batch batch) { return batch; }
};

PhysicalOperator pool_of(double cpus, Pool pool, double gpus = 0) {
  PhysicalOperator op;
  op.label = "map_batches<Same>";
  op.factory = std::make_shared<PoolFactoryOf<Same>>();
  op.options.cpus = cpus;
  op.options.gpus = gpus;
  op.options.pool = pool;
  return op;
}
PhysicalPlan plan_of(std::vector<PhysicalOperator> operators) {
  PhysicalPlan plan;
  plan.operators.emplace_back();
  for (auto& op : operators) plan.operators.push_back(std::move(op));
  return plan;
}
NodeInfo node_of(double cpus, uint64_t store_bytes = uint64_t{4} << 30, double gpus = 0) {
  NodeInfo node;
  node.cpus = cpus;
  node.gpus = gpus;
  node.store_capacity_bytes = store_bytes;
  return node;
}
Code code_of(const PhysicalPlan& plan, const NodeInfo& node) {
  try {
    (void)size_plan(plan, node, nullptr);
  } catch (const Error& error) {
    return error.code();
  }
  return Code::kOk;
}

TEST(Sizing, APoolTakesWhatTheNodeHasRoomFor) {
  EXPECT_EQ(size_plan(plan_of({pool_of(1, {})}), node_of(8), nullptr).operators[1].max_workers, 8);
  EXPECT_EQ(size_plan(plan_of({pool_of(3, {})}), node_of(8), nullptr).operators[1].max_workers, 2);
  EXPECT_EQ(size_plan(plan_of({pool_of(1, {.min = 2, .max = 4})}), node_of(8), nullptr).operators[1].max_workers, 4);
  EXPECT_EQ(size_plan(plan_of({pool_of(1, {.min = 1, .max = 40})}), node_of(8), nullptr).operators[1].max_workers, 8);
  EXPECT_EQ(size_plan(plan_of({pool_of(1, {}, 0.5)}), node_of(8, 0, 2), nullptr).operators[1].max_workers, 4);
  EXPECT_EQ(size_plan(plan_of({pool_of(1, {}, 0.4)}), node_of(8, 0, 2), nullptr).operators[1].max_workers, 4)
      << "two on each device, and no actor on parts of two";
}

TEST(Sizing, LeavesRoomForTheMinimumOfTheOthers) {
  const Sizing sizing = size_plan(plan_of({pool_of(1, {}), pool_of(1, {.min = 3, .max = 3})}), node_of(8), nullptr);
  EXPECT_EQ(sizing.operators[1].max_workers, 5);
  EXPECT_EQ(sizing.operators[2].max_workers, 3);
}

TEST(Sizing, SharesTheCpusOfAMachineTooSmallForAll) {
  const Sizing sizing = size_plan(plan_of({pool_of(2, {}), pool_of(2, {})}), node_of(1), nullptr);
  EXPECT_EQ(sizing.operators[1].max_workers, 1);
  EXPECT_LE(sizing.cpus[1] + sizing.cpus[2], 1.0);
}

TEST(Sizing, RefusesWhatCanNeverRun) {
  EXPECT_EQ(code_of(plan_of({pool_of(1, {}, 0.5)}), node_of(8)), Code::kInvalid);
  EXPECT_EQ(code_of(plan_of({pool_of(1, {.min = 3, .max = 3}, 1)}), node_of(8, 0, 2)), Code::kInvalid);
  EXPECT_EQ(code_of(plan_of({pool_of(1, {.min = 3, .max = 2})}), node_of(8)), Code::kInvalid);
  EXPECT_EQ(code_of(plan_of({pool_of(1, {.min = -1, .max = 2})}), node_of(8)), Code::kInvalid);
}

TEST(Sizing, BudgetsFitTheStore) {
  const WriteOptions sink{.file_bytes = int64_t{1} << 40};
  PhysicalPlan plan = plan_of({pool_of(1, {})});
  for (const uint64_t store : {uint64_t{32} << 20, uint64_t{64} << 20, uint64_t{1} << 40}) {
    const Sizing sizing = size_plan(plan, node_of(2, store), &sink);
    int64_t sum = 0;
    for (const OperatorPlan& op : sizing.operators) sum += op.makes_blocks ? op.budget_bytes : op.rule.bytes;
    EXPECT_LE(sum, static_cast<int64_t>(std::min<uint64_t>(store / 2, 512 << 20)));
  }
  plan.execution.memory_bytes = 30 << 20;
  EXPECT_EQ(size_plan(plan, node_of(2), nullptr).operators[0].budget_bytes, 10 << 20);
}

TEST(Sizing, SaysThatABlockIsTooBigForTheStore) {
  EXPECT_NO_THROW(check_block_fits(1 << 20, node_of(1, 2 << 20), "x"));
  try {
    check_block_fits(10 << 20, node_of(1, 1 << 20), "read_parquet");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kFull);
    const std::string what = error.what();
    for (const char* part : {"read_parquet", "10.0 MiB", "1.0 MiB", "MANTA_STORE_BYTES", "block_bytes"}) {
      EXPECT_NE(what.find(part), std::string::npos) << what;
    }
  }
}

}  // namespace
}  // namespace manta::data
