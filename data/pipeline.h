// Runs a physical plan: carries out what the core decides, with actors, tasks and Refs. The rows never come here.
//
// Threads: one coroutine; completions come from the runtime's threads through Completions.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "data/completions.h"
#include "data/parquet_sink.h"
#include "data/parquet_source.h"
#include "data/pipeline_core.h"
#include "data/plan.h"
#include "data/progress.h"

namespace manta::data {

struct SinkPlan {
  WriteOptions options;
  OutputFolder* folder = nullptr;
};

/// Where the rows come from, cut into pieces.
struct SourcePlan {
  std::vector<Piece> pieces;
  std::vector<SourceUnit> units;
  std::vector<std::string> files;
  std::vector<std::string> columns;
  int64_t rows = 0;
  bool is_nullable = false;  ///< See ParquetLayout.
};
SourcePlan plan_source(const PhysicalPlan& plan);

struct PipelineOptions {
  std::optional<SinkPlan> sink{};
  bool rows_only = false;                ///< The last operator's rows are only counted.
  std::function<void(Batch)> deliver{};  ///< Gets the rows that come out of the end, in order; without one they are dropped.
};

class Pipeline {
 public:
  Pipeline(PhysicalPlan plan, SourcePlan source, PipelineOptions options);
  /// Ends what is still under way.
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  /// To the end. Throws Error with the operator that failed.
  Async<void> run();

  [[nodiscard]] int64_t rows() const { return rows_; }  ///< That came out of the end, or went into files.
  [[nodiscard]] int64_t files() const { return files_; }
  [[nodiscard]] int64_t file_bytes() const { return file_bytes_; }

 private:
  struct Call;
  struct LiveWorker;

  void perform(const std::vector<Effect>& effects);
  void act(const StartWorker& effect);
  void act(const StopWorker& effect);
  void act(const Dispatch& effect);
  void act(const Abandon& effect);
  void act(const Deliver& effect);
  void act(const Release& effect);
  void act(const LostTooOften& effect);
  void act(const MadeDifferently& effect);
  void act(const Finished&) {}

  void dispatch_source(const Dispatch& effect);
  void dispatch_piece_of_table(const Dispatch& effect, const arrow::Table& table);
  void dispatch_sink(const Dispatch& effect);
  [[nodiscard]] std::vector<SliceRef> refs_of(const std::vector<Slice>& slices) const;
  [[nodiscard]] MapRequest map_request(const Dispatch& effect) const;
  void watch(const Dispatch& effect, Call call);

  std::vector<Effect> on_completion(const Completion& completion);
  std::vector<Effect> on_call(CallId id);
  std::vector<Effect> on_failure(CallId id, const Call& call, const Status& status);
  std::vector<Effect> on_worker(int id);
  void check_schema(size_t op, const std::string& schema);
  [[noreturn]] void fail(const Status& status, size_t op, const std::string& detail) const;
  [[nodiscard]] const std::string& label(size_t op) const;
  [[nodiscard]] std::string part_of(size_t op, uint64_t sequence) const;
  [[nodiscard]] std::vector<BlockId> lost_blocks() const;
  [[nodiscard]] bool is_sink(size_t op) const { return op == plan_.operators.size(); }
  void show_progress();

  PhysicalPlan plan_;
  SourcePlan source_;
  PipelineOptions options_;
  std::unique_ptr<PipelineCore> core_;
  std::shared_ptr<Completions> completions_ = std::make_shared<Completions>();
  std::map<CallId, Call> calls_;
  std::map<BlockId, Ref<Batch>> blocks_;
  Status last_loss_;
  std::map<int, LiveWorker> workers_;
  std::map<size_t, std::string> schemas_;  // by operator: what its first block had
  Progress progress_;
  int64_t rows_ = 0;
  int64_t files_ = 0;
  int64_t file_bytes_ = 0;
};

}  // namespace manta::data
