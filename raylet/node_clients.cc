// The node's clients: their sockets, the first frame, decoding the others. A bad peer loses its connection and nothing else.
#include "raylet/client_messages.h"
#include "raylet/node_server.h"

#include "common/check.h"
#include "common/log.h"

#include <sys/epoll.h>

namespace manta::raylet {
Result<NodeServer::ClientKey> NodeServer::add_client(Fd socket, WorkerToken token) {
  const ClientKey key = next_client_++;
  const int fd = socket.get();
  Client client{
      .connection = std::make_unique<wire::Connection>(std::move(socket)), .process = {}, .token = token, .bell = {}};
  MANTA_ASSIGN_OR_RETURN(client.registration,
                         loop_->add(fd, EPOLLIN, [this, key](uint32_t events) { on_client_ready(key, events); }));
  clients_.emplace(key, std::move(client));
  return key;
}

void NodeServer::on_client_ready(ClientKey key, uint32_t events) {
  wire::Connection& connection = *clients_.at(key).connection;
  if ((events & EPOLLOUT) != 0) {
    const Result<bool> flushed = connection.flush();
    if (!flushed.ok()) return drop_client(key, {});
    if (const auto it = clients_.find(key); it != clients_.end()) watch_writes(it->second);
  }
  if ((events & ~uint32_t{EPOLLOUT}) == 0) return;
  std::vector<wire::Frame> frames;
  const Status status = connection.receive(frames);
  for (wire::Frame& frame : frames) {
    if (!clients_.contains(key)) return;  // an earlier frame was its last
    on_frame(key, frame);
  }
  if (!status.ok()) drop_client(key, status.code() == Code::kUnavailable ? Status() : status);
}

void NodeServer::on_frame(ClientKey key, wire::Frame& frame) {
  Client& client = clients_.at(key);
  if (!client.process) return on_hello(key, frame);
  if (Status status = on_message(client, frame); !status.ok()) drop_client(key, status);
}

Status NodeServer::on_message(Client& client, wire::Frame& frame) {
  if (client.role != wire::Role::kObserver) {
    MANTA_ASSIGN_OR_RETURN(const bool was_for_store, store_->handle(client.process, frame));
    if (was_for_store) return {};
  }
  MANTA_ASSIGN_OR_RETURN(ClientMessage message, decode_client_message(frame.type, frame.body));
  step(FromClient{client.process, std::move(message)});
  return {};
}

Status NodeServer::check_hello(const Client& client, const wire::Hello& hello, size_t descriptors) const {
  const auto role = static_cast<wire::Role>(hello.role);
  if (hello.protocol != wire::kProtocolVersion)
    return Status(Code::kInvalid, "mantad speaks protocol " + std::to_string(wire::kProtocolVersion) +
                                      ", the program speaks " + std::to_string(hello.protocol) +
                                      ": they come from different versions of Manta");
  if (by_process_.contains(ProcessId{hello.process})) return Status(Code::kInvalid, "the process id is taken");
  if (role != wire::Role::kObserver && descriptors != 2)
    return Status(Code::kInvalid, "its Hello came without its bell and its hazard page");
  if (client.is_visitor != (role == wire::Role::kObserver))
    return Status(Code::kInvalid, "this socket is not for a process of that role");
  const bool is_worker = role == wire::Role::kWorker;
  if (is_worker != static_cast<bool>(client.token) || (is_worker && client.token.value != hello.spawn_token))
    return Status(Code::kInvalid, "this socket is not for a process of that role");
  if (!is_worker) return {};
  const auto worker = workers_.find(client.token);
  if (worker != workers_.end() && hello.build_id != worker->second.build_id)
    return Status(Code::kInvalid, "the worker is of another build (" + hello.build_id + ") than the driver (" +
                                      worker->second.build_id + "): the program was rebuilt while it ran");
  return {};
}

void NodeServer::on_hello(ClientKey key, wire::Frame& frame) {
  Result<wire::Hello> hello = frame.type == wire::Type::kHello
                                  ? wire::decode<wire::Hello>(frame.body)
                                  : Result<wire::Hello>(Status(Code::kInvalid, "the first message is no Hello"));
  if (!hello.ok()) return refuse_client(key, hello.status());
  Client& client = clients_.at(key);
  if (Status status = check_hello(client, *hello, frame.descriptors.size()); !status.ok()) return refuse_client(key, status);
  if (hello->process == 0) hello->process = new_process();
  const ProcessId process{hello->process};
  client.role = static_cast<wire::Role>(hello->role);
  if (client.role != wire::Role::kObserver) {
    if (Status status = join_store(process, hello->pid, frame.descriptors); !status.ok()) return refuse_client(key, status);
    client.bell = std::move(frame.descriptors[0]);
  }
  client.process = process;
  by_process_[process] = key;
  if (client.role == wire::Role::kDriver && !driver_) {
    driver_ = client.process;
    if (cluster_) cluster_->serve_job(*hello, JobId{hello->process}, options_.job_quota);
  }
  step(ClientJoined{std::move(*hello)});
}

void NodeServer::refuse_client(ClientKey key, const Status& status) {
  Client& client = clients_.at(key);
  if (Status sent = client.connection->send(wire::Refused{wire::to_wire(status)}); !sent.ok()) return drop_client(key, sent);
  drop_client(key, status);
}

void NodeServer::drop_client(ClientKey key, const Status& reason) {
  const auto it = clients_.find(key);
  if (it == clients_.end()) return;
  const ProcessId process = it->second.process;
  const WorkerToken token = it->second.token;
  const bool was_visitor = it->second.is_visitor;
  erase_client(key);
  if (process) return step(ClientGone{process, reason});
  if (!reason.ok()) MANTA_LOG(kWarn, "raylet", "a process that never joined was cut off", {"why", reason});
  // Never introduced: a worker is killed (its exit is its report), a driver ends the node.
  if (const auto worker = workers_.find(token); worker != workers_.end()) return kill_group(worker->second.process);
  if (!token && !driver_ && !was_visitor) ending_ = EndNode{};
}

void NodeServer::erase_client(ClientKey key) {
  const auto it = clients_.find(key);
  if (it == clients_.end()) return;
  const ProcessId process = it->second.process;
  loop_->remove(it->second.registration);
  clients_.erase(it);
  if (!process) return;
  by_process_.erase(process);
  if (cluster_) cluster_->client_gone(process);
  store_->client_gone(process);
}

Status NodeServer::join_store(ProcessId process, int32_t pid, std::vector<Fd>& descriptors) {
  return store_->client_joined(process, pid, std::move(descriptors[1]),
                               [this, process](wire::Type type, std::string_view body, const std::vector<int>& fds) {
                                 return send_for_store(process, type, body, fds);
                               });
}

Status NodeServer::send_for_store(ProcessId process, wire::Type type, std::string_view body, const std::vector<int>& fds) {
  Client* client = find_client(process);
  if (client == nullptr) return Status(Code::kUnavailable, "the client is gone");
  Status status = client->connection->send_frame(type, body, fds);
  // Not dropped at once: the store is in the middle of a step.
  if (!status.ok() && status.code() != Code::kUnavailable) overflowing_.push_back(process);
  watch_writes(*client);
  return status;
}

void NodeServer::drop_overflowing() {
  for (ProcessId process : std::exchange(overflowing_, {}))
    if (const auto it = by_process_.find(process); it != by_process_.end())
      drop_client(it->second, Status(Code::kFull, "it does not read its messages"));
}

NodeServer::Client* NodeServer::find_client(ProcessId process) {
  const auto it = by_process_.find(process);
  return it == by_process_.end() ? nullptr : &clients_.at(it->second);
}

void NodeServer::watch_writes(Client& client) {
  const bool wants = client.connection->wants_write();
  if (wants == client.watches_writes) return;
  client.watches_writes = wants;
  loop_->change(client.registration, wants ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

}  // namespace manta::raylet
