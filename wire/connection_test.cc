#include "wire/connection.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

namespace manta::wire {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kPatience{20'000};

struct Pair {
  Pair() {
    auto ends = Connection::make_pair().value();
    a = std::make_unique<Connection>(std::move(ends.first));
    b = std::make_unique<Connection>(std::move(ends.second));
  }
  std::unique_ptr<Connection> a, b;
};

/// A raw socket against a Connection: for peers that do not keep to the protocol.
struct Hostile {
  Hostile() {
    auto ends = Connection::make_pair().value();
    raw = std::move(ends.first);
    connection = std::make_unique<Connection>(std::move(ends.second));
  }
  void send(std::string_view bytes, const std::vector<int>& fds = {}) const {
    alignas(cmsghdr) char control[CMSG_SPACE(64 * sizeof(int))] = {};
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    }
    ASSERT_EQ(::sendmsg(raw.get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  Status receive() {
    frames.clear();
    return connection->receive(frames);
  }
  Fd raw;
  std::unique_ptr<Connection> connection;
  std::vector<Frame> frames;
};

std::string frame_bytes(Type type, std::string_view body, uint16_t descriptors = 0) {
  std::string bytes(kFrameHeaderBytes, '\0');
  write_header(bytes.data(), {type, descriptors, static_cast<uint32_t>(body.size())});
  return bytes.append(body);
}

ino_t inode(int fd) {
  struct stat info {};
  EXPECT_EQ(::fstat(fd, &info), 0);
  return info.st_ino;
}
size_t open_descriptors() {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}
Fd memory() { return Fd(::memfd_create("test", MFD_CLOEXEC)); }

TEST(Connection, MessagesArriveInOrder) {
  Pair pair;
  for (uint64_t i = 0; i < 5'000; ++i) ASSERT_TRUE(pair.a->send(ReturnLease{i}).ok());
  uint64_t seen = 0;
  while (seen < 5'000) {
    ASSERT_TRUE(pair.a->flush().ok());
    std::vector<Frame> frames;
    ASSERT_TRUE(pair.b->receive(frames).ok());
    for (const Frame& frame : frames) ASSERT_EQ(decode<ReturnLease>(frame.body).value().lease, seen++);
  }
}

TEST(Connection, BytesMayComeOneByOne) {
  Hostile peer;
  std::string bytes = frame_bytes(Type::kReturnLease, encode(ReturnLease{77}));
  for (size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_TRUE(peer.receive().ok());
    EXPECT_TRUE(peer.frames.empty());
    peer.send(bytes.substr(i, 1));
  }
  ASSERT_TRUE(peer.receive().ok());
  ASSERT_EQ(peer.frames.size(), 1u);
  EXPECT_EQ(decode<ReturnLease>(peer.frames[0].body).value().lease, 77u);
}

TEST(Connection, DescriptorsStayWithTheirFrames) {
  Pair pair;
  std::vector<Fd> sent;
  for (int i = 0; i < 6; ++i) sent.push_back(memory());
  ASSERT_TRUE(pair.a->send(ReturnLease{0}).ok());
  ASSERT_TRUE(pair.a->send(ReturnLease{1}, {sent[0].get(), sent[1].get()}).ok());
  ASSERT_TRUE(pair.a->send(ReturnLease{2}).ok());
  ASSERT_TRUE(pair.a->send(ReturnLease{3}, {sent[2].get()}).ok());
  ASSERT_TRUE(pair.a->send(ReturnLease{4}, {sent[3].get(), sent[4].get(), sent[5].get()}).ok());
  std::vector<Frame> frames;
  ASSERT_TRUE(pair.b->receive(frames).ok());
  ASSERT_EQ(frames.size(), 5u);
  size_t next = 0;
  const std::array<size_t, 5> counts = {0, 2, 0, 1, 3};
  for (size_t i = 0; i < counts.size(); ++i) {
    ASSERT_EQ(frames[i].descriptors.size(), counts[i]) << i;
    for (const Fd& fd : frames[i].descriptors) {
      EXPECT_EQ(inode(fd.get()), inode(sent[next++].get()));
      EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
    }
  }
}

TEST(Connection, DescriptorsSurviveTheOutbox) {
  Pair pair;
  Fd file = memory();
  ino_t expected = inode(file.get());
  std::string filler(1 << 20, 'x');
  ASSERT_TRUE(pair.a->send(Relay{1, 2, filler}).ok());
  ASSERT_TRUE(pair.a->wants_write());
  ASSERT_TRUE(pair.a->send(ReturnLease{5}, {file.get()}).ok());
  ASSERT_TRUE(pair.a->send(ReturnLease{6}).ok());
  file.reset();  // the outbox has its own
  std::thread writer([&] { EXPECT_TRUE(pair.a->drain(kPatience).ok()); });
  EXPECT_EQ(decode<Relay>(pair.b->receive_one(kPatience).value().body).value().payload, filler);
  Frame frame = pair.b->receive_one(kPatience).value();
  ASSERT_EQ(frame.descriptors.size(), 1u);
  EXPECT_EQ(inode(frame.descriptors[0].get()), expected);
  EXPECT_EQ(decode<ReturnLease>(pair.b->receive_one(kPatience).value().body).value().lease, 6u);
  writer.join();
}

TEST(Connection, ASlowReaderFillsTheOutboxAndNoMore) {
  Pair pair;
  int blocked = 0;
  pair.a->on_blocked([&] { ++blocked; });
  std::string payload(1 << 20, 'p');
  size_t sent = 0;
  Status status;
  while ((status = pair.a->send(Relay{sent, 2, payload})).ok()) ASSERT_LT(++sent, 100u);
  EXPECT_EQ(status.code(), Code::kFull);
  EXPECT_GT(sent, 60u);
  EXPECT_EQ(blocked, 1);
  std::thread writer([&] { EXPECT_TRUE(pair.a->drain(kPatience).ok()); });
  for (size_t i = 0; i < sent; ++i) {
    Relay relay = decode<Relay>(pair.b->receive_one(kPatience).value().body).value();
    ASSERT_EQ(relay.from, i);
    ASSERT_EQ(relay.payload, payload);
  }
  writer.join();
  EXPECT_FALSE(pair.a->wants_write());
}

TEST(Connection, ManyThreadsSendWholeFrames) {
  Pair pair;
  constexpr uint64_t kThreads = 4, kEach = 2'000;
  std::vector<std::thread> senders;
  for (uint64_t t = 0; t < kThreads; ++t) {
    senders.emplace_back([&, t] {
      for (uint64_t i = 0; i < kEach; ++i) EXPECT_TRUE(pair.a->send(Relay{t, i, std::string(i % 300, 'a')}).ok());
    });
  }
  std::array<uint64_t, kThreads> next{};
  for (uint64_t i = 0; i < kThreads * kEach; ++i) {
    (void)pair.a->flush();
    Result<Frame> frame = pair.b->receive_one(milliseconds(50));
    if (!frame.ok()) {
      ASSERT_EQ(frame.status().code(), Code::kTimeout);
      --i;
      continue;
    }
    Relay relay = decode<Relay>(frame->body).value();
    ASSERT_EQ(relay.to, next[relay.from]++);
    ASSERT_EQ(relay.payload.size(), relay.to % 300);
  }
  for (std::thread& sender : senders) sender.join();
}

TEST(Connection, EndOfFileIsUnavailableAfterTheLastFrames) {
  Pair pair;
  ASSERT_TRUE(pair.a->send(ReturnLease{1}).ok());
  pair.a->close();
  std::vector<Frame> frames;
  EXPECT_EQ(pair.b->receive(frames).code(), Code::kUnavailable);
  EXPECT_EQ(frames.size(), 1u);
  Status status;
  for (int i = 0; i < 3 && status.ok(); ++i) status = pair.b->send(ReturnLease{2});
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_EQ(pair.a->send(ReturnLease{3}).code(), Code::kUnavailable);
}

TEST(Connection, AFrameCutShortIsUnavailable) {
  Hostile peer;
  peer.send(frame_bytes(Type::kSealed, "abc").substr(0, 17));
  peer.raw.reset();
  Status status = peer.receive();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_NE(status.message().find("middle of a frame"), std::string::npos) << status.to_string();
  EXPECT_TRUE(peer.frames.empty());
}

TEST(Connection, GarbageBreaksItForGood) {
  Hostile peer;
  peer.send(frame_bytes(Type::kSealed, "abc") + std::string(16, 'z'));
  EXPECT_EQ(peer.receive().code(), Code::kInvalid);
  EXPECT_EQ(peer.frames.size(), 1u);
  peer.send(frame_bytes(Type::kSealed, "abc"));
  EXPECT_EQ(peer.receive().code(), Code::kInvalid);
  EXPECT_TRUE(peer.frames.empty());
}

TEST(Connection, DescriptorsThatDoNotMatchAreRefusedAndClosed) {
  size_t before = open_descriptors();
  Fd file = memory();
  int fd = file.get();
  struct Case {
    std::string bytes;
    std::vector<int> fds;
  };
  std::string two = frame_bytes(Type::kSealed, "abc") + frame_bytes(Type::kSealed, "abc");
  for (const Case& c : {
           Case{frame_bytes(Type::kSealed, "abc"), {fd}},                        // undeclared
           Case{frame_bytes(Type::kSealed, "abc", 1), {fd, fd}},                 // one too many
           Case{frame_bytes(Type::kSealed, "abc", 2), {fd}},                     // one too few
           Case{frame_bytes(Type::kSealed, "abc", 8), std::vector<int>(9, fd)},  // more than fit
           Case{frame_bytes(Type::kSealed, "abc", 1).substr(0, 17), {fd, fd}},   // excess on a part of a frame
           Case{two, {fd}},
       }) {
    Hostile peer;
    peer.send(c.bytes, c.fds);
    EXPECT_EQ(peer.receive().code(), Code::kInvalid);
  }
  file.reset();
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Connection, DescriptorsThatNobodyTakesAreClosed) {
  size_t before = open_descriptors();
  {
    Pair pair;
    Fd file = memory();
    for (uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(pair.a->send(ReturnLease{i}, {file.get(), file.get()}).ok());
    std::vector<Frame> frames;
    ASSERT_TRUE(pair.b->receive(frames).ok());
    ASSERT_EQ(frames.size(), 100u);
    for (Frame& frame : frames) EXPECT_EQ(frame.descriptors.size(), 2u);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Connection, LimitsOfTheSender) {
  Pair pair;
  EXPECT_EQ(pair.a->send_frame(Type::kRelay, std::string(kMaxFrameBytes + 1, 'x')).code(), Code::kInvalid);
  EXPECT_EQ(pair.a->send_frame(Type::kRelay, "x", std::vector<int>(9, pair.a->fd())).code(), Code::kInvalid);
  std::string largest(kMaxFrameBytes, 'y');
  ASSERT_TRUE(pair.a->send_frame(Type::kRelay, largest).ok());
  std::thread writer([&] { EXPECT_TRUE(pair.a->drain(kPatience).ok()); });
  EXPECT_EQ(pair.b->receive_one(kPatience).value().body, largest);
  writer.join();
}

TEST(Connection, ReceiveOneHasADeadline) {
  Pair pair;
  EXPECT_EQ(pair.b->receive_one(milliseconds(10)).status().code(), Code::kTimeout);
}

TEST(Connection, KnowsItsPeer) {
  Pair pair;
  EXPECT_EQ(pair.a->peer().value().pid, ::getpid());
  EXPECT_EQ(pair.a->peer().value().uid, ::getuid());
}

TEST(Connection, AKilledPeerIsUnavailable) {
  auto ends = Connection::make_pair().value();
  pid_t child = ::fork();
  if (child == 0) {
    ends.first.reset();
    while (true) ::pause();
  }
  ends.second.reset();
  Connection connection(std::move(ends.first));
  EXPECT_EQ(connection.receive_one(milliseconds(10)).status().code(), Code::kTimeout);
  ::kill(child, SIGKILL);
  EXPECT_EQ(connection.receive_one(kPatience).status().code(), Code::kUnavailable);
  ::waitpid(child, nullptr, 0);
}

TEST(Connection, RandomBytesNeverBreakMoreThanTheConnection) {
  unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    Hostile peer;
    std::string bytes;
    for (int i = 0; i < 4; ++i) bytes += frame_bytes(Type::kRelay, std::string(random() % 200, 'b'), random() % 2);
    for (int i = 0; i < 2; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    peer.send(bytes);
    peer.raw.reset();
    Status status = peer.receive();
    EXPECT_TRUE(status.code() == Code::kInvalid || status.code() == Code::kUnavailable) << status.to_string();
  }
}

}  // namespace
}  // namespace manta::wire
