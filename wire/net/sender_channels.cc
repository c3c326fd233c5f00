// What the sender does for channels: claims within the credit, reports what was consumed, and ends them.
#include "wire/net/sender.h"

#include <algorithm>
#include <utility>

namespace manta::wire {
namespace {

constexpr size_t kTurnBytes = size_t{64} << 10;  // of one channel, before the next has its turn
constexpr uint64_t kReportBytes = kRingBytes / 8;
constexpr uint64_t kWatchBytes = kRingBytes / 4;

std::span<const std::byte> bytes_of(const uint64_t& value) { return std::as_bytes(std::span(&value, 1)); }

}  // namespace

bool Sender::serve_relays(Peer& peer) {
  if (peer.relays.empty()) return false;
  bool has_sent = false;
  const size_t count = peer.relays.size();
  const size_t first = ++peer.turn % count;
  bool any_over = false;
  for (size_t i = 0; i < count; ++i) {
    Relay& relay = peer.relays[first + i < count ? first + i : first + i - count];
    has_sent |= serve_relay(peer, relay);
    any_over |= relay.channel == nullptr;
  }
  if (any_over) std::erase_if(peer.relays, [](const Relay& relay) { return relay.channel == nullptr; });
  return has_sent;
}

/// A relay that is over is left without its channel.
bool Sender::serve_relay(Peer& peer, Relay& relay) {
  if (!relay.is_announced) {
    add(peer, {EntryWhat::kOpen, 0, relay.channel->id, {}});
    relay.is_announced = true;
  }
  send_credit(peer, relay);
  send_streams(peer, relay);
  const bool has_sent = send_messages(peer, relay);
  if (!is_over(relay)) return has_sent;
  add(peer, {EntryWhat::kClose, 0, relay.channel->id, {}});
  options_.forget(relay.channel->id);
  relay.channel.reset();
  return true;
}

bool Sender::is_over(Relay& relay) {
  if (relay.channel->has_ended.load(std::memory_order_acquire)) return true;
  if (!relay.close_by) return false;
  if (now_ >= *relay.close_by || relay.channel->claimed_ring().is_empty()) return relay.channel->has_ended = true;
  look_again_in(std::chrono::milliseconds(10));
  return false;
}

void Sender::end(Relay& relay, const std::string& why) {
  if (relay.channel->has_ended.exchange(true)) return;
  inbox_.put({.what = LinkEvent::What::kChannelBroken,
              .from = relay.channel->peer,
              .channel = relay.channel->id,
              .why = Status(Code::kInvalid, why)});
}

bool Sender::has_credit(Relay& relay) {
  if (relay.claimed - relay.credit < kCreditBytes) return true;
  const uint64_t credit = relay.channel->credit.load(std::memory_order_acquire);
  if (credit < relay.credit || credit > relay.claimed) {
    end(relay, "the other node has consumed what was never sent");
    return false;
  }
  relay.credit = credit;
  return relay.claimed - relay.credit < kCreditBytes;
}

bool Sender::send_messages(Peer& peer, Relay& relay) {
  RelayChannel& channel = *relay.channel;
  if (!channel.is_open.load(std::memory_order_acquire) || channel.has_ended.load(std::memory_order_relaxed)) return false;
  Ring& ring = channel.claimed_ring();
  size_t sent_bytes = 0;
  while (sent_bytes < kTurnBytes && peer.outgoing.held_bytes() < options_.max_outbox_bytes / 2 && has_credit(relay)) {
    const Result<std::optional<RingMessage>> claimed = ring.claim();
    if (!claimed.ok()) {
      end(relay, claimed.status().message());
      break;
    }
    if (!claimed->has_value()) break;
    const RingMessage& message = **claimed;
    add(peer, {EntryWhat::kMessage, message.kind, channel.id, message.body});
    relay.claimed = Ring::position_after(relay.claimed, message.body.size());
    sent_bytes += kEntryHeaderBytes + message.body.size();
    ring.release(message);
  }
  return sent_bytes != 0;
}

/// What the local process consumed, an eighth of a ring at a time. It does so without ringing: while the other node may run
/// out of credit, a look every millisecond.
void Sender::send_credit(Peer& peer, Relay& relay) {
  RelayChannel& channel = *relay.channel;
  const uint64_t filled = channel.filled.load(std::memory_order_acquire);
  uint64_t reported = channel.reported.load(std::memory_order_relaxed);
  if (filled - reported < kReportBytes) return;
  const uint64_t consumed = channel.filled_ring().released_position();
  if (consumed - reported >= kReportBytes) {
    add(peer, {EntryWhat::kCredit, 0, channel.id, bytes_of(consumed)});
    channel.reported.store(reported = consumed, std::memory_order_relaxed);
  }
  if (filled - reported >= kWatchBytes) look_again_in(std::chrono::milliseconds(1));
}

void Sender::send_streams(Peer& peer, Relay& relay) {
  if (relay.channel->is_caller()) return;  // the counters are the caller's
  Channel& channel = *relay.channel->channel;
  const int used = channel.stream_slots_used();
  if (used == 0) return;
  relay.streams.resize(std::max(relay.streams.size(), static_cast<size_t>(used)));
  for (int slot = 0; slot < used; ++slot) {
    const uint64_t value = channel.stream_consumed(slot).load(std::memory_order_acquire);
    if (std::exchange(relay.streams[static_cast<size_t>(slot)], value) == value) continue;
    add(peer, {EntryWhat::kStream, static_cast<uint16_t>(slot), relay.channel->id, bytes_of(value)});
  }
}

}  // namespace manta::wire
