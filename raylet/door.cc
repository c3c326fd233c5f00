#include "raylet/door.h"

#include "common/log.h"
#include "raylet/client_messages.h"

#include <algorithm>
#include <ctime>
#include <vector>

namespace manta::raylet {

void Door::answer(const std::string& reply_to, wire::Type type, std::string body) {
  const wire::VisitorFrame frame{.type = static_cast<uint16_t>(type), .body = std::move(body)};
  const Status status = link_.answer(reply_to, wire::VisitorFrame::kType, wire::encode(frame));
  if (!status.ok()) MANTA_LOG(kWarn, "raylet", "a visitor is not answered", {"why", status});
}

void Door::say_no(const std::string& reply_to, const Status& why) {
  answer(reply_to, wire::Refused::kType, wire::encode(wire::Refused{wire::to_wire(why)}));
}

void Door::on_frame(const wire::LinkEvent& event, int64_t now_us) {
  const auto it = visitors_.find(event.reply_to);
  if (it != visitors_.end() && it->second.key != event.from_key) return;
  Result<wire::VisitorFrame> frame = wire::decode<wire::VisitorFrame>(event.body);
  if (event.role == wire::LinkRole::kJoin) return frame.ok() ? enroll(event, *frame) : void();
  if (it == visitors_.end()) {
    if (!frame.ok()) return say_no(event.reply_to, frame.status());
    return welcome(event, *frame, now_us);
  }
  const ProcessId process = it->second.process;
  it->second.heard_us = now_us;
  Result<ClientMessage> message = frame.status();
  if (frame.ok()) {
    if (frame->type == 0) return;
    if (static_cast<wire::Type>(frame->type) == wire::Type::kGoodbye) return on_lost(event.reply_to);
    if (static_cast<wire::Type>(frame->type) == wire::Type::kRotateKey) return rotate(event, *frame);
    message = decode_client_message(static_cast<wire::Type>(frame->type), frame->body);
  }
  if (!message.ok()) {
    refuse(process, message.status());
    return node_.step(ClientGone{process, message.status()});
  }
  node_.step(FromClient{process, std::move(*message), event.role != wire::LinkRole::kViewer});
}

// A token's key: all it can do is bring its bearer's own key in.
void Door::enroll(const wire::LinkEvent& event, const wire::VisitorFrame& frame) {
  if (static_cast<wire::Type>(frame.type) != wire::Type::kEnroll || keeper_ == nullptr) return;
  Result<wire::Enroll> wish = wire::decode<wire::Enroll>(frame.body);
  const Status status = wish.ok() ? keeper_->enroll(event.from_key, *wish, std::time(nullptr)) : wish.status();
  answer(event.reply_to, wire::Enrolled::kType, wire::encode(wire::Enrolled{wire::to_wire(status)}));
}

// Whoever is let in may change his own key, and no other's.
void Door::rotate(const wire::LinkEvent& event, const wire::VisitorFrame& frame) {
  Result<wire::RotateKey> wish = wire::decode<wire::RotateKey>(frame.body);
  if (!wish.ok()) return say_no(event.reply_to, wish.status());
  wire::KeyRotated answered{.request = wish->request, .status = {}, .next_head_key = {}};
  if (keeper_ == nullptr) {
    answered.status = wire::to_wire(Status(Code::kInvalid, "this cluster has no keys"));
  } else {
    answered.status = wire::to_wire(keeper_->rotate(event.from_key, *wish, std::time(nullptr)));
    answered.next_head_key = keeper_->next_head_key();
  }
  answer(event.reply_to, wire::KeyRotated::kType, wire::encode(answered));
}

void Door::welcome(const wire::LinkEvent& event, const wire::VisitorFrame& frame, int64_t now_us) {
  const auto refused = [&](Code code, const std::string& why) { say_no(event.reply_to, Status(code, why)); };
  if (static_cast<wire::Type>(frame.type) != wire::Type::kHello)
    return frame.type == 0 ? void() : refused(Code::kUnavailable, "the head does not know this visitor any more");
  Result<wire::Hello> hello = wire::decode<wire::Hello>(frame.body);
  if (!hello.ok()) return say_no(event.reply_to, hello.status());
  if (hello->protocol != wire::kProtocolVersion)
    return refused(Code::kInvalid, "the head speaks protocol " + std::to_string(wire::kProtocolVersion) + ", this program " +
                                       std::to_string(hello->protocol) + ": they come from different versions of Manta");
  if (static_cast<wire::Role>(hello->role) != wire::Role::kObserver)
    return refused(Code::kInvalid, "only an observer comes in by this way");
  const auto of_key =
      std::ranges::count_if(visitors_, [&](const auto& entry) { return entry.second.key == event.from_key; });
  const bool is_full =
      visitors_.size() >= kMaxVisitors || (!event.from_key.empty() && static_cast<size_t>(of_key) >= kMaxVisitorsOfKey);
  if (is_full) return refused(Code::kFull, "the head has too many visitors just now");
  const ProcessId process = node_.new_process();
  hello->process = process.value;
  visitors_[event.reply_to] = {.process = process, .key = event.from_key, .heard_us = now_us};
  by_process_[process] = event.reply_to;
  node_.step(ClientJoined{std::move(*hello)});
}

void Door::send(ProcessId process, wire::Type type, std::string body) {
  if (const auto it = by_process_.find(process); it != by_process_.end()) answer(it->second, type, std::move(body));
}

void Door::refuse(ProcessId process, const Status& why) {
  const auto it = by_process_.find(process);
  if (it == by_process_.end()) return;
  say_no(it->second, why);
  forget(process);
}

void Door::forget(ProcessId process) {
  const auto it = by_process_.find(process);
  if (it == by_process_.end()) return;
  visitors_.erase(it->second);
  by_process_.erase(it);
}

void Door::on_lost(const std::string& reply_to) {
  const auto it = visitors_.find(reply_to);
  if (it == visitors_.end()) return;
  const ProcessId process = it->second.process;
  forget(process);
  node_.step(ClientGone{process, {}});
}

void Door::tick(int64_t now_us) {
  std::vector<std::string> silent;
  for (const auto& [reply_to, visitor] : visitors_)
    if (now_us - visitor.heard_us > kSilenceUs) silent.push_back(reply_to);
  for (const std::string& reply_to : silent) on_lost(reply_to);
}

}  // namespace manta::raylet
