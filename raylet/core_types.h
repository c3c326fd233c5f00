// The events that drive raylet_core and the effects that it asks for. Values only.
//
// Events come from the I/O around the core (node_server), or from a test; effects are carried out in the order they are
// returned.
#pragma once

#include "wire/cluster.h"
#include "wire/head_link.h"
#include "wire/messages.h"

#include <manta/ids.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

namespace manta::raylet {

/// One start of a worker process, from before it has a pid. Never reused.
using WorkerToken = Id64<struct WorkerTokenTag>;

/// How a process ended. `out_of_memory` only when the kernel's own counters say so.
struct ExitCause {
  bool by_signal = false;
  int32_t code = 0;  ///< The exit code or the signal.
  bool out_of_memory = false;
};
/// "exited with code 3", "killed by signal 9 (SIGKILL)", "killed by the kernel: out of memory".
[[nodiscard]] std::string describe(const ExitCause& cause);

// ---------------------------------------------------------------------------------------------------- events

/// A connection said Hello, and protocol, build and process id are in order.
struct ClientJoined {
  wire::Hello hello;
};

using ClientMessage =
    std::variant<wire::Goodbye, wire::RequestLease, wire::CancelLeaseRequest, wire::ReturnLease, wire::KillLease,
                 wire::Blocked, wire::Relay, wire::WatchProcess, wire::CreateActor, wire::WatchActor, wire::KillActor,
                 wire::FindActor, wire::ActorStarted, wire::SaveActorState, wire::ReleaseActor, wire::LogLineage,
                 wire::CleanupPath, wire::GetNodeState, wire::CreatePlacementGroup, wire::RemovePlacementGroup,
                 wire::GetPlacementGroup, wire::Explain, wire::SubmitJob, wire::UploadProgram, wire::StopJob, wire::FindJob,
                 wire::ReadJobLog, wire::DrainNode, wire::ListRequest, wire::GetClusterStatus>;

struct FromClient {
  ProcessId from;
  ClientMessage message;
  bool may_act = true;  ///< Of a visitor: it may change something, not only look.
};

/// A client's socket ended, or it broke the protocol. A worker's end is judged when its process has ended.
struct ClientGone {
  ProcessId process;
  Status reason;  ///< Why the raylet hung up; OK when the client did.
};

struct WorkerSpawned {
  WorkerToken token;
  int32_t pid = 0;
};

struct WorkerExited {
  WorkerToken token;
  ExitCause cause;
  std::string last_words;  ///< The last lines of its standard error.
};

/// The operating system refused to start it.
struct SpawnFailed {
  WorkerToken token;
  Status status;
};

struct HeadSays {
  wire::FromHead message;
};

/// How much memory one worker has: what is its own, without what it shares with others (the object store's segments, the
/// program's code).
struct WorkerMemory {
  WorkerToken token;
  int64_t bytes = 0;
  int64_t peak_bytes = 0;  ///< The most that was seen.
};

/// The memory that is watched. `workers` may be left empty while less than half of the limit is used.
struct MemorySampled {
  int64_t used_bytes = 0;
  int64_t limit_bytes = 0;
  std::string whose;  ///< For messages: "the node's workers", "this machine".
  std::vector<WorkerMemory> workers;
};

/// For a program that ended at once with these last words: what to try, when the loader did not find a shared library. Else
/// nothing.
[[nodiscard]] std::string missing_library_hint(const std::string& last_words);

/// How workers of a job are started on this node.
struct JobPlan {
  std::string program;
  std::vector<std::string> arguments;  ///< Without the program's own name.
  std::string working_directory;
  std::map<std::string, std::string> env;
  std::string build_id;      ///< That its workers must have.
  wire::Amounts quota = {};  ///< Empty: none.
};

/// The answer to FetchJob.
struct JobFetched {
  JobId job;
  Status status;
  JobPlan plan;
};

/// Another node's raylet asks for a worker for its client.
struct LeaseAsked {
  wire::NodeNumber from = 0;
  wire::RemoteLease message;
};
/// The raylet that was asked has no room, or never will.
struct LeaseSpilledBack {
  wire::NodeNumber from = 0;
  wire::LeaseSpilled message;
};

/// What became of a metered lease of an owner here, on another node.
struct LeaseHeard {
  wire::NodeNumber from = 0;
  wire::LeaseNews message;
};

/// A process of another node is now connected to, or watched by, this client: its end must be heard of, by whatever way.
struct PeerMet {
  ProcessId client;
  ProcessId remote;
  int32_t pid = 0;
  uint64_t request = 0;  ///< The lease request that this answers; 0: none.
  uint64_t lease = 0;
};
/// A process of another node ended.
struct RemoteProcessGone {
  wire::ProcessGone message;
};

struct MembersChanged {
  wire::Members members;
};
struct ViewChanged {
  wire::View view;
};

/// This node is to go: it takes nothing new and ends when what it has is done, or when this time has passed. Again: the
/// earlier end counts.
struct DrainAsked {
  int64_t deadline_us = 0;  ///< From now.
  std::string reason;
};
/// While the node is drained: how many objects are in its store that others still have a use for.
struct ObjectsLeft {
  uint64_t count = 0;
};

/// Time passed: see RayletCore::next_deadline_us.
struct Tick {};

using Event = std::variant<ClientJoined, FromClient, ClientGone, WorkerSpawned, WorkerExited, SpawnFailed, HeadSays,
                           MemorySampled, JobFetched, LeaseAsked, LeaseSpilledBack, LeaseHeard, PeerMet, RemoteProcessGone,
                           MembersChanged, ViewChanged, DrainAsked, ObjectsLeft, Tick>;

// ---------------------------------------------------------------------------------------------------- effects

using Outgoing =
    std::variant<wire::Welcome, wire::Refused, wire::Goodbye, wire::LeaseGranted, wire::LeaseRefused, wire::ReclaimLease,
                 wire::LeaseBlocked, wire::DetachChannel, wire::ProcessDied, wire::Relay, wire::ActorFound,
                 wire::ActorUpdate, wire::StartActor, wire::StopActor, wire::NodeState, wire::LogLines,
                 wire::ClusterCapacity, wire::PlacementGroupUpdate, wire::Explained, wire::DrainProgress, wire::JobAnswer,
                 wire::ProgramReceived, wire::JobLogChunk, wire::Listed, wire::ClusterStatus>;

/// LeaseGranted and ActorUpdate with `new_channel` take along the descriptors of the Connect that came before them. To a
/// process of another node it goes through that node's raylet, which makes the channel's other half.
struct Send {
  ProcessId to;
  Outgoing message;
};

/// Make a channel's memory, and tell the worker (AttachChannel) with the caller's bell.
struct Connect {
  ChannelId channel;
  ProcessId caller;
  ProcessId worker;
  std::vector<int32_t> devices;
};

/// The descriptor on which a worker finds its socket.
inline constexpr int kWorkerFd = 3;

/// Start a worker with its socket on kWorkerFd.
struct Spawn {
  WorkerToken token;
  JobId job;
  std::string build_id;
  std::string program;
  std::vector<std::string> arguments;  ///< Without the program's own name.
  std::string working_directory;
  std::map<std::string, std::string> env;  ///< Set over the raylet's own environment.
  bool is_first = false;                   ///< Of those that start with the driver.
  /// It may be a fork of the driver's program that started earlier: its environment is everybody's.
  bool may_fork = false;
};

/// Kill the worker and its process group. The answer is WorkerExited.
struct KillWorker {
  WorkerToken token;
  std::string reason;
};

/// Refuse the client and close its connection.
struct Disconnect {
  ProcessId process;
  Status status;
};

struct TellHead {
  wire::ToHead message;
};

/// Find out how to start workers of this job, and get its program. The answer is JobFetched.
struct FetchJob {
  JobId job;
};

/// A client's message that another node's raylet must handle.
struct HandOn {
  wire::NodeNumber node = 0;
  ProcessId from;
  ClientMessage message;
};

/// To another node's raylet.
struct AskLease {
  wire::NodeNumber node = 0;
  wire::RemoteLease message;
};
struct SpillLease {
  wire::NodeNumber node = 0;
  wire::LeaseSpilled message;
};

/// To the raylet of the owner.
struct TellLease {
  wire::NodeNumber node = 0;
  wire::LeaseNews message;
};

/// A client ended: every node that dealt with it must know; of these the core knows that they did.
struct TellGone {
  wire::ProcessGone message;
  std::set<wire::NodeNumber> nodes;
};

/// What is free here grew at once, not task by task, or the node is drained: the head should not wait for the next
/// heartbeat.
struct ReportSoon {};

/// The job's program is not needed on this node any more.
struct DropJob {
  JobId job;
};

/// This client is to have a page of the store's objects.
struct ListObjects {
  ProcessId to;
  wire::ListRequest request;
};

struct RemovePath {
  std::string path;
};

/// The node is drained: the store's objects are to go to these nodes.
struct MoveObjects {
  std::vector<wire::NodeNumber> to;
};

/// The driver is gone, or the node is drained: end every process and leave nothing behind.
struct EndNode {
  bool by_goodbye = false;
  int32_t exit_code = 0;
  bool is_drained = false;
  bool is_given_up = false;  ///< The cluster went on without it.
  std::string reason = {};   ///< Of the drain, or why it was given up.
};

using Effect = std::variant<Send, Connect, Spawn, KillWorker, Disconnect, TellHead, FetchJob, HandOn, AskLease, SpillLease,
                            TellLease, TellGone, ReportSoon, DropJob, ListObjects, RemovePath, MoveObjects, EndNode>;
using Effects = std::vector<Effect>;

}  // namespace manta::raylet
