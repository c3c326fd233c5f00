// A node, a driver, a viewer or a stranger that sends any batches in any order to a receiver with peers, relayed channels
// and keys; and questions of ZAP. What comes out is within bounds, and the ring to a local process stays a ring.
#include <cstring>
#include <memory>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/script.h"
#include "wire/net/gate.h"
#include "wire/net/receiver.h"

namespace manta::fuzz {
namespace {

using namespace wire;

const std::string kKeys[] = {std::string(kKeyCharacters, 'a'), std::string(kKeyCharacters, 'b'),
                             std::string(kKeyCharacters, 'c'), ""};
constexpr uint64_t kStream = 7;  // of what this link sends

class Receiving {
 public:
  explicit Receiving(bool has_keys)
      : access_(has_keys),
        inbox_(size_t{1} << 20, Signal::create().value(), room_),
        receiver_({.has_keys = has_keys, .max_outbox_bytes = size_t{1} << 20, .wake_sender = [] {}}, zmq::socket_t(),
                  access_, inbox_, room_) {
    if (has_keys) {
      access_.allow(kKeys[0], LinkRole::kNode);
      access_.allow(kKeys[1], LinkRole::kDriver);
      access_.allow(kKeys[2], LinkRole::kViewer);
    }
    for (const wire::NodeNumber number : {2u, 3u}) add_peer(number, has_keys);
    open(1, Channel::Side::kCaller);
  }

  void play(Script script) {
    while (!script.done()) {
      switch (script.byte() % 8) {
        case 0: send(script, script.bytes(script.word() % 4'096)); break;
        case 1: consume(); break;
        case 2: (void)receiver_.close(channel(script.byte())); break;
        case 3: open(script.byte() % 4, script.byte() % 2 == 0 ? Channel::Side::kCaller : Channel::Side::kWorker); break;
        case 4: add_peer(2 + script.byte() % 3, access_.role_of("") == std::nullopt); break;
        case 5: receiver_.remove_peer(2 + script.byte() % 3); break;
        default: send_entries(script);
      }
    }
    consume();
  }

 private:
  static ChannelId channel(uint64_t index) { return {index % 4 == 3 ? 0 : first_id_of(1) + index % 4}; }

  void add_peer(wire::NodeNumber number, bool has_keys) {
    auto peer = std::make_shared<PeerState>(
        LinkPeer{.number = number, .endpoint = "tcp://127.0.0.1:9", .public_key = has_keys ? kKeys[number % 2] : ""},
        kStream);
    receiver_.add_peer(std::move(peer));
  }

  void open(uint64_t index, Channel::Side side) {
    if (channels_.size() >= 8) return;
    const Fd file = Channel::create_file().value();
    static const Bell bell = Bell::create().value();
    auto local = std::make_shared<LocalBell>();
    local->bell = Bell::open(bell.fd()).value();
    auto relayed =
        std::make_shared<RelayChannel>(channel(index), 2, side, Channel::open(file, side).value(), std::move(local));
    const auto other = side == Channel::Side::kCaller ? Channel::Side::kWorker : Channel::Side::kCaller;
    if (receiver_.open(relayed).ok()) channels_.push_back({std::move(relayed), Channel::open(file, other).value()});
  }
  void send_entries(Script& script) {
    const uint8_t look = script.byte();
    BatchHeader header{.from = script.byte() % 5u, .stream = 1 + script.byte() % 3u, .sequence = script.byte()};
    if (look % 8 == 7) header.flags = script.byte() % 8;
    if (look % 2 == 1) header.ack_stream = script.byte() % 9, header.ack = script.word();
    std::vector<std::byte> room(kBatchHeaderBytes);
    static const std::vector<std::byte> kBody(kMaxRingMessageBytes + 1);
    std::vector<Entry> entries;
    uint64_t counters[8];
    for (size_t i = 0; i < (look >> 4) % 8u; ++i) {
      Entry entry{static_cast<EntryWhat>(script.byte() % 7), script.byte(), channel(script.byte()), {}};
      const size_t sizes[] = {0, script.byte(), size_t{script.byte()} << 10, kMaxRingMessageBytes};
      entry.body = std::span(kBody).first(sizes[script.byte() % 4]);
      if (entry.what == EntryWhat::kCredit || entry.what == EntryWhat::kStream) {
        counters[i] = script.word();
        entry.body = std::as_bytes(std::span(counters + i, 1));
      }
      if (entry.what == EntryWhat::kFrame && entry.kind % 4 != 0) entry.channel = {};
      room.resize(room.size() + kEntryHeaderBytes + entry.body.size());
      entries.push_back(entry);
    }
    BatchWriter writer(room);
    for (const Entry& entry : entries) writer.add(entry);
    writer.finish(header);
    send(script, std::span<const std::byte>(room).first(writer.size_bytes()));
  }

  void send(Script& script, std::span<const std::byte> bytes) {
    Receiver::Origin origin;
    origin.key = kKeys[script.byte() % 4];
    const auto role = access_.role_of(origin.key);
    if (!role) return;  // the receiver looks before it comes to this
    origin.role = *role;
    if (access_.role_of("")) origin.key.clear();
    origin.name = origin.reply_to = "connection";
    // Of exactly this size, so that AddressSanitizer sees a read one byte past it.
    const std::vector<std::byte> exact(bytes.begin(), bytes.end());
    receiver_.on_batch(origin, exact);
    for (const LinkEvent& event : inbox_.take()) {
      MANTA_CHECK(event.from <= kMaxNodeNumber, event.from);
      MANTA_CHECK(event.body.size() <= bytes.size(), event.body.size());
    }
  }

  /// What the local processes see is a ring, whatever came.
  void consume() {
    for (auto& [relayed, local] : channels_) {
      Ring& ring = relayed->is_caller() ? local->requests : local->replies;
      for (int i = 0; i < 100; ++i) {
        Result<std::optional<RingMessage>> message = ring.claim();
        MANTA_CHECK(message.ok(), message.status().to_string());
        if (!message->has_value()) break;
        MANTA_CHECK((*message)->body.size() <= kMaxRingMessageBytes);
        ring.release(**message);
      }
    }
  }

  struct Local {
    std::shared_ptr<RelayChannel> relayed;  // the receiver has it too
    std::unique_ptr<Channel> process;
  };

  Signal room_ = Signal::create().value();
  Access access_;
  Inbox inbox_;
  std::vector<Local> channels_;
  Receiver receiver_;
};

void ask(Script script) {
  std::vector<std::string_view> parts;
  while (!script.done() && parts.size() < 10) {
    const auto part = script.bytes(script.byte());
    parts.emplace_back(reinterpret_cast<const char*>(part.data()), part.size());
  }
  const std::string key = key_of_question(parts);
  MANTA_CHECK(key.empty() || is_key(key), key);
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  std::string question = "z";
  for (const std::string& part : {std::string("1.0"), std::string("1"), std::string("global"), std::string("127.0.0.1"),
                                  std::string(), std::string("CURVE"), std::string(32, 'k')})
    question += static_cast<char>(part.size()) + part;
  out.push_back(question);
  // Of node 2, in stream 1: it opens the channel, then a message, credit and a frame.
  const std::string open{6, 0x10, 2, 0, 1, 2, 0, 1, 0, 0, 0, 0};
  std::string more{6, 0x30, 2, 0, 2};
  more += std::string{1, 4, 1, 9, 0, 1};
  more += std::string{4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64};
  more += std::string{0, 5, 0, 20, 0, 1, 0};
  const std::string gap{6, 0x21, 3, 1, 9, 7, 0, 0, 0, 0, 0, 0, 0, 5, 1, 4, 1, 9, 9, 2, 1, 4, 1, 9, 0, 3, 0};
  const std::string stranger{6, 0x10, 0, 0, 1, 0, 20, 0, 4, 4, 1, 2};
  for (const char keys : {'k', 'n'}) {
    out.push_back(keys + open + more + '\1');
    out.push_back(keys + open + gap + std::string{2, 1, 3, 2, 0, 4, 0, 5, 1});
    out.push_back(keys + stranger + open);
  }
  return out;
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 4'096) return 0;
  if (data[0] == 'z') {
    manta::fuzz::ask({data + 1, size - 1});
  } else {
    manta::fuzz::Receiving(data[0] == 'k').play({data + 1, size - 1});
  }
  return 0;
}
