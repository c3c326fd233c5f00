#include <manta/status.h>

#include <cstdio>
#include <cstdlib>

namespace manta {
namespace {

const std::string kEmpty;

}  // namespace

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kInvalid: return "invalid";
    case Code::kNotFound: return "not_found";
    case Code::kExists: return "exists";
    case Code::kTimeout: return "timeout";
    case Code::kCancelled: return "cancelled";
    case Code::kUnavailable: return "unavailable";
    case Code::kFull: return "full";
    case Code::kDied: return "died";
    case Code::kLost: return "lost";
    case Code::kTaskFailed: return "task_failed";
    case Code::kIo: return "io";
    case Code::kInternal: return "internal";
  }
  return "unknown";
}

const std::string& Status::message() const { return rep_ ? rep_->message : kEmpty; }
const std::string& Status::origin_type() const { return rep_ ? rep_->origin_type : kEmpty; }

Status&& Status::with_origin_type(std::string type) && {
  if (rep_) rep_->origin_type = std::move(type);
  return std::move(*this);
}

Status Status::with_context(std::string_view context) const {
  if (ok()) return {};
  Status out(code(), std::string(context) + ": " + message());
  out.rep_->origin_type = rep_->origin_type;
  return out;
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  return std::string(code_name(code())) + ": " + message();
}

void die(const std::string& what) {
  std::fprintf(stderr, "manta: fatal: %s\n", what.c_str());
  std::abort();
}

}  // namespace manta
