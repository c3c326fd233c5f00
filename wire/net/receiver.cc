#include "wire/net/receiver.h"

#include "common/check.h"
#include "common/log.h"
#include "wire/net/thread.h"

#include <cstring>

namespace manta::wire {
namespace {

constexpr int kBatchesAtOnce = 64;
constexpr auto kPollFor = std::chrono::seconds(1);
constexpr auto kAskAgainAfter = std::chrono::milliseconds(200);
constexpr size_t kMaxOpenedEarly = size_t{1} << 16;
constexpr size_t kMaxStrangers = 1024;
constexpr size_t kMaxAnswersBytes = size_t{64} << 20;
constexpr uint64_t kWatchBytes = kRingBytes / 4;

std::string text_of(const zmq::message_t& message) { return {message.data<char>(), message.size()}; }

}  // namespace

Receiver::Receiver(Options options, zmq::socket_t router, Access& access, Inbox& inbox, const Signal& wake)
    : options_(std::move(options)), router_(std::move(router)), access_(access), inbox_(inbox), wake_(wake) {}

Receiver::~Receiver() { stop(); }

void Receiver::stop() {
  is_stopping_ = true;
  wake_.raise();
  if (thread_.joinable()) thread_.join();
}

void Receiver::start() {
  thread_ = start_thread("link-receiver", [this] { run(); });
}

// ---------------------------------------------------------------------------------------------------- from other threads

void Receiver::add_peer(std::shared_ptr<PeerState> peer) {
  std::lock_guard lock(mutex_);
  const NodeNumber number = peer->peer.number;
  if (strangers_.erase(number) != 0) peer->update([](PeerState::News& news) { news.must_ask = true; });
  peers_[number] = {.state = std::move(peer)};
}

void Receiver::remove_peer(NodeNumber number) {
  std::lock_guard lock(mutex_);
  peers_.erase(number);
  std::erase_if(opened_early_, [&](const auto& early) { return early.second == number; });
}

Status Receiver::open(std::shared_ptr<RelayChannel> channel) {
  std::lock_guard lock(mutex_);
  if (!peers_.contains(channel->peer)) return {Code::kNotFound, "node " + std::to_string(channel->peer) + " is no peer"};
  const auto early = opened_early_.find(channel->id);
  const bool is_open = early != opened_early_.end() && early->second == channel->peer;
  const auto [inlet, is_new] = inlets_.try_emplace(channel->id, Inlet{.channel = channel});
  if (!is_new) return {Code::kExists, "channel " + channel->id.to_string() + " is relayed already"};
  if (is_open) {
    opened_early_.erase(early);
    channel->is_open = true;
  }
  return {};
}

bool Receiver::close(ChannelId id) {
  std::lock_guard lock(mutex_);
  const auto found = inlets_.find(id);
  return found != inlets_.end() && (found->second.is_closed = true);
}

void Receiver::forget(ChannelId id) {
  std::lock_guard lock(mutex_);
  inlets_.erase(id);
}

Status Receiver::answer(const std::string& reply_to, NodeType type, std::string body) {
  {
    std::lock_guard lock(answers_mutex_);
    if (answers_bytes_ + body.size() > kMaxAnswersBytes) return {Code::kFull, "too many answers wait to go out"};
    answers_bytes_ += body.size();
    answers_.push_back({reply_to, type, std::move(body)});
  }
  wake_.raise();
  return {};
}

// ---------------------------------------------------------------------------------------------------- the thread

void Receiver::run() {
  while (!is_stopping_) {
    zmq::pollitem_t items[] = {{nullptr, wake_.fd(), ZMQ_POLLIN, 0}, {router_.handle(), 0, ZMQ_POLLIN, 0}};
    const bool is_full = inbox_.is_full();
    zmq::poll(items, is_full ? 1 : 2, kPollFor);
    if (items[0].revents != 0) wake_.clear();
    send_answers();
    if (is_full) continue;
    for (int i = 0; i < kBatchesAtOnce && receive_one(); ++i) {
    }
  }
  router_.close();
}

void Receiver::send_answers() {
  std::vector<Answer> answers;
  {
    std::lock_guard lock(answers_mutex_);
    answers.swap(answers_);
    answers_bytes_ = 0;
  }
  for (const Answer& answer : answers) send(answer);
}

void Receiver::send(const Answer& answer) {
  zmq::message_t batch(kBatchHeaderBytes + kEntryHeaderBytes + answer.body.size());
  BatchWriter writer({batch.data<std::byte>(), batch.size()});
  writer.add({EntryWhat::kFrame, static_cast<uint16_t>(answer.type), {}, std::as_bytes(std::span(answer.body))});
  writer.finish({.flags = 0, .from = 0, .stream = 1, .sequence = 1, .ack_stream = 0, .ack = 0});
  std::string why = "it does not read its answers";
  try {
    // The first part decides: once it is taken the second is too.
    if (router_.send(zmq::buffer(answer.reply_to), zmq::send_flags::sndmore | zmq::send_flags::dontwait)) {
      (void)router_.send(batch, zmq::send_flags::dontwait);
      return;
    }
  } catch (const zmq::error_t&) {
    why = "its connection ended";
  }
  inbox_.put({.what = LinkEvent::What::kLost, .reply_to = answer.reply_to, .why = Status(Code::kUnavailable, why)});
}

bool Receiver::receive_one() {
  zmq::message_t name;
  zmq::message_t batch;
  if (!router_.recv(name, zmq::recv_flags::dontwait)) return false;
  bool is_whole = name.more();
  if (is_whole) {
    (void)router_.recv(batch, zmq::recv_flags::none);
    is_whole = !batch.more();
    for (zmq::message_t rest; !is_whole;) {
      (void)router_.recv(rest, zmq::recv_flags::none);
      if (!rest.more()) break;
    }
  }
  Origin origin;
  origin.reply_to = text_of(name);
  if (options_.has_keys) {
    const char* const key = zmq_msg_gets(batch.handle(), "User-Id");
    origin.key = origin.name = key == nullptr ? "" : key;
  } else {
    origin.name = origin.reply_to;
  }
  const std::optional<LinkRole> role = access_.role_of(origin.key);
  if (!role || access_.is_banned(origin.name, Clock::real().now())) {
    ++counters_.refused;
    return true;
  }
  origin.role = *role;
  on_batch(origin, is_whole ? std::span(batch.data<const std::byte>(), batch.size()) : std::span<const std::byte>());
  return true;
}

void Receiver::refuse(const Origin& origin, NodeNumber from, const Status& why) {
  ++counters_.refused;
  MANTA_LOG(kWarn, "link", "a batch was refused and its sender shut out", {"from", from}, {"key", origin.key}, {"why", why});
  access_.ban(origin.name, Clock::real().now());
  inbox_.put({.what = LinkEvent::What::kLost, .from = from, .from_key = origin.key, .role = origin.role, .why = why});
}

void Receiver::on_batch(const Origin& origin, std::span<const std::byte> bytes) {
  ++counters_.batches;
  Result<BatchReader> batch = BatchReader::open(bytes);
  std::lock_guard lock(mutex_);
  if (!batch.ok()) {
    NodeNumber from = 0;
    if (options_.has_keys) {
      for (const auto& [number, peer] : peers_)
        if (peer.state->peer.public_key == origin.key) from = number;
    }
    return refuse(origin, from, batch.status());
  }
  const NodeNumber from = batch->header().from;
  if (from == 0) return on_stranger(origin, *batch);
  const auto found = peers_.find(from);
  const bool may_have_number = origin.role == LinkRole::kNode || origin.role == LinkRole::kDriver;
  if (!may_have_number || (found != peers_.end() && found->second.state->peer.public_key != origin.key))
    return refuse(origin, 0,
                  Status(Code::kInvalid, "it says that it is node " + std::to_string(from) + ", by another's key"));
  if (found == peers_.end()) {
    // It may have heard of us before we hear of it: whatever it said is asked for once it is a peer.
    ++counters_.refused;
    if (strangers_.size() < kMaxStrangers) strangers_.insert(from);
    return;
  }
  must_wake_sender_ = false;
  ++batch_;
  on_batch_of_peer(origin, found->second, *batch, bytes.size());
  for (const auto& [bell, line] : to_ring_) bell->bell.ring(line);
  to_ring_.clear();
  if (must_wake_sender_) options_.wake_sender();
}

/// Of somebody without a number, frames and nothing else.
void Receiver::on_stranger(const Origin& origin, BatchReader& batch) {
  const BatchHeader& header = batch.header();
  if ((header.flags & BatchHeader::kBare) != 0) return;
  BatchReader look = batch;
  for (Entry entry; look.next(entry);) {
    if (entry.what != EntryWhat::kFrame)
      return refuse(origin, 0, Status(Code::kInvalid, "it speaks for a channel before it has joined"));
  }
  // A gap cannot be asked for without a number: whoever wants to join asks until it is answered.
  if (incoming_.accept_later(origin.key, header.stream, header.sequence) != Incoming::Verdict::kNew) return;
  for (Entry entry; batch.next(entry);) on_frame(origin, 0, entry);
}

void Receiver::on_batch_of_peer(const Origin& origin, Peer& peer, BatchReader& batch, size_t size_bytes) {
  const BatchHeader& header = batch.header();
  begin_stream(origin, peer, header.stream);
  on_acknowledgement(peer, header);
  if ((header.flags & BatchHeader::kBare) != 0) {
    const uint64_t last = incoming_.last(origin.key, header.stream);
    if (header.sequence > last) ask(peer, header.stream, last);
    return;
  }
  switch (incoming_.accept(origin.key, header.stream, header.sequence)) {
    case Incoming::Verdict::kGap: return ask(peer, header.stream, incoming_.last(origin.key, header.stream));
    case Incoming::Verdict::kDuplicate: return peer.state->update([](PeerState::News& news) { news.owes_ack = true; });
    case Incoming::Verdict::kNew: break;
  }
  const NodeNumber from = header.from;
  bool has_frames = false;
  for (Entry entry; batch.next(entry);) {
    has_frames |= entry.what == EntryWhat::kFrame;
    entry.what == EntryWhat::kFrame ? on_frame(origin, from, entry) : on_channel_entry(from, entry);
  }
  if (has_frames) peer.state->heard_at.store(Clock::real().now(), std::memory_order_relaxed);
  must_wake_sender_ |= peer.state->note_arrived(header.stream, header.sequence, size_bytes);
}

/// A peer that was removed and added again at its side begins a new stream: what the old one's channels had is lost.
void Receiver::begin_stream(const Origin& origin, Peer& peer, uint64_t stream) {
  if (peer.stream == stream) return;
  const uint64_t last = incoming_.last(origin.key, stream);
  if (peer.stream != 0) {
    if (last != 0) return;  // a late piece of an earlier stream
    end_channels_of(peer.state->peer.number, "the other node began anew");
  }
  peer.stream = stream;
  peer.state->update([&](PeerState::News& news) {
    news.ack_stream = stream;
    news.ack = last;
  });
}

void Receiver::on_acknowledgement(Peer& peer, const BatchHeader& header) {
  PeerState& state = *peer.state;
  const bool must_resend =
      (header.flags & BatchHeader::kResend) != 0 && (header.ack_stream == state.stream || header.ack_stream == 0);
  const bool must_ack = (header.flags & BatchHeader::kAckNow) != 0;
  state.update([&](PeerState::News& news) {
    if (header.ack_stream == state.stream) news.acked = std::max(news.acked, header.ack);
    news.must_resend |= must_resend;
    news.must_ack |= must_ack;
  });
  must_wake_sender_ |= must_resend || must_ack || state.held_bytes.load() > options_.max_outbox_bytes / 4;
}

/// Once for each batch that is missing, and again when it does not come.
void Receiver::ask(Peer& peer, uint64_t stream, uint64_t last) {
  const Time now = Clock::real().now();
  if (stream != peer.stream || (peer.asked_for == last + 1 && now - peer.asked_at < kAskAgainAfter)) return;
  peer.asked_for = last + 1;
  peer.asked_at = now;
  peer.state->update([](PeerState::News& news) { news.must_ask = true; });
  must_wake_sender_ = true;
}

void Receiver::on_frame(const Origin& origin, NodeNumber from, const Entry& entry) {
  inbox_.put({.what = LinkEvent::What::kFrame,
              .from = from,
              .from_key = origin.key,
              .role = origin.role,
              .reply_to = from == 0 ? origin.reply_to : std::string(),
              .type = static_cast<NodeType>(entry.kind),
              .body = std::string(reinterpret_cast<const char*>(entry.body.data()), entry.body.size())});
}

// ---------------------------------------------------------------------------------------------------- channels

void Receiver::on_channel_entry(NodeNumber from, const Entry& entry) {
  const auto found = inlets_.find(entry.channel);
  if (found == inlets_.end()) {
    if (entry.what == EntryWhat::kOpen) on_open(from, entry.channel);
    if (entry.what == EntryWhat::kClose) {
      if (const auto early = opened_early_.find(entry.channel); early != opened_early_.end() && early->second == from)
        opened_early_.erase(early);
    }
    return;  // the rest is late: this end was closed
  }
  Inlet& inlet = found->second;
  RelayChannel& channel = *inlet.channel;
  if (channel.peer != from || channel.has_ended.load(std::memory_order_relaxed)) return;
  switch (entry.what) {
    case EntryWhat::kMessage: return inlet.is_closed ? void() : on_message(inlet, entry);
    case EntryWhat::kOpen:
      channel.is_open.store(true, std::memory_order_release);
      must_wake_sender_ = true;
      return;
    case EntryWhat::kClose:
      return end(channel, LinkEvent::What::kChannelClosed, Status(Code::kUnavailable, "the other end was closed"));
    case EntryWhat::kCredit:
      channel.credit.store(counter_of(entry), std::memory_order_release);
      must_wake_sender_ = true;
      return;
    case EntryWhat::kStream:
      if (!channel.is_caller() || inlet.is_closed) return;
      channel.channel->stream_consumed(entry.kind).store(counter_of(entry), std::memory_order_release);
      // Its producer waits for replies to be taken, on the line of whoever waits.
      ring_later(*channel.local_bell, Bell::Line::kReplies);
      return;
    case EntryWhat::kFrame: return;
  }
}

void Receiver::on_open(NodeNumber from, ChannelId id) {
  if (opened_early_.size() >= kMaxOpenedEarly) {
    MANTA_LOG(kWarn, "link", "too many channels of which only the other end is open", {"from", from}, {"channel", id});
    return;
  }
  opened_early_[id] = from;
}

void Receiver::on_message(Inlet& inlet, const Entry& entry) {
  RelayChannel& channel = *inlet.channel;
  Ring& ring_end = channel.filled_ring();
  const std::span<std::byte> room = ring_end.reserve(entry.body.size());
  if (room.empty()) {
    return end(channel, LinkEvent::What::kChannelBroken,
               Status(Code::kInvalid, ring_end.is_broken() ? "the shared ring holds nonsense: the local process broke it"
                                                           : "the other node sent more than it had credit for"));
  }
  if (!entry.body.empty()) std::memcpy(room.data(), entry.body.data(), entry.body.size());
  ring_end.publish(entry.kind, entry.body.size());
  inlet.fill = Ring::position_after(inlet.fill, entry.body.size());
  channel.filled.store(inlet.fill, std::memory_order_release);
  must_wake_sender_ |= inlet.fill - channel.reported.load(std::memory_order_relaxed) >= kWatchBytes;
  ring_later(*channel.local_bell, channel.local_line());
}

/// At the end of the batch, once a process and line.
void Receiver::ring_later(LocalBell& bell, Bell::Line line) {
  if (std::exchange(bell.rung_in_batch[static_cast<size_t>(line)], batch_) != batch_) to_ring_.emplace_back(&bell, line);
}

void Receiver::end(RelayChannel& channel, LinkEvent::What what, Status why) {
  if (channel.has_ended.exchange(true)) return;
  inbox_.put({.what = what, .from = channel.peer, .channel = channel.id, .why = std::move(why)});
  must_wake_sender_ = true;
}

void Receiver::end_channels_of(NodeNumber number, const std::string& why) {
  for (const auto& [id, inlet] : inlets_)
    if (inlet.channel->peer == number) end(*inlet.channel, LinkEvent::What::kChannelBroken, Status(Code::kInvalid, why));
  std::erase_if(opened_early_, [&](const auto& early) { return early.second == number; });
}

}  // namespace manta::wire
