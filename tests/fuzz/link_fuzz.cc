// What comes off the network as a batch or a name for a key, and a join token out of a file: refused, or exactly what a
// sender can have written.
#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "wire/net/batch.h"
#include "wire/net/endpoint.h"
#include "wire/net/key_records.h"
#include "wire/net/keys.h"

namespace manta::fuzz {
namespace {

std::string batch_of(const std::vector<wire::Entry>& entries, const wire::BatchHeader& header) {
  std::string bytes(wire::kBatchBytes, '\0');
  wire::BatchWriter writer(std::as_writable_bytes(std::span(bytes)));
  for (const wire::Entry& entry : entries) writer.add(entry);
  writer.finish(header);
  bytes.resize(writer.size_bytes());
  return bytes;
}

/// What was accepted comes out the same when it is written again: the reader saw every byte, and none outside.
void check_batch(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  Result<wire::BatchReader> batch = wire::BatchReader::open(bytes);
  if (!batch.ok()) return;
  std::vector<wire::Entry> entries;
  for (wire::Entry entry; batch->next(entry);) {
    MANTA_CHECK(entry.body.empty() ||
                (entry.body.data() >= bytes.data() && entry.body.data() + entry.body.size() <= bytes.data() + size));
    if (entry.what == wire::EntryWhat::kCredit || entry.what == wire::EntryWhat::kStream) (void)wire::counter_of(entry);
    entries.push_back(entry);
  }
  std::string again = batch_of(entries, batch->header());
  std::memcpy(again.data() + 12, data + 12, 4);  // reserved
  MANTA_CHECK(std::ranges::equal(again, std::string_view(reinterpret_cast<const char*>(data), size)));
}

void check_token(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const Result<wire::JoinToken> token = wire::parse_token(text);
  if (!token.ok()) return;
  MANTA_CHECK(text.find(wire::token_text(*token)) != std::string::npos);
  MANTA_CHECK(wire::parse_endpoint(token->head_endpoint).ok());
}

/// As the name of somebody who comes in, and as the file that another process may have written.
void check_record(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  (void)wire::parse_record(text).ok();
  const wire::KeyRecord record{.public_key = std::string(wire::kKeyCharacters, 'k'), .name = text};
  MANTA_CHECK(wire::parse_record(wire::record_text(record)).ok(), text);
}

}  // namespace

std::vector<std::string> seeds() {
  static const std::string body = "some bytes of a message";
  const auto bytes = std::as_bytes(std::span(body));
  const wire::BatchHeader header{.flags = 0, .from = 3, .stream = 4, .sequence = 5, .ack_stream = 6, .ack = 7};
  std::vector<std::string> out;
  out.push_back(batch_of({{wire::EntryWhat::kFrame, 4, {}, bytes}, {wire::EntryWhat::kMessage, 1, {8}, bytes}}, header));
  out.push_back(batch_of({{wire::EntryWhat::kOpen, 0, {8}, {}},
                          {wire::EntryWhat::kCredit, 0, {8}, bytes.first(8)},
                          {wire::EntryWhat::kStream, 9, {8}, bytes.first(8)},
                          {wire::EntryWhat::kClose, 0, {8}, {}}},
                         header));
  out.push_back(batch_of({}, {.flags = wire::BatchHeader::kBare | wire::BatchHeader::kResend,
                              .from = 0,
                              .stream = 1,
                              .sequence = 0,
                              .ack_stream = 0,
                              .ack = 0}));
  const std::string key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
  const std::string secret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";
  out.push_back(wire::token_text({wire::LinkRole::kJoin, "tcp://[::1]:7000", key, {key, secret}}));
  out.push_back(wire::record_text({.public_key = key, .name = "\xc3\xa9 \xff"}));
  return out;
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > size_t{1} << 18) return 0;
  manta::fuzz::check_batch(data, size);
  manta::fuzz::check_token(data, size);
  manta::fuzz::check_record(data, size);
  return 0;
}
