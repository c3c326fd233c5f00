#include "data/pipeline_core.h"

#include "common/check.h"
#include "data/pipeline_state.h"

#include <algorithm>

namespace manta::data {

PipelineCore::PipelineCore(PipelinePlan plan) : plan_(std::move(plan)) {
  MANTA_CHECK(!plan_.operators.empty() && !plan_.units.empty() && !plan_.piece_bytes.empty());
  for (const OperatorPlan& op : plan_.operators) operators_.push_back(std::make_unique<Operator>(op));
  operators_[0]->queue.close();
}
PipelineCore::~PipelineCore() = default;

std::vector<Effect> PipelineCore::start(Time now) {
  now_ = now;
  for (size_t i = 0; i < operators_.size(); ++i) {
    if (operators_[i]->plan.workers == WorkersAre::kPool) grow(i, operators_[i]->plan.min_workers);
  }
  pump();
  return std::exchange(effects_, {});
}

std::vector<Effect> PipelineCore::step(const Event& event, Time now) {
  now_ = now;
  std::visit([&](const auto& given) { on(given); }, event);
  pump();
  return std::exchange(effects_, {});
}

void PipelineCore::on(const WorkerReady& event) {
  auto& workers = operators_[event.op]->workers;
  const auto worker = workers.find(event.worker);
  if (worker == workers.end()) return;  // stopped meanwhile
  worker->second.ready = true;
  worker->second.idle_since = now_;
}

void PipelineCore::on(const CallDone& event) {
  auto node = calls_.extract(event.call);
  if (node.empty()) return;
  Call& call = node.mapped();
  Operator& op = *operators_[call.op];
  leave_worker(call);
  if (call.is_remake) return on_remade(event, call);
  --op.calls;
  op.reserved_bytes -= call.reserved_bytes;
  op.rows_in += event.rows_in;
  op.bytes_in += call.input_bytes;
  op.bytes_out += event.bytes;
  const BlockId block = op.plan.makes_blocks ? event.call : kNoBlock;
  const int64_t bytes = op.plan.makes_blocks ? event.bytes : 0;
  if (block != kNoBlock) {
    for (const Slice& slice : call.recipe.slices) ++blocks_.at(slice.block).children;
    blocks_.emplace(block, Block{.op = call.op, .rows = event.rows, .bytes = bytes, .recipe = call.recipe});
  }
  drop(call.recipe.slices);
  op.waiting_bytes += bytes;
  op.most_held_bytes = std::max(op.most_held_bytes, op.held());
  op.waiting.emplace(call.recipe.sequence, Output{block, event.rows, bytes});
  while (!op.waiting.empty() && op.waiting.begin()->first == op.next_output) {
    const Output output = op.waiting.begin()->second;
    op.waiting.erase(op.waiting.begin());
    ++op.next_output;
    op.waiting_bytes -= output.bytes;
    op.downstream_bytes += output.bytes;
    forward(call.op, output);
    if (output.block != kNoBlock) drop_use(output.block);
  }
}

/// Rows in their turn: cut by the limit, then to the next operator or out of the end.
void PipelineCore::forward(size_t index, const Output& output) {
  Operator& op = *operators_[index];
  if (op.cut) return;
  Slice slice{output.block, 0, output.rows, output.bytes};
  const bool is_limited = op.limit_left >= 0;
  if (is_limited && slice.length >= op.limit_left) {
    slice.bytes = slice.length == 0 ? 0 : slice.bytes / slice.length * op.limit_left;
    slice.length = op.limit_left;
  }
  op.rows_out += slice.length;
  if (op.plan.makes_blocks) pass_on(index, slice);
  if (!is_limited) return;
  op.limit_left -= slice.length;
  if (op.limit_left == 0) cut_off(index);
}

void PipelineCore::pass_on(size_t index, const Slice& slice) {
  if (index + 1 == operators_.size()) {
    ++blocks_.at(slice.block).uses;
    delivery_.push_back(slice);
    return;
  }
  Operator& next = *operators_[index + 1];
  if (next.cut) return;
  if (slice.length > 0) {
    ++blocks_.at(slice.block).uses;
    next.queue.add(slice);
    next.had_input = true;
    if (next.carrier != kNoBlock) drop_use(std::exchange(next.carrier, kNoBlock));
  } else if (!next.had_input && next.carrier == kNoBlock) {
    ++blocks_.at(slice.block).uses;
    next.carrier = slice.block;
  }
}

/// The limit behind `last` is reached: what it and those before it still do is of no use, unless it makes again what is.
void PipelineCore::cut_off(size_t last) {
  std::vector<CallId> useless;
  std::vector<size_t> now_cut;
  for (size_t i = 0; i <= last; ++i) {
    Operator& op = *operators_[i];
    if (op.cut || op.done) continue;
    op.cut = true;
    now_cut.push_back(i);
    drop(op.queue.drop());
    op.queue.close();
    if (op.carrier != kNoBlock) drop_use(std::exchange(op.carrier, kNoBlock));
    for (const auto& [sequence, output] : std::exchange(op.waiting, {})) {
      op.waiting_bytes -= output.bytes;
      op.downstream_bytes += output.bytes;
      if (output.block != kNoBlock) drop_use(output.block);
    }
    for (const auto& [id, call] : calls_) {
      if (call.op == i && !call.is_remake) useless.push_back(id);
    }
  }
  for (const CallId id : useless) {
    Operator& op = *operators_[calls_.at(id).op];
    --op.calls;
    op.reserved_bytes -= calls_.at(id).reserved_bytes;
    end_call(id);
  }
  for (const size_t i : now_cut) {
    Operator& op = *operators_[i];
    for (auto& [id, call] : calls_) {
      if (call.op != i || !call.is_sent || !op.workers.contains(call.worker)) continue;
      effects_.push_back(Abandon{id});
      leave_worker(call);
      op.unsent.insert(id);
    }
    for (const auto& [id, worker] : std::exchange(op.workers, {})) effects_.push_back(StopWorker{i, id, true});
  }
}

void PipelineCore::leave_worker(Call& call) {
  Operator& op = *operators_[call.op];
  call.is_sent = false;
  --op.sent;
  const auto worker = op.workers.find(call.worker);
  if (worker == op.workers.end()) return;
  --worker->second.calls;
  worker->second.idle_since = now_;
}

/// What the call makes is of no use.
void PipelineCore::end_call(CallId id) {
  auto node = calls_.extract(id);
  Call& call = node.mapped();
  if (call.is_sent) {
    effects_.push_back(Abandon{id});
    leave_worker(call);
  } else {
    operators_[call.op]->unsent.erase(id);
  }
  drop(call.recipe.slices);
}

void PipelineCore::drop_use(BlockId id) {
  const auto at = blocks_.find(id);
  MANTA_CHECK(at != blocks_.end() && at->second.uses > 0, id);
  Block& block = at->second;
  if (--block.uses > 0) return;
  Operator& op = *operators_[block.op];
  if (block.state == Block::State::kLive) {
    effects_.push_back(Release{id});
  } else {
    stop_remake(id, block.op);
  }
  block.state = Block::State::kGone;
  (std::exchange(block.is_revived, false) ? op.revived_bytes : op.downstream_bytes) -= block.bytes;
  forget_unneeded(id);
}

void PipelineCore::drop(const std::vector<Slice>& slices) {
  for (const Slice& slice : slices) drop_use(slice.block);
}

void PipelineCore::pump() {
  size_t before = 0;
  do {
    before = effects_.size();
    finish_done_operators();
    deliver();
    for (size_t i = operators_.size(); i-- > 0;) send_unsent(i);
    for (size_t i = operators_.size(); i-- > 1;) dispatch_operator(i);
    dispatch_source();
  } while (effects_.size() != before);
  for (size_t i = 0; i < operators_.size(); ++i) scale(i);
  if (!finished_ && operators_.back()->done && delivery_.empty()) {
    MANTA_CHECK(calls_.empty() && blocks_.empty(), calls_.size(), blocks_.size());
    finished_ = true;
    effects_.push_back(Finished{});
  }
}

// ------------------------------------------------------------------------------------------------ calls

/// The ready worker with the fewest calls that has room for one more.
PipelineCore::Worker* PipelineCore::free_worker(Operator& op) {
  Worker* best = nullptr;
  for (auto& [id, worker] : op.workers) {
    if (worker.ready && worker.calls < op.plan.calls_per_worker && (best == nullptr || worker.calls < best->calls))
      best = &worker;
  }
  return best;
}

int64_t PipelineCore::estimate_output(const Operator& op, int64_t input_bytes) const {
  if (!op.plan.makes_blocks) return 0;
  if (op.bytes_in <= 0) return input_bytes;
  return static_cast<int64_t>(static_cast<double>(input_bytes) * static_cast<double>(op.bytes_out) /
                              static_cast<double>(op.bytes_in));
}

/// Whether the operator behind can do nothing until it gets more rows.
bool PipelineCore::is_starved(size_t index) const {
  if (index == operators_.size()) return true;
  const Operator& op = *operators_[index];
  return op.calls == 0 && !op.queue.is_ready();
}

bool PipelineCore::may_produce(size_t index, int64_t estimate, bool is_head) const {
  const Operator& op = *operators_[index];
  if (!op.plan.makes_blocks) return true;
  if (op.held() + op.reserved_bytes + estimate <= op.plan.budget_bytes) return true;
  if (!is_head) return false;
  // The call whose turn is next must not be kept waiting by those that wait for it.
  return op.downstream_bytes + estimate <= op.plan.budget_bytes || is_starved(index + 1);
}

bool PipelineCore::has_room(Operator& op) {
  return op.plan.workers == WorkersAre::kPool ? free_worker(op) != nullptr : op.sent < op.plan.max_workers;
}

/// A new call, to `worker` or (null) to a free one.
void PipelineCore::send_new(size_t index, Worker* worker, Recipe recipe, int64_t input_bytes) {
  Operator& op = *operators_[index];
  const int64_t reserved = estimate_output(op, input_bytes);
  ++op.calls;
  op.reserved_bytes += reserved;
  Call& call = calls_.emplace(++last_call_, Call{index, std::move(recipe), input_bytes, reserved}).first->second;
  if (is_fed(call)) {
    send(last_call_, call, worker);
  } else {
    op.unsent.insert(last_call_);
  }
}

void PipelineCore::send(CallId id, Call& call, Worker* worker) {
  Operator& op = *operators_[call.op];
  if (worker == nullptr && op.plan.workers == WorkersAre::kPool) worker = free_worker(op);
  call.worker = -1;
  for (auto& [number, candidate] : op.workers) {
    if (&candidate == worker) call.worker = number;
  }
  if (worker != nullptr) ++worker->calls;
  ++op.sent;
  call.is_sent = true;
  effects_.push_back(Dispatch{call.op, call.worker, id, call.recipe.sequence, call.recipe.piece, call.recipe.slices});
}

void PipelineCore::dispatch_source() {
  Operator& op = *operators_[0];
  if (op.cut || op.done) return;
  while (true) {
    // Of the readers with room, the one whose piece comes first; a reader without a unit takes the next.
    Worker* chosen = nullptr;
    for (auto& [id, worker] : op.workers) {
      if (!worker.ready || worker.calls >= op.plan.calls_per_worker) continue;
      if (worker.next_piece == worker.end_piece && next_unit_ < plan_.units.size()) {
        const SourceUnit& unit = plan_.units[next_unit_++];
        worker.next_piece = unit.first_piece;
        worker.end_piece = unit.first_piece + unit.pieces;
      }
      if (worker.next_piece < worker.end_piece && (chosen == nullptr || worker.next_piece < chosen->next_piece))
        chosen = &worker;
    }
    if (chosen == nullptr) return;
    const size_t piece = chosen->next_piece;
    const int64_t input_bytes = plan_.piece_bytes[piece];
    if (!may_produce(0, estimate_output(op, input_bytes), piece == op.next_output)) return;
    ++chosen->next_piece;
    send_new(0, chosen, {piece, piece, {}}, input_bytes);
  }
}

void PipelineCore::dispatch_operator(size_t index) {
  Operator& op = *operators_[index];
  if (op.cut || op.done) return;
  const auto send_batch = [&](std::vector<Slice> slices) {
    int64_t bytes = 0;
    for (const Slice& slice : slices) bytes += slice.bytes;
    send_new(index, nullptr, {op.next_sequence++, 0, std::move(slices)}, bytes);
  };
  if (op.queue.is_closed() && op.carrier != kNoBlock && has_room(op)) {
    send_batch({Slice{std::exchange(op.carrier, kNoBlock), 0, 0, 0}});  // the carrier's use goes over to the call
    return;
  }
  while (op.queue.is_ready() && has_room(op)) {
    const int64_t batch_bytes = op.queue.bytes() / std::max<int64_t>(1, op.queue.ready_count());
    if (!may_produce(index, estimate_output(op, batch_bytes), op.calls == 0)) return;
    std::vector<Slice> batch = op.queue.take();
    // A block cut in two is used twice: once by the call, once by the rest in the queue.
    if (op.queue.rows() > 0 && op.queue.front_block() == batch.back().block) ++blocks_.at(batch.back().block).uses;
    send_batch(std::move(batch));
  }
}

// ------------------------------------------------------------------------------------------------ ends and pools

void PipelineCore::finish_done_operators() {
  for (size_t i = 0; i < operators_.size(); ++i) {
    Operator& op = *operators_[i];
    if (op.done) continue;
    if (i > 0 && operators_[i - 1]->done && !op.queue.is_closed()) op.queue.close();
    const bool no_input = i > 0 ? op.queue.is_closed() && op.queue.rows() == 0 && op.carrier == kNoBlock
                                : op.cut || op.next_output == plan_.piece_bytes.size();
    if (!no_input || op.calls > 0 || !op.waiting.empty()) continue;
    op.done = true;
  }
}

int PipelineCore::wanted_workers(size_t index) const {
  const Operator& op = *operators_[index];
  int busy = 0;
  for (const auto& [id, worker] : op.workers) busy += worker.calls > 0 ? 1 : 0;
  const int live = static_cast<int>(op.workers.size());
  const auto for_calls = [&](size_t calls) {
    const auto each = static_cast<size_t>(op.plan.calls_per_worker);
    return busy + static_cast<int>(std::min<size_t>(op.plan.max_workers, (calls + each - 1) / each));
  };
  if (op.has_unsent()) return std::max(live, for_calls(op.unsent.size() + op.to_remake.size()));
  if (op.done || op.cut) return live;
  if (index == 0) {
    const bool all_busy = busy == live || live == 0;
    const bool has_more = next_unit_ < plan_.units.size();
    if (!has_more || !all_busy) return live;
    return live == 0 || may_produce(0, estimate_output(op, plan_.piece_bytes[plan_.units[next_unit_].first_piece]), false)
               ? live + 1
               : live;
  }
  int64_t backlog = op.queue.ready_count();
  if (op.queue.is_closed() && op.carrier != kNoBlock) backlog = 1;
  if (backlog == 0 || (live > 0 && op.held() >= op.plan.budget_bytes)) return live;
  return for_calls(static_cast<size_t>(backlog));
}

void PipelineCore::grow(size_t index, int workers) {
  Operator& op = *operators_[index];
  while (static_cast<int>(op.workers.size()) < std::min(workers, op.plan.max_workers)) {
    op.workers.emplace(++last_worker_, Worker{});
    effects_.push_back(StartWorker{index, last_worker_});
  }
}

void PipelineCore::stop_idle(size_t index) {
  Operator& op = *operators_[index];
  if (op.has_unsent()) return;
  const bool no_more = op.done || op.cut ? !op.has_remakes()
                       : index == 0      ? next_unit_ == plan_.units.size()
                                         : op.queue.is_closed() && op.queue.rows() == 0 && op.carrier == kNoBlock;
  for (auto it = op.workers.begin(); it != op.workers.end();) {
    const Worker& worker = it->second;
    const bool has_unit = worker.next_piece < worker.end_piece && !op.cut;
    const bool above_min = static_cast<int>(op.workers.size()) > op.plan.min_workers;
    const bool is_old = worker.ready && above_min && now_ - worker.idle_since >= plan_.idle_before_stop;
    const bool is_idle = worker.calls == 0 && !has_unit;
    if (is_idle && (no_more || (is_old && !op.queue.is_ready()))) {
      effects_.push_back(StopWorker{index, it->first, false});
      it = op.workers.erase(it);
    } else {
      ++it;
    }
  }
}

void PipelineCore::scale(size_t index) {
  if (operators_[index]->plan.workers != WorkersAre::kPool) return;
  grow(index, wanted_workers(index));
  stop_idle(index);
}

OperatorState PipelineCore::state(size_t index) const {
  const Operator& op = *operators_[index];
  return {op.rows_in, op.rows_out, op.held(), op.most_held_bytes, static_cast<int>(op.workers.size()), op.calls, op.done};
}

int64_t PipelineCore::held_bytes() const {
  int64_t bytes = 0;
  for (const auto& [id, block] : blocks_) bytes += block.state == Block::State::kLive ? block.bytes : 0;
  return bytes;
}

}  // namespace manta::data
