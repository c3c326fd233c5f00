#include "object_store/transfer/transfer_queue.h"

#include "common/check.h"
#include "object_store/hazard_page.h"

#include <algorithm>

namespace manta::object_store {
namespace {

constexpr uint32_t kMaxDamaged = 3;
constexpr uint64_t kBytesForAnotherStream = 2 * kChunkBytes;

std::pair<wire::NodeNumber, uint64_t> key_of(const wire::ObjectLocation& at) {
  return {wire::node_of(at.segment), hazard_key(at.slot, at.generation)};
}

Status lost(wire::NodeNumber node, const Status& cause) {
  return Status(Code::kLost, "node " + std::to_string(node) + " was lost: " + cause.message());
}

}  // namespace

uint64_t TransferQueue::Part::size_bytes() const { return std::min(kChunkBytes, order().from.size_bytes - offset()); }
std::span<std::byte> TransferQueue::Part::memory() const {
  return {order().segment->data() + order().offset + offset(), size_bytes()};
}
const StoreServer::Pull& TransferQueue::Part::order() const { return pull->order; }

// ---------------------------------------------------------------------------------------------------- in

void TransferQueue::add(StoreServer::Pull pull) {
  auto pulling = std::make_shared<Pulling>();
  pulling->home = wire::node_of(pull.from.segment);
  pulling->parts = std::max<uint64_t>((pull.from.size_bytes + kChunkBytes - 1) / kChunkBytes, 1);
  pulling->left = pulling->parts;
  pulling->here.resize(pulling->parts);
  pulling->order = std::move(pull);
  std::lock_guard lock(mutex_);
  Link& link = links_[pulling->home];
  if (!link.lost.ok() || closed_) {
    fail_pull(*pulling, closed_ ? Status(Code::kUnavailable, "this node ends") : lost(pulling->home, link.lost));
    return;
  }
  under_way_[key_of(pulling->order.from)] = pulling;
  // In the same order everywhere: of nodes that read one object at once the second is sent to the first for what that is
  // getting, and so soon asks for what nobody has. They stay that close, and each always has what another wants next.
  for (uint64_t i = 0; i < pulling->parts; ++i) enqueue({pulling, i}, pulling->home, End::kBack);
}

void TransferQueue::enqueue(Part part, wire::NodeNumber node, End end) {
  Link& link = links_[node];
  link.waiting_bytes += part.size_bytes();
  auto& queue = link.waiting.at(static_cast<size_t>(part.order().priority));
  end == End::kFront ? queue.push_front(std::move(part)) : queue.push_back(std::move(part));
  changed_.notify_all();
  const bool wants = link.streams == 0 || link.waiting_bytes > kBytesForAnotherStream * link.streams;
  if (!wants || link.streams >= streams_per_node_) return;
  ++link.streams;
  wanted_streams_.push_back(node);
}

std::vector<wire::NodeNumber> TransferQueue::take_wanted_streams() {
  std::lock_guard lock(mutex_);
  return std::exchange(wanted_streams_, {});
}

// ---------------------------------------------------------------------------------------------------- streams

std::vector<TransferQueue::Part> TransferQueue::take(wire::NodeNumber node, const Limits& limits, Time now) {
  std::lock_guard lock(mutex_);
  Link& link = links_[node];
  std::vector<Part> parts;
  uint64_t bytes = 0;
  for (auto& queue : link.waiting) {
    while (!queue.empty() && parts.size() < limits.parts) {
      Part& part = queue.front();
      const uint64_t size = part.size_bytes();
      if (limits.bytes == 0 || (!parts.empty() && bytes + size > limits.bytes)) return parts;
      Pulling& pull = *part.pull;
      link.waiting_bytes -= size;
      // A stream that has room is none that stalls: who is patient gets it.
      if (pull.failure.ok() && (pull.order.patience > Duration(0) || pull.order.deadline > now)) {
        ++pull.taken;
        bytes += size;
        parts.push_back(std::move(part));
      } else if (pull.failure.ok()) {
        fail_pull(pull, Status(Code::kTimeout, "node " + std::to_string(node) + " had no time for it until the deadline"));
      }
      queue.pop_front();
    }
  }
  return parts;
}

bool TransferQueue::wait_for_work(wire::NodeNumber node, Time deadline) {
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline, [&] { return closed_ || !links_[node].is_idle(); });
}

void TransferQueue::pause(wire::NodeNumber node, Time deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline, [&] { return closed_ || !links_[node].lost.ok(); });
}

bool TransferQueue::leave(wire::NodeNumber node) {
  std::lock_guard lock(mutex_);
  Link& link = links_[node];
  if (!link.is_idle() && !closed_) return false;
  --link.streams;
  return true;
}

void TransferQueue::arrived(Part part) {
  const Time now = Clock::real().now();
  std::lock_guard lock(mutex_);
  links_[part.pull->home].last_arrival = now;
  --part.pull->left;
  part.pull->here[part.index] = true;
  changed_.notify_all();
  let_go(part);
}

void TransferQueue::put_back(Part part) {
  std::lock_guard lock(mutex_);
  Link& link = links_[part.pull->home];
  if (part.pull->failure.ok() && !link.lost.ok()) fail_pull(*part.pull, lost(part.pull->home, link.lost));
  if (part.pull->failure.ok()) enqueue(part, part.pull->home, End::kFront);
  let_go(part);
}

void TransferQueue::damaged(Part part) {
  if (++part.damaged < kMaxDamaged) return put_back(std::move(part));
  const std::string node = std::to_string(part.pull->home);
  fail(std::move(part),
       Status(Code::kLost, "a part of it arrived damaged from node " + node + " " + std::to_string(kMaxDamaged) + " times"));
}

void TransferQueue::elsewhere(Part part, wire::NodeNumber node) {
  std::lock_guard lock(mutex_);
  if (part.pull->failure.ok()) enqueue(part, node, End::kBack);
  let_go(part);
}

void TransferQueue::fail(Part part, const Status& why) {
  std::lock_guard lock(mutex_);
  fail_pull(*part.pull, why);
  let_go(part);
}

/// Who is patient waits as long as there is something to wait for: the next in line comes after what is in front of it.
Time TransferQueue::deadline_of(const Pulling& pull) const {
  const StoreServer::Pull& order = pull.order;
  if (order.patience == Duration(0)) return order.deadline;
  return std::max(order.deadline, links_.at(pull.home).last_arrival + order.patience);
}

void TransferQueue::let_go(Part& part) {
  MANTA_CHECK(part.pull->taken > 0, part.index);
  --part.pull->taken;
  settle(*part.pull);
}

Status TransferQueue::read_part(const BulkRequest& request, std::vector<std::byte>& bytes, Time deadline) {
  std::unique_lock lock(mutex_);
  auto found = under_way_.find(key_of(request.location()));
  const Status not_here(Code::kNotFound, "it is not on its way to this node");
  if (found == under_way_.end()) return not_here;
  const std::shared_ptr<Pulling> pull = found->second;
  const Part part{pull, request.offset / kChunkBytes};
  if (pull->order.from.size_bytes != request.object_bytes || part.index >= pull->parts || part.offset() != request.offset ||
      part.size_bytes() != request.size_bytes)
    return not_here;
  const bool in_time = changed_.wait_until(
      lock, deadline, [&] { return closed_ || pull->is_done || !pull->failure.ok() || pull->here[part.index]; });
  if (!in_time) return Status(Code::kTimeout, "it has not arrived here yet");
  if (closed_ || pull->is_done || !pull->failure.ok()) return not_here;
  ++pull->readers;
  lock.unlock();
  const std::span<std::byte> memory = part.memory();
  bytes.assign(memory.begin(), memory.end());
  lock.lock();
  --pull->readers;
  settle(*pull);
  return {};
}

// ---------------------------------------------------------------------------------------------------- out

void TransferQueue::fail_pull(Pulling& pull, const Status& why) {
  if (pull.failure.ok()) pull.failure = why;
  settle(pull);
}

void TransferQueue::settle(Pulling& pull) {
  if (pull.is_done || pull.taken + pull.readers > 0 || (pull.failure.ok() && pull.left > 0)) return;
  pull.is_done = true;
  pull.order.segment.reset();
  changed_.notify_all();
  // The entry, and with it perhaps the last hold on the pull, goes only at the end.
  std::shared_ptr<Pulling> hold;
  if (auto it = under_way_.find(key_of(pull.order.from)); it != under_way_.end() && it->second.get() == &pull) {
    hold = std::move(it->second);
    under_way_.erase(it);
  }
  done_.push_back({pull.order.name, pull.left == 0 ? Status() : pull.failure});
  if (done_.size() == 1) wake_.ring();
}

void TransferQueue::expire(wire::NodeNumber node, const Status& why, Time now) {
  std::lock_guard lock(mutex_);
  Link& link = links_[node];
  for (auto& queue : link.waiting) {
    std::erase_if(queue, [&](const Part& part) {
      if (part.pull->failure.ok() && deadline_of(*part.pull) <= now) fail_pull(*part.pull, why);
      if (part.pull->failure.ok()) return false;
      link.waiting_bytes -= part.size_bytes();
      return true;
    });
  }
}

void TransferQueue::lose(wire::NodeNumber node, const Status& cause) {
  std::lock_guard lock(mutex_);
  Link& link = links_[node];
  link.lost = cause.ok() ? Status(Code::kLost, "it left") : cause;
  send_home(link, node);
  for (auto& queue : link.waiting) {
    for (Part& part : queue) fail_pull(*part.pull, lost(node, link.lost));
    queue.clear();
  }
  link.waiting_bytes = 0;
  changed_.notify_all();
}

void TransferQueue::find_again(wire::NodeNumber node) {
  std::lock_guard lock(mutex_);
  links_[node].lost = Status();
}

void TransferQueue::send_home(wire::NodeNumber node) {
  std::lock_guard lock(mutex_);
  send_home(links_[node], node);
}

void TransferQueue::send_home(Link& link, wire::NodeNumber node) {
  for (auto& queue : link.waiting) {
    std::deque<Part> stay;
    for (Part& part : queue) {
      const wire::NodeNumber home = part.pull->home;
      if (home == node) {
        stay.push_back(std::move(part));
        continue;
      }
      link.waiting_bytes -= part.size_bytes();
      part.no_redirect = true;
      if (!links_[home].lost.ok()) {
        fail_pull(*part.pull, lost(home, links_[home].lost));
      } else if (part.pull->failure.ok()) {
        enqueue(std::move(part), home, End::kFront);
      }
    }
    queue = std::move(stay);
  }
}

void TransferQueue::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

void TransferQueue::fail_all(const Status& why) {
  std::lock_guard lock(mutex_);
  for (auto& [node, link] : links_) {
    for (auto& queue : link.waiting) {
      for (Part& part : queue) fail_pull(*part.pull, why);
      queue.clear();
    }
  }
}

bool TransferQueue::is_closed() const {
  std::lock_guard lock(mutex_);
  return closed_;
}

bool TransferQueue::is_lost(wire::NodeNumber node) const {
  std::lock_guard lock(mutex_);
  auto found = links_.find(node);
  return found != links_.end() && !found->second.lost.ok();
}

std::vector<TransferQueue::Done> TransferQueue::take_done() {
  std::lock_guard lock(mutex_);
  return std::exchange(done_, {});
}

}  // namespace manta::object_store
