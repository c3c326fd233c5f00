#include "raylet/fork_server.h"

#include "common/check.h"
#include "common/log.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/wait.h>

namespace manta::raylet {

namespace {

/// The jemalloc inside Arrow's library starts a thread when it is loaded, for no work that its users could not do
/// themselves; with that thread nothing could be forked.
constexpr const char* kArrowJemalloc = "JE_ARROW_MALLOC_CONF";

}  // namespace

ForkServer::~ForkServer() { give_up({}); }

Status ForkServer::start(const Spawn& like) {
  Spawn spawn = like;
  spawn.env.erase("MANTA_WORKER_FD");
  spawn.env.erase("MANTA_SPAWN_TOKEN");
  spawn.env["MANTA_FORK_SERVER_FD"] = std::to_string(kWorkerFd);
  if (getenv(kArrowJemalloc) == nullptr) spawn.env.try_emplace(kArrowJemalloc, "background_thread:false");
  MANTA_ASSIGN_OR_RETURN(process_, start_silent(spawn));
  MANTA_LOG(kInfo, "raylet", "fork server started", {"pid", process_.pid});
  connection_ = std::make_unique<wire::Connection>(std::move(process_.socket));
  MANTA_ASSIGN_OR_RETURN(registration_, loop_.add(connection_->fd(), EPOLLIN, [this](uint32_t) { on_socket(); }));
  state_ = State::kStarting;
  return {};
}

void ForkServer::prepare(const Spawn& like) {
  if (state_ != State::kNone) return;
  if (const Status status = start(like); !status.ok()) give_up(status.message());
}

bool ForkServer::order(const Spawn& spawn) {
  prepare(spawn);
  if (state_ != State::kReady) return false;
  Result<std::pair<WorkerProcess, WorkerEnds>> both = make_ends();
  if (!both.ok()) return false;
  auto& [process, ends] = *both;
  const Status sent =
      connection_->send(wire::ForkWorker{spawn.token.value}, {ends.socket.get(), ends.out.get(), ends.err.get()});
  if (!sent.ok()) return false;
  ordered_[spawn.token] = Order{spawn, std::move(process)};
  return true;
}

void ForkServer::cancel(WorkerToken token) {
  if (ordered_.erase(token) > 0) cancelled_.insert(token);
}

void ForkServer::on_socket() {
  std::vector<wire::Frame> frames;
  Status status = connection_->receive(frames);
  for (const wire::Frame& frame : frames) {
    if (const Status handled = on_frame(frame); !handled.ok()) status = handled;
    if (state_ == State::kOver) return;
  }
  if (!status.ok()) give_up(status.message());
}

Status ForkServer::on_frame(const wire::Frame& frame) {
  if (frame.type == wire::Type::kForkServerReady && state_ == State::kStarting) {
    MANTA_ASSIGN_OR_RETURN(const wire::ForkServerReady ready, wire::decode<wire::ForkServerReady>(frame.body));
    MANTA_RETURN_IF_ERROR(wire::from_wire(ready.status));
    state_ = State::kReady;
    return {};
  }
  if (frame.type != wire::Type::kWorkerForked || state_ != State::kReady)
    return Status(Code::kInvalid, "the fork server says what it should not");
  MANTA_ASSIGN_OR_RETURN(const wire::WorkerForked forked, wire::decode<wire::WorkerForked>(frame.body));
  const WorkerToken token{forked.spawn_token};
  const bool is_cancelled = cancelled_.erase(token) > 0;
  auto found = ordered_.extract(token);
  if (found.empty() && !is_cancelled) return Status(Code::kInvalid, "the fork server tells of a worker that nobody ordered");
  // Handed back to be started some other way, should this fail.
  const auto fail = [&](Status why) {
    if (!is_cancelled) ordered_.insert(std::move(found));
    return why;
  };
  if (Status status = wire::from_wire(forked.status); !status.ok()) return fail(status.with_context("forking a worker"));
  WorkerProcess process = is_cancelled ? WorkerProcess() : std::move(found.mapped().process);
  // Its own child: only then is the number surely that process until it is reaped here.
  siginfo_t info{};
  if (waitid(P_PID, static_cast<id_t>(forked.pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0)
    return fail(Status(Code::kInvalid, "the fork server names a process that is no child of mantad"));
  if (Status status = adopt(process, forked.pid); !status.ok()) return fail(std::move(status));
  if (is_cancelled) {
    (void)reap(process);
  } else {
    handlers_.started(found.mapped().spawn, std::move(process));
  }
  return {};
}

void ForkServer::give_up(const std::string& why) {
  if (state_ == State::kOver) return;
  if (state_ != State::kNone && !why.empty()) MANTA_LOG(kInfo, "raylet", "no fork server", {"why", why});
  state_ = State::kOver;
  if (connection_) loop_.remove(registration_);
  if (process_.pid > 0) {
    kill_group(process_);
    (void)reap(process_);
  }
  connection_.reset();
  auto undone = std::exchange(ordered_, {});
  for (auto& [token, order] : undone) handlers_.undone(order.spawn);
}

}  // namespace manta::raylet
