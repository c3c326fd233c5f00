// What raylet_core asks for, done; and what worker processes do, told.
#include "raylet/node_log.h"
#include "raylet/node_server.h"

#include "common/check.h"
#include "common/log.h"
#include "wire/channel.h"

#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

namespace manta::raylet {

// Carrying out an effect can bring up the next event (a client whose outbox is full): it waits its turn, so that effects are
// carried out in the order they were decided.
void NodeServer::step(Event event) {
  events_.push_back(std::move(event));
  step_all();
}

void NodeServer::step_all() {
  if (is_stepping_) return;
  is_stepping_ = true;
  while (!events_.empty()) {
    Event next = std::move(events_.front());
    events_.pop_front();
    log_event(next);
    carry_out(core_->step(std::move(next), now_us()));
    hear_head();
  }
  is_stepping_ = false;
}

void NodeServer::carry_out(Effects effects) {
  for (Effect& effect : effects) {
    log_effect(effect);
    std::visit([this](auto& one) { carry_out(one); }, effect);
  }
}

void NodeServer::hear_head() {
  for (wire::ToNode& said : head_->receive()) {
    if (auto* run = std::get_if<wire::RunJob>(&said.message); run != nullptr && cluster_) cluster_->give_token(*run);
    if (cluster_) cluster_->from_own_head(said.to, said.message);
    if (said.to == (options_.number == 0 ? wire::kHeadNode : options_.number)) note_from_head(std::move(said.message));
  }
  step_all();
}

void NodeServer::tick_head() {
  // What waits in the link's inbox is no silence, however long the head takes to get round to it.
  if (cluster_ && cluster_->is_head()) {
    for (const auto& [node, at] : link_->heard())
      head_->note_heard(node, std::chrono::duration_cast<std::chrono::microseconds>(at.time_since_epoch()).count());
  }
  const Status status = head_->tick();
  MANTA_CHECK(status.ok(), status.to_string());
  hear_head();
}

template <typename Message>
void NodeServer::send_to(ProcessId process, const Message& message, const std::vector<int>& fds) {
  if (door_ && door_->is_visitor(process)) return door_->send(process, Message::kType, wire::encode(message));
  const auto it = by_process_.find(process);
  if (it == by_process_.end()) return;
  const ClientKey key = it->second;
  Client& client = clients_.at(key);
  const Status status = client.connection->send(message, fds);
  // A peer that is gone shows when reading; one that does not read what it is sent is cut off.
  if (!status.ok() && status.code() != Code::kUnavailable) return drop_client(key, status);
  watch_writes(client);
}

std::vector<int> NodeServer::channel_descriptors(ChannelId channel, ProcessId worker) {
  const auto file = new_channels_.find(channel);
  Client* host = find_client(worker);
  if (file == new_channels_.end() || host == nullptr) return {};
  return {file->second.get(), host->bell.get()};
}

void NodeServer::add_store_state(wire::NodeState& state) const {
  const object_store::StoreStats stats = store_->stats();
  state.store_capacity_bytes = stats.capacity_bytes;
  state.store_granted_bytes = stats.granted_bytes;
  state.store_objects = stats.objects;
  state.store_object_bytes = stats.object_bytes;
  state.store_spilled_objects = stats.spilled_objects;
  state.store_spilled_bytes = stats.spilled_bytes;
}

void NodeServer::carry_out(Send& effect) {
  std::visit(
      [&]<typename Message>(Message& message) {
        if (cluster_ && cluster_->is_remote(effect.to))
          return cluster_->deliver(effect.to, Message::kType, wire::encode(message));
        std::vector<int> fds;
        ChannelId channel;
        if constexpr (std::is_same_v<Message, wire::Welcome>) fds = {store_->table_fd().get()};
        if constexpr (std::is_same_v<Message, wire::NodeState>) add_store_state(message);
        if constexpr (requires { message.new_channel; }) {
          if (message.new_channel) {
            channel = ChannelId{message.channel};
            fds = channel_descriptors(channel, ProcessId{message.worker});
            if (fds.empty()) return;  // the worker went away between the decision and now; its death is on its way
          }
        }
        send_to(effect.to, message, fds);
        new_channels_.erase(channel);
      },
      effect.message);
}

void NodeServer::carry_out(Connect& effect) {
  if (cluster_ && cluster_->is_remote(effect.caller)) return cluster_->connect(effect);
  const Client* caller = find_client(effect.caller);
  if (caller == nullptr) return;
  Result<Fd> file = wire::Channel::create_file();
  if (!file.ok()) {
    if (const auto worker = by_process_.find(effect.worker); worker != by_process_.end())
      drop_client(worker->second, file.status().with_context("making a channel"));
    return;
  }
  const std::vector<int> fds{file->get(), caller->bell.get()};
  send_to(effect.worker,
          wire::AttachChannel{.channel = effect.channel.value, .caller = effect.caller.value, .devices = effect.devices},
          fds);
  new_channels_[effect.channel] = std::move(*file);
}

void NodeServer::carry_out(Spawn& effect) {
  const bool may_fork = effect.may_fork && !effect.is_first && !is_ending_;
  if (effect.is_first && !plain_worker_) plain_worker_ = effect;
  if (!may_fork || !forks_->order(effect)) spawn(effect);
}

void NodeServer::spawn(Spawn& effect) {
  if (is_ending_) return;
  Result<WorkerProcess> started = start_worker(effect, options_.job_user);
  if (!started.ok()) return step(SpawnFailed{effect.token, started.status()});
  worker_started(effect, std::move(*started));
}

void NodeServer::worker_started(const Spawn& effect, WorkerProcess process) {
  const WorkerToken token = effect.token;
  const int32_t pid = process.pid;
  RunningWorker& worker = workers_[token];
  worker.driver = ProcessId{effect.job.value};
  worker.build_id = effect.build_id;
  worker.process = std::move(process);
  worker.log = LogFile(log_dir() + "/worker-" + std::to_string(pid) + ".out");
  worker.out = watch_output(std::move(worker.process.out), token, false, pid);
  worker.err = watch_output(std::move(worker.process.err), token, true, pid);
  Result<EventLoop::Id> exit =
      loop_->add(worker.process.pidfd.get(), EPOLLIN, [this, token](uint32_t) { on_worker_ended(token); });
  Result<ClientKey> client = add_client(std::move(worker.process.socket), token);
  MANTA_CHECK(exit.ok() && client.ok(), "epoll takes no more descriptors");
  worker.registration = *exit;
  worker.client = *client;
  step(WorkerSpawned{token, pid});
}

void NodeServer::carry_out(KillWorker& effect) {
  if (const auto it = workers_.find(effect.token); it != workers_.end()) return kill_group(it->second.process);
  if (is_ending_ || !forks_->has_ordered(effect.token)) return;
  // The server does not answer: nobody should wait for it any more.
  forks_->cancel(effect.token);
  step(WorkerExited{effect.token, {.by_signal = true, .code = SIGKILL}, {}});
  forks_->give_up("it did not start a worker in time");
}

void NodeServer::carry_out(Disconnect& effect) {
  if (door_) door_->refuse(effect.process, effect.status);
  if (const auto it = by_process_.find(effect.process); it != by_process_.end()) refuse_client(it->second, effect.status);
}

void NodeServer::carry_out(TellHead& effect) {
  // A head in this process takes everything; for one elsewhere what it is told waits while it is away, up to a bound.
  const wire::NodeNumber self = options_.number == 0 ? wire::kHeadNode : options_.number;
  if (auto* returns = std::get_if<wire::HeadNodeReturns>(&effect.message); returns != nullptr && cluster_)
    returns->info = cluster_->info();
  std::optional<wire::ActorNotice> refusal;
  if (const auto* request = std::get_if<wire::HeadRequest>(&effect.message))
    if (const auto* create = std::get_if<wire::CreateActor>(&request->request))
      refusal = {request->from, {.actor = create->actor, .cause = {}, .class_name = create->class_name, .instead_of = {}}};
  const Status status = head_->send(self, std::move(effect.message));
  MANTA_CHECK(status.ok() || cluster_, status.to_string());
  if (status.ok()) return;
  MANTA_LOG(kError, "raylet", "the head cannot be told", {"why", status});
  if (!refusal) return;
  refusal->update.phase = static_cast<uint8_t>(wire::ActorPhase::kDead);
  refusal->update.cause = wire::to_wire(status.with_context("the actor cannot be created"));
  events_.push_back(HeadSays{std::move(*refusal)});
}

void NodeServer::carry_out(ReportSoon& effect) {
  if (cluster_) return cluster_->carry_out(effect);
  TellHead report{wire::Heartbeat{.available = {}}};
  carry_out(report);
}

void NodeServer::carry_out(ListObjects& effect) {
  Send answer{effect.to, core_->with_node(store_->list(effect.request))};
  carry_out(answer);
}

void NodeServer::carry_out(RemovePath& effect) {
  std::error_code ignored;
  std::filesystem::remove_all(effect.path, ignored);
}

void NodeServer::carry_out(EndNode& effect) {
  if (!ending_) ending_ = effect;
}

// ---------------------------------------------------------------------------------------------------- worker processes

void NodeServer::on_worker_ended(WorkerToken token) {
  RunningWorker& worker = workers_.at(token);
  ExitCause cause = reap(worker.process);
  if (cause.by_signal && cause.code == SIGKILL) cause.out_of_memory = oom_.has_moved();
  finish_output(worker, *worker.out);
  finish_output(worker, *worker.err);
  std::string last_words = worker.err->stream.last_words();
  loop_->remove(worker.registration);
  const ClientKey client_key = worker.client;
  // What it sent before it ended still counts.
  if (clients_.contains(client_key)) on_client_ready(client_key, EPOLLIN);
  erase_client(client_key);
  workers_.erase(token);
  step(WorkerExited{token, cause, std::move(last_words)});
}

std::unique_ptr<NodeServer::Output> NodeServer::watch_output(Fd pipe, WorkerToken token, bool is_error_stream, int32_t pid) {
  auto output = std::make_unique<Output>(Output{std::move(pipe), 0, LogStream(pid, is_error_stream)});
  Result<EventLoop::Id> id = loop_->add(output->pipe.get(), EPOLLIN,
                                        [this, token, is_error_stream](uint32_t) { on_output(token, is_error_stream); });
  MANTA_CHECK(id.ok(), "epoll takes no more descriptors");
  output->registration = *id;
  return output;
}

void NodeServer::on_output(WorkerToken token, bool is_error_stream) {
  RunningWorker& worker = workers_.at(token);
  Output& output = is_error_stream ? *worker.err : *worker.out;
  if (!read_output(worker, output)) finish_output(worker, output);
}

bool NodeServer::read_output(RunningWorker& worker, Output& output) {
  std::array<char, 64 << 10> buffer;
  const ssize_t size = ::read(output.pipe.get(), buffer.data(), buffer.size());
  if (size < 0) return errno == EAGAIN || errno == EINTR;
  if (size == 0) return false;
  forward(worker, output.stream.feed({buffer.data(), static_cast<size_t>(size)}, now_us()));
  return true;
}

void NodeServer::finish_output(RunningWorker& worker, Output& output) {
  if (!output.pipe) return;
  // At most what the pipe holds: a child of the worker may keep writing.
  for (int reads = 0; reads < 32; ++reads) {
    const int64_t before = output.stream.bytes_fed();
    if (!read_output(worker, output) || output.stream.bytes_fed() == before) break;
  }
  forward(worker, output.stream.finish(now_us()));
  loop_->remove(output.registration);
  output.pipe.reset();
}

void NodeServer::forward(RunningWorker& worker, const std::vector<wire::LogLines>& batches) {
  for (const wire::LogLines& batch : batches) {
    worker.log.append(batch);
    if (cluster_ && cluster_->is_remote(worker.driver)) {
      cluster_->deliver(worker.driver, wire::LogLines::kType, wire::encode(batch));
      continue;
    }
    Client* driver = find_client(driver_);
    if (driver == nullptr) continue;
    // A driver that does not keep up loses lines rather than its connection; the worker's file has them.
    if (driver->connection->wants_write() && ++log_batches_behind_ > kMaxLogBatchesBehind) continue;
    if (!driver->connection->wants_write()) log_batches_behind_ = 0;
    send_to(driver_, batch);
  }
}

}  // namespace manta::raylet
