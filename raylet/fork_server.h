// The raylet's side of the fork server: the user's program, started once, that makes further workers by forking itself
// (actors/fork_server.h says how and why that is safe). Started when the program has worked for a moment, or wants a worker
// beyond the first, so that a short program does without.
//
//   NONE --start--> STARTING --ready--> READY --it died, refused, or was given up--> OVER (workers are spawned as before)
//
// Used by node_server's loop. Nothing blocks: an order goes out, the answer comes as a message.
#pragma once

#include "raylet/event_loop.h"
#include "raylet/worker_process.h"
#include "wire/connection.h"

#include <functional>
#include <map>
#include <memory>
#include <set>

namespace manta::raylet {

class ForkServer {
 public:
  struct Handlers {
    std::function<void(const Spawn&, WorkerProcess)> started;
    /// It did not come to be: start it some other way.
    std::function<void(Spawn&)> undone;
  };

  ForkServer(EventLoop& loop, Handlers handlers) : loop_(loop), handlers_(std::move(handlers)) {}
  /// Kills the server. Workers that it made live on.
  ~ForkServer();

  /// Starts the server, if none was started yet.
  void prepare(const Spawn& like);
  /// Orders the worker; false when this cannot (yet) be done here. The first call starts the server.
  bool order(const Spawn& spawn);
  /// Whether the worker is ordered and not started.
  [[nodiscard]] bool has_ordered(WorkerToken token) const { return ordered_.contains(token); }
  /// Nobody wants it any more. Should it start after all, it is killed.
  void cancel(WorkerToken token);
  /// No more forks: what is ordered is handed back.
  void give_up(const std::string& why);

 private:
  enum class State : uint8_t { kNone, kStarting, kReady, kOver };
  struct Order {
    Spawn spawn;
    WorkerProcess process;
  };

  Status start(const Spawn& like);
  void on_socket();
  Status on_frame(const wire::Frame& frame);

  EventLoop& loop_;
  Handlers handlers_;
  State state_ = State::kNone;
  WorkerProcess process_;
  std::unique_ptr<wire::Connection> connection_;
  EventLoop::Id registration_ = 0;
  std::map<WorkerToken, Order> ordered_;
  std::set<WorkerToken> cancelled_;
};

}  // namespace manta::raylet
