// A visit to a cluster: where it is, and questions with answers.
#pragma once

#include "wire/drain_messages.h"
#include "wire/net/visitor_line.h"
#include "wire/visitor_messages.h"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace manta::cli {

/// Which cluster, and as whom: the flags that every command takes.
struct Where {
  std::string address;     ///< tcp://HEAD:PORT; empty: the mantad of this user on this machine.
  std::string keys;        ///< The folder with this user's keys; empty: none, loopback only.
  std::string join_token;  ///< The file with a token, for the first visit with these keys.
  std::string session;     ///< The session folder of a mantad of this machine; empty: the one there is.
  double timeout_s = 10;
};

/// Opens a line when the first question is asked, and another when that one broke: a question may come twice.
/// Thread safety: none.
class Session {
 public:
  explicit Session(Where where) : where_(std::move(where)) {}
  ~Session();
  Session(Session&& other) noexcept = default;

  /// Says what has no answer: whether it was heard is learnt by asking.
  template <typename Message>
  Status tell(const Message& message) {
    return exchange(Message::kType, wire::encode(message), {});
  }

  /// The answer to a message with a field `request`, which is filled in. kTimeout: none came in the time that Where gives;
  /// what the other side refuses is passed on.
  template <typename Answer, typename Request>
  Result<Answer> ask(Request question) {
    question.request = ++last_request_;
    Result<Answer> answer = Status(Code::kInternal, "not asked");
    const Status status = exchange(Request::kType, wire::encode(question), [&](const wire::Frame& frame) {
      if (frame.type != Answer::kType) return false;
      answer = wire::decode<Answer>(frame.body);
      return !answer.ok() || answer->request == question.request;
    });
    return status.ok() ? std::move(answer) : Result<Answer>(status);
  }

  /// The next message of this kind that comes by itself, such as a further answer to the last question. kTimeout: none came.
  template <typename Answer>
  Result<Answer> next(std::chrono::milliseconds patience) {
    if (!line_) return Status(Code::kUnavailable, "nothing was asked on this line");
    Result<Answer> answer = Status(Code::kInternal, "nothing came");
    const Status status = hear(patience, [&](const wire::Frame& frame) {
      if (frame.type != Answer::kType) return false;
      answer = wire::decode<Answer>(frame.body);
      return true;
    });
    if (status.ok()) return answer;
    if (status.code() != Code::kTimeout) line_.reset();
    return status;
  }

 private:
  /// Without `is_answer` nothing is waited for.
  Status exchange(wire::Type type, const std::string& body, const std::function<bool(const wire::Frame&)>& is_answer);
  Status open(std::chrono::milliseconds patience);
  Status hear(std::chrono::milliseconds patience, const std::function<bool(const wire::Frame&)>& is_answer);

  Where where_;
  std::unique_ptr<wire::VisitorLine> line_;
  uint64_t last_request_ = 0;
};

}  // namespace manta::cli
