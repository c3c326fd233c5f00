// PipelineCore: blocks that were lost, and how they are made again.
#include "common/check.h"
#include "data/pipeline_state.h"

#include <algorithm>

namespace manta::data {

void PipelineCore::on(const InputLost& event) {
  const auto at = calls_.find(event.call);
  if (at == calls_.end()) return;
  leave_worker(at->second);
  operators_[at->second.op]->unsent.insert(event.call);
  for (const BlockId block : event.lost) lose(block);
}

void PipelineCore::on(const Delivered&) {
  MANTA_CHECK(is_delivering_ && !delivery_.empty());
  is_delivering_ = false;
  const BlockId block = delivery_.front().block;
  delivery_.pop_front();
  drop_use(block);
}

void PipelineCore::on(const DeliveryLost& event) {
  MANTA_CHECK(is_delivering_);
  is_delivering_ = false;
  for (const BlockId block : event.lost) lose(block);
}

void PipelineCore::deliver() {
  if (is_delivering_ || delivery_.empty() || !is_live(delivery_.front())) return;
  is_delivering_ = true;
  effects_.push_back(Deliver{delivery_.front()});
}

bool PipelineCore::is_live(const Slice& slice) const { return blocks_.at(slice.block).state == Block::State::kLive; }

bool PipelineCore::is_fed(const Call& call) const {
  const auto& slices = call.recipe.slices;
  return std::all_of(slices.begin(), slices.end(), [this](const Slice& slice) { return is_live(slice); });
}

void PipelineCore::lose(BlockId id) {
  const auto at = blocks_.find(id);
  if (at == blocks_.end() || at->second.state != Block::State::kLive) return;
  Block& block = at->second;
  Operator& op = *operators_[block.op];
  block.state = Block::State::kLost;
  effects_.push_back(Release{id});
  ++block.times_lost;
  if (op.plan.most_losses >= 0 && block.times_lost > op.plan.most_losses) {
    effects_.push_back(LostTooOften{block.op, block.recipe.sequence, block.times_lost});
  }
  op.to_remake.insert(id);
}

/// The first use of a block that had gone: it is made again for a block that was made from it.
void PipelineCore::use_again(BlockId id) {
  Block& block = blocks_.at(id);
  ++block.uses;
  if (block.state != Block::State::kGone) return;
  Operator& op = *operators_[block.op];
  block.state = Block::State::kLost;
  block.is_revived = true;
  op.revived_bytes += block.bytes;
  op.to_remake.insert(id);
}

/// Calls for lost blocks, oldest first: for as many as their inputs, where these have gone too, fit into a budget at a time.
void PipelineCore::begin_remakes(size_t index) {
  Operator& op = *operators_[index];
  while (!op.to_remake.empty()) {
    const BlockId id = *op.to_remake.begin();
    const Block& block = blocks_.at(id);
    int64_t gone_bytes = 0;
    for (const Slice& slice : block.recipe.slices) {
      const Block& input = blocks_.at(slice.block);
      if (input.state == Block::State::kGone) gone_bytes += input.bytes;
    }
    if (gone_bytes > 0 && op.remakes > 0) {
      const Operator& before = *operators_[index - 1];
      if (before.revived_bytes + gone_bytes > before.plan.budget_bytes) return;
    }
    op.to_remake.erase(op.to_remake.begin());
    for (const Slice& slice : block.recipe.slices) use_again(slice.block);
    calls_.emplace(id, Call{.op = index, .recipe = block.recipe, .is_remake = true});
    ++op.remakes;
    op.unsent.insert(id);
  }
}

/// Before anything new: others wait for it, and hold memory meanwhile.
void PipelineCore::send_unsent(size_t index) {
  Operator& op = *operators_[index];
  begin_remakes(index);
  for (auto at = op.unsent.begin(); at != op.unsent.end() && has_room(op);) {
    const CallId id = *at;
    Call& call = calls_.at(id);
    const bool may_go = is_fed(call);
    at = may_go ? op.unsent.erase(at) : std::next(at);
    if (may_go) send(id, call);
  }
}

void PipelineCore::on_remade(const CallDone& event, const Call& call) {
  --operators_[call.op]->remakes;
  Block& block = blocks_.at(event.call);
  if (event.rows != block.rows) {
    effects_.push_back(MadeDifferently{call.op, call.recipe.sequence, block.rows, event.rows});
  }
  block.state = Block::State::kLive;
  drop(call.recipe.slices);
}

/// Nobody needs the lost block any more.
void PipelineCore::stop_remake(BlockId id, size_t index) {
  Operator& op = *operators_[index];
  if (op.to_remake.erase(id) > 0) return;
  --op.remakes;
  end_call(id);
}

/// Its recipe is kept while blocks that were made from it may have to be made again.
void PipelineCore::forget_unneeded(BlockId id) {
  const auto at = blocks_.find(id);
  if (at->second.uses > 0 || at->second.children > 0) return;
  const Block block = std::move(at->second);
  blocks_.erase(at);
  for (const Slice& slice : block.recipe.slices) {
    --blocks_.at(slice.block).children;
    forget_unneeded(slice.block);
  }
}

}  // namespace manta::data
