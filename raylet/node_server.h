// One node's raylet: the I/O around raylet_core. Sockets, processes, pipes, signals and the clock come in as events, effects
// go out.
//
// One thread, one epoll loop; it decides nothing. The head is reached through a HeadLink, whatever is behind it.
//
//   driver --socket--+                       +--> socket, pidfd, two pipes of each worker
//   worker --socket--+--> NodeServer <-------+
//                    |      | events  ^ effects
//                    |      v         |
//                    |    RayletCore (pure)      HeadLink <--> head
#pragma once

#include "common/clock.h"
#include "common/fd.h"
#include "object_store/store_server.h"
#include "object_store/transfer/identity.h"
#include "object_store/transfer/transfer.h"
#include "raylet/cluster_side.h"
#include "raylet/door.h"
#include "raylet/event_loop.h"
#include "raylet/fork_server.h"
#include "raylet/job_runner.h"
#include "raylet/log_file.h"
#include "raylet/log_stream.h"
#include "raylet/memory_watch.h"
#include "raylet/raylet_core.h"
#include "raylet/worker_process.h"
#include "wire/connection.h"
#include "wire/head_link.h"

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

namespace manta::raylet {

struct NodeOptions {
  int driver_fd = -1;           ///< A connected socket, inherited; -1: the node serves without a driver of its own.
  wire::NodeNumber number = 0;  ///< 0: a session of one node.
  uint64_t ids_from = 0;        ///< See NodeInfo.
  std::string session_dir;
  std::string log_dir;  ///< Where mantad's log and the workers' output go; empty: the session's folder.
  NodeCapacity capacity;
  std::map<std::string, std::string> labels;  ///< Of a node of a cluster.
  wire::Amounts job_quota = {};               ///< Of its driver's job; at the head: of every job. Empty: none.
  uint64_t store_bytes = 0;
  uint64_t store_warm_bytes = uint64_t{128} << 20;  ///< Made ready before it is asked for; at most an eighth of the store.
  std::string spill_dir;                ///< Where a folder for spilled objects is made; empty: the session's folder.
  std::optional<uint64_t> spill_bytes;  ///< 0: nothing is spilled; none: what the disk has free, less a tenth.
  int64_t memory_limit_bytes = 0;       ///< Of all workers together; 0: until the machine is full.
  int64_t drain_us = 60'000'000;        ///< What a node of a cluster may take to end in order after SIGTERM.
  std::optional<JobUser> job_user;      ///< Of workers; none: this process's own.
};

/// What a node of a cluster has besides: its endpoint, and what it heard when it joined.
struct ClusterParts {
  std::unique_ptr<wire::NodeLink> link;
  wire::NodeInfo self;
  Fd bulk_listener;
  object_store::Identity identity;  ///< For the bulk port; of a cluster with keys.
  std::vector<wire::NodeInfo> members;
  std::vector<wire::LinkEvent> early;  ///< Came behind the answer to its Join.
  std::optional<Gatekeeper> gatekeeper;
  JobRunnerSettings jobs;  ///< Without a folder: the node runs no drivers of submitted jobs.
};

class NodeServer {
 public:
  /// Makes the session's folder (0700) and takes the driver's socket over.
  static Result<std::unique_ptr<NodeServer>> start(NodeOptions options, std::unique_ptr<wire::HeadLink> head,
                                                   std::optional<ClusterParts> cluster = {});
  ~NodeServer();

  [[nodiscard]] wire::NodeNumber number() const { return options_.number; }
  /// Of a node of a cluster: where others reach it.
  [[nodiscard]] std::string endpoint() const { return link_ ? link_->endpoint() : ""; }

  /// Serves until the driver is gone, SIGTERM comes or, if others rely on this node, it is drained after SIGTERM; a second
  /// SIGTERM cuts that short. Then ends every worker and removes the session's folder.
  void run();
  /// After that. kUnavailable: the cluster has given this node up.
  [[nodiscard]] Status how_it_ended() const;

 private:
  /// From a Goodbye to the end: how long killed workers may take to disappear, and the driver to read what is left.
  static constexpr int64_t kEndUs = 1'000'000;
  /// From the first work to the start of the fork server: a program that ends sooner does without.
  static constexpr int64_t kForkServerUs = 100'000;
  static constexpr int64_t kCountObjectsUs = 100'000;  ///< While the node is drained.
  static constexpr size_t kMaxVisitors = 64;
  static constexpr int kMaxLogBatchesBehind = 64;  ///< Of at most 64 KiB each.

  struct Client {
    std::unique_ptr<wire::Connection> connection;
    EventLoop::Id registration = 0;
    bool watches_writes = false;
    ProcessId process;        ///< None until its Hello.
    WorkerToken token;        ///< Of a worker's inherited socket.
    bool is_visitor = false;  ///< Came through the listening socket: may only observe.
    wire::Role role{};
    Fd bell;
  };
  using ClientKey = uint64_t;

  struct Output {
    Fd pipe;
    EventLoop::Id registration = 0;
    LogStream stream;
  };
  struct RunningWorker {
    WorkerProcess process;
    EventLoop::Id registration = 0;
    ClientKey client = 0;
    std::unique_ptr<Output> out;
    std::unique_ptr<Output> err;
    LogFile log;
    ProcessId driver;      ///< Of its job.
    std::string build_id;  ///< That it must have.
  };

  NodeServer(NodeOptions options, std::unique_ptr<wire::HeadLink> head, std::unique_ptr<EventLoop> loop);
  Status join_cluster(ClusterParts parts);
  Status start_transfer(ClusterParts& parts);
  void run_jobs_with(JobRunnerSettings settings);
  void run_jobs();
  void open_door();
  void on_visitor_frame(const wire::LinkEvent& event);
  void note_from_head(wire::FromHead message);
  void on_from_head(wire::FromHead message);
  Status set_up();
  Status start_store();
  Status watch_signals();
  void on_sigterm();
  void count_objects();
  [[nodiscard]] uint64_t new_process() {
    return std::max(wire::first_id_of(options_.number), options_.ids_from) + ++last_process_;
  }
  Status watch_driver(ClientKey client);
  Status listen_for_visitors();
  void on_visitor();
  [[nodiscard]] static int64_t now_us();
  [[nodiscard]] static uint64_t random_id();
  [[nodiscard]] const std::string& log_dir() const {
    return options_.log_dir.empty() ? options_.session_dir : options_.log_dir;
  }
  void run_due();
  void sample_memory();
  void prepare_fork_server();
  [[nodiscard]] int wait_ms() const;

  // Clients.
  Result<ClientKey> add_client(Fd socket, WorkerToken token);
  void on_client_ready(ClientKey key, uint32_t events);
  void on_frame(ClientKey key, wire::Frame& frame);
  void on_hello(ClientKey key, wire::Frame& frame);
  [[nodiscard]] Status check_hello(const Client& client, const wire::Hello& hello, size_t descriptors) const;
  Status on_message(Client& client, wire::Frame& frame);
  void drop_client(ClientKey key, const Status& reason);
  void refuse_client(ClientKey key, const Status& status);
  Client* find_client(ProcessId process);
  template <typename Message>
  void send_to(ProcessId process, const Message& message, const std::vector<int>& fds = {});
  void watch_writes(Client& client);
  Status join_store(ProcessId process, int32_t pid, std::vector<Fd>& descriptors);
  Status send_for_store(ProcessId process, wire::Type type, std::string_view body, const std::vector<int>& fds);
  void drop_overflowing();
  /// Forgets all that the I/O knows of it, the store included; the core is told by the caller.
  void erase_client(ClientKey key);

  // Events and effects.
  void step(Event event);
  void step_all();
  void carry_out(Effects effects);
  void hear_head();
  void tick_head();
  void carry_out(Send& effect);
  void carry_out(Connect& effect);
  void carry_out(Spawn& effect);
  void carry_out(KillWorker& effect);
  void carry_out(Disconnect& effect);
  void carry_out(TellHead& effect);
  template <typename ForOthers>
  requires requires(ClusterSide& side, ForOthers& effect) { side.carry_out(effect); }
  void carry_out(ForOthers& effect) {
    if (cluster_) cluster_->carry_out(effect);
  }
  void carry_out(ReportSoon& effect);
  void carry_out(ListObjects& effect);
  void carry_out(RemovePath& effect);
  void carry_out(MoveObjects& effect) { store_->move_away(std::move(effect.to)); }
  void carry_out(EndNode& effect);
  void add_store_state(wire::NodeState& state) const;
  [[nodiscard]] std::vector<int> channel_descriptors(ChannelId channel, ProcessId worker);

  // Workers.
  void spawn(Spawn& effect);
  void worker_started(const Spawn& effect, WorkerProcess process);
  void on_worker_ended(WorkerToken token);
  std::unique_ptr<Output> watch_output(Fd pipe, WorkerToken token, bool is_error_stream, int32_t pid);
  void on_output(WorkerToken token, bool is_error_stream);
  bool read_output(RunningWorker& worker, Output& output);
  void finish_output(RunningWorker& worker, Output& output);
  void forward(RunningWorker& worker, const std::vector<wire::LogLines>& batches);

  void end();

  NodeOptions options_;
  std::unique_ptr<wire::HeadLink> head_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<RayletCore> core_;
  std::unique_ptr<object_store::StoreServer> store_;
  std::unique_ptr<wire::NodeLink> link_;
  std::unique_ptr<object_store::Transfer> transfer_;  // of store_: gone before it
  std::unique_ptr<ClusterSide> cluster_;              // none in a session of one node
  std::unique_ptr<JobRunner> jobs_;
  std::vector<wire::ToHead> job_words_;  // for the head; said between events, since an answer may come at once
  std::unique_ptr<Door> door_;           // on the head's node, over cluster_
  uint64_t view_version_ = 0;
  uint64_t placed_up_to_ = 0;
  OomWatch oom_;
  MemoryWatch memory_;
  int64_t next_memory_us_ = 0;
  int64_t next_count_us_ = 0;

  std::unordered_map<ClientKey, Client> clients_;
  std::unordered_map<ProcessId, ClientKey> by_process_;
  ClientKey next_client_ = 1;
  uint64_t last_process_ = 0;
  ProcessId driver_;
  Fd driver_pidfd_;

  std::unordered_map<WorkerToken, RunningWorker> workers_;
  std::unique_ptr<ForkServer> forks_;
  std::optional<Spawn> plain_worker_;               // how to start one, for the fork server
  int64_t fork_server_due_us_ = 0;                  // 0: not yet known, or started
  std::unordered_map<ChannelId, Fd> new_channels_;  // from Connect to the Send that takes it along
  Fd signals_;
  Fd listener_;
  std::vector<ProcessId> overflowing_;  // clients that do not read what the store sends them
  std::deque<Event> events_;            // that came up while effects were carried out; at most a few per effect
  bool is_stepping_ = false;
  bool is_ending_ = false;
  int log_batches_behind_ = 0;  // sent while the driver's outbox was not empty
  std::optional<EndNode> ending_;
};

}  // namespace manta::raylet
