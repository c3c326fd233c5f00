#include "wire/net/batch.h"

#include "common/random.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace manta::wire {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }
std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

std::string written(const std::vector<Entry>& entries, const BatchHeader& header) {
  std::string room(kBatchBytes, '\xEE');
  BatchWriter writer(std::as_writable_bytes(std::span(room)));
  for (const Entry& entry : entries) writer.add(entry);
  writer.finish(header);
  room.resize(writer.size_bytes());
  return room;
}

const BatchHeader kHeader{.flags = 0, .from = 5, .stream = 6, .sequence = 7, .ack_stream = 8, .ack = 9};
const uint64_t kValue = 0x0102030405060708;

TEST(Batch, WhatIsWrittenIsRead) {
  const std::string frame = "a frame";
  const std::string message(1000, 'x');
  const std::string bytes = written({{EntryWhat::kFrame, 22, {}, bytes_of(frame)},
                                     {EntryWhat::kMessage, 3, {44}, bytes_of(message)},
                                     {EntryWhat::kMessage, 0, {45}, {}},
                                     {EntryWhat::kStream, 63, {46}, std::as_bytes(std::span(&kValue, 1))}},
                                    kHeader);
  auto batch = BatchReader::open(bytes_of(bytes));
  ASSERT_TRUE(batch.ok()) << batch.status().to_string();
  EXPECT_EQ(batch->header().from, 5u);
  EXPECT_EQ(batch->header().stream, 6u);
  EXPECT_EQ(batch->header().sequence, 7u);
  EXPECT_EQ(batch->header().ack_stream, 8u);
  EXPECT_EQ(batch->header().ack, 9u);
  Entry entry;
  ASSERT_TRUE(batch->next(entry));
  EXPECT_EQ(text_of(entry.body), frame);
  EXPECT_EQ(entry.kind, 22);
  ASSERT_TRUE(batch->next(entry));
  EXPECT_EQ(text_of(entry.body), message);
  EXPECT_EQ(entry.channel.value, 44u);
  ASSERT_TRUE(batch->next(entry));
  EXPECT_TRUE(entry.body.empty());
  ASSERT_TRUE(batch->next(entry));
  EXPECT_EQ(counter_of(entry), kValue);
  EXPECT_FALSE(batch->next(entry));
}

TEST(Batch, APartOfOneIsRefused) {
  const std::string bytes = written({{EntryWhat::kMessage, 3, {44}, bytes_of(std::string(100, 'x'))}}, kHeader);
  for (size_t size = 0; size < bytes.size(); ++size) {
    if (size == kBatchHeaderBytes) continue;  // one without entries
    EXPECT_EQ(BatchReader::open(bytes_of(bytes.substr(0, size))).status().code(), Code::kInvalid) << size;
  }
  EXPECT_TRUE(BatchReader::open(bytes_of(bytes)).ok());
}

TEST(Batch, WhatNoSenderWritesIsRefused) {
  const std::string eight(8, '\1');
  const std::vector<Entry> wrong_entries{
      {EntryWhat::kFrame, 0, {}, {}},                       // of no type
      {EntryWhat::kFrame, 1, {3}, {}},                      // with a channel
      {EntryWhat::kMessage, 1, {}, {}},                     // without one
      {EntryWhat::kMessage, 0xFFFF, {3}, {}},               // a ring's filler
      {EntryWhat::kOpen, 0, {3}, bytes_of(eight)},          //
      {EntryWhat::kCredit, 0, {3}, {}},                     //
      {EntryWhat::kStream, 64, {3}, bytes_of(eight)},       // past the last slot
      {static_cast<EntryWhat>(6), 0, {3}, bytes_of(eight)}  //
  };
  for (const Entry& entry : wrong_entries)
    EXPECT_FALSE(BatchReader::open(bytes_of(written({entry}, kHeader))).ok()) << static_cast<int>(entry.what);
  const std::vector<BatchHeader> wrong_headers{
      {.flags = 8, .from = 5, .stream = 6, .sequence = 7},
      {.flags = BatchHeader::kResend, .from = 5, .stream = 6, .sequence = 7},
      {.flags = 0, .from = 5, .stream = 6, .sequence = 0},
      {.flags = 0, .from = 5, .stream = 0, .sequence = 7},
      {.flags = 0, .from = kMaxNodeNumber + 1, .stream = 6, .sequence = 7},
  };
  for (const BatchHeader& header : wrong_headers) EXPECT_FALSE(BatchReader::open(bytes_of(written({}, header))).ok());
  EXPECT_TRUE(BatchReader::open(bytes_of(written({}, {.flags = BatchHeader::kBare, .stream = 6}))).ok());
  EXPECT_FALSE(
      BatchReader::open(bytes_of(written({{EntryWhat::kOpen, 0, {3}, {}}}, {.flags = BatchHeader::kBare, .stream = 6})))
          .ok());
}

TEST(Batch, AMessageThatNoRingHoldsIsRefused) {
  std::string room(kBatchBytes + 1, '\0');
  const std::string largest(kMaxRingMessageBytes, 'x');
  for (const size_t more : {0u, 1u}) {
    BatchWriter writer(std::as_writable_bytes(std::span(room)));
    writer.add({EntryWhat::kMessage, 1, {3}, bytes_of(largest + std::string(more, 'x'))});
    writer.finish(kHeader);
    EXPECT_EQ(BatchReader::open(bytes_of(room.substr(0, writer.size_bytes()))).ok(), more == 0);
  }
}

// What the credit counts is what a ring really has taken.
TEST(Batch, ARingsPositionIsKnownFromWhatWentIn) {
  const Fd file = Channel::create_file().value();
  const auto caller = Channel::open(file, Channel::Side::kCaller).value();
  const auto worker = Channel::open(file, Channel::Side::kWorker).value();
  Random random(3);
  uint64_t position = 0;
  for (int i = 0; i < 20'000; ++i) {
    const size_t size = random.below(20) == 0 ? random.below(kMaxRingMessageBytes + 1) : random.below(300);
    ASSERT_FALSE(caller->requests.reserve(size).empty());
    caller->requests.publish(1, size);
    position = Ring::position_after(position, size);
    worker->requests.release(**worker->requests.claim());
    ASSERT_EQ(caller->requests.released_position(), position) << "message " << i << " of " << size;
  }
}

}  // namespace
}  // namespace manta::wire
