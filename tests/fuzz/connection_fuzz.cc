// A peer that sends any bytes, with descriptors where it likes: the connection breaks or gives whole frames, and closes the
// rest.
#include <fcntl.h>
#include <sys/socket.h>

#include <cstring>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "wire/connection.h"

namespace manta::fuzz {
namespace {

/// Sends `bytes` with `count` descriptors at their first byte.
void send(int socket, const uint8_t* bytes, size_t size, size_t count) {
  int fds[3] = {socket, socket, socket};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fds)] = {};
  iovec part{const_cast<uint8_t*>(bytes), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  }
  (void)::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  auto frame = [](uint16_t descriptors, const std::string& body) {
    std::string bytes(wire::kFrameHeaderBytes, '\0');
    wire::write_header(bytes.data(), {wire::Type::kSealed, descriptors, static_cast<uint32_t>(body.size())});
    return bytes + body;
  };
  // Each part of the stream is {length, descriptors} and its bytes.
  auto part = [](size_t descriptors, const std::string& bytes) {
    return std::string{static_cast<char>(bytes.size()), static_cast<char>(descriptors)} + bytes;
  };
  out.push_back(part(0, frame(0, "abc") + frame(0, "")));
  out.push_back(part(2, frame(2, "abc")) + part(0, frame(0, "x")) + part(1, frame(1, "yz")));
  out.push_back(part(1, frame(1, "abcdefgh").substr(0, 9)) + part(0, frame(1, "abcdefgh").substr(9)));
  return out;
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace manta;
  auto ends = wire::Connection::make_pair();
  if (!ends.ok()) return 0;
  Fd raw = std::move(ends->first);
  wire::Connection connection(std::move(ends->second));
  Status broken;
  for (size_t at = 0; at + 2 <= size;) {
    const size_t length = std::min<size_t>(data[at], size - at - 2);
    if (length > 0) fuzz::send(raw.get(), data + at + 2, length, data[at + 1] % 4);
    at += 2 + length;
    std::vector<wire::Frame> frames;
    const Status status = connection.receive(frames);
    MANTA_CHECK(broken.ok() || (!status.ok() && frames.empty()), "a broken connection went on");
    for (const wire::Frame& frame : frames) {
      for (const Fd& fd : frame.descriptors) MANTA_CHECK(::fcntl(fd.get(), F_GETFD) == FD_CLOEXEC);
    }
    broken = status;
  }
  return 0;
}
