// A ring whose other side writes anything anywhere, at any time: nothing outside the ring is touched and nothing hangs.
#include <cstring>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/script.h"
#include "wire/channel.h"

namespace manta::fuzz {
namespace {

constexpr size_t kCapacity = 512;

void play(Script script) {
  alignas(64) wire::RingHeader header{};
  std::vector<uint64_t> data(kCapacity / 8);
  auto* bytes = reinterpret_cast<std::byte*>(data.data());
  wire::Ring producer(&header, bytes, kCapacity, wire::Ring::End::kProducer);
  wire::Ring consumer(&header, bytes, kCapacity, wire::Ring::End::kConsumer);
  uint64_t last = 0;
  while (!script.done()) {
    switch (script.byte() % 7) {
      case 0: {
        const size_t size = script.byte() % 120;
        const std::span<std::byte> room = producer.reserve(size);
        if (room.empty()) break;
        MANTA_CHECK(room.size() >= size && room.data() >= bytes && room.data() + room.size() <= bytes + kCapacity);
        std::memset(room.data(), 0x5a, room.size());
        last = producer.publish(script.byte(), size);
        break;
      }
      case 1: {
        const auto message = consumer.claim();
        MANTA_CHECK(message.ok() == !consumer.is_broken());
        if (!message.ok() || !message->has_value()) break;
        const std::span<const std::byte> body = (*message)->body;
        MANTA_CHECK(body.data() >= bytes && body.data() + body.size() <= bytes + kCapacity);
        consumer.release(**message);
        break;
      }
      case 2: data[script.byte() % data.size()] = script.word(); break;
      case 3: header.tail = script.word(); break;
      case 4: producer.take_back(last); break;
      case 5: {
        uint64_t position = 0;
        for (size_t looks = 0; const auto seen = consumer.peek(position); ++looks) {
          MANTA_CHECK(seen->body.data() >= bytes && seen->body.data() + seen->body.size() <= bytes + kCapacity);
          MANTA_CHECK(looks <= kCapacity / 16, looks);
        }
        break;
      }
      default: (void)(producer.is_claimed(last) || producer.is_empty() || consumer.is_empty());
    }
  }
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  out.push_back(std::string("\0\x10\1\1\0\x20\2\1", 8));
  std::string many;
  for (int i = 0; i < 60; ++i) many += std::string("\0\x50\3\0\x20\4\4\1\1\5", 10);
  out.push_back(many);
  out.push_back(std::string("\0\x10\1\2\0\0\0\0\7\0\1\0\0\1\3\0\0\0\0\0\0\1\0\0\x10\1", 26));
  return out;
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size <= 4'096) manta::fuzz::play({data, size});
  return 0;
}
