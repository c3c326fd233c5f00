#include "raylet/raylet_core.h"

#include "common/check.h"
#include "raylet/client_messages.h"
#include "wire/node_resources.h"

#include <algorithm>

namespace manta::raylet {

using wire::kWhole;

RayletCore::RayletCore(CoreSettings settings)
    : settings_(std::move(settings)),
      resources_(settings_.capacity),
      bundles_(resources_),
      leases_(std::max(wire::first_id_of(settings_.number), settings_.ids_from) + 1),
      next_channel_(std::max(wire::first_id_of(settings_.number), settings_.ids_from) + 1) {}

Effects RayletCore::step(Event event, int64_t now_us) {
  now_us_ = now_us;
  std::visit([this](auto& one) { on(one); }, event);
  if (!quotas_.empty()) settle_quotas();
  if (too_little_ && wire::has_more(available(), *too_little_)) {
    too_little_.reset();
    emit(ReportSoon{});
  }
  return std::exchange(effects_, {});
}

void RayletCore::send(ProcessId to, Outgoing message) {
  if (clients_.contains(to) || is_remote(to.value)) emit(Send{to, std::move(message)});
}

int RayletCore::cpu_count() const { return static_cast<int>(std::max<int64_t>(1, resources_.capacity().cpus / kWhole)); }
int RayletCore::max_starting() const { return std::max(8, 2 * cpu_count()); }

// ---------------------------------------------------------------------------------------------------- clients

void RayletCore::on(ClientJoined& event) {
  const ProcessId process{event.hello.process};
  MANTA_CHECK(!clients_.contains(process), process.to_string());
  switch (static_cast<wire::Role>(event.hello.role)) {
    case wire::Role::kDriver: return join_driver(process, event.hello);
    case wire::Role::kWorker: return join_worker(process, event.hello);
    case wire::Role::kObserver: return admit(process, event.hello);
  }
  emit(Disconnect{process, Status(Code::kInvalid, "unknown role " + std::to_string(event.hello.role))});
}

void RayletCore::admit(ProcessId process, wire::Hello& hello) {
  const auto role = static_cast<wire::Role>(hello.role);
  Client& client = clients_[process];
  client.role = role;
  client.pid = hello.pid;
  emit(Send{process, wire::Welcome{.node = settings_.node.value,
                                   .job = client.job.value,
                                   .capacity = cluster_capacity(),
                                   .session_dir = settings_.session_dir,
                                   .raylet_name = settings_.raylet_name,
                                   .process = process.value}});
  emit(TellHead{wire::HeadClientJoined{.process = process.value,
                                       .role = hello.role,
                                       .pid = hello.pid,
                                       .job = client.job.value,
                                       .job_name = hello.job_name,
                                       .quota = role == wire::Role::kDriver ? settings_.job_quota : wire::Amounts()}});
}

void RayletCore::join_driver(ProcessId process, wire::Hello& hello) {
  if (driver_) {
    emit(Disconnect{process, Status(Code::kExists, "this local node serves another program already")});
    return;
  }
  driver_ = process;
  clients_[process].job = JobId{process.value};
  quotas_.begin(JobId{process.value}, settings_.job_quota);
  jobs_[JobId{process.value}].plan = JobPlan{.program = std::move(hello.program),
                                             .arguments = std::move(hello.arguments),
                                             .working_directory = std::move(hello.working_directory),
                                             .env = std::move(hello.env),
                                             .build_id = hello.build_id};
  admit(process, hello);
  prestart();
}

void RayletCore::join_worker(ProcessId process, wire::Hello& hello) {
  Worker* worker = workers_.find(WorkerToken{hello.spawn_token});
  if (worker == nullptr || worker->state != WorkerState::kStarting || worker->process) {
    emit(Disconnect{process, Status(Code::kInvalid, "no worker was started with this token")});
    return;
  }
  hello.pid = worker->pid;
  clients_[process].job = worker->env.job;
  admit(process, hello);
  workers_.set_process(*worker, process);
  workers_.note_start(worker->env);
  workers_.enter(*worker, WorkerState::kIdle, now_us_);
  if (Lease* lease = leases_.find(worker->dedicated_to)) activate(*lease, *worker);
  schedule();
}

void RayletCore::on(ClientGone& event) {
  const auto it = clients_.find(event.process);
  if (it == clients_.end()) return;
  if (event.process == driver_) return driver_gone(false, 0);
  Worker* worker = workers_.find(event.process);
  if (worker == nullptr) return forget_client(event.process, Status(Code::kDied, "the connection was closed"));
  if (!event.reason.ok()) return kill(*worker, event.reason.message());
  // It is ending by itself: its exit will say how. The deadline is for one that closed its socket and lives on.
  workers_.enter(*worker, WorkerState::kEnding, now_us_);
}

void RayletCore::break_with(ProcessId process, const std::string& why) {
  emit(Disconnect{process, Status(Code::kInvalid, why)});
  ClientGone gone{process, Status(Code::kInvalid, why)};
  on(gone);
}

void RayletCore::driver_gone(bool by_goodbye, int32_t exit_code) {
  if (is_ending_) return;
  is_ending_ = true;
  for (auto& [token, worker] : workers_.all()) kill(worker, "the program ended");
  for (const std::string& path : clients_[driver_].cleanup_paths) emit(RemovePath{path});
  Status end;
  if (!by_goodbye) end = Status(Code::kDied, "the driver ended");
  if (exit_code != 0) end = Status(Code::kDied, "the driver exited with code " + std::to_string(exit_code));
  forget_client(driver_, Status(Code::kDied, "the driver ended"), &end);
  emit(EndNode{by_goodbye, exit_code});
}

void RayletCore::forget_client(ProcessId process, const Status& cause, const Status* job_end) {
  const auto it = clients_.find(process);
  if (it == clients_.end()) return;
  const wire::ProcessDied died{.process = process.value, .pid = it->second.pid, .cause = wire::to_wire(cause)};
  const Client gone = std::move(it->second);
  clients_.erase(it);
  if (!gone.is_remote) {
    emit(TellHead{
        wire::HeadClientGone{.process = process.value, .cause = job_end != nullptr ? wire::to_wire(*job_end) : died.cause}});
  }
  if (gone.role == wire::Role::kObserver) {
    if (settings_.number != 0)
      emit(TellGone{wire::ProcessGone{.process = process.value, .pid = died.pid, .cause = died.cause}, {}});
    return;
  }
  drop_leases_of(process);
  groups_.forget(process);
  watches_.erase(process);
  forget_channels(process, gone);
  if (!gone.is_remote && settings_.number != 0) {
    forget_remote_peers(process);
    TellGone tell{wire::ProcessGone{.process = process.value, .pid = died.pid, .cause = died.cause}, {}};
    for (const std::set<ProcessId>* others : {&gone.peers, &gone.watchers})
      for (const ProcessId other : *others)
        if (is_remote(other.value)) tell.nodes.insert(wire::node_of(other.value));
    emit(std::move(tell));
  }
  // Not everyone: with a thousand workers, a thousand ends would be a million messages.
  std::set<ProcessId> concerned = gone.peers;
  concerned.insert(gone.watchers.begin(), gone.watchers.end());
  concerned.insert(driver_);
  for (const ProcessId other : concerned)
    if (!is_remote(other.value)) send(other, died);  // its own raylet hears of it and tells
  for (const ProcessId other : gone.is_watching)
    if (const auto watched = clients_.find(other); watched != clients_.end()) watched->second.watchers.erase(process);
  schedule();
}

void RayletCore::on_message(ProcessId from, wire::Goodbye& message) {
  if (from == driver_) return driver_gone(true, message.exit_code);
  Worker* worker = workers_.find(from);
  if (worker == nullptr || worker->state != WorkerState::kEnding || !worker->was_asked_to_leave) return;
  // It cannot leave: others still need what it owns. Unless it was dedicated, it stays and can work.
  if (worker->dedicated_to) return kill(*worker, "its lease ended");
  worker->was_asked_to_leave = false;
  workers_.enter(*worker, WorkerState::kIdle, now_us_ + (drain_ ? kStayInDrainUs : kStayUs));
  schedule();
}

void RayletCore::on(FromClient& event) {
  if (is_ending_) return;
  const auto it = clients_.find(event.from);
  if (is_remote(event.from.value) ? !is_handed_on(event.message) : it == clients_.end()) return;
  if (it != clients_.end() && it->second.role == wire::Role::kObserver)
    if (const Status status = check_visitor(event); !status.ok()) return break_with(event.from, status.message());
  std::visit([&](auto& message) { on_message(event.from, message); }, event.message);
}

Status RayletCore::check_visitor(const FromClient& event) {
  switch (visitor_right(event.message)) {
    case VisitorRight::kLook: return {};
    case VisitorRight::kAct:
      if (event.may_act) return {};
      return Status(Code::kInvalid,
                    "the key of a viewer may only look: this needs the key of a driver or node (manta token create --role "
                    "driver)");
    case VisitorRight::kNone: break;
  }
  return Status(Code::kInvalid, "a visitor may not say this: it is for drivers and workers");
}

void RayletCore::on_message(ProcessId from, wire::Relay& message) {
  message.from = from.value;
  send(ProcessId{message.to}, std::move(message));
}

void RayletCore::on_message(ProcessId from, wire::WatchProcess& message) {
  const ProcessId process{message.process};
  if (process == from) return;
  if (is_remote(process.value)) {
    remote_peers_[process].interested.insert(from);
    clients_.at(from).remote_peers.insert(process);
    return emit(HandOn{wire::node_of(process.value), from, message});
  }
  if (process == driver_ && !is_remote(from.value)) return;  // the node ends with it
  const auto watched = clients_.find(process);
  if (watched == clients_.end()) {
    const Status status(Code::kDied, "it ended before");
    return send(from, wire::ProcessDied{.process = process.value, .pid = 0, .cause = wire::to_wire(status)});
  }
  watched->second.watchers.insert(from);
  (is_remote(from.value) ? meet(from) : clients_.at(from)).is_watching.insert(process);
}

void RayletCore::on_message(ProcessId from, wire::CleanupPath& message) {
  std::set<std::string>& paths = clients_[from].cleanup_paths;
  if (!message.add) {
    paths.erase(message.path);
    return;
  }
  const size_t slash = message.path.rfind('/');
  const bool is_staging = message.path.starts_with('/') && message.path.compare(slash + 1, 7, ".manta-") == 0 &&
                          message.path.find("/../") == std::string::npos && message.path.find('\0') == std::string::npos;
  if (!is_staging || from != driver_) return break_with(from, "not a staging folder of a driver: " + message.path);
  if (paths.size() >= kMaxCleanupPaths) return break_with(from, "too many staging folders");
  paths.insert(std::move(message.path));
}

void RayletCore::on_message(ProcessId from, wire::GetNodeState& message) {
  wire::NodeState now = state();
  now.request = message.request;
  send(from, std::move(now));
}

// ---------------------------------------------------------------------------------------------------- channels

RayletCore::Connected RayletCore::connect(ProcessId caller, const Worker& worker, const std::vector<int32_t>& devices) {
  ChannelId& channel = channels_[{caller, worker.process}];
  if (channel) return {channel, false};
  channel = ChannelId{next_channel_++};
  (is_remote(caller.value) ? meet(caller) : clients_.at(caller)).peers.insert(worker.process);
  clients_.at(worker.process).peers.insert(caller);
  emit(Connect{channel, caller, worker.process, devices});
  return {channel, true};
}

void RayletCore::forget_channels(ProcessId process, const Client& gone) {
  for (const ProcessId other : gone.peers) {
    if (const auto as_caller = channels_.find({process, other}); as_caller != channels_.end()) {
      send(other, wire::DetachChannel{as_caller->second.value});
      channels_.erase(as_caller);
    }
    channels_.erase({other, process});
    if (const auto peer = clients_.find(other); peer != clients_.end()) peer->second.peers.erase(process);
  }
}

// ---------------------------------------------------------------------------------------------------- looking

wire::NodeState RayletCore::state() const {
  wire::NodeState now;
  now.capacity = cluster_capacity();
  now.available = view_.available();
  add(now.available, resources_.available());
  now.workers = static_cast<uint32_t>(workers_.size());
  now.idle_workers = static_cast<uint32_t>(workers_.count(WorkerState::kIdle));
  now.waiting_leases = static_cast<uint32_t>(queue_.size() + unadmitted_.size());
  for (const auto& [id, lease] : leases_.all()) ++(lease.is_actor() ? now.actors : now.leases);
  return now;
}

bool RayletCore::is_at_rest() const {
  return leases_.size() == 0 && queue_.size() == 0 && unadmitted_.size() == 0 && quotas_.is_at_rest() && later_.empty() &&
         resources_.is_whole();
}

void RayletCore::check_invariants() const {
  bundles_.check_invariants();
  quotas_.check_invariants();
  wire::Resources held = bundles_.amounts();
  for (const auto& [id, lease] : leases_.all()) {
    if (!lease.grant.bundle) add(held, amounts_of(lease.grant));
    MANTA_CHECK(!lease.is_active || lease.worker, "an active lease has a worker", id.value);
    MANTA_CHECK(lease.is_actor() || clients_.contains(lease.claim.owner) || lease.is_ended, "a lease has a living owner",
                id.value);
  }
  wire::Resources total = resources_.available();
  add(total, held);
  std::erase_if(total.custom, [](const auto& entry) { return entry.second == 0; });
  wire::Resources capacity = resources_.capacity();
  std::erase_if(capacity.custom, [](const auto& entry) { return entry.second == 0; });
  MANTA_CHECK(total == capacity, describe(total), describe(capacity));
  for (const auto& [token, worker] : workers_.all()) {
    MANTA_CHECK(workers_.in(worker.state).contains(token), "a worker is kept by its state", token.value);
    MANTA_CHECK(worker.state != WorkerState::kBusy || worker.lease, "a busy worker has a lease", token.value);
    MANTA_CHECK(worker.state != WorkerState::kIdle || !worker.lease, "an idle worker has no lease", token.value);
    if (!worker.lease) continue;
    const auto lease = leases_.all().find(worker.lease);
    MANTA_CHECK(lease != leases_.all().end() && lease->second.worker == token, "worker and lease name each other",
                token.value);
  }
  for (const auto& [ends, channel] : channels_) {
    MANTA_CHECK(clients_.contains(ends.first) && clients_.contains(ends.second), "both ends of a channel live",
                channel.value);
    MANTA_CHECK(clients_.at(ends.first).peers.contains(ends.second) && clients_.at(ends.second).peers.contains(ends.first),
                "the ends of a channel are peers", channel.value);
  }
}

}  // namespace manta::raylet
