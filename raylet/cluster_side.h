// The node's part in a cluster, around the NodeLink: what goes to other nodes and what comes from them.
//
//   NodeServer --effects for others--> ClusterSide --frames, channels--> NodeLink (threads of its own)
//   NodeServer <--events, frames------ ClusterSide <--LinkEvents--------
//
// It routes and decides nothing: messages of clients here to the raylet that must handle them (Forward), messages of raylets
// elsewhere to clients here (Deliver), the two halves of a channel between nodes, the programs of jobs, heartbeats.
//
// Thread safety: none; owned by the raylet's loop.
#pragma once

#include "raylet/core_types.h"
#include "raylet/gatekeeper.h"
#include "raylet/head_outbox.h"
#include "raylet/job_user.h"
#include "raylet/program_cache.h"
#include "wire/connection.h"
#include "wire/net/node_link.h"

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace manta::raylet {

class ClusterSide {
 public:
  static constexpr int64_t kHeartbeatUs = 500'000;
  static constexpr int64_t kSoonUs = 20'000;    ///< Between two of which one is wanted soon.
  static constexpr int64_t kMeasureUs = 5'000;  ///< Between looks at whether the program is hashed.

  /// What it needs of the node server.
  struct Node {
    std::function<void(Event)> step;
    /// False when there is no such client.
    std::function<bool(ProcessId, wire::Type, std::string_view body, const std::vector<int>& fds)> send;
    /// The bell of a client; none when it is gone.
    std::function<const Fd*(ProcessId)> bell_of;
    std::function<void(wire::FromHead)> from_head;              ///< On a node without the head.
    std::function<void()> way_is_new;                           ///< Likewise: what was under way to the head is lost.
    std::function<void(wire::NodeNumber, wire::Told)> to_head;  ///< On the head's node: what others say to it.
    std::function<bool(ProcessId, wire::Frame&)> store_frame;   ///< True when it was the store's.
    std::function<void(ProcessId)> owner_gone;                  ///< For the store: a process of another node.
    std::function<void(wire::NodeNumber, const wire::StoreWord&)> store_word;
    std::function<void(const wire::NodeInfo&)> peer_joined;
    std::function<void(wire::NodeNumber, const Status&)> peer_lost;
    std::function<wire::Heartbeat()> heartbeat;
    std::function<void(const wire::LinkEvent&)> visitor;  ///< On the head's node: a frame of one, or its end.
  };

  /// What this node is in the cluster. `info.number` is given.
  struct Self {
    wire::NodeInfo info;
    std::string session_dir;
    std::optional<Gatekeeper> gatekeeper;  ///< On the head's node of a cluster with keys.
    std::optional<JobUser> job_user;       ///< Whose the workers' folders are.
  };

  ClusterSide(Self self, wire::NodeLink& link, Node node);

  [[nodiscard]] const wire::NodeInfo& info() const { return self_.info; }
  [[nodiscard]] bool is_head() const { return self_.info.number == wire::kHeadNode; }
  [[nodiscard]] bool is_remote(ProcessId process) const;

  /// First: the members there were when it joined, and what has come since.
  void begin(std::vector<wire::NodeInfo> members, std::vector<wire::LinkEvent> early);
  /// The link's events; to be called when its wake_fd is readable.
  void on_link();
  void tick(int64_t now_us);
  [[nodiscard]] int64_t next_deadline_us() const;

  /// To the head, wherever it is: on another node.
  Status tell_head(const wire::ToHead& message);
  /// What the head of this node says to others.
  void from_own_head(wire::NodeNumber to, const wire::FromHead& message);

  /// Readable when who may come in has changed; -1: never. Then refresh_keys.
  [[nodiscard]] int keys_fd() const { return self_.gatekeeper ? self_.gatekeeper->wake_fd() : -1; }
  void refresh_keys();
  /// In a cluster with keys: what the job's driver needs to come in. On the head's node.
  void give_token(wire::RunJob& order);
  /// None on other nodes, and without keys.
  [[nodiscard]] Gatekeeper* gatekeeper() { return self_.gatekeeper ? &*self_.gatekeeper : nullptr; }
  /// This node goes: the head need not find out.
  void leave(const std::string& reason, bool is_drained);

  /// What a client's message to the store, or the store itself, has for another node's store.
  void forward(wire::NodeNumber node, ProcessId from, wire::Type type, std::string body);
  void tell_store(wire::NodeNumber node, const wire::StoreWord& word);
  /// A message for a process of another node.
  void deliver(ProcessId to, wire::Type type, const std::string& body);
  /// The half of a channel that lies here, of which the caller is a process of another node; the worker is told of it.
  void connect(const Connect& effect);

  void carry_out(const FetchJob& effect);
  void carry_out(const HandOn& effect);
  void carry_out(const AskLease& effect);
  void carry_out(const SpillLease& effect);
  void carry_out(const TellLease& effect);
  void carry_out(const TellGone& effect);
  void carry_out(const ReportSoon&) { is_beat_wanted_ = true; }
  void carry_out(const DropJob& effect);

  /// The driver of this node: whom to ask for its program.
  void serve_job(const wire::Hello& driver, JobId job, const wire::Amounts& quota);
  /// A client of this node is gone: its channels close.
  void client_gone(ProcessId process);

 private:
  struct Half {
    ProcessId local;
    ProcessId remote;
  };

  void on_event(const wire::LinkEvent& event);
  void on_frame(const wire::LinkEvent& event);
  void on_stranger(const wire::LinkEvent& event, wire::ToHead message);
  void refuse_stranger(const wire::JoinRefused& answer);
  void on_from_head(wire::FromHead message);
  void on_members(const wire::Members& members);
  void on_whole_membership(const wire::Joined& joined);
  void on_head_refusing(const Status& why);
  void tell_gone(const wire::NodeGone& gone);
  void begin_anew_with_head();
  void on_channel_over(const wire::LinkEvent& event);
  template <typename Message>
  void with(const wire::LinkEvent& event, void (ClusterSide::*handler)(wire::NodeNumber, Message&));

  void handle(wire::NodeNumber from, wire::Forward& message);
  void handle(wire::NodeNumber from, wire::Deliver& message);
  void handle(wire::NodeNumber from, wire::ProcessGone& message);
  void handle(wire::NodeNumber from, wire::RemoteLease& message);
  void handle(wire::NodeNumber from, wire::LeaseSpilled& message);
  void handle(wire::NodeNumber from, wire::LeaseNews& message);
  void handle(wire::NodeNumber from, wire::GetJob& message);
  void handle(wire::NodeNumber from, wire::Job& message);
  void handle(wire::NodeNumber from, wire::GetProgram& message);
  void handle(wire::NodeNumber from, wire::ProgramChunk& message);
  void handle(wire::NodeNumber from, wire::DropCopies& message) { node_.store_word(from, message); }
  void handle(wire::NodeNumber from, wire::AdoptObjects& message) { node_.store_word(from, message); }
  void handle(wire::NodeNumber from, wire::AdoptionRefused& message) { node_.store_word(from, message); }

  void deliver_grant(wire::NodeNumber from, ProcessId to, wire::LeaseGranted& grant);
  void deliver_update(wire::NodeNumber from, ProcessId to, wire::ActorUpdate& update);
  /// Makes the caller's half of a channel; hands it to the client with the message.
  template <typename Message>
  Status deliver_with_channel(wire::NodeNumber from, ProcessId to, const Message& message);
  void close(ChannelId channel);
  void program_came(uint64_t job, const Result<std::string>& path);
  [[nodiscard]] int64_t next_heartbeat_us() const { return is_beat_wanted_ ? wanted_beat_us_ : next_beat_us_; }
  void look_at_own_program(int64_t now_us);
  [[nodiscard]] std::string user_folder(uint64_t job) const { return self_.session_dir + "/work/" + std::to_string(job); }

  template <typename Message>
  void send(wire::NodeNumber to, const Message& message) {
    if (const Status status = link_.send(to, message); !status.ok()) note_lost(to, Message::kType, status);
  }
  void note_lost(wire::NodeNumber to, wire::NodeType type, const Status& why);

  Self self_;
  wire::NodeLink& link_;
  Node node_;
  int64_t next_beat_us_ = 0;
  int64_t wanted_beat_us_ = 0;  // the next one, if it is wanted soon
  bool is_beat_wanted_ = false;
  uint64_t beats_ = 0;
  std::map<wire::NodeNumber, wire::NodeInfo> members_;  // the others
  bool is_head_lost_ = false;                           // with its node; it may come back
  std::map<std::string, std::string> strangers_;        // who asked to join: endpoint and key
  struct Refused {
    std::string endpoint;
    int64_t until_us = 0;
  };
  std::map<wire::NodeNumber, Refused> refused_;  // by a number for the time being

  /// On the head's node: who is no member any more and may live. A peer of the link until then, to hear of it.
  std::map<wire::NodeNumber, Refused> parted_;

  std::map<wire::NodeNumber, std::string> job_drivers_;  // on the head's node: their keys, which go with them

  std::map<ChannelId, Half> halves_;
  std::map<ProcessId, std::set<wire::NodeNumber>> dealt_with_;  // by client here: the nodes that know it
  std::optional<wire::JobSpec> own_job_;
  Result<ServedProgram> own_program_ = Status(Code::kNotFound, "this node has no driver");
  std::future<Status> measuring_;            // own_program_, on a thread of its own: it may be gigabytes
  std::optional<Status> measured_;           // how that went
  std::set<wire::NodeNumber> want_own_job_;  // while it is measured
  int64_t next_look_us_ = 0;
  std::map<uint64_t, wire::JobSpec> jobs_;  // of others, asked for or here
  ProgramCache programs_;
};

/// The way to a head on another node. What the head has not acknowledged is kept and said again when it must be.
class RemoteHead final : public wire::HeadLink {
 public:
  explicit RemoteHead(wire::NodeLink& link) : link_(link) {}
  using HeadLink::send;
  Status send(wire::NodeNumber from, wire::Told told) override;
  std::vector<wire::ToNode> receive() override { return {}; }  // the link's events bring it
  [[nodiscard]] int wake_fd() const override { return -1; }
  [[nodiscard]] std::optional<int64_t> next_deadline_us() const override { return std::nullopt; }
  Status tick() override { return {}; }
  void note(const wire::FromHead& message) override;
  void say_again() override;

 private:
  void flush();

  wire::NodeLink& link_;
  HeadOutbox outbox_;
  uint64_t sent_ = 0;  // up to which number it was given to the link
};

}  // namespace manta::raylet
