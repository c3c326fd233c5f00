#include "object_store/transfer/bulk_client.h"

#include "common/check.h"
#include "object_store/transfer/bulk_session.h"
#include "object_store/transfer/tls.h"

#include <algorithm>

namespace manta::object_store {
namespace {

using std::chrono::milliseconds;
constexpr auto kIdleFor = std::chrono::seconds(10);
constexpr auto kConnectWithin = std::chrono::seconds(5);
constexpr milliseconds kFirstPause{20};
constexpr milliseconds kLongestPause{1'000};

}  // namespace

/// One stream's thread. `stream` is there, behind the lock, so that others can interrupt it.
struct BulkClient::Worker {
  wire::NodeNumber node = 0;
  std::shared_ptr<Stream> stream;  // shared with whoever interrupts it just now
  bool has_ended = false;
  std::thread thread;
};

BulkClient::BulkClient(const Options& options, const Peers& peers, const Wake& wake)
    : options_(options), peers_(peers), queue_(wake, std::max<size_t>(options.streams_per_node, 1)) {}

BulkClient::~BulkClient() { close(); }

void BulkClient::close() {
  queue_.close();
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    for (auto& worker : workers_) {
      if (worker->stream) worker->stream->interrupt();
    }
  }
  for (auto& worker : workers_) worker->thread.join();
  workers_.clear();
  queue_.fail_all(Status(Code::kUnavailable, "bulk transfer has ended"));
}

void BulkClient::start(StoreServer::Pull pull) {
  queue_.add(std::move(pull));
  start_streams();
}

void BulkClient::lose(wire::NodeNumber node, const Status& cause) {
  queue_.lose(node, cause);
  {
    std::lock_guard lock(mutex_);
    for (auto& worker : workers_) {
      if (worker->node == node && worker->stream) worker->stream->interrupt();
    }
  }
  start_streams();
}

void BulkClient::start_streams() {
  const std::vector<wire::NodeNumber> wanted = queue_.take_wanted_streams();
  if (wanted.empty()) return;
  std::lock_guard lock(mutex_);
  if (closing_) return;
  std::erase_if(workers_, [](auto& worker) {
    if (worker->has_ended) worker->thread.join();
    return worker->has_ended;
  });
  for (wire::NodeNumber node : wanted) {
    Worker& worker = *workers_.emplace_back(std::make_unique<Worker>());
    worker.node = node;
    worker.thread = std::thread([this, &worker] { run(worker); });
  }
}

void BulkClient::run(Worker& worker) {
  milliseconds pause = kFirstPause;
  const BulkSession::Hooks hooks{[this] { start_streams(); }};
  while (true) {
    if (!queue_.wait_for_work(worker.node, Clock::real().now() + kIdleFor) || queue_.is_closed()) {
      if (queue_.leave(worker.node)) break;
      continue;
    }
    Status status = connect(worker);
    if (status.ok()) {
      BulkSession session(queue_, worker.node, *worker.stream, hooks);
      status = session.run(Clock::real().now() + kIdleFor);
      if (session.has_received()) pause = kFirstPause;
    }
    {
      std::lock_guard lock(mutex_);
      worker.stream.reset();
    }
    if (status.ok()) continue;
    queue_.send_home(worker.node);
    start_streams();
    queue_.pause(worker.node, Clock::real().now() + pause);
    pause = std::min(pause * 2, kLongestPause);
    queue_.expire(worker.node, status.with_context("node " + std::to_string(worker.node)), Clock::real().now());
  }
  std::lock_guard lock(mutex_);
  worker.has_ended = true;
}

Status BulkClient::connect(Worker& worker) {
  const std::optional<Peers::Peer> peer = peers_.find(worker.node);
  if (!peer) return Status(Code::kUnavailable, "it is not known here yet");
  if (peer->endpoint.empty()) return Status(Code::kUnavailable, "it serves no objects");
  MANTA_ASSIGN_OR_RETURN(const Endpoint endpoint, parse_endpoint(peer->endpoint));
  const Time deadline = Clock::real().now() + kConnectWithin;
  MANTA_ASSIGN_OR_RETURN(std::shared_ptr<Stream> stream, Stream::connect(endpoint, deadline));
  {
    std::lock_guard lock(mutex_);
    if (closing_ || queue_.is_lost(worker.node)) return Status(Code::kUnavailable, "it is not wanted any more");
    worker.stream = stream;
  }
  if (options_.tls != nullptr) {
    MANTA_RETURN_IF_ERROR(stream->start_tls(options_.tls->client(), Stream::Side::kClient, deadline));
  }
  if (!peers_.is_allowed(worker.node, stream->peer_fingerprint()))
    return Status(Code::kUnavailable, "it shows another certificate than it is known by");
  BulkOpening opening{.node = options_.node, .peer = worker.node};
  MANTA_RETURN_IF_ERROR(stream->write_all(std::as_bytes(std::span(&opening, 1)), deadline));
  MANTA_RETURN_IF_ERROR(stream->read_all(std::as_writable_bytes(std::span(&opening, 1)), deadline));
  return check_opening(opening, options_.node, worker.node);
}

}  // namespace manta::object_store
