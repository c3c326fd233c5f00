#include "wire/net/sender.h"

#include "common/check.h"
#include "common/log.h"
#include "wire/net/thread.h"

#include <algorithm>

namespace manta::wire {
namespace {

constexpr size_t kCopyBytes = size_t{64} << 10;  // a batch up to here is copied, so that it does not hold a large buffer
constexpr auto kLongestSleep = std::chrono::seconds(1);
constexpr auto kAckAfter = std::chrono::milliseconds(100);
constexpr auto kDrainFor = std::chrono::seconds(1);
constexpr auto kReopenAfter = std::chrono::milliseconds(100);
constexpr int kLingerMs = 200;

}  // namespace

Sender::Sender(Options options, Bell bell, BufferPool& pool, Inbox& inbox)
    : options_(std::move(options)),
      bell_(std::move(bell)),
      pool_(pool),
      inbox_(inbox),
      buffer_(pool.take()),
      writer_({buffer_.get(), kBatchBytes}) {}

Sender::~Sender() { stop(); }

void Sender::stop() {
  is_stopping_ = true;
  wake();
  if (thread_.joinable()) thread_.join();
}

void Sender::start() {
  thread_ = start_thread("link-sender", [this] { run(); });
}

// ---------------------------------------------------------------------------------------------------- from other threads

void Sender::post(std::function<void()> work) {
  {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
    has_posted_ = true;
  }
  wake();
}

void Sender::add_peer(std::shared_ptr<PeerState> peer) {
  {
    std::lock_guard lock(mutex_);
    outboxes_[peer->peer.number].state = peer;
  }
  post([this, peer = std::move(peer)] {
    peers_.push_back(std::make_unique<Peer>());
    peers_.back()->state = peer;
  });
}

void Sender::remove_peer(NodeNumber number) {
  {
    std::lock_guard lock(mutex_);
    outboxes_.erase(number);
  }
  post([this, number] {
    const auto found = std::ranges::find_if(peers_, [&](const auto& peer) { return peer->state->peer.number == number; });
    if (found == peers_.end()) return;
    for (Relay& relay : (*found)->relays) {
      end(relay, "node " + std::to_string(number) + " is no peer any more");
      options_.forget(relay.channel->id);
    }
    if ((*found)->socket) (*found)->socket.set(zmq::sockopt::linger, 0);
    peers_.erase(found);
  });
}

Status Sender::send_frame(NodeNumber to, NodeType type, std::string body) {
  const size_t size = kEntryHeaderBytes + body.size();
  if (body.size() > kMaxFrameBytes)
    return {Code::kInvalid, "a frame of " + std::to_string(body.size()) + " bytes; at most 16 MiB fit"};
  {
    std::lock_guard lock(mutex_);
    const auto found = outboxes_.find(to);
    if (found == outboxes_.end()) return {Code::kNotFound, "node " + std::to_string(to) + " is no peer"};
    std::atomic<size_t>& held = found->second.state->held_bytes;
    if (const size_t waiting = held.load(); waiting + size > options_.max_outbox_bytes) {
      return {Code::kFull,
              "node " + std::to_string(to) + " does not read: " + std::to_string(waiting) + " bytes wait for it"};
    }
    held += size;
    found->second.frames.push_back({type, std::move(body)});
    has_posted_ = true;
  }
  wake();
  return {};
}

void Sender::open(std::shared_ptr<RelayChannel> channel) {
  post([this, channel = std::move(channel)] {
    for (const auto& peer : peers_) {
      if (peer->state->peer.number == channel->peer) return void(peer->relays.push_back({.channel = channel}));
    }
    Relay orphan{.channel = channel};
    end(orphan, "node " + std::to_string(channel->peer) + " is no peer any more");
    options_.forget(channel->id);
  });
}

void Sender::close(ChannelId id) {
  post([this, id] {
    for (const auto& peer : peers_) {
      for (Relay& relay : peer->relays)
        if (relay.channel->id == id) relay.close_by = now_ + kDrainFor;
    }
  });
}

// ---------------------------------------------------------------------------------------------------- the thread

void Sender::run() {
  while (!is_stopping_) {
    if (pass()) continue;
    const uint32_t ticket = bell_.prepare_sleep(Bell::Line::kRequests);
    if (is_stopping_ || pass()) {
      bell_.cancel_sleep(Bell::Line::kRequests);
    } else {
      bell_.sleep(Bell::Line::kRequests, ticket, std::chrono::ceil<std::chrono::microseconds>(wait_).count());
    }
  }
  close_all();
}

void Sender::close_all() {
  pass();
  for (const auto& peer : peers_)
    if (peer->socket) peer->socket.set(zmq::sockopt::linger, kLingerMs);
  peers_.clear();
}

void Sender::take_posted() {
  if (!has_posted_.exchange(false)) return;
  std::vector<std::function<void()>> work;
  {
    std::lock_guard lock(mutex_);
    work.swap(posted_);
  }
  for (const auto& piece : work) piece();
  std::lock_guard lock(mutex_);
  for (const auto& peer : peers_) {
    const auto found = outboxes_.find(peer->state->peer.number);
    if (found == outboxes_.end() || found->second.state != peer->state) continue;
    if (peer->frames.empty()) peer->frames.swap(found->second.frames);
  }
}

bool Sender::pass() {
  now_ = Clock::real().now();
  wait_ = kLongestSleep;
  take_posted();
  bool has_sent = false;
  for (const auto& peer : peers_) has_sent |= serve(*peer);
  return has_sent;
}

bool Sender::serve(Peer& peer) {
  take_news(peer);
  if (!peer.socket && !peer.reopen_at && has_to_say(peer)) peer.reopen_at = now_;
  if (peer.reopen_at) connect(peer);
  if (!peer.socket) return false;
  const uint64_t before = peer.outgoing.last_sequence();
  send_frames(peer);
  serve_relays(peer);
  ship(peer);
  const bool has_shipped = peer.outgoing.last_sequence() != before;
  send_bare_if_due(peer, has_shipped);
  return has_shipped;
}

void Sender::take_news(Peer& peer) {
  peer.news = peer.state->take();
  peer.state->held_bytes -= peer.outgoing.acknowledge(peer.news.acked, now_);
  if (peer.news.must_reopen && !peer.reopen_at) peer.reopen_at = now_ + kReopenAfter;
  if (!peer.news.must_resend) return;
  peer.outgoing.resend(now_, [&](zmq::message_t& kept) {
    zmq::message_t copy;
    copy.copy(kept);
    peer.socket.send(copy, zmq::send_flags::dontwait);
    ++counters_.resent;
  });
}

bool Sender::has_to_say(const Peer& peer) {
  const PeerState::News& news = peer.news;
  return !peer.frames.empty() || !peer.relays.empty() || news.owes_ack || news.must_ack || news.must_ask;
}

void Sender::connect(Peer& peer) {
  if (now_ < *peer.reopen_at) return look_again_in(*peer.reopen_at - now_);
  peer.reopen_at.reset();
  if (peer.socket) peer.socket.set(zmq::sockopt::linger, 0);
  Result<zmq::socket_t> socket = options_.connect(peer.state);
  if (socket.ok()) {
    peer.socket = std::move(*socket);
  } else {
    MANTA_LOG(kWarn, "link", "cannot connect", {"peer", peer.state->peer.number}, {"why", socket.status()});
    peer.reopen_at = now_ + kReopenAfter;
    look_again_in(kReopenAfter);
  }
}

bool Sender::send_frames(Peer& peer) {
  if (peer.frames.empty()) return false;
  for (const OutFrame& frame : peer.frames) {
    add(peer, {EntryWhat::kFrame, static_cast<uint16_t>(frame.type), {}, std::as_bytes(std::span(frame.body))});
    peer.state->held_bytes -= kEntryHeaderBytes + frame.body.size();
  }
  peer.frames.clear();
  return true;
}

// ---------------------------------------------------------------------------------------------------- batches

void Sender::add(Peer& peer, const Entry& entry) {
  if (!writer_.fits(entry.body.size())) {
    ship(peer);
    if (!writer_.fits(entry.body.size())) return ship_large(peer, entry);
  }
  writer_.add(entry);
}

BatchHeader Sender::header(const Peer& peer, uint16_t flags) const {
  const bool is_bare = (flags & BatchHeader::kBare) != 0;
  return {.flags = flags,
          .from = peer.state->peer.as.are_given() ? NodeNumber{0} : own_.load(),
          .stream = peer.state->stream,
          .sequence = is_bare ? peer.outgoing.last_sequence() : peer.outgoing.next_sequence(),
          .ack_stream = peer.news.ack_stream,
          .ack = peer.news.ack};
}

bool Sender::ship(Peer& peer) {
  if (writer_.is_empty()) return false;
  const size_t size = writer_.size_bytes();
  writer_.finish(header(peer, 0));
  if (size <= kCopyBytes) {
    transmit(peer, zmq::message_t(buffer_.get(), size), size);
  } else {
    transmit(peer, pool_.message_of(std::move(buffer_), size), kBatchBytes);
    buffer_ = pool_.take();
  }
  writer_ = BatchWriter({buffer_.get(), kBatchBytes});
  return true;
}

void Sender::ship_large(Peer& peer, const Entry& entry) {
  zmq::message_t message(kBatchHeaderBytes + kEntryHeaderBytes + entry.body.size());
  BatchWriter writer({message.data<std::byte>(), message.size()});
  writer.add(entry);
  writer.finish(header(peer, 0));
  const size_t size = message.size();
  transmit(peer, std::move(message), size);
}

void Sender::transmit(Peer& peer, zmq::message_t message, size_t occupied_bytes) {
  ++counters_.batches;
  counters_.bytes += message.size();
  zmq::message_t copy;
  copy.copy(message);
  peer.socket.send(copy, zmq::send_flags::dontwait);
  peer.outgoing.keep(std::move(message), occupied_bytes, now_);
  peer.state->held_bytes += occupied_bytes;
  peer.state->note_ack_sent(peer.news.ack);
}

void Sender::send_bare_if_due(Peer& peer, bool has_shipped) {
  const PeerState::News& news = peer.news;
  const bool must_ask_what_came = peer.outgoing.must_ask(now_) || news.must_greet;
  if (has_shipped || !news.owes_ack)
    peer.owes_ack_since.reset();
  else if (!peer.owes_ack_since)
    peer.owes_ack_since = now_;
  const bool must_ack = !has_shipped && (news.must_ack || (peer.owes_ack_since && now_ - *peer.owes_ack_since >= kAckAfter));
  if (peer.owes_ack_since) look_again_in(kAckAfter);
  if (!peer.outgoing.is_empty()) look_again_in(Outgoing<zmq::message_t>::kAskAfter);
  if (!must_ask_what_came && !must_ack && !news.must_ask) return;

  uint16_t flags = BatchHeader::kBare;
  if (must_ask_what_came) flags |= BatchHeader::kAckNow;
  if (news.must_ask) flags |= BatchHeader::kResend;
  std::array<std::byte, kBatchHeaderBytes> bytes;
  BatchWriter bare(bytes);
  bare.finish(header(peer, flags));
  peer.socket.send(zmq::buffer(bytes), zmq::send_flags::dontwait);
  if (must_ask_what_came) peer.outgoing.asked(now_);
  peer.owes_ack_since.reset();
  peer.state->note_ack_sent(news.ack);
}

}  // namespace manta::wire
