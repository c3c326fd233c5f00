#include "actors/shared_host.h"

#include <manta/task.h>

namespace manta {
namespace {

SharedHost* g_host = nullptr;
thread_local bool t_leads = false;

void run_drop(detail::Invocation& call) {
  if (g_host == nullptr) throw Error(Status(Code::kInvalid, "this process hosts no shared actors"));
  g_host->drop(detail::read_argument<std::vector<uint64_t>>(call, 0), detail::read_argument<std::string>(call, 1));
  call.emit(0, Encoder());
}

const detail::Function g_drop{"manta.drop_instances", &run_drop, detail::FunctionKind::kMethod, 1, "v"};
const bool g_enlisted = detail::enlist(g_drop);
// Never called: the worker knows it by its key.
const detail::Function g_shared_host{kSharedHostKey, nullptr, detail::FunctionKind::kConstructor, 0, "shared actors"};

}  // namespace

const detail::Function& drop_instances_function() { return g_drop; }
const detail::Function& shared_host_function() { return g_shared_host; }

SharedHost::SharedHost(Worker& worker) : worker_(worker) { g_host = this; }

void SharedHost::lead() {
  if (t_leads) return;
  std::unique_lock lock(mutex_);
  ++followers_;
  lead_is_free_.wait(lock, [this] { return !has_leader_; });
  --followers_;
  has_leader_ = t_leads = true;
}

void SharedHost::on_blocked(bool blocked) {
  if (!blocked || !t_leads) return;
  const std::lock_guard lock(mutex_);
  has_leader_ = t_leads = false;
  if (followers_ > 0) return lead_is_free_.notify_one();
  threads_.emplace_back([this] { worker_.serve_calls(); });
}

void SharedHost::take(std::unique_ptr<Job> job) {
  const uint64_t id = job->header.instance;
  if (id == 0) return worker_.execute(*job);
  Status refused;
  {
    const std::lock_guard lock(mutex_);
    Instance& instance = instances_[id];
    const bool makes = job->known->function->kind == detail::FunctionKind::kConstructor;
    if (!instance.dead.ok()) {
      refused = instance.dead;
    } else if (instance.is_busy || (!instance.is_born && !makes)) {
      instance.kept.push_back(std::move(job));
      return;
    } else {
      instance.is_born = instance.is_busy = true;
      ++running_;
      job->self = instance.object.get();
    }
  }
  if (!refused.ok()) return worker_.refuse(*job, refused);
  run(id, std::move(job));
}

void SharedHost::run(uint64_t id, std::unique_ptr<Job> job) {
  while (true) {
    worker_.execute(*job);
    std::deque<std::unique_ptr<Job>> refused;
    Status why;
    std::shared_ptr<void> ended;  // destroyed outside the lock: it is the user's
    {
      const std::lock_guard lock(mutex_);
      Instance& instance = instances_.at(id);
      if (!instance.dead.ok()) why = instance.dead, refused.swap(instance.kept);
      if (!instance.kept.empty()) {
        job = std::move(instance.kept.front());
        instance.kept.pop_front();
        job->self = instance.object.get();
        continue;
      }
      instance.is_busy = false;
      --running_;
      if (instance.is_ended) {
        ended = std::move(instance.object);
        instances_.erase(id);
      }
    }
    for (const auto& each : refused) worker_.refuse(*each, why);
    return;
  }
}

void SharedHost::constructed(uint64_t id, std::shared_ptr<void> object, const Status& status) {
  const std::lock_guard lock(mutex_);
  Instance& instance = instances_.at(id);
  instance.object = std::move(object);
  instance.dead = status;
}

void SharedHost::drop(const std::vector<uint64_t>& instances, const std::string& why) {
  std::deque<Instance> ended;  // let go outside the lock: what they hold is the user's
  {
    const std::lock_guard lock(mutex_);
    for (const uint64_t id : instances) {
      Instance& instance = instances_[id];
      if (!why.empty() && instance.dead.ok()) instance.dead = Status(Code::kDied, why);
      if (why.empty()) instance.is_ended = true;
      if (instance.is_busy) continue;
      ended.emplace_back().object = std::move(instance.object);
      ended.back().kept.swap(instance.kept);
      ended.back().dead = instance.dead;
      if (why.empty()) instances_.erase(id);
    }
  }
  for (const Instance& each : ended)
    for (const auto& job : each.kept)
      worker_.refuse(*job, each.dead.ok() ? Status(Code::kDied, "the actor has ended") : each.dead);
}

bool SharedHost::is_idle() {
  const std::lock_guard lock(mutex_);
  return running_ == 0;
}

void SharedHost::clear() {
  std::unordered_map<uint64_t, Instance> instances;
  const std::lock_guard lock(mutex_);
  instances.swap(instances_);
}

}  // namespace manta
