// The two sides of an open bulk connection, each against a peer that sends any bytes: the server of a store with objects,
// and the puller of two objects. What is let through is answered within bounds, and every pull ends once.
#include <sys/socket.h>

#include <cstring>
#include <set>

#include "common/check.h"
#include "common/shared_memory.h"
#include "object_store/test_node.h"
#include "object_store/transfer/bulk_replies.h"
#include "object_store/transfer/bulk_session.h"
#include "object_store/transfer/checksum.h"
#include "tests/fuzz/fuzz.h"

namespace manta::fuzz {
namespace {

using namespace object_store;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr wire::NodeNumber kSelf = 1;
constexpr wire::NodeNumber kPeer = 5;
constexpr uint64_t kSizes[] = {1'000, 5'000};

/// A store with an object of each size, and what reads it for peers. Lives as long as the process.
struct Node {
  TestNode store{uint64_t{16} << 20, 0, kSelf};
  std::unique_ptr<TestClient> owner;
  std::vector<wire::ObjectLocation> objects;
  Wake wake = Wake::create().value();
  std::unique_ptr<LocalReader> reader;
  TransferQueue queue{wake, 2};
  std::unique_ptr<BulkSource> source;

  Node() {
    store.start();
    owner = store.client(wire::first_id_of(kSelf) + 1);
    for (const uint64_t size : kSizes) {
      MutableBlock block = (*owner)->create(size, seconds(20)).value();
      std::memset(block.data(), 7, block.size());
      objects.push_back((*owner)->seal(std::move(block), {owner->process(), size}).value());
    }
    store.run([this](StoreServer& server) {
      server.connect({.pull = [](const StoreServer::Pull&) {}});
      reader = LocalReader::create(server, {wire::first_id_of(kSelf) + 0xffff}, kSelf, wake).value();
    });
    store.watch(wake.fd(), [this] {
      wake.clear();
      reader->on_wake();
    });
    source = std::make_unique<BulkSource>(kSelf, *reader, queue);
  }
  static Node& get() {
    static Node& node = *new Node;
    return node;
  }
};

BulkRequest request_for(const wire::ObjectLocation& at) {
  return {.id = 0,
          .segment = at.segment,
          .segment_offset = at.offset,
          .object_bytes = at.size_bytes,
          .offset = 10,
          .size_bytes = 500,
          .slot = at.slot,
          .generation = at.generation,
          .timeout_ms = 5};
}

template <typename T>
std::string text_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// A stream on which `data` comes and then the end; and its other side.
std::pair<std::unique_ptr<Stream>, Fd> stream_of(const uint8_t* data, size_t size) {
  int ends[2];
  MANTA_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0, errno);
  Fd other(ends[1]);
  MANTA_CHECK(::send(other.get(), data, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size), errno);
  ::shutdown(other.get(), SHUT_WR);
  return {std::make_unique<Stream>(Fd(ends[0])), std::move(other)};
}

void serve(const uint8_t* data, size_t size) {
  const auto [stream, other] = stream_of(data, size);
  BulkReplies replies(*stream, *Node::get().source, kPeer, {milliseconds(50), milliseconds(50)});
  MANTA_CHECK(!replies.run().ok());
  // What was asked for and no more: a reply for each request at most.
  std::vector<char> answer(size_t{1} << 20);
  const ssize_t got = ::recv(other.get(), answer.data(), answer.size(), MSG_DONTWAIT);
  const size_t most = size / sizeof(BulkRequest) * (sizeof(BulkReply) + kSizes[1] + 8 + kMaxTextBytes);
  MANTA_CHECK(got < 0 || static_cast<size_t>(got) <= most, got);
}

StoreServer::Pull pull_of(uint64_t name, wire::NodeNumber home) {
  static const std::shared_ptr<Mapping> memory = [] {
    const Fd fd = create_shared_memory("manta-fuzz", size_t{64} << 10).value();
    return std::make_shared<Mapping>(Mapping::map(fd, size_t{64} << 10, Mapping::Access::kReadWrite).value());
  }();
  return {.name = name,
          .from = {wire::first_id_of(home) + 1, 0, kSizes[name % 2], static_cast<uint32_t>(name), 1},
          .priority = wire::TransferPriority::kGet,
          .deadline = Clock::real().now() + milliseconds(50),
          .segment = memory,
          .offset = name << 14};
}

void pull(const uint8_t* data, size_t size, wire::NodeNumber home) {
  static const Wake wake = Wake::create().value();
  TransferQueue queue(wake, 2);
  for (const uint64_t name : {0, 1, 2}) queue.add(pull_of(name, home));
  // A node that is not its home has what it was sent on to.
  if (home != kPeer)
    for (TransferQueue::Part& part : queue.take(home, {10, size_t{1} << 30}, Clock::real().now()))
      queue.elsewhere(std::move(part), kPeer);
  {
    const auto [stream, other] = stream_of(data, size);
    const BulkSession::Hooks hooks{.start_streams = [&queue] { (void)queue.take_wanted_streams(); }};
    BulkSession session(queue, kPeer, *stream, hooks);
    (void)session.run(Clock::real().now());
  }
  queue.close();
  queue.fail_all(Status(Code::kUnavailable, "it is over"));
  std::multiset<uint64_t> done;
  for (const TransferQueue::Done& each : queue.take_done()) done.insert(each.name);
  MANTA_CHECK(done == std::multiset<uint64_t>({0, 1, 2}), done.size());
}

std::string data_reply(uint64_t id, uint64_t size, bool is_right) {
  const std::string bytes(size, 'x');
  Checksum sum(true);
  sum.update(std::as_bytes(std::span(bytes)));
  return text_of(BulkReply{.id = id, .size = size}) + bytes + text_of(sum.value() + (is_right ? 0 : 1));
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  const Node& node = Node::get();
  std::string all = "s";
  for (const wire::ObjectLocation& at : node.objects) {
    out.push_back("s" + text_of(request_for(at)));
    BulkRequest other = request_for(at);
    other.generation += 1;
    all += text_of(request_for(at)) + text_of(other);
    other.segment = wire::first_id_of(kPeer) + 1;
    all += text_of(other);
  }
  out.push_back(all);
  const std::string elsewhere = text_of(BulkReply{.id = 1, .kind = BulkKind::kElsewhere, .size = 2}) + text_of(uint64_t{7});
  const std::string failed = text_of(BulkReply{.id = 2, .kind = BulkKind::kFailed, .code = 9, .size = 4}) + "gone";
  for (const char home : {'h', 'e'}) {
    out.push_back(home + data_reply(0, 1'000, true) + data_reply(1, 5'000, true) + data_reply(2, 1'000, true));
    out.push_back(home + data_reply(0, 1'000, false) + elsewhere + failed);
    out.push_back(home + failed.substr(0, 20));
  }
  return out;
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 16'384) return 0;
  const uint8_t kind = *data++;
  --size;
  if (kind == 's') {
    manta::fuzz::serve(data, std::min<size_t>(size, 2'048));
  } else {
    manta::fuzz::pull(data, size, kind == 'h' ? manta::fuzz::kPeer : 6);
  }
  return 0;
}
