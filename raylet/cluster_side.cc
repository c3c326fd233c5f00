#include "raylet/cluster_side.h"

#include "common/check.h"
#include "common/log.h"
#include "raylet/client_messages.h"
#include "wire/channel.h"

#include <ctime>

namespace manta::raylet {

using wire::node_of;
using wire::NodeNumber;

Status RemoteHead::send(NodeNumber, wire::Told told) {
  if (auto* returns = std::get_if<wire::HeadNodeReturns>(&told.message)) {
    outbox_.complete(*returns);
    const Status sent = link_.send_frame(wire::kHeadNode, wire::NodeType::kToHead, wire::encode_to_head(told));
    if (sent.ok()) say_again();
    return sent;
  }
  const Status kept = outbox_.add(std::move(told.message));
  flush();
  return kept;
}

// What the link does not take now (it is full, or there is no way to the head just now) goes out with what follows, or when
// the head is heard of.
void RemoteHead::flush() {
  while (const auto next = outbox_.next_after(sent_)) {
    if (!link_.send_frame(wire::kHeadNode, wire::NodeType::kToHead, *next->second).ok()) return;
    sent_ = next->first;
  }
}

void RemoteHead::note(const wire::FromHead& message) {
  const auto* beat = std::get_if<wire::Heartbeat>(&message);
  if (beat == nullptr) return;
  outbox_.acknowledge(beat->heard_up_to);
  flush();
}

void RemoteHead::say_again() {
  sent_ = 0;
  flush();
}

ClusterSide::ClusterSide(Self self, wire::NodeLink& link, Node node)
    : self_(std::move(self)),
      link_(link),
      node_(std::move(node)),
      programs_(
          self_.session_dir + "/program-cache",
          [this](NodeNumber from, const wire::GetProgram& message) { send(from, message); },
          [this](uint64_t job, const Result<std::string>& path) { program_came(job, path); }) {}

bool ClusterSide::is_remote(ProcessId process) const {
  const NodeNumber node = node_of(process.value);
  return node != 0 && node != self_.info.number;
}

void ClusterSide::note_lost(NodeNumber to, wire::NodeType type, const Status& why) {
  // A peer that is gone is found by its heartbeats; one that is too slow as well.
  if (why.code() == Code::kNotFound) return;
  MANTA_LOG(kError, "raylet", "a message to another node is lost", {"node", to}, {"type", static_cast<int>(type)},
            {"why", why});
}

Status ClusterSide::tell_head(const wire::ToHead& message) {
  return link_.send_frame(wire::kHeadNode, wire::NodeType::kToHead, wire::encode_to_head({.message = message}));
}

int64_t ClusterSide::next_deadline_us() const {
  return measuring_.valid() ? std::min(next_look_us_, next_heartbeat_us()) : next_heartbeat_us();
}

void ClusterSide::tick(int64_t now_us) {
  if (measuring_.valid()) look_at_own_program(now_us);
  if (now_us < next_heartbeat_us()) return;
  next_beat_us_ = now_us + kHeartbeatUs;
  wanted_beat_us_ = now_us + kSoonUs;
  is_beat_wanted_ = false;
  refresh_keys();  // some may have expired
  for (auto it = refused_.begin(); it != refused_.end();) {
    if (it->second.until_us > now_us) {
      ++it;
      continue;
    }
    link_.remove_peer(it->first);
    it = refused_.erase(it);
  }
  std::erase_if(parted_,
                [&](const auto& one) { return one.second.until_us <= now_us && (link_.remove_peer(one.first), true); });
  wire::Heartbeat beat = node_.heartbeat();
  beat.sequence = ++beats_;
  if (is_head()) return node_.to_head(self_.info.number, {.message = std::move(beat)});
  (void)tell_head(beat);  // a head that is away is tried again in half a second
}

void ClusterSide::refresh_keys() {
  if (!self_.gatekeeper) return;
  if (Status status = self_.gatekeeper->refresh(std::time(nullptr)); !status.ok())
    MANTA_LOG(kError, "raylet", "the keys folder cannot be read", {"why", status});
}

void ClusterSide::give_token(wire::RunJob& order) {
  constexpr int64_t kGoodForS = 3600;
  if (!self_.gatekeeper || order.has_begun) return;
  Result<std::string> token = self_.gatekeeper->make_token(wire::LinkRole::kDriver, self_.info.endpoint,
                                                           self_.info.public_key, std::time(nullptr) + kGoodForS);
  if (token.ok()) {
    order.join_token = std::move(*token);
  } else {
    MANTA_LOG(kError, "raylet", "no token for a job's driver", {"job", order.job}, {"why", token.status()});
  }
}

void ClusterSide::leave(const std::string& reason, bool is_drained) {
  if (!is_head()) (void)tell_head(wire::HeadNodeLeaves{self_.info.number, reason, is_drained});
}

// ---------------------------------------------------------------------------------------------------- from the link

void ClusterSide::begin(std::vector<wire::NodeInfo> members, std::vector<wire::LinkEvent> early) {
  wire::Members there{.joined = std::move(members), .gone = {}};
  on_members(there);
  node_.step(MembersChanged{std::move(there)});
  for (const wire::LinkEvent& event : early) on_event(event);
}

void ClusterSide::on_link() {
  for (const wire::LinkEvent& event : link_.receive()) on_event(event);
}

void ClusterSide::on_event(const wire::LinkEvent& event) {
  switch (event.what) {
    case wire::LinkEvent::What::kFrame: on_frame(event); break;
    case wire::LinkEvent::What::kConnected: break;
    case wire::LinkEvent::What::kLost:
      if (!event.reply_to.empty()) return node_.visitor(event);
      if (const auto parted = parted_.find(event.from); parted != parted_.end()) {
        if (event.why.code() == Code::kDied) link_.remove_peer(event.from), parted_.erase(parted);
        break;
      }
      MANTA_LOG(kWarn, "raylet", "connection to a node ended", {"node", event.from}, {"why", event.why});
      // Refused: the machine is there and the process is not.
      if (event.why.code() != Code::kDied) break;
      if (is_head()) node_.to_head(self_.info.number, {.message = wire::HeadNodeLost{event.from, event.why.message()}});
      if (!is_head() && event.from == wire::kHeadNode) on_head_refusing(event.why);
      break;
    case wire::LinkEvent::What::kChannelClosed:
    case wire::LinkEvent::What::kChannelBroken: on_channel_over(event); break;
  }
}

// What a process's end or a node's means for the other side of its channels comes as its own message. A channel that breaks
// without one is as if the other process had ended.
void ClusterSide::on_channel_over(const wire::LinkEvent& event) {
  const auto it = halves_.find(event.channel);
  if (it == halves_.end()) return;
  const Half half = it->second;
  close(event.channel);
  if (event.what != wire::LinkEvent::What::kChannelBroken) return;
  MANTA_LOG(kWarn, "raylet", "a channel to another node broke", {"channel", event.channel.value}, {"why", event.why});
  node_.step(RemoteProcessGone{{.process = half.remote.value,
                                .pid = 0,
                                .cause = wire::to_wire(Status(Code::kDied, "its channel broke: " + event.why.message()))}});
}

template <typename Message>
void ClusterSide::with(const wire::LinkEvent& event, void (ClusterSide::*handler)(NodeNumber, Message&)) {
  Result<Message> message = wire::decode<Message>(event.body);
  if (message.ok()) return (this->*handler)(event.from, *message);
  MANTA_LOG(kWarn, "raylet", "a malformed message of another node", {"node", event.from}, {"why", message.status()});
}

void ClusterSide::on_frame(const wire::LinkEvent& event) {
  using wire::NodeType;
  if (parted_.contains(event.from)) return;  // it does not know yet
  if (event.type == NodeType::kToHead && is_head()) {
    Result<wire::Told> told = wire::decode_to_head(event.body);
    if (!told.ok()) return;
    if (event.from == 0) return on_stranger(event, std::move(told->message));
    return node_.to_head(event.from, std::move(*told));
  }
  if (event.type == NodeType::kFromHead && event.from == wire::kHeadNode) {
    Result<wire::FromHead> message = wire::decode_from_head(event.body);
    if (message.ok()) on_from_head(std::move(*message));
    return;
  }
  if (event.from == 0) {  // who has not joined may only ask to, and look if it has a key
    if (event.type == NodeType::kVisitorFrame && is_head()) node_.visitor(event);
    return;
  }
  switch (event.type) {
    case NodeType::kForward: return with<wire::Forward>(event, &ClusterSide::handle);
    case NodeType::kDeliver: return with<wire::Deliver>(event, &ClusterSide::handle);
    case NodeType::kProcessGone: return with<wire::ProcessGone>(event, &ClusterSide::handle);
    case NodeType::kRemoteLease: return with<wire::RemoteLease>(event, &ClusterSide::handle);
    case NodeType::kLeaseSpilled: return with<wire::LeaseSpilled>(event, &ClusterSide::handle);
    case NodeType::kLeaseNews: return with<wire::LeaseNews>(event, &ClusterSide::handle);
    case NodeType::kGetJob: return with<wire::GetJob>(event, &ClusterSide::handle);
    case NodeType::kJob: return with<wire::Job>(event, &ClusterSide::handle);
    case NodeType::kGetProgram: return with<wire::GetProgram>(event, &ClusterSide::handle);
    case NodeType::kProgramChunk: return with<wire::ProgramChunk>(event, &ClusterSide::handle);
    case NodeType::kDropCopies: return with<wire::DropCopies>(event, &ClusterSide::handle);
    case NodeType::kAdoptObjects: return with<wire::AdoptObjects>(event, &ClusterSide::handle);
    case NodeType::kAdoptionRefused: return with<wire::AdoptionRefused>(event, &ClusterSide::handle);
    default: break;
  }
}

// Who has no number may only ask to join; with keys, only by a token that is good or a key that came in before.
void ClusterSide::on_stranger(const wire::LinkEvent& event, wire::ToHead message) {
  constexpr size_t kMost = 1'000;
  const auto* const join = std::get_if<wire::Join>(&message);
  if (join == nullptr) return;
  if (strangers_.size() >= kMost) strangers_.clear();
  strangers_[join->info.endpoint] = join->info.public_key;
  if (self_.gatekeeper) {
    const Status status = self_.gatekeeper->admit(event, join->info, std::time(nullptr));
    if (!status.ok()) return refuse_stranger(wire::JoinRefused{join->nonce, wire::to_wire(status), join->info.endpoint});
  }
  node_.to_head(0, {.message = std::move(message)});
}

void ClusterSide::refuse_stranger(const wire::JoinRefused& answer) {
  constexpr size_t kMost = 64;
  constexpr int64_t kKeptUs = 5'000'000;
  MANTA_LOG(kWarn, "raylet", "somebody may not join", {"endpoint", answer.endpoint},
            {"why", wire::from_wire(answer.status)});
  for (const auto& [number, refused] : refused_)
    if (refused.endpoint == answer.endpoint) return;
  NodeNumber number = wire::kMaxNodeNumber;
  while (refused_.contains(number)) --number;
  if (refused_.size() >= kMost) return;
  const wire::LinkPeer peer{.number = number, .endpoint = answer.endpoint, .public_key = strangers_[answer.endpoint]};
  if (Status status = link_.add_peer(peer); !status.ok()) return;
  refused_[number] = {answer.endpoint, next_beat_us_ + kKeptUs};
  (void)link_.send_frame(number, wire::NodeType::kFromHead, wire::encode_from_head(answer));
}

void ClusterSide::on_from_head(wire::FromHead message) {
  if (const auto* members = std::get_if<wire::Members>(&message)) on_members(*members);
  if (const auto* joined = std::get_if<wire::Joined>(&message)) on_whole_membership(*joined);
  node_.from_head(std::move(message));
}

void ClusterSide::from_own_head(NodeNumber to, const wire::FromHead& message) {
  if (to == 0) {
    if (const auto* refused = std::get_if<wire::JoinRefused>(&message)) refuse_stranger(*refused);
    return;
  }
  if (to == self_.info.number) {
    if (const auto* members = std::get_if<wire::Members>(&message)) on_members(*members);
    return;
  }
  const Status status = link_.send_frame(to, wire::NodeType::kFromHead, wire::encode_from_head(message));
  if (!status.ok()) MANTA_LOG(kWarn, "raylet", "the head's word does not reach a node", {"node", to}, {"why", status});
}

void ClusterSide::on_members(const wire::Members& members) {
  for (const wire::NodeInfo& info : members.joined) {
    if (info.number == self_.info.number) continue;
    std::erase_if(parted_, [&](const auto& one) {  // another is there now
      return one.second.endpoint == info.endpoint && (link_.remove_peer(one.first), true);
    });
    // On the head's node the keys folder says who is let in, and takes it back.
    if (!info.public_key.empty() && !self_.gatekeeper)
      link_.allow(info.public_key, info.is_driver ? wire::LinkRole::kDriver : wire::LinkRole::kNode);
    const Status status = link_.add_peer({.number = info.number, .endpoint = info.endpoint, .public_key = info.public_key});
    if (!status.ok() && status.code() != Code::kExists)
      MANTA_LOG(kError, "raylet", "a member cannot be reached", {"node", info.number}, {"why", status});
    members_[info.number] = info;
    if (info.number == wire::kHeadNode) is_head_lost_ = false;
    if (self_.gatekeeper && info.is_driver && info.labels.contains(wire::kJobLabel))
      job_drivers_[info.number] = info.public_key;
    node_.peer_joined(info);
  }
  for (const wire::NodeGone& gone : members.gone) {
    if (gone.number == self_.info.number) continue;
    link_.remove_peer(gone.number);
    if (is_head()) tell_gone(gone);
    if (const auto driver = job_drivers_.extract(gone.number)) self_.gatekeeper->forget(driver.mapped());
    if (gone.number == wire::kHeadNode) {
      begin_anew_with_head();
    } else {
      members_.erase(gone.number);
    }
    node_.peer_lost(gone.number, wire::from_wire(gone.cause));
    programs_.on_node_lost(gone.number, wire::from_wire(gone.cause));
    for (auto it = halves_.begin(); it != halves_.end();)
      it = node_of(it->second.remote.value) == gone.number ? halves_.erase(it) : std::next(it);
    for (auto& [process, nodes] : dealt_with_) nodes.erase(gone.number);
  }
}

// It may live, stopped or cut off for a while: what it still does is stale. One whose machine refuses the connection is
// gone.
void ClusterSide::tell_gone(const wire::NodeGone& gone) {
  constexpr size_t kMost = 64;
  constexpr int64_t kKeptUs = 600'000'000;
  const auto known = members_.find(gone.number);
  if (known == members_.end() || gone.number == wire::kHeadNode || parted_.size() >= kMost) return;
  const wire::NodeInfo& info = known->second;
  if (!link_.add_peer({.number = info.number, .endpoint = info.endpoint, .public_key = info.public_key}).ok()) return;
  parted_[gone.number] = {info.endpoint, next_beat_us_ + kKeptUs};
  (void)link_.send_frame(gone.number, wire::NodeType::kFromHead,
                         wire::encode_from_head(wire::Members{.joined = {}, .gone = {gone}}));
}

// A head that was restarted knows nothing of the streams of its earlier life, nor does it want what they hold.
void ClusterSide::begin_anew_with_head() {
  const auto head = members_.find(wire::kHeadNode);
  if (head == members_.end()) return;
  const wire::NodeInfo& info = head->second;
  const Status status = link_.add_peer({.number = info.number, .endpoint = info.endpoint, .public_key = info.public_key});
  if (!status.ok()) MANTA_LOG(kError, "raylet", "the head cannot be reached again", {"why", status});
  node_.way_is_new();
}

// Nobody listens there: that mantad is gone, with its workers and its store. The cluster goes on without it, and the head
// may come back.
void ClusterSide::on_head_refusing(const Status& why) {
  if (std::exchange(is_head_lost_, true)) return;
  MANTA_LOG(kWarn, "raylet", "the head is gone; this node goes on and waits for it", {"why", why});
  const wire::Members gone{.joined = {}, .gone = {{wire::kHeadNode, wire::to_wire(why)}}};
  on_members(gone);
  node_.step(MembersChanged{gone});
}

// From a head that was restarted: what its earlier life decided may not have been said to all.
void ClusterSide::on_whole_membership(const wire::Joined& joined) {
  std::map<NodeNumber, wire::NodeInfo> gone = members_;
  wire::Members change;
  for (const wire::NodeInfo& info : joined.members) {
    gone.erase(info.number);
    if (info.number != self_.info.number && !members_.contains(info.number)) change.joined.push_back(info);
  }
  const Status why(Code::kDied, "it is no member any more");
  for (const auto& [number, info] : gone) change.gone.push_back({number, wire::to_wire(why)});
  if (change.joined.empty() && change.gone.empty()) return;
  on_members(change);
  node_.step(MembersChanged{std::move(change)});
}

// ---------------------------------------------------------------------------------------------------- messages of clients

void ClusterSide::deliver(ProcessId to, wire::Type type, const std::string& body) {
  send(node_of(to.value), wire::Deliver{.to = to.value, .type = static_cast<uint16_t>(type), .body = body});
}

void ClusterSide::forward(NodeNumber node, ProcessId from, wire::Type type, std::string body) {
  dealt_with_[from].insert(node);
  send(node, wire::Forward{.from = from.value, .type = static_cast<uint16_t>(type), .body = std::move(body)});
}

void ClusterSide::tell_store(NodeNumber node, const wire::StoreWord& word) {
  std::visit([&](const auto& message) { send(node, message); }, word);
}

void ClusterSide::carry_out(const HandOn& effect) {
  dealt_with_[effect.from].insert(effect.node);
  std::visit(
      [&]<typename Message>(const Message& message) {
        send(effect.node,
             wire::Forward{
                 .from = effect.from.value, .type = static_cast<uint16_t>(Message::kType), .body = wire::encode(message)});
      },
      effect.message);
}

void ClusterSide::carry_out(const AskLease& effect) {
  dealt_with_[ProcessId{effect.message.owner}].insert(effect.node);
  send(effect.node, effect.message);
}
void ClusterSide::carry_out(const SpillLease& effect) { send(effect.node, effect.message); }
void ClusterSide::carry_out(const TellLease& effect) { send(effect.node, effect.message); }

void ClusterSide::carry_out(const TellGone& effect) {
  std::set<NodeNumber> nodes = effect.nodes;
  if (const auto known = dealt_with_.extract(ProcessId{effect.message.process}); !known.empty())
    nodes.insert(known.mapped().begin(), known.mapped().end());
  for (const NodeNumber node : nodes) send(node, effect.message);
}

void ClusterSide::handle(NodeNumber from, wire::Forward& message) {
  if (node_of(message.from) != from) return;
  wire::Frame frame;
  frame.type = static_cast<wire::Type>(message.type);
  frame.body = std::move(message.body);
  const ProcessId process{message.from};
  if (node_.store_frame(process, frame)) return;
  Result<ClientMessage> decoded = decode_client_message(frame.type, frame.body);
  if (decoded.ok()) node_.step(FromClient{process, std::move(*decoded)});
}

void ClusterSide::handle(NodeNumber from, wire::Deliver& message) {
  const ProcessId to{message.to};
  dealt_with_[to].insert(from);
  switch (static_cast<wire::Type>(message.type)) {
    case wire::Type::kLeaseGranted: {
      Result<wire::LeaseGranted> grant = wire::decode<wire::LeaseGranted>(message.body);
      if (grant.ok()) deliver_grant(from, to, *grant);
      return;
    }
    case wire::Type::kActorUpdate: {
      Result<wire::ActorUpdate> update = wire::decode<wire::ActorUpdate>(message.body);
      if (update.ok()) deliver_update(from, to, *update);
      return;
    }
    default:
      if (node_.send(to, static_cast<wire::Type>(message.type), message.body, {})) return;
      dealt_with_.erase(to);
      // Its end was told to those who dealt with it by then; a node that keeps an object of its since may be another.
      if (static_cast<wire::Type>(message.type) == wire::Type::kObjectsMoved) {
        const Status gone(Code::kDied, "it has ended");
        send(from, wire::ProcessGone{.process = to.value, .pid = 0, .cause = wire::to_wire(gone)});
      }
  }
}

void ClusterSide::handle(NodeNumber from, wire::ProcessGone& message) {
  if (node_of(message.process) != from) return;
  std::vector<ChannelId> theirs;
  for (const auto& [channel, half] : halves_)
    if (half.remote.value == message.process) theirs.push_back(channel);
  node_.step(RemoteProcessGone{message});
  node_.owner_gone(ProcessId{message.process});
  for (const ChannelId channel : theirs) close(channel);
}

void ClusterSide::handle(NodeNumber from, wire::RemoteLease& message) { node_.step(LeaseAsked{from, std::move(message)}); }
void ClusterSide::handle(NodeNumber from, wire::LeaseSpilled& message) {
  node_.step(LeaseSpilledBack{from, std::move(message)});
}
void ClusterSide::handle(NodeNumber from, wire::LeaseNews& message) { node_.step(LeaseHeard{from, message}); }

// ---------------------------------------------------------------------------------------------------- channels

void ClusterSide::connect(const Connect& effect) {
  const Fd* const bell = node_.bell_of(effect.worker);
  if (bell == nullptr) return;
  Result<Fd> file = wire::Channel::create_file();
  Status status = file.status();
  if (status.ok())
    status = link_.open_channel(effect.channel, node_of(effect.caller.value), wire::Channel::Side::kCaller, *file, *bell);
  if (!status.ok()) {
    MANTA_LOG(kError, "raylet", "no channel to a process of another node", {"process", effect.caller.value},
              {"why", status});
    return;
  }
  halves_[effect.channel] = {.local = effect.worker, .remote = effect.caller};
  const wire::AttachChannel attach{
      .channel = effect.channel.value, .caller = effect.caller.value, .devices = effect.devices};
  node_.send(effect.worker, wire::Type::kAttachChannel, wire::encode(attach), {file->get(), link_.bell_fd().get()});
}

template <typename Message>
Status ClusterSide::deliver_with_channel(NodeNumber from, ProcessId to, const Message& message) {
  const Fd* const bell = node_.bell_of(to);
  if (bell == nullptr) return Status(Code::kNotFound, "the client is gone");
  if (!message.new_channel) return node_.send(to, Message::kType, wire::encode(message), {}), Status();
  const ChannelId channel{message.channel};
  MANTA_ASSIGN_OR_RETURN(const Fd file, wire::Channel::create_file());
  MANTA_RETURN_IF_ERROR(link_.open_channel(channel, from, wire::Channel::Side::kWorker, file, *bell));
  halves_[channel] = {.local = to, .remote = ProcessId{message.worker}};
  node_.send(to, Message::kType, wire::encode(message), {file.get(), link_.bell_fd().get()});
  return {};
}

void ClusterSide::deliver_grant(NodeNumber from, ProcessId to, wire::LeaseGranted& grant) {
  if (node_of(grant.worker) != from || node_of(grant.lease) != from || node_of(grant.channel) != from) return;
  node_.step(PeerMet{to, ProcessId{grant.worker}, grant.worker_pid, grant.request, grant.lease});
  const Status status = deliver_with_channel(from, to, grant);
  if (status.ok()) return;
  MANTA_LOG(kWarn, "raylet", "a lease elsewhere is given back", {"node", from}, {"why", status});
  carry_out(HandOn{from, to, wire::ReturnLease{grant.lease}});
}

void ClusterSide::deliver_update(NodeNumber from, ProcessId to, wire::ActorUpdate& update) {
  const bool is_alive = static_cast<wire::ActorPhase>(update.phase) == wire::ActorPhase::kAlive;
  if (!is_alive) {
    node_.send(to, wire::Type::kActorUpdate, wire::encode(update), {});
    return;
  }
  if (node_of(update.worker) != from || node_of(update.channel) != from) return;
  node_.step(PeerMet{to, ProcessId{update.worker}, update.worker_pid, 0, 0});
  const Status status = deliver_with_channel(from, to, update);
  if (!status.ok()) MANTA_LOG(kWarn, "raylet", "an actor elsewhere cannot be reached", {"node", from}, {"why", status});
}

void ClusterSide::close(ChannelId channel) {
  if (halves_.erase(channel) > 0) link_.close_channel(channel);
}

void ClusterSide::client_gone(ProcessId process) {
  std::vector<ChannelId> theirs;
  for (const auto& [channel, half] : halves_)
    if (half.local == process) theirs.push_back(channel);
  for (const ChannelId channel : theirs) close(channel);
}

}  // namespace manta::raylet
