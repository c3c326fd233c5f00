#include "object_store/transfer/bulk_session.h"

#include "common/check.h"
#include "object_store/transfer/checksum.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace manta::object_store {
namespace {

constexpr size_t kWindowParts = 512;
constexpr uint64_t kWindowBytes = 3 * kChunkBytes;
constexpr size_t kBufferBytes = size_t{128} << 10;
constexpr size_t kHashedAtOnce = size_t{256} << 10;  // while it is in the cache
constexpr auto kGrace = std::chrono::seconds(1);     // for a reply that says itself that the deadline has passed
constexpr uintptr_t kPage = 4096;

/// Takes the pages now: a write to one that the machine does not have would be a signal.
Status take_pages(std::span<std::byte> memory) {
  const auto first = reinterpret_cast<uintptr_t>(memory.data()) / kPage * kPage;
  const auto last = reinterpret_cast<uintptr_t>(memory.data()) + memory.size();
  if (memory.empty() || ::madvise(reinterpret_cast<void*>(first), last - first, MADV_POPULATE_WRITE) == 0) return {};
  return Status(Code::kIo, std::string("no memory for a copy of it: ") + std::strerror(errno));
}

/// Until when the next bytes of it must come.
Time deadline_of(const TransferQueue::Part& part) {
  const StoreServer::Pull& order = part.order();
  return order.patience == Duration(0) ? order.deadline : std::max(order.deadline, Clock::real().now() + order.patience);
}

BulkRequest request_for(const TransferQueue::Part& part, uint64_t id) {
  const StoreServer::Pull& order = part.order();
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_of(part) - Clock::real().now()).count();
  return {.id = id,
          .segment = order.from.segment,
          .segment_offset = order.from.offset,
          .object_bytes = order.from.size_bytes,
          .offset = part.offset(),
          .size_bytes = part.size_bytes(),
          .slot = order.from.slot,
          .generation = order.from.generation,
          .timeout_ms = static_cast<uint32_t>(std::clamp<int64_t>(left, 0, 60'000)),
          .priority = static_cast<uint8_t>(order.priority),
          .no_redirect = part.no_redirect ? uint8_t{1} : uint8_t{0}};
}

}  // namespace

BulkSession::BulkSession(TransferQueue& queue, wire::NodeNumber node, Stream& stream, const Hooks& hooks)
    : queue_(queue), node_(node), stream_(stream), hooks_(hooks), buffer_(kBufferBytes) {}

BulkSession::~BulkSession() {
  while (!asked_.empty()) {
    Part& part = asked_.back();
    part.no_redirect = part.no_redirect || part.pull->home != node_;
    queue_.put_back(std::move(part));
    asked_.pop_back();
  }
  hooks_.start_streams();
}

Status BulkSession::run(Time idle_until) {
  const Duration idle = idle_until - Clock::real().now();
  while (true) {
    MANTA_RETURN_IF_ERROR(ask());
    if (!asked_.empty()) {
      MANTA_RETURN_IF_ERROR(receive());
    } else if (!queue_.wait_for_work(node_, Clock::real().now() + idle) || queue_.is_closed()) {
      return {};
    }
  }
}

Status BulkSession::ask() {
  // Not one by one: a request that is written alone costs as much as many.
  if (asked_.size() > kWindowParts / 2 || asked_bytes_ > kWindowBytes / 2) return {};
  const Time now = Clock::real().now();
  std::vector<Part> parts =
      queue_.take(node_, {kWindowParts - asked_.size(), kWindowBytes - std::min(asked_bytes_, kWindowBytes)}, now);
  if (parts.empty()) return {};
  std::vector<BulkRequest> requests;
  Time deadline = now;
  for (Part& part : parts) {
    requests.push_back(request_for(part, first_id_ + asked_.size()));
    deadline = std::max(deadline, deadline_of(part));
    asked_bytes_ += part.size_bytes();
    asked_.push_back(std::move(part));
  }
  MANTA_RETURN_IF_ERROR(stream_.write_all(std::as_bytes(std::span(requests)), deadline + kGrace));
  for (size_t i = asked_.size() - requests.size(); i < asked_.size(); ++i)
    MANTA_RETURN_IF_ERROR(take_pages(asked_[i].memory()));
  return {};
}

TransferQueue::Part BulkSession::take_first() {
  Part part = std::move(asked_.front());
  asked_.pop_front();
  asked_bytes_ -= part.size_bytes();
  ++first_id_;
  has_received_ = true;
  return part;
}

Status BulkSession::receive() {
  Part& part = asked_.front();
  const Time deadline = deadline_of(part) + kGrace;
  BulkReply reply;
  MANTA_RETURN_IF_ERROR(read(std::as_writable_bytes(std::span(&reply, 1)), deadline));
  if (reply.id != first_id_) return Status(Code::kInvalid, "the peer answered what was not asked");
  MANTA_RETURN_IF_ERROR(check_reply(reply, part.size_bytes()));
  switch (reply.kind) {
    case BulkKind::kData: return receive_data(part);
    case BulkKind::kElsewhere: return receive_elsewhere(part, reply.size, deadline);
    case BulkKind::kFailed: return receive_failure(part, reply, deadline);
  }
  return {};
}

Status BulkSession::receive_data(Part& part) {
  std::span<std::byte> memory = part.memory();
  Checksum wanted(!stream_.is_authenticated());
  while (!memory.empty()) {
    const std::span<std::byte> piece = memory.first(std::min(memory.size(), kHashedAtOnce));
    MANTA_RETURN_IF_ERROR(read(piece, deadline_of(part) + kGrace));
    wanted.update(piece);
    memory = memory.subspan(piece.size());
  }
  uint64_t checksum = 0;
  MANTA_RETURN_IF_ERROR(read(std::as_writable_bytes(std::span(&checksum, 1)), deadline_of(part) + kGrace));
  const bool is_right = checksum == wanted.value();
  is_right ? queue_.arrived(take_first()) : queue_.damaged(take_first());
  return {};
}

Status BulkSession::receive_elsewhere(Part& part, uint64_t count, Time deadline) {
  std::array<wire::NodeNumber, kMaxElsewhere> nodes{};
  MANTA_RETURN_IF_ERROR(read(std::as_writable_bytes(std::span(nodes).first(count)), deadline));
  if (part.no_redirect) return Status(Code::kInvalid, "the peer sent elsewhere what only it has");
  queue_.elsewhere(take_first(), nodes[first_id_ % count]);
  hooks_.start_streams();
  return {};
}

Status BulkSession::receive_failure(Part& part, const BulkReply& reply, Time deadline) {
  std::string text(reply.size, '\0');
  MANTA_RETURN_IF_ERROR(read(std::as_writable_bytes(std::span(text)), deadline));
  const auto code = static_cast<Code>(reply.code);
  const Status why(code, text);
  if (node_ != part.pull->home) {  // it was to serve it on and cannot: its home can
    Part back = take_first();
    back.no_redirect = true;
    const wire::NodeNumber home = back.pull->home;
    queue_.elsewhere(std::move(back), home);
    hooks_.start_streams();
    return {};
  }
  if (code != Code::kLost && code != Code::kInvalid) return why;  // it may pass
  queue_.fail(take_first(), Status(Code::kLost, why.with_context("node " + std::to_string(node_)).message()));
  return {};
}

Status BulkSession::read(std::span<std::byte> bytes, Time deadline) {
  while (!bytes.empty()) {
    if (begin_ == end_ && bytes.size() >= kBufferBytes / 2) {
      MANTA_ASSIGN_OR_RETURN(const size_t got, stream_.read_some(bytes, deadline));
      bytes = bytes.subspan(got);
      continue;
    }
    if (begin_ == end_) {
      MANTA_ASSIGN_OR_RETURN(end_, stream_.read_some(buffer_, deadline));
      begin_ = 0;
    }
    const size_t part = std::min(bytes.size(), end_ - begin_);
    std::memcpy(bytes.data(), buffer_.data() + begin_, part);
    begin_ += part;
    bytes = bytes.subspan(part);
  }
  return {};
}

}  // namespace manta::object_store
