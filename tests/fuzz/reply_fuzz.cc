// What a worker, perhaps of another node, answers in its ring: every reply that is let through lies in its message and is
// for a call in flight.
#include <cstring>
#include <deque>

#include "actors/peer.h"
#include "common/check.h"
#include "tests/fuzz/fuzz.h"

namespace manta::fuzz {
namespace {

constexpr size_t kCalls = 4;

/// Its parts are {kind, call, size} and so many bytes behind the cookie, which is put in: the call's, or one that is over.
std::string part(ReplyKind kind, uint8_t call, ReplyHeader header, const std::string& body) {
  header.cookie = 0;
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes = bytes.substr(sizeof header.cookie) + body;
  return std::string{static_cast<char>(kind), static_cast<char>(call), static_cast<char>(bytes.size() >> 8),
                     static_cast<char>(bytes.size())} +
         bytes;
}

class Conversation {
 public:
  Conversation() {
    static wire::Bell bell = wire::Bell::create().value();
    const Fd file = wire::Channel::create_file().value();
    worker_ = wire::Channel::open(file, wire::Channel::Side::kWorker).value();
    peer_ = std::make_unique<Peer>(ProcessId{7}, 7, wire::Channel::open(file, wire::Channel::Side::kCaller).value(),
                                   wire::Bell::open(bell.fd()).value());
    for (Call& call : calls_) send(call);
  }
  ~Conversation() {
    for (Call& call : calls_) peer_->forget(call);
    MANTA_CHECK(peer_->in_flight() == 0, peer_->in_flight());
  }

  void play(std::string_view script) {
    while (script.size() >= 4) {
      const auto at = [&](size_t i) { return static_cast<uint8_t>(script[i]); };
      const size_t size = std::min<size_t>(size_t{at(2)} << 8 | at(3), script.size() - 4);
      const Call& call = calls_[at(1) % kCalls];
      const uint64_t cookie = peer_->cookie(call) + (uint64_t{at(1) / kCalls % 4u} << 32);
      const std::span<std::byte> room = worker_->replies.reserve(sizeof cookie + size);
      if (room.empty()) return;
      std::memcpy(room.data(), &cookie, sizeof cookie);
      std::memcpy(room.data() + sizeof cookie, script.data() + 4, size);
      // At times shorter than its header.
      const size_t said = size == 0 ? at(3) % sizeof cookie : sizeof cookie + size;
      worker_->replies.publish(at(0), said);
      script.remove_prefix(4 + size);
      if (!hear().ok()) return;
    }
  }

 private:
  void send(Call& call) {
    static constexpr detail::Function kFunction{.key = "f", .thunk = nullptr, .kind = {}, .returns = 1, .signature = ""};
    MANTA_CHECK(peer_->send(call, {.function = &kFunction, .name = {}, .group = {}}));
    while (auto message = worker_->requests.claim().value()) worker_->requests.release(*message);
  }

  Status hear() {
    return peer_->poll([this](Call& call, const Reply& reply) {
      MANTA_CHECK(&call >= calls_ && &call < calls_ + kCalls && call.peer == peer_.get());
      MANTA_CHECK(reply.value.size() + reply.kept.size() <= wire::kMaxRingMessageBytes, reply.value.size());
      unsigned sum = 0;
      for (const std::span<const std::byte> bytes : {reply.value, reply.kept})
        for (const std::byte one : bytes) sum += static_cast<unsigned>(one);
      volatile unsigned read = sum;
      (void)read;
      (void)reply.error.to_string();
      const bool is_over =
          reply.kind == ReplyKind::kResult || reply.kind == ReplyKind::kDone || reply.kind == ReplyKind::kFailed;
      if (!is_over) return;
      peer_->forget(call);
      send(call);
    });
  }

  Call calls_[kCalls];
  std::unique_ptr<wire::Channel> worker_;
  std::unique_ptr<Peer> peer_;
};

}  // namespace

std::vector<std::string> seeds() {
  const std::string value(16, 'v');
  const std::string ids(32, 'i');
  const uint32_t error[4] = {7, 4, 5, 0};
  std::string failed(reinterpret_cast<const char*>(error), sizeof error);
  failed += "textEtype" + std::string(7, '\0');
  return {part(ReplyKind::kResult, 0, {.kept = 2, .value_bytes = 16}, value + ids) +
              part(ReplyKind::kResult, 4, {.value_bytes = 16}, value),
          part(ReplyKind::kPart, 1, {.index = 1, .value_bytes = 16}, value) + part(ReplyKind::kDone, 1, {.index = 2}, ""),
          part(ReplyKind::kInside, 2, {}, ids) +
              part(ReplyKind::kResult, 2, {.value_kind = 1, .value_bytes = 48}, std::string(48, 'l')),
          part(ReplyKind::kFailed, 3, {.kept = 1}, failed + value) + part(ReplyKind::kFailed, 3, {}, failed)};
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size <= 16'384) manta::fuzz::Conversation().play({reinterpret_cast<const char*>(data), size});
  return 0;
}
