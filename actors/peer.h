// A process that this one calls: the channel to it, what it has been taught, and the calls in flight.
//
// Thread safety: under the runtime's lock. Cost of `send`: the arguments are copied, or written, into the ring, no
// allocation, and a system call only when the worker sleeps.
#pragma once

#include "actors/call.h"
#include "actors/call_format.h"
#include "wire/channel.h"

#include <functional>
#include <memory>
#include <vector>

namespace manta {

/// What a reply says, in place in the ring.
struct Reply {
  ReplyKind kind{};
  ReplyHeader header;
  std::span<const std::byte> value;  ///< Blob, or packed location.
  std::span<const std::byte> kept;   ///< 16 bytes an id.
  Status error;
};

/// A function with the name and group it is called under; interned once a process, taught once a channel.
struct Template {
  const detail::Function* function = nullptr;
  std::string name;
  std::string group;
  auto operator<=>(const Template&) const = default;
};

/// What a submission left unwritten becomes blobs: for arguments that are not sent at once.
void write_blobs(std::span<detail::Argument> arguments);

class Peer {
 public:
  Peer(ProcessId process, int pid, std::unique_ptr<wire::Channel> channel, wire::Bell bell)
      : process_(process), pid_(pid), channel_(std::move(channel)), bell_(std::move(bell)) {}

  /// Puts the call into the ring. False when it is full now: try again after a reply.
  /// Precondition: every argument is ready, and together they fit (see `message_bytes`).
  bool send(Call& call, const Template& call_template);

  /// The ring bytes that a call with these arguments needs, with Refs replaced by their values.
  static size_t message_bytes(std::span<const detail::Argument> arguments);
  /// Whether a message of that size fits into the ring now.
  [[nodiscard]] bool has_room(size_t size_bytes) { return !channel_->requests.reserve(size_bytes).empty(); }
  /// Grows as the worker gives room back.
  [[nodiscard]] uint64_t room_given_back() const { return channel_->requests.released_position(); }
  /// Writes the arguments part of a call.
  static void write_arguments(const Call& call, Pen& pen);
  /// The same in two steps, for calls whose arguments go through the store: what is to be written, and, without the
  /// runtime's lock while the call holds its arguments, the writing.
  struct ArgumentBytes {
    std::span<const std::byte> blob;
    PackedLocation location;
    bool is_stored = false;
  };
  static std::vector<ArgumentBytes> arguments_of(const Call& call);
  static void write_arguments(std::span<const ArgumentBytes> arguments, Pen& pen);

  /// True when the call was still queued and now never runs. Arguments that were only in the ring are blobs again.
  bool take_back(Call& call);
  /// Whether its worker has begun it (or is past it).
  [[nodiscard]] bool is_claimed(const Call& call) const { return channel_->requests.is_claimed(call.position); }

  /// Hands each reply that is there to `handle(call, reply)`. kInvalid when the peer wrote nonsense.
  Status poll(const std::function<void(Call&, const Reply&)>& handle);
  /// Names a call that is in flight, to the worker.
  [[nodiscard]] uint64_t cookie(const Call& call) const {
    return (uint64_t{slots_[call.slot].generation} << 32) | call.slot;
  }
  /// The call is over: its cookie is not valid any more.
  void forget(Call& call);

  void advance_stream(const Call& call, uint64_t consumed);
  int take_stream_slot();  ///< -1 when all are in use.
  void return_stream_slot(int slot) { stream_slots_ &= ~(uint64_t{1} << slot); }

  [[nodiscard]] ProcessId process() const { return process_; }
  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] size_t in_flight() const { return in_flight_; }
  bool is_active = false;  ///< In the runtime's list of peers to poll.
  bool is_dead = false;

 private:
  struct Slot {
    Call* call = nullptr;
    uint32_t generation = 1;
  };
  bool teach(uint32_t id, const Template& call_template);
  void copy_back(Call& call);
  Call* find(uint64_t cookie) const;

  ProcessId process_;
  int pid_;
  std::unique_ptr<wire::Channel> channel_;
  wire::Bell bell_;
  std::vector<bool> taught_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  size_t in_flight_ = 0;
  uint64_t stream_slots_ = 0;
};

}  // namespace manta
