// Worker: what the raylet says, on the control thread.
#include "actors/worker.h"

#include <unistd.h>

namespace manta {

void Worker::on_attach(const wire::AttachChannel& message, std::unique_ptr<wire::Channel> channel, wire::Bell caller_bell) {
  auto caller = std::make_shared<Caller>();
  caller->channel_id = message.channel;
  caller->process = {message.caller};
  caller->channel = std::move(channel);
  caller->bell = std::move(caller_bell);
  if (!message.devices.empty()) runtime_->set_devices(message.devices);
  {
    const std::lock_guard lock(mutex_);
    callers_.push_back(std::move(caller));
    ++callers_version_;
  }
  runtime_->bell().ring(wire::Bell::Line::kRequests);
}

void Worker::on_detach(const wire::DetachChannel& message) {
  const std::lock_guard lock(mutex_);
  for (const auto& caller : callers_) {
    if (caller->channel_id == message.channel) caller->is_gone = true;
  }
  std::erase_if(callers_, [&](const auto& caller) { return caller->channel_id == message.channel; });
  ++callers_version_;
}

void Worker::on_start_actor(wire::StartActor message) {
  {
    const std::lock_guard lock(mutex_);
    to_start_.push_back(std::move(message));
    has_posted_ = true;
  }
  runtime_->bell().ring(wire::Bell::Line::kRequests);
}

void Worker::on_stop_actor(const wire::StopActor& message) {
  if (!message.drain) ::_exit(0);
  stop_asked_ = true;
  runtime_->bell().ring(wire::Bell::Line::kRequests);
}

void Worker::on_cancel(ProcessId caller, uint64_t cookie) {
  const std::lock_guard lock(running_mutex_);
  for (Job* job : jobs_) {
    if (job->caller->process == caller && job->header.cookie == cookie) job->cancelled = true;
  }
  runtime_->bell().ring(wire::Bell::Line::kReplies);
}

// Asked to go for want of work. What it owns and others still hold would be lost with it: then it says that it stays.
void Worker::on_goodbye() {
  if (!runtime_->is_needed()) ::_exit(0);
  (void)runtime_->send(wire::Goodbye{1});
}
void Worker::on_disconnected() { ::_exit(1); }

}  // namespace manta
