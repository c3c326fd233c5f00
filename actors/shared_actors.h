// The owner's side of actors that share processes: which process hosts which, and what has ended and must be told.
//
// A host is an ordinary actor without an instance of its own; it lives while one of its actors does. A shared actor is a
// sequence number of this process and its host's id; its constructor and its calls are calls to the host.
//
// Thread safety: under the runtime's lock; nothing blocks.
#pragma once

#include <manta/detail/runtime.h>

#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

namespace manta {

class SharedActors {
 public:
  using Env = std::map<std::string, std::string>;
  struct Io {
    std::function<detail::ActorHandle(const ActorOptions&)> start_host;
    std::function<void(const ActorId& host, const std::vector<uint64_t>& ended)> drop;
    std::function<bool(const ActorId& host)> has_died;
  };
  explicit SharedActors(Io io) : io_(std::move(io)) {}

  /// Throws Error(kInvalid) that names an option which an actor in a shared process cannot have.
  static void check(const ActorOptions& options);

  /// A host for one more actor: one of `most` for each environment, in turn, started when there are fewer.
  const detail::ActorHandle& add(uint64_t sequence, const ActorOptions& options, size_t most);
  /// Nobody references it any more: its host is told with the next `flush`. False when it is none of these.
  bool ended(uint64_t sequence);
  /// Tells the hosts what has ended.
  void flush();

 private:
  struct Host {
    detail::ActorHandle handle;
    std::vector<uint64_t> ended;
  };
  static constexpr size_t kDropsAtOnce = 1'000;

  Io io_;
  std::map<Env, std::vector<std::weak_ptr<Host>>> hosts_;
  std::unordered_map<uint64_t, std::shared_ptr<Host>> living_;
  std::vector<std::shared_ptr<Host>> to_tell_;  ///< Hosts with something in `ended`.
  size_t next_ = 0;
};

}  // namespace manta
