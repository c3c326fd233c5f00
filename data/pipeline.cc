#include "data/pipeline.h"

#include <arrow/table.h>

#include <algorithm>
#include <sstream>

#include "common/check.h"
#include "common/log.h"
#include "data/arrow_status.h"
#include "data/sizing.h"
#include "data/steps.h"

namespace manta::data {
namespace {

constexpr int kReaderRetries = 20;
constexpr int kTaskRetries = 20;
// The results of calls below this size are not in the object store but wait in this process, which is to stay small: they
// count several times against the budgets.
constexpr int64_t kSmallBlockBytes = 100 << 10;
constexpr int64_t kWeightOfSmallBlocks = 4;
constexpr auto kTimeToEnd = std::chrono::seconds(2);

Time now() { return std::chrono::steady_clock::now(); }

}  // namespace

struct Pipeline::Call {
  size_t op = 0;
  uint64_t sequence = 0;
  std::vector<Ref<Batch>> input;  // as it was sent: its blocks may be made again meanwhile
  Ref<Batch> block;
  Ref<BlockMeta> meta;
  Ref<PartMeta> part;

  [[nodiscard]] const detail::Handle& end() const { return part ? part.handle() : meta.handle(); }
};

/// A reader, an actor of a pool, or (neither) this process.
struct Pipeline::LiveWorker {
  size_t op = 0;
  std::optional<Actor<Reader>> reader;
  std::unique_ptr<PoolActor> actor;
  Ref<void> ready;
};

Pipeline::Pipeline(PhysicalPlan plan, SourcePlan source, PipelineOptions options)
    : plan_(std::move(plan)), source_(std::move(source)), options_(std::move(options)), progress_(plan_.execution.progress) {
  const NodeInfo node = node_info();
  const WriteOptions* const sink = options_.sink ? &options_.sink->options : nullptr;
  const Sizing sizing = size_plan(plan_, node, sink);
  PipelinePlan core;
  core.operators = sizing.operators;
  core.units = source_.units;
  int64_t biggest = 0;
  for (const Piece& piece : source_.pieces) {
    core.piece_bytes.push_back(piece.bytes);
    biggest = std::max(biggest, piece.bytes);
  }
  check_block_fits(biggest, node, label(0));
  for (size_t i = 0; i < plan_.operators.size(); ++i) plan_.operators[i].options.cpus = sizing.cpus[i];
  core_ = std::make_unique<PipelineCore>(std::move(core));
}

Pipeline::~Pipeline() {
  completions_->abandon();
  for (const auto& [id, worker] : workers_) {
    if (worker.reader) worker.reader->kill();
    if (worker.actor) worker.actor->kill();
  }
  // A writer that is let run on could put a file where its folder has just been removed.
  const auto deadline = detail::deadline_in(kTimeToEnd);
  for (const auto& [id, call] : calls_) {
    (void)detail::cancel(call.end(), true);
    detail::ObjectEntry* entry = call.end().get();
    if (call.part) detail::await_some({&entry, 1}, 1, deadline);
  }
}

const std::string& Pipeline::label(size_t op) const {
  static const std::string writer = "write_parquet";
  return is_sink(op) ? writer : plan_.operators[op].label;
}

Async<void> Pipeline::run() {
  perform(core_->start(now()));
  while (!core_->is_finished()) {
    show_progress();
    const Completion completion = co_await completions_->next();
    perform(on_completion(completion));
  }
  show_progress();
  if (!options_.sink) rows_ = core_->state(plan_.operators.size() - 1).rows_out;
}

// ------------------------------------------------------------------------------------------------ effects

void Pipeline::perform(const std::vector<Effect>& effects) {
  for (const Effect& effect : effects) std::visit([this](const auto& given) { act(given); }, effect);
}

void Pipeline::act(const StartWorker& effect) {
  LiveWorker worker;
  worker.op = effect.op;
  const PhysicalOperator& op = plan_.operators[effect.op];
  ActorOptions options;
  options.max_restarts = -1;  // each call has a bound of its own
  if (op.factory) {
    options.cpus = op.options.cpus;
    options.gpus = op.options.gpus;
    options.gpu_memory_bytes = op.options.gpu_memory_bytes;
    options.memory_bytes = op.options.memory_bytes;
    options.resources = op.options.resources;
    options.env = op.options.env;
    options.max_task_retries = op.options.retries;
    worker.actor = op.factory->spawn(options);
    worker.ready = worker.actor->ready();
  } else if (!std::holds_alternative<TableStep>(plan_.source)) {
    options.max_task_retries = kReaderRetries;
    worker.reader = spawn<Reader>.with(options)();
    worker.ready = worker.reader->call<&Reader::ready>();
  }
  const Completion completion{Completion::Of::kWorker, static_cast<uint64_t>(effect.worker)};
  const bool is_here = !worker.ready;
  const auto& added = workers_[effect.worker] = std::move(worker);
  if (is_here) {
    completions_->push(completion);
  } else {
    completions_->watch(added.ready.handle(), completion);
  }
}

void Pipeline::act(const StopWorker& effect) {
  const auto worker = workers_.extract(effect.worker);
  if (worker.empty() || !effect.at_once) return;  // with the last handle an idle actor ends
  if (worker.mapped().reader) worker.mapped().reader->kill();
  if (worker.mapped().actor) worker.mapped().actor->kill();
}

void Pipeline::act(const Dispatch& effect) {
  if (effect.op == 0) return dispatch_source(effect);
  if (is_sink(effect.op)) return dispatch_sink(effect);
  const PhysicalOperator& op = plan_.operators[effect.op];
  Call call;
  if (op.factory) {
    std::tie(call.block, call.meta) = workers_.at(effect.worker).actor->apply(map_request(effect));
  } else {
    TaskOptions options;
    options.cpus = op.options.cpus;
    options.gpus = op.options.gpus;
    options.gpu_memory_bytes = op.options.gpu_memory_bytes;
    options.memory_bytes = op.options.memory_bytes;
    options.resources = op.options.resources;
    options.env = op.options.env;
    options.retries = op.options.retries;
    options.name = op.label;
    std::tie(call.block, call.meta) = remote<&run_kernels>.with(options).each()(map_request(effect));
  }
  watch(effect, std::move(call));
}

void Pipeline::dispatch_source(const Dispatch& effect) {
  if (const auto* table = std::get_if<TableStep>(&plan_.source)) return dispatch_piece_of_table(effect, *table->table);
  const Piece& piece = source_.pieces[effect.piece];
  ReadRequest request;
  request.kernels = plan_.operators[0].kernels;
  request.rows_only = options_.rows_only && plan_.operators.size() == 1;
  if (std::holds_alternative<RangeStep>(plan_.source)) {
    request.first_number = piece.ranges.front().offset;
    request.numbers = piece.rows;
  } else {
    request.columns = source_.columns;
    request.is_nullable = source_.is_nullable;
    for (const FileRange& range : piece.ranges) {
      request.ranges.push_back({source_.files[range.file], range.row_group, range.offset, range.rows});
    }
  }
  Call call;
  std::tie(call.block, call.meta) = workers_.at(effect.worker).reader->call_each<&Reader::read>(request);
  watch(effect, std::move(call));
}

void Pipeline::dispatch_piece_of_table(const Dispatch& effect, const arrow::Table& table) {
  const Piece& piece = source_.pieces[effect.piece];
  const auto batch = table.Slice(piece.ranges.front().offset, piece.rows)->CombineChunksToBatch();
  if (!batch.ok()) fail(from_arrow_status(batch.status(), ""), 0, "");
  const bool rows_only = options_.rows_only && plan_.operators.size() == 1;
  auto [block, meta] = finish(*batch, {}, rows_only, piece.rows);
  Call call;
  try {
    call.block = put(block);
    call.meta = put(meta);
  } catch (const Error& error) {
    fail(error.status(), 0, "");
  }
  watch(effect, std::move(call));
}

void Pipeline::dispatch_sink(const Dispatch& effect) {
  WriteRequest request;
  request.slices = refs_of(effect.slices);
  request.path = options_.sink->folder->part_path(effect.sequence);
  request.compression = options_.sink->options.compression;
  request.row_group_rows = std::max<int64_t>(1, options_.sink->options.row_group_rows);
  TaskOptions options;
  options.cpus = 0;
  options.retries = kTaskRetries;
  options.name = "write_parquet";
  Call call;
  call.part = remote<&write_part>.with(options)(request);
  watch(effect, std::move(call));
}

std::vector<SliceRef> Pipeline::refs_of(const std::vector<Slice>& slices) const {
  std::vector<SliceRef> refs;
  refs.reserve(slices.size());
  for (const Slice& slice : slices) refs.push_back({blocks_.at(slice.block), slice.offset, slice.length});
  return refs;
}

MapRequest Pipeline::map_request(const Dispatch& effect) const {
  return {refs_of(effect.slices), plan_.operators[effect.op].kernels,
          options_.rows_only && effect.op + 1 == plan_.operators.size()};
}

void Pipeline::watch(const Dispatch& effect, Call call) {
  call.op = effect.op;
  call.sequence = effect.sequence;
  for (const Slice& slice : effect.slices) call.input.push_back(blocks_.at(slice.block));
  const detail::Handle handle = call.end();
  calls_.emplace(effect.call, std::move(call));
  completions_->watch(handle, {Completion::Of::kCall, effect.call});
}

void Pipeline::act(const Abandon& effect) {
  const auto call = calls_.extract(effect.call);
  if (!call.empty()) (void)detail::cancel(call.mapped().end(), false);
}

void Pipeline::act(const Deliver& effect) {
  if (options_.deliver) {
    const Ref<Batch>& ref = blocks_.at(effect.slice.block);
    const Result<Batch> block = ref.result();
    if (!block.ok() && detail::is_lost(ref.handle())) {
      last_loss_ = block.status();
      return completions_->push({Completion::Of::kDeliveryLost, 0});
    }
    if (!block.ok()) fail(block.status(), plan_.operators.size() - 1, "");
    options_.deliver((*block)->Slice(effect.slice.offset, effect.slice.length));
  }
  completions_->push({Completion::Of::kDelivered, 0});
}

void Pipeline::act(const Release& effect) { blocks_.erase(effect.block); }

void Pipeline::act(const LostTooOften& effect) {
  const std::string advice = effect.op == 0 ? "" : "; more .retries allow for more losses";
  const std::string times = effect.times == 1 ? "was lost" : "was lost " + std::to_string(effect.times) + " times";
  fail(Status(Code::kLost, "what it made " + times + " before it was used: " + last_loss_.message() + advice), effect.op,
       part_of(effect.op, effect.sequence));
}

void Pipeline::act(const MadeDifferently& effect) {
  fail(Status(Code::kInvalid,
              "was lost and made again, with " + std::to_string(effect.rows) + " rows instead of " +
                  std::to_string(effect.rows_before) +
                  ", some of which were used: a step must give as many rows each time it gets the same batch"),
       effect.op, part_of(effect.op, effect.sequence));
}

// ------------------------------------------------------------------------------------------------ events

std::vector<Effect> Pipeline::on_completion(const Completion& completion) {
  switch (completion.of) {
    case Completion::Of::kCall: return on_call(completion.id);
    case Completion::Of::kWorker: return on_worker(static_cast<int>(completion.id));
    case Completion::Of::kDelivered: return core_->step(Delivered{}, now());
    case Completion::Of::kDeliveryLost: return core_->step(DeliveryLost{lost_blocks()}, now());
  }
  return {};
}

std::vector<Effect> Pipeline::on_worker(int id) {
  const auto worker = workers_.find(id);
  if (worker == workers_.end()) return {};  // stopped meanwhile
  const size_t op = worker->second.op;
  if (worker->second.ready) {
    const Status status = worker->second.ready.result(std::chrono::milliseconds(0));
    if (!status.ok()) fail(status, op, "an actor did not start");
  }
  return core_->step(WorkerReady{op, id}, now());
}

std::vector<Effect> Pipeline::on_call(CallId id) {
  const auto at = calls_.find(id);
  if (at == calls_.end() || !detail::is_ready(at->second.end().get())) return {};  // abandoned meanwhile, or sent again
  auto node = calls_.extract(at);
  Call& call = node.mapped();
  if (is_sink(call.op)) {
    const Result<PartMeta> part = call.part.result(std::chrono::milliseconds(0));
    if (!part.ok()) return on_failure(id, call, part.status());
    check_schema(call.op, part->schema);
    rows_ += part->rows;
    ++files_;
    file_bytes_ += part->bytes;
    return core_->step(CallDone{id, part->rows, part->rows, part->bytes}, now());
  }
  const Result<BlockMeta> meta = call.meta.result(std::chrono::milliseconds(0));
  if (!meta.ok()) return on_failure(id, call, meta.status());
  check_schema(call.op, meta->schema);
  blocks_.emplace(id, std::move(call.block));
  const int64_t weight = meta->bytes < kSmallBlockBytes ? kWeightOfSmallBlocks : 1;
  return core_->step(CallDone{id, meta->rows_in, meta->rows, meta->bytes * weight}, now());
}

/// A call whose input was lost is sent again when that is there again. Whatever else is lost is found now, not one by one.
std::vector<Effect> Pipeline::on_failure(CallId id, const Call& call, const Status& status) {
  const auto is_lost = [](const Ref<Batch>& block) { return detail::is_lost(block.handle()); };
  if (status.code() != Code::kLost || std::none_of(call.input.begin(), call.input.end(), is_lost)) {
    fail(status, call.op, call.op == 0 ? "" : part_of(call.op, call.sequence));
  }
  last_loss_ = status;
  const std::vector<BlockId> lost = lost_blocks();
  if (!lost.empty())
    MANTA_LOG(kInfo, "data", "what a call was to read is lost and is made again", {"call", label(call.op)},
              {"number", call.sequence}, {"lost", lost.size()}, {"why", status});
  return core_->step(InputLost{id, lost}, now());
}

std::vector<BlockId> Pipeline::lost_blocks() const {
  std::vector<BlockId> lost;
  for (const auto& [id, block] : blocks_) {
    if (detail::is_lost(block.handle())) lost.push_back(id);
  }
  return lost;
}

std::string Pipeline::part_of(size_t op, uint64_t sequence) const {
  if (is_sink(op)) return "";
  return (op == 0 ? "block " : "batch ") + std::to_string(sequence);
}

/// Blocks of one operator are put together further on, and become files that are read as one.
void Pipeline::check_schema(size_t op, const std::string& schema) {
  const auto [first, is_new] = schemas_.emplace(op, schema);
  if (is_new || first->second == schema) return;
  std::istringstream before(first->second), here(schema);
  std::string was, is;
  do {
    was = is = "nothing";
  } while (std::getline(before, was) && std::getline(here, is) && was == is);
  if (is == was) is = "nothing";
  fail(Status(Code::kInvalid, "its batches have different columns: '" + was + "' in one and '" + is + "' in another"), op,
       "");
}

void Pipeline::fail(const Status& status, size_t op, const std::string& detail) const {
  Status out = status.with_context(detail.empty() ? label(op) : label(op) + ", " + detail);
  if (out.code() == Code::kFull && !is_sink(op)) {
    const bool is_said = out.message().find("MANTA_STORE_BYTES") != std::string::npos;
    const std::string store = human_bytes(static_cast<int64_t>(node_info().store_capacity_bytes));
    const std::string advice = is_said ? "; or make" : "; set MANTA_STORE_BYTES higher (now " + store + "), or make";
    out = Status(out.code(), out.message() + advice + " blocks smaller (block_bytes, batch_size)");
  }
  throw Error(out);
}

/// In terms of the last operator that makes blocks: how many of the rows it will get it has done.
void Pipeline::show_progress() {
  ProgressState state;
  const size_t last = plan_.operators.size() - 1;
  double expected = source_.rows < 0 ? -1 : static_cast<double>(source_.rows);
  for (size_t i = 0; i <= last; ++i) {
    const OperatorState op = core_->state(i);
    if (plan_.operators[i].factory) state.actors += op.workers;
    if (i == last) state.rows_done = op.rows_in;
    if (i < last && op.rows_in > 0) expected *= static_cast<double>(op.rows_out) / static_cast<double>(op.rows_in);
  }
  const int64_t limit = plan_.operators[last].limit_rows;
  if (expected >= 0) state.rows_total = std::max(static_cast<int64_t>(expected), state.rows_done);
  if (core_->is_finished() || (limit >= 0 && core_->state(last).done)) state.rows_total = state.rows_done;
  state.label = label(last);
  state.held_bytes = core_->held_bytes();
  progress_.set(std::move(state));
}

}  // namespace manta::data
