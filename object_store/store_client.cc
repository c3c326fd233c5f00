#include "object_store/store_client.h"

#include "common/check.h"
#include "object_store/producer_side.h"
#include "object_store/reader_side.h"

#include <utility>

namespace manta::object_store {
namespace {

constexpr size_t kObjectsPerFrame = 4'096;  // far from the caps of a frame

Fd take_descriptor(wire::Frame& frame) { return frame.descriptors.empty() ? Fd() : std::move(frame.descriptors.front()); }

}  // namespace

MutableBlock::MutableBlock(MutableBlock&& other) noexcept
    : producer_(std::move(other.producer_)), bytes_(std::exchange(other.bytes_, {})), location_(other.location_) {}

MutableBlock& MutableBlock::operator=(MutableBlock&& other) noexcept {
  std::swap(producer_, other.producer_);
  std::swap(bytes_, other.bytes_);
  std::swap(location_, other.location_);
  return *this;
}

MutableBlock::~MutableBlock() {
  if (producer_) producer_->abort(*this);
}

PinnedBytes::PinnedBytes(const PinnedBytes& other) : reader_(other.reader_), bytes_(other.bytes_), hazard_(other.hazard_) {
  if (reader_) reader_->copy_pin(hazard_);
}

PinnedBytes::PinnedBytes(PinnedBytes&& other) noexcept
    : reader_(std::move(other.reader_)), bytes_(std::exchange(other.bytes_, {})), hazard_(other.hazard_) {}

PinnedBytes& PinnedBytes::operator=(PinnedBytes other) noexcept {
  std::swap(reader_, other.reader_);
  std::swap(bytes_, other.bytes_);
  std::swap(hazard_, other.hazard_);
  return *this;
}

PinnedBytes::~PinnedBytes() {
  if (reader_) reader_->unpin(hazard_);
}

StoreClient::StoreClient(std::shared_ptr<detail::ProducerSide> producer, std::shared_ptr<detail::ReaderSide> reader,
                         SendFn send)
    : producer_(std::move(producer)), reader_(std::move(reader)), send_(std::move(send)) {}

StoreClient::~StoreClient() {
  disconnected(Status(Code::kUnavailable, "the object store's client is closed"));
  producer_->stop();
}

Result<std::unique_ptr<StoreClient>> StoreClient::create(const Fd& table, HazardPage hazard, SendFn send,
                                                         wire::NodeNumber node) {
  MANTA_ASSIGN_OR_RETURN(ObjectTableView view, ObjectTableView::open(table));
  auto producer = std::make_shared<detail::ProducerSide>(send);
  auto reader = std::make_shared<detail::ReaderSide>(std::move(view), std::move(hazard), producer, send, node);
  return std::unique_ptr<StoreClient>(new StoreClient(std::move(producer), std::move(reader), std::move(send)));
}

Result<MutableBlock> StoreClient::create(size_t size_bytes, std::chrono::milliseconds timeout) {
  return producer_->create(size_bytes, timeout);
}

Result<MutableBlock> StoreClient::create_from_plenty(size_t size_bytes) {
  return producer_->create(size_bytes, std::chrono::milliseconds(0), true);
}

Result<wire::ObjectLocation> StoreClient::seal(MutableBlock&& block, ObjectId id) {
  return producer_->seal(std::move(block), id);
}

Result<PinnedBytes> StoreClient::pin(const wire::ObjectLocation& location, std::chrono::milliseconds timeout,
                                     wire::TransferPriority priority) {
  return reader_->pin(location, timeout, {.priority = priority});
}

Result<PinnedBytes> StoreClient::pin_patiently(const wire::ObjectLocation& location,
                                               std::chrono::steady_clock::time_point give_up_at,
                                               std::chrono::milliseconds timeout) {
  return reader_->pin(location, timeout, {.give_up_at = give_up_at});
}

Result<PinnedBytes> StoreClient::pin_if_here(const wire::ObjectLocation& location, std::chrono::milliseconds timeout) {
  return reader_->pin(location, timeout, {.only_here = true});
}

bool StoreClient::is_in_memory(const wire::ObjectLocation& location) const { return reader_->is_in_memory(location); }

void StoreClient::prefetch(std::span<const wire::ObjectLocation> objects, wire::TransferPriority priority) {
  while (!objects.empty()) {
    auto part = objects.first(std::min(objects.size(), kObjectsPerFrame));
    wire::PrefetchObjects message{{part.begin(), part.end()}, static_cast<uint8_t>(priority)};
    (void)send_(message.kType, wire::encode(message), {});
    objects = objects.subspan(part.size());
  }
}

void StoreClient::read_soon(std::span<const wire::ObjectLocation> objects, wire::TransferPriority priority) {
  reader_->read_soon(objects, priority);
}

Result<PinnedBytes> StoreClient::pin(const MutableBlock& block) {
  if (block.producer_ != producer_) return Status(Code::kInvalid, "only a block of this process's own can be pinned");
  return reader_->pin(block.location_, std::chrono::milliseconds(0), {});
}

void StoreClient::free(std::span<const wire::ObjectLocation> objects) {
  while (!objects.empty()) {
    auto part = objects.first(std::min(objects.size(), kObjectsPerFrame));
    (void)send_(wire::Free::kType, wire::encode(wire::Free{{part.begin(), part.end()}}), {});
    objects = objects.subspan(part.size());
  }
}

bool StoreClient::handle(wire::Frame& frame) {
  // The raylet is trusted more than a client, but a frame that does not decode is dropped all the same: whoever waits has a
  // deadline.
  switch (frame.type) {
    case wire::Type::kSegmentGranted:
      if (auto message = wire::decode<wire::SegmentGranted>(frame.body); message.ok()) {
        producer_->on_granted(std::move(message).value(), take_descriptor(frame));
      }
      return true;
    case wire::Type::kSegmentRefused:
      if (auto message = wire::decode<wire::SegmentRefused>(frame.body); message.ok()) producer_->on_refused(*message);
      return true;
    case wire::Type::kReclaimed:
      if (auto message = wire::decode<wire::Reclaimed>(frame.body); message.ok()) producer_->on_reclaimed(*message);
      return true;
    case wire::Type::kSegmentOpened:
      if (auto message = wire::decode<wire::SegmentOpened>(frame.body); message.ok())
        reader_->on_opened(*message, take_descriptor(frame));
      return true;
    case wire::Type::kObjectRestored:
      if (auto message = wire::decode<wire::ObjectRestored>(frame.body); message.ok()) reader_->on_restored(*message);
      return true;
    case wire::Type::kTrimSegments:
      if (auto message = wire::decode<wire::TrimSegments>(frame.body); message.ok()) producer_->on_trim(*message);
      return true;
    case wire::Type::kSegmentRetired:
      if (auto message = wire::decode<wire::SegmentRetired>(frame.body); message.ok()) {
        reader_->on_retired(message->segment);
        producer_->on_retired(message->segment);
      }
      return true;
    default: return false;
  }
}

void StoreClient::disconnected(const Status& cause) {
  producer_->disconnected(cause);
  reader_->disconnected(cause);
}

StoreClient::Stats StoreClient::stats() const {
  Stats stats;
  producer_->add_stats(stats);
  reader_->add_stats(stats);
  return stats;
}

}  // namespace manta::object_store
