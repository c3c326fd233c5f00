#include "actors/shared_actors.h"

#include <manta/error.h>

namespace manta {

void SharedActors::check(const ActorOptions& options) {
  const std::pair<bool, const char*> impossible[] = {{options.cpus != 0, "cpus"},
                                                     {options.gpus != 0, "gpus"},
                                                     {options.gpu_memory_bytes != 0, "gpu_memory_bytes"},
                                                     {options.memory_bytes != 0, "memory_bytes"},
                                                     {!options.resources.empty(), "resources"},
                                                     {options.max_restarts != 0, "max_restarts"},
                                                     {options.max_task_retries != 0, "max_task_retries"},
                                                     {options.max_concurrency != 1, "max_concurrency"},
                                                     {!options.concurrency_groups.empty(), "concurrency_groups"},
                                                     {!options.name.empty(), "name"},
                                                     {!options.labels.empty(), "labels"},
                                                     {static_cast<bool>(options.node), "node"},
                                                     {options.spread, "spread"},
                                                     {options.group.number != 0, "group"},
                                                     {options.detached, "detached"}};
  for (const auto& [is_set, name] : impossible) {
    if (is_set) {
      throw Error(Status(Code::kInvalid, std::string("an actor with shared_process cannot have ") + name +
                                             ": it shares its process, which has none of its own; leave one of both out"));
    }
  }
}

const detail::ActorHandle& SharedActors::add(uint64_t sequence, const ActorOptions& options, size_t most) {
  Env env;
  for (const auto& [name, value] : options.env) env[name] = value;
  auto& hosts = hosts_[env];
  std::erase_if(hosts, [this](const std::weak_ptr<Host>& each) {
    const std::shared_ptr<Host> living = each.lock();
    return !living || io_.has_died(living->handle.id());
  });
  std::shared_ptr<Host> host;
  if (hosts.size() < most) {
    ActorOptions plain;
    plain.env = options.env;
    host = std::make_shared<Host>();
    host->handle = io_.start_host(plain);
    hosts.push_back(host);
  } else {
    host = hosts[next_++ % hosts.size()].lock();
  }
  return (living_[sequence] = std::move(host))->handle;
}

bool SharedActors::ended(uint64_t sequence) {
  const auto at = living_.find(sequence);
  if (at == living_.end()) return false;
  const std::shared_ptr<Host> host = std::move(at->second);
  living_.erase(at);
  if (host.use_count() == 1) return true;  // its last actor: the process goes with it
  if (host->ended.empty()) to_tell_.push_back(host);
  host->ended.push_back(sequence);
  if (host->ended.size() >= kDropsAtOnce) flush();
  return true;
}

void SharedActors::flush() {
  std::vector<std::shared_ptr<Host>> hosts;
  hosts.swap(to_tell_);
  for (const auto& host : hosts) {
    std::vector<uint64_t> ended;
    ended.swap(host->ended);
    if (host.use_count() > 1) io_.drop(host->handle.id(), ended);
  }
}

}  // namespace manta
