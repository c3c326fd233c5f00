#include "cli/session.h"

#include "cli/find.h"
#include "common/check.h"

#include <algorithm>

namespace manta::cli {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// How long one line is given before another is tried.
constexpr milliseconds kAttempt(4'000);

milliseconds until(Clock::time_point deadline) {
  return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(deadline - Clock::now()));
}

}  // namespace

Session::~Session() {
  if (line_) (void)line_->send(wire::Goodbye{});
}

Status Session::open(milliseconds patience) {
  MANTA_ASSIGN_OR_RETURN(line_, open_line(where_, patience));
  return greet(*line_, patience);
}

Status Session::hear(milliseconds patience, const std::function<bool(const wire::Frame&)>& is_answer) {
  const auto deadline = Clock::now() + patience;
  while (true) {
    MANTA_ASSIGN_OR_RETURN(const wire::Frame frame, line_->receive_one(until(deadline)));
    if (is_answer(frame)) return {};
    if (frame.type != wire::Type::kRefused) continue;
    MANTA_ASSIGN_OR_RETURN(const wire::Refused refused, wire::decode<wire::Refused>(frame.body));
    return wire::from_wire(refused.status);
  }
}

Status Session::exchange(wire::Type type, const std::string& body,
                         const std::function<bool(const wire::Frame&)>& is_answer) {
  const auto deadline = Clock::now() + std::chrono::ceil<milliseconds>(std::chrono::duration<double>(where_.timeout_s));
  Status status;
  do {
    const milliseconds patience = std::min(kAttempt, until(deadline));
    status = line_ ? Status() : open(patience);
    if (status.ok()) status = line_->send_frame(type, body);
    if (status.ok() && is_answer) status = hear(patience, is_answer);
    if (status.ok()) return {};
    line_.reset();
    // Anything else stays as it is however often one asks.
  } while ((status.code() == Code::kUnavailable || status.code() == Code::kTimeout) && until(deadline) > milliseconds(0) &&
           !where_.address.empty());
  return status;
}

}  // namespace manta::cli
