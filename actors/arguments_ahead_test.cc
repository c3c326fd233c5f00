#include "actors/arguments_ahead.h"

#include "wire/cluster.h"

#include <gtest/gtest.h>

namespace manta {
namespace {

constexpr wire::NodeNumber kHere = 3;

PackedLocation stored_at(wire::NodeNumber node, uint64_t offset) {
  return {wire::first_id_of(node) + 1, offset, 10, 1, 1, 0, 0};
}

/// A call as its owner writes it.
struct Message {
  explicit Message(uint32_t arguments_stored = 0) { header.arguments_stored = arguments_stored; }
  void add(PartKind kind, std::string_view payload) {
    const PartHeader part{static_cast<uint32_t>(kind), static_cast<uint32_t>(payload.size())};
    bytes.append(reinterpret_cast<const char*>(&part), sizeof part).append(payload);
    bytes.resize(padded(bytes.size()));
    ++header.argument_count;
  }
  void add_stored(wire::NodeNumber node, uint64_t offset) {
    const PackedLocation at = stored_at(node, offset);
    add(PartKind::kStored, {reinterpret_cast<const char*>(&at), sizeof at});
  }
  std::vector<uint64_t> remote() const {
    std::vector<wire::ObjectLocation> out;
    append_remote_arguments(header, std::as_bytes(std::span(bytes)), kHere, out);
    return offsets(out);
  }
  static std::vector<uint64_t> offsets(const std::vector<wire::ObjectLocation>& places) {
    std::vector<uint64_t> all;
    all.reserve(places.size());
    for (const wire::ObjectLocation& at : places) all.push_back(at.offset);
    return all;
  }
  CallHeader header;
  std::string bytes;
};

TEST(ArgumentsAhead, AreThoseOnOtherNodes) {
  Message message;
  message.add(PartKind::kInline, "abc");
  message.add_stored(7, 100);
  message.add_stored(kHere, 200);
  message.add_stored(8, 300);
  message.add_stored(0, 400);  // of no cluster
  EXPECT_EQ(message.remote(), (std::vector<uint64_t>{100, 300}));
}

TEST(ArgumentsAhead, OfManyTheOneObjectThatHoldsThem) {
  Message message(1);
  const PackedLocation at = stored_at(7, 100);
  message.header.argument_count = 5;
  message.bytes.assign(reinterpret_cast<const char*>(&at), sizeof at);
  EXPECT_EQ(message.remote(), std::vector<uint64_t>{100});
  message.bytes.resize(20);
  EXPECT_TRUE(message.remote().empty());
}

TEST(ArgumentsAhead, OfWhatIsMalformedComeThoseBefore) {
  Message message;
  message.add_stored(7, 100);
  message.add(PartKind::kStored, "too short for a place");
  message.add_stored(8, 300);
  message.header.argument_count = 1'000'000;
  EXPECT_EQ(message.remote(), (std::vector<uint64_t>{100, 300}));
  for (size_t size = message.bytes.size(); size-- > 0;) {
    message.bytes.resize(size);
    EXPECT_LE(message.remote().size(), 2u);
  }
}

class Behind : public ::testing::Test {
 protected:
  void send(uint64_t offset, RequestKind kind = RequestKind::kCall) {
    Message message;
    message.add_stored(7, offset);
    std::string all(reinterpret_cast<const char*>(&message.header), sizeof message.header);
    all += message.bytes;
    const std::span<std::byte> room = producer.reserve(all.size());
    ASSERT_FALSE(room.empty());
    std::memcpy(room.data(), all.data(), all.size());
    last = producer.publish(static_cast<uint16_t>(kind), all.size());
  }
  /// One is claimed, run and released.
  void run() {
    const wire::RingMessage message = *consumer.claim().value();
    consumer.release(message);
  }
  std::vector<uint64_t> behind() {
    std::vector<wire::ObjectLocation> out;
    append_arguments_behind(consumer, looked_to, kHere, out);
    return Message::offsets(out);
  }

  static constexpr size_t kCapacity = 4'096;
  alignas(64) wire::RingHeader header{};
  std::vector<uint64_t> data = std::vector<uint64_t>(kCapacity / 8);
  std::byte* bytes = reinterpret_cast<std::byte*>(data.data());
  wire::Ring producer{&header, bytes, kCapacity, wire::Ring::End::kProducer};
  wire::Ring consumer{&header, bytes, kCapacity, wire::Ring::End::kConsumer};
  uint64_t looked_to = 0;
  uint64_t last = 0;
};

TEST_F(Behind, AFewCallsAreLookedAtAndEachOnce) {
  for (uint64_t i = 1; i <= 7; ++i) send(i);
  run();
  EXPECT_EQ(behind(), (std::vector<uint64_t>{2, 3, 4, 5}));
  EXPECT_TRUE(behind().empty());
  run();
  EXPECT_EQ(behind(), std::vector<uint64_t>{6});
  for (int i = 0; i < 4; ++i) run();
  EXPECT_EQ(behind(), std::vector<uint64_t>{7});
}

TEST_F(Behind, WhatIsNoCallOrWasTakenBackIsPassedOver) {
  send(1);
  send(2, RequestKind::kTemplate);
  send(3);
  EXPECT_TRUE(producer.take_back(last));
  send(4);
  run();
  EXPECT_EQ(behind(), std::vector<uint64_t>{4});
}

TEST_F(Behind, OverTheEndOfTheRing) {
  for (uint64_t i = 1; i <= 200; ++i) {
    send(2 * i), send(2 * i + 1);
    run();
    EXPECT_EQ(behind(), std::vector<uint64_t>{2 * i + 1});
    run();
  }
}

}  // namespace
}  // namespace manta
