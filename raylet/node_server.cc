// Life of the node: start, the loop, the end.
#include "raylet/node_server.h"

#include "common/check.h"
#include "common/log.h"
#include "object_store/spill_place.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>

namespace manta::raylet {
namespace {

Status os_error(const std::string& what) { return Status(Code::kIo, what + ": " + std::strerror(errno)); }

// Each worker costs half a dozen descriptors.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

NodeServer::NodeServer(NodeOptions options, std::unique_ptr<wire::HeadLink> head, std::unique_ptr<EventLoop> loop)
    : options_(std::move(options)), head_(std::move(head)), loop_(std::move(loop)), memory_(options_.memory_limit_bytes) {}

NodeServer::~NodeServer() = default;

Result<std::unique_ptr<NodeServer>> NodeServer::start(NodeOptions options, std::unique_ptr<wire::HeadLink> head,
                                                      std::optional<ClusterParts> cluster) {
  MANTA_ASSIGN_OR_RETURN(std::unique_ptr<EventLoop> loop, EventLoop::create());
  std::unique_ptr<NodeServer> server(new NodeServer(std::move(options), std::move(head), std::move(loop)));
  MANTA_RETURN_IF_ERROR(server->set_up());
  if (cluster) MANTA_RETURN_IF_ERROR(server->join_cluster(std::move(*cluster)));
  return server;
}

Status NodeServer::set_up() {
  raise_descriptor_limit();
  if (mkdir(options_.session_dir.c_str(), 0700) != 0 && errno != EEXIST) return os_error("making " + options_.session_dir);
  MANTA_RETURN_IF_ERROR(start_store());
  core_ = std::make_unique<RayletCore>(CoreSettings{.node = NodeId{random_id()},
                                                    .number = options_.number,
                                                    .ids_from = options_.ids_from,
                                                    .capacity = options_.capacity,
                                                    .labels = options_.labels,
                                                    .job_quota = options_.job_quota,
                                                    .session_dir = options_.session_dir,
                                                    .raylet_name = "mantad " + std::to_string(getpid()),
                                                    .pid = getpid()});
  forks_ = std::make_unique<ForkServer>(
      *loop_, ForkServer::Handlers{.started = [this](const Spawn& order,
                                                     WorkerProcess process) { worker_started(order, std::move(process)); },
                                   .undone = [this](Spawn& order) { spawn(order); }});
  MANTA_RETURN_IF_ERROR(watch_signals());
  if (head_->wake_fd() >= 0) {
    MANTA_ASSIGN_OR_RETURN([[maybe_unused]] EventLoop::Id id,
                           loop_->add(head_->wake_fd(), EPOLLIN, [this](uint32_t) { hear_head(); }));
  }
  MANTA_RETURN_IF_ERROR(listen_for_visitors());
  MANTA_LOG(kInfo, "raylet", "node started", {"cpus", static_cast<double>(options_.capacity.cpus) / wire::kWhole},
            {"devices", options_.capacity.devices.size()}, {"memory_bytes", options_.capacity.memory_bytes},
            {"store_bytes", options_.store_bytes}, {"session", options_.session_dir});
  if (options_.driver_fd < 0) return {};
  MANTA_ASSIGN_OR_RETURN(const ClientKey driver, add_client(Fd(options_.driver_fd), {}));
  return watch_driver(driver);
}

Status NodeServer::start_store() {
  MANTA_ASSIGN_OR_RETURN(const object_store::SpillPlace place,
                         object_store::find_spill_place(options_.session_dir, options_.spill_dir, options_.spill_bytes));
  MANTA_ASSIGN_OR_RETURN(store_, object_store::StoreServer::create({.capacity_bytes = options_.store_bytes,
                                                                    .spill_folder = place.folder,
                                                                    .spill_bytes = place.capacity_bytes,
                                                                    .prepared_bytes = options_.store_warm_bytes,
                                                                    .node = options_.number,
                                                                    .ids_from = options_.ids_from}));
  MANTA_ASSIGN_OR_RETURN([[maybe_unused]] EventLoop::Id id,
                         loop_->add(store_->disk_fd(), EPOLLIN, [this](uint32_t) { store_->on_disk(); }));
  return {};
}

// SIGTERM ends the node in order. SIGINT is the terminal's Ctrl-C, which is for the driver to decide about.
Status NodeServer::watch_signals() {
  signal(SIGINT, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_ = Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return os_error("signalfd");
  MANTA_ASSIGN_OR_RETURN([[maybe_unused]] EventLoop::Id id,
                         loop_->add(signals_.get(), EPOLLIN, [this](uint32_t) { on_sigterm(); }));
  return {};
}

// The head's own node ends with the head, a driver's with the driver: nothing is gained by waiting.
void NodeServer::on_sigterm() {
  signalfd_siginfo taken{};
  [[maybe_unused]] const ssize_t size = ::read(signals_.get(), &taken, sizeof taken);
  const bool others_rely_on_it = cluster_ && !cluster_->is_head() && !cluster_->info().is_driver;
  if (!others_rely_on_it) {
    ending_ = EndNode{};
  } else {
    step(DrainAsked{core_->is_draining() ? 0 : options_.drain_us, "its mantad got SIGTERM"});
  }
}

// Drivers of submitted jobs keep the node as objects do.
void NodeServer::count_objects() {
  next_count_us_ = now_us() + kCountObjectsUs;
  step(ObjectsLeft{store_->stats().objects + (jobs_ ? jobs_->attempts() : 0)});
}

// The socket alone would not do: a child of the driver may hold a copy of its end.
Status NodeServer::watch_driver(ClientKey key) {
  MANTA_ASSIGN_OR_RETURN(const wire::PeerCredentials peer, clients_.at(key).connection->peer());
  if (peer.uid != getuid()) return Status(Code::kInvalid, "the driver is another user's process");
  if (peer.pid == getpid()) return {};
  driver_pidfd_ = open_pidfd(peer.pid);
  if (!driver_pidfd_) return os_error("pidfd_open of the driver");
  MANTA_ASSIGN_OR_RETURN([[maybe_unused]] EventLoop::Id id, loop_->add(driver_pidfd_.get(), EPOLLIN, [this, key](uint32_t) {
    drop_client(key, {});
    if (!driver_) ending_ = EndNode{};  // it died before it said Hello
  }));
  return {};
}

// <session>/mantad.sock, for visitors of the same user. A session whose path is too long for a socket does without.
Status NodeServer::listen_for_visitors() {
  const std::string path = options_.session_dir + "/mantad.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return {};
  std::memcpy(address.sun_path, path.data(), path.size());
  ::unlink(path.c_str());  // of one that was killed
  listener_ = Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_) return os_error("socket");
  if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      chmod(path.c_str(), 0600) != 0 || listen(listener_.get(), 16) != 0)
    return os_error("listening on " + path);
  MANTA_ASSIGN_OR_RETURN([[maybe_unused]] EventLoop::Id id,
                         loop_->add(listener_.get(), EPOLLIN, [this](uint32_t) { on_visitor(); }));
  return {};
}

void NodeServer::on_visitor() {
  Fd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  const auto visitors = std::ranges::count_if(clients_, [](const auto& entry) { return entry.second.is_visitor; });
  if (!socket || static_cast<size_t>(visitors) >= kMaxVisitors) return;
  const Result<ClientKey> key = add_client(std::move(socket), {});
  if (!key.ok()) return;
  Client& client = clients_.at(*key);
  client.is_visitor = true;
  const Result<wire::PeerCredentials> peer = client.connection->peer();
  if (!peer.ok() || peer->uid != getuid()) drop_client(*key, {});
}

uint64_t NodeServer::random_id() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) | 1;
}

int64_t NodeServer::now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::real().now().time_since_epoch()).count();
}

int NodeServer::wait_ms() const {
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  int64_t deadline_us = core_->next_deadline_us().value_or(kNever);
  if (const std::optional<Time> due = store_->next_deadline())
    deadline_us = std::min(deadline_us, std::chrono::ceil<std::chrono::microseconds>(due->time_since_epoch()).count());
  if (const auto due_us = head_->next_deadline_us()) deadline_us = std::min(deadline_us, *due_us);
  if (core_->wants_memory_samples()) deadline_us = std::min(deadline_us, next_memory_us_);
  if (core_->is_draining()) deadline_us = std::min(deadline_us, next_count_us_);
  if (fork_server_due_us_ != 0) deadline_us = std::min(deadline_us, fork_server_due_us_);
  if (cluster_) deadline_us = std::min(deadline_us, cluster_->next_deadline_us());
  if (!job_words_.empty()) return 0;
  if (jobs_)
    if (const auto due_us = jobs_->next_deadline_us()) deadline_us = std::min(deadline_us, *due_us);
  if (deadline_us == kNever) return -1;
  return static_cast<int>(std::clamp<int64_t>((deadline_us - now_us() + 999) / 1000, 0, 60'000));
}

void NodeServer::run_due() {
  if (const auto deadline_us = core_->next_deadline_us(); deadline_us && *deadline_us <= now_us()) step(Tick{});
  if (const auto due = store_->next_deadline(); due && *due <= Clock::real().now()) store_->tick();
  if (const auto due_us = head_->next_deadline_us(); due_us && *due_us <= now_us()) tick_head();
  if (core_->wants_memory_samples() && next_memory_us_ <= now_us()) sample_memory();
  if (core_->is_draining() && next_count_us_ <= now_us()) count_objects();
  if (cluster_) cluster_->tick(now_us());
  run_jobs();
  if (door_) door_->tick(now_us());
  prepare_fork_server();
  drop_overflowing();
}

void NodeServer::prepare_fork_server() {
  if (!plain_worker_) return;
  const int64_t now = now_us();
  if (fork_server_due_us_ == 0 && core_->wants_memory_samples()) fork_server_due_us_ = now + kForkServerUs;
  if (fork_server_due_us_ == 0 || now < fork_server_due_us_) return;
  forks_->prepare(*plain_worker_);
  plain_worker_.reset();
  fork_server_due_us_ = 0;
}

void NodeServer::sample_memory() {
  MemoryWatch::Workers pids;
  for (const auto& [token, worker] : workers_) pids[token] = worker.process.pid;
  next_memory_us_ = now_us() + MemoryWatch::interval_us(pids.size());
  if (std::optional<MemorySampled> sample = memory_.sample(pids)) step(std::move(*sample));
}

void NodeServer::run() {
  while (!ending_) {
    loop_->run_once(wait_ms());
    run_due();
  }
  end();
}

Status NodeServer::how_it_ended() const {
  if (!ending_ || !ending_->is_given_up) return {};
  return Status(Code::kUnavailable,
                "the cluster gave this node up and went on without it (" + ending_->reason +
                    "); its work was ended. Start mantad again to join as a new node; it was silent because of a stopped "
                    "process, a paused machine or a broken network");
}

void NodeServer::end() {
  MANTA_LOG(kInfo, "raylet", "node ends", {"workers", workers_.size()});
  if (cluster_ && !ending_->is_drained)
    cluster_->leave(ending_->by_goodbye ? "its program ended" : "it was told to end", false);
  const int64_t deadline_us = now_us() + kEndUs;
  is_ending_ = true;
  forks_.reset();
  jobs_.reset();
  for (auto& [token, worker] : workers_) kill_group(worker.process);
  while (!workers_.empty() && now_us() < deadline_us) loop_->run_once(10);
  // What its processes' ends are told as goes out before the word that it is gone.
  if (cluster_ && ending_->is_drained) cluster_->leave(ending_->reason, true);
  if (Client* driver = find_client(driver_); driver != nullptr && ending_->by_goodbye)
    if (Status status = driver->connection->drain(std::chrono::milliseconds(200)); !status.ok()) driver->connection->close();
  clients_.clear();
  transfer_.reset();
  door_.reset();
  cluster_.reset();
  link_.reset();  // what was said last has 200 ms to go out
  head_.reset();  // before its files go: its writer may be making one just now
  store_.reset();
  log::stop();
  std::error_code ignored;
  std::filesystem::remove_all(options_.session_dir, ignored);
}

}  // namespace manta::raylet
