// The node server's part in a cluster: what ClusterSide needs of it, and what the head says.
#include "raylet/node_server.h"

#include "common/check.h"
#include "common/log.h"

#include <sys/epoll.h>

namespace manta::raylet {
namespace {

wire::Heartbeat heartbeat_of(const RayletCore& core, uint64_t view_version, uint64_t placed_up_to) {
  return {.view_version = view_version,
          .has_resources = true,
          .available = core.available(),
          .waiting = static_cast<uint32_t>(core.waiting()),
          .is_draining = core.is_draining(),
          .placed_up_to = placed_up_to,
          .leased = core.leased(),
          .refusals = core.refusals()};
}

}  // namespace

Status NodeServer::join_cluster(ClusterParts parts) {
  link_ = std::move(parts.link);
  cluster_ = std::make_unique<ClusterSide>(
      ClusterSide::Self{.info = std::move(parts.self),
                        .session_dir = options_.session_dir,
                        .gatekeeper = std::move(parts.gatekeeper),
                        .job_user = options_.job_user},
      *link_,
      ClusterSide::Node{
          .step = [this](Event event) { step(std::move(event)); },
          .send =
              [this](ProcessId to, wire::Type type, std::string_view body, const std::vector<int>& fds) {
                if (door_ && door_->is_visitor(to)) return door_->send(to, type, std::string(body)), true;
                Client* client = find_client(to);
                if (client == nullptr) return false;
                const Status status = client->connection->send_frame(type, body, fds);
                if (!status.ok() && status.code() != Code::kUnavailable) overflowing_.push_back(to);
                watch_writes(*client);
                return true;
              },
          .bell_of =
              [this](ProcessId process) {
                const Client* client = find_client(process);
                return client == nullptr ? nullptr : &client->bell;
              },
          .from_head = [this](wire::FromHead message) { on_from_head(std::move(message)); },
          .way_is_new = [this] { head_->say_again(); },
          .to_head =
              [this](wire::NodeNumber from, wire::Told told) {
                const Status status = head_->send(from, std::move(told));
                if (!status.ok()) MANTA_LOG(kError, "head", "a node's word is refused", {"node", from}, {"why", status});
                hear_head();
              },
          .store_frame =
              [this](ProcessId from, wire::Frame& frame) {
                const Result<bool> was_for_store = store_->handle_forwarded(from, frame.type, frame.body);
                return !was_for_store.ok() || *was_for_store;
              },
          .owner_gone = [this](ProcessId process) { store_->owner_gone(process); },
          .store_word = [this](wire::NodeNumber from, const wire::StoreWord& word) { store_->hear(from, word); },
          .peer_joined =
              [this](const wire::NodeInfo& info) {
                transfer_->node_joined(info.number, {.endpoint = info.bulk_endpoint, .fingerprint = info.certificate},
                                       info.ids_from);
              },
          .peer_lost = [this](wire::NodeNumber number, const Status& cause) { transfer_->node_lost(number, cause); },
          .heartbeat = [this] { return heartbeat_of(*core_, view_version_, placed_up_to_); },
          .visitor = [this](const wire::LinkEvent& event) { on_visitor_frame(event); }});
  if (cluster_->is_head()) open_door();
  MANTA_RETURN_IF_ERROR(start_transfer(parts));
  run_jobs_with(std::move(parts.jobs));
  MANTA_ASSIGN_OR_RETURN([[maybe_unused]] EventLoop::Id id,
                         loop_->add(link_->wake_fd(), EPOLLIN, [this](uint32_t) { cluster_->on_link(); }));
  if (cluster_->keys_fd() >= 0) {
    MANTA_ASSIGN_OR_RETURN(id, loop_->add(cluster_->keys_fd(), EPOLLIN, [this](uint32_t) { cluster_->refresh_keys(); }));
  }
  cluster_->begin(std::move(parts.members), std::move(parts.early));
  if (!cluster_->is_head()) return {};
  const wire::Join own{.version = MANTA_VERSION, .info = cluster_->info(), .nonce = random_id()};
  MANTA_RETURN_IF_ERROR(head_->send(wire::kHeadNode, own));
  hear_head();
  return {};
}

void NodeServer::run_jobs_with(JobRunnerSettings settings) {
  if (settings.folder.empty()) return;
  jobs_ = std::make_unique<JobRunner>(std::move(settings), *loop_,
                                      [this](wire::ToHead word) { job_words_.push_back(std::move(word)); });
}

void NodeServer::open_door() {
  door_ = std::make_unique<Door>(*link_, cluster_->gatekeeper(),
                                 Door::Node{.step = [this](Event event) { step(std::move(event)); },
                                            .new_process = [this] { return ProcessId{new_process()}; }});
}

void NodeServer::on_visitor_frame(const wire::LinkEvent& event) {
  if (!door_) return;
  if (event.what == wire::LinkEvent::What::kLost) return door_->on_lost(event.reply_to);
  door_->on_frame(event, now_us());
}

Status NodeServer::start_transfer(ClusterParts& parts) {
  MANTA_ASSIGN_OR_RETURN(
      transfer_,
      object_store::Transfer::start(
          *store_, {.node = options_.number,
                    .reader = ProcessId{new_process()},
                    .listener_fd = parts.bulk_listener.release(),
                    .certificate = parts.identity.certificate,
                    .key = parts.identity.key,
                    .forward = [this](wire::NodeNumber node, ProcessId from, wire::Type type,
                                      std::string body) { cluster_->forward(node, from, type, std::move(body)); },
                    .tell = [this](wire::NodeNumber node, const wire::StoreWord& word) { cluster_->tell_store(node, word); },
                    .deliver = [this](ProcessId to, wire::Type type,
                                      const std::string& body) { cluster_->deliver(to, type, body); }}));
  MANTA_ASSIGN_OR_RETURN([[maybe_unused]] EventLoop::Id id,
                         loop_->add(transfer_->wake_fd(), EPOLLIN, [this](uint32_t) { transfer_->on_wake(); }));
  return {};
}

void NodeServer::run_jobs() {
  if (!jobs_) return;
  if (const auto due_us = jobs_->next_deadline_us(); due_us && *due_us <= now_us()) jobs_->tick(now_us());
  std::vector<wire::ToHead> words = std::exchange(job_words_, {});
  for (wire::ToHead& word : words)
    if (const Status status = head_->send(options_.number, {.message = std::move(word)}); !status.ok())
      MANTA_LOG(kWarn, "raylet", "the head cannot be told of a job", {"why", status});  // it is said again
  if (!words.empty()) hear_head();
}

/// As an event, to be stepped in its turn.
void NodeServer::note_from_head(wire::FromHead message) {
  if (jobs_ && jobs_->on(message, now_us())) return;
  if (auto* members = std::get_if<wire::Members>(&message)) {
    events_.push_back(MembersChanged{std::move(*members)});
  } else if (auto* view = std::get_if<wire::View>(&message)) {
    view_version_ = view->version;
    events_.push_back(ViewChanged{std::move(*view)});
  } else {
    if (const auto* place = std::get_if<wire::PlaceActor>(&message)) placed_up_to_ = place->number;
    if (const auto* prepare = std::get_if<wire::PrepareBundles>(&message)) placed_up_to_ = prepare->number;
    events_.push_back(HeadSays{std::move(message)});
  }
}

void NodeServer::on_from_head(wire::FromHead message) {
  head_->note(message);
  note_from_head(std::move(message));
  hear_head();
}

}  // namespace manta::raylet
