// A visitor's way to a mantad: control messages there and answers back, without listening anywhere. To a mantad of the same
// user on this machine over its Unix socket; to a head over its endpoint, as one of the keys that it lets in.
//
// Nothing is sent again: who misses an answer opens another line and asks again.
// Thread safety: none; used by one thread.
#pragma once

#include "wire/connection.h"
#include "wire/net/keys.h"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

namespace manta::wire {

class VisitorLine {
 public:
  virtual ~VisitorLine() = default;

  template <typename Message>
  Status send(const Message& message) {
    return send_frame(Message::kType, encode(message));
  }
  virtual Status send_frame(Type type, std::string_view body) = 0;

  /// The next message. kTimeout when none comes in time. kUnavailable: the line ended; another may do. kInvalid: the head
  /// does not let this key in, or answers nonsense.
  virtual Result<Frame> receive_one(std::chrono::milliseconds timeout) = 0;
};

/// To the mantad that listens on the Unix socket at `path`. kUnavailable when none does.
[[nodiscard]] Result<std::unique_ptr<VisitorLine>> visit_local(const std::string& path);

struct HeadAddress {
  std::string endpoint;    ///< tcp://HOST:PORT
  std::string public_key;  ///< By which it is known; empty exactly if there are no keys.
  LinkKeys keys;
};
/// To the head. Does not wait for the connection: what is wrong with it is said by receive_one. While that waits, the head
/// hears every kStillThere that the visitor is.
[[nodiscard]] Result<std::unique_ptr<VisitorLine>> visit_head(const HeadAddress& head);
inline constexpr auto kStillThere = std::chrono::seconds(5);

}  // namespace manta::wire
