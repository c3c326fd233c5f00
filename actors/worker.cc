#include "actors/worker.h"

#include "actors/arguments_ahead.h"
#include "actors/executor_pool.h"
#include "actors/failure.h"
#include "actors/own_memory.h"
#include "actors/registry.h"
#include "actors/shared_host.h"
#include "actors/stdio_capture.h"
#include "common/check.h"
#include "common/log.h"
#include "common/processors.h"

#include <manta/error.h>

#include <unistd.h>

#include <algorithm>
#include <limits>

namespace manta {

namespace {

constexpr auto kSpin = std::chrono::microseconds(20);
constexpr int64_t kSleepUs = 2'000'000;

std::span<const std::byte> id_bytes(std::span<const ObjectId> ids) { return std::as_bytes(ids); }

std::string label_of(const Caller::Known& known, const std::string& actor) {
  if (known.function == nullptr) return {};
  const std::string name = known.name.empty() ? function_name(*known.function) : known.name;
  return actor.empty() ? name : actor + "." + name.substr(name.rfind(':') == std::string::npos ? 0 : name.rfind(':') + 1);
}

}  // namespace

struct Worker::ActorSide {
  wire::StartActor start;
  std::shared_ptr<void> instance;
  detail::InstanceHooks hooks;
  std::mutex state_mutex;
  std::string last_state;
  std::unique_ptr<ExecutorPool> pool;
  std::map<std::string, std::unique_ptr<ExecutorPool>> groups;
};

/// One call as the user's function sees it.
class CallOnWorker final : public detail::Invocation {
 public:
  CallOnWorker(Worker& worker, Job* job) : worker_(worker), job_(job) {}
  virtual ~CallOnWorker() = default;

  Status read_arguments(std::span<const std::byte> part, uint32_t count);
  void set_instance(std::shared_ptr<void> made, const detail::InstanceHooks& made_hooks) override {
    instance = std::move(made);
    hooks = made_hooks;
  }
  [[nodiscard]] size_t argument_count() const override { return values_.size(); }
  [[nodiscard]] const detail::Value& argument(size_t index) const override { return values_[index]; }
  void emit(size_t index, const Encoder& value) override;

  void finish(uint64_t run_ns, const Status& status, std::span<const ObjectId> kept);
  void drop_arguments() { values_.clear(); }

  std::shared_ptr<void> instance;
  detail::InstanceHooks hooks;

 private:
  /// The value part of a reply: a blob, or a location and the ids inside.
  std::string encode_value(const Encoder& value, ReplyHeader& header);
  void wait_for_consumer(size_t index);

  Worker& worker_;
  Job* job_;
  std::vector<detail::Value> values_;
  std::string arguments_in_store_;
  std::shared_ptr<const void> store_owner_;
  std::string result_;
  ReplyHeader result_header_;
  bool has_result_ = false;
  bool is_asked_ahead_ = false;
  uint32_t parts_ = 0;
};

Status CallOnWorker::read_arguments(std::span<const std::byte> part, uint32_t count) {
  Cursor cursor(part);
  if (job_ != nullptr && job_->header.arguments_stored != 0) {
    const auto at = cursor.read<PackedLocation>();
    if (!cursor.ok()) return Status(Code::kInvalid, "a call is malformed");
    is_asked_ahead_ = is_asked_ahead_ || worker_.ask_ahead(*job_, at);
    MANTA_ASSIGN_OR_RETURN(detail::Value stored, worker_.runtime().read_stored(unpack(at)));
    store_owner_ = stored.owner;
    cursor = Cursor(stored.blob);
  }
  for (uint32_t i = 0; i < count; ++i) {
    const auto header = cursor.read<PartHeader>();
    const auto bytes = cursor.take_padded(header.size_bytes);
    if (!cursor.ok()) return Status(Code::kInvalid, "a call is malformed");
    if (header.kind == static_cast<uint32_t>(PartKind::kInline)) {
      values_.push_back({bytes, store_owner_});
      continue;
    }
    if (bytes.size() != sizeof(PackedLocation)) return Status(Code::kInvalid, "a call is malformed");
    PackedLocation at;
    std::memcpy(&at, bytes.data(), sizeof at);
    is_asked_ahead_ = is_asked_ahead_ || (job_ != nullptr && worker_.ask_ahead(*job_, at));
    Result<detail::Value> value = worker_.runtime().read_argument(unpack(at), {at.owner, at.sequence});
    if (!value.ok()) return value.status().with_context("argument " + std::to_string(i + 1));
    values_.push_back(std::move(value).value());
  }
  if (is_asked_ahead_) worker_.ask_behind(*job_);  // more have arrived meanwhile
  return {};
}

std::string CallOnWorker::encode_value(const Encoder& value, ReplyHeader& header) {
  NodeRuntime& runtime = worker_.runtime();
  for (const ObjectId& id : value.refs()) runtime.sent_in_result(id, job_->caller->process);
  std::string out;
  const size_t size = value.blob_size();
  if (size <= kInlineBytes) {
    header.value_kind = static_cast<uint32_t>(PartKind::kInline);
    out = value.to_blob();
  } else {
    const Result<wire::ObjectLocation> stored =
        write_object(runtime.store(), value, {job_->caller->process.value, job_->header.first_sequence});
    if (!stored.ok()) throw Error(stored.status().with_context("a result of " + std::to_string(size) + " bytes"));
    header.value_kind = static_cast<uint32_t>(PartKind::kStored);
    const PackedLocation at = pack(*stored);
    out.assign(reinterpret_cast<const char*>(&at), sizeof at);
    for (std::span<const ObjectId> ids = value.refs(); !ids.empty();) {
      const std::span<const ObjectId> some = ids.first(std::min(ids.size(), kMaxInside));
      worker_.reply(*job_->caller, ReplyKind::kInside, header, id_bytes(some));
      ids = ids.subspan(some.size());
    }
  }
  header.value_bytes = static_cast<uint32_t>(out.size());
  out.resize(padded(out.size()));
  return out;
}

void CallOnWorker::wait_for_consumer(size_t index) {
  const CallHeader& header = job_->header;
  if (header.stream_slot >= static_cast<uint32_t>(wire::Channel::kStreamSlots))
    throw Error(Status(Code::kInvalid, "a call is malformed"));
  std::atomic<uint64_t>& consumed = job_->caller->channel->stream_consumed(static_cast<int>(header.stream_slot));
  const auto may_go_on = [&] {
    return job_->cancelled.load() || job_->caller->is_gone.load() ||
           index < consumed.load(std::memory_order_acquire) + header.stream_buffer;
  };
  worker_.runtime().wait_until(may_go_on, detail::kForever);
  if (job_->cancelled || job_->caller->is_gone) throw Error(Status(Code::kCancelled, "the stream's reader is gone"));
}

void CallOnWorker::emit(size_t index, const Encoder& value) {
  if (job_ == nullptr) return;
  if (job_->header.returns < 0) wait_for_consumer(index);
  ReplyHeader header;
  header.cookie = job_->header.cookie;
  header.index = static_cast<uint32_t>(index);
  std::string part = encode_value(value, header);
  if (job_->header.returns == 1) {
    result_ = std::move(part);
    result_header_ = header;
    has_result_ = true;
    return;
  }
  ++parts_;
  worker_.reply(*job_->caller, ReplyKind::kPart, header, std::as_bytes(std::span(part)));
}

void CallOnWorker::finish(uint64_t run_ns, const Status& status, std::span<const ObjectId> kept) {
  if (!status.ok()) return worker_.reply_failed(*job_->caller, job_->header.cookie, run_ns, status, kept);
  ReplyHeader header = has_result_ ? result_header_ : ReplyHeader();
  header.cookie = job_->header.cookie;
  header.kept = static_cast<uint32_t>(kept.size());
  header.run_ns = run_ns;
  if (!has_result_) header.index = parts_;
  const auto ids = id_bytes(kept);
  result_.append(reinterpret_cast<const char*>(ids.data()), ids.size());
  worker_.reply(*job_->caller, has_result_ ? ReplyKind::kResult : ReplyKind::kDone, header,
                std::as_bytes(std::span(result_)));
}

// ---------------------------------------------------------------------------------------------------- answering

void Worker::reply(Caller& caller, ReplyKind kind, const ReplyHeader& header, std::span<const std::byte> body) {
  const std::lock_guard lock(caller.reply_mutex);
  const size_t size = sizeof header + body.size();
  std::span<std::byte> room;
  for (int tries = 0; (room = caller.channel->replies.reserve(size)).empty(); ++tries) {
    // The caller reads when it can; if it died, the raylet says so.
    if (caller.is_gone || caller.channel->replies.is_broken()) return;
    ::usleep(tries < 100 ? 20 : 500);  // tidy: allow(sleep) because a full ring has no bell for its producer
  }
  Pen pen(room.first(size));
  pen.write(header);
  pen.bytes(body);
  caller.channel->replies.publish(static_cast<uint16_t>(kind), size);
  caller.bell.ring(wire::Bell::Line::kReplies);
}

void Worker::reply_failed(Caller& caller, uint64_t cookie, uint64_t run_ns, const Status& status,
                          std::span<const ObjectId> kept) {
  constexpr size_t kLongest = 32 << 10;
  const std::string text = status.message().substr(0, kLongest);
  const std::string type = status.origin_type().substr(0, 1'000);
  std::string body(16 + padded(text.size() + type.size()), '\0');
  Pen pen(std::as_writable_bytes(std::span(body)));
  pen.write(static_cast<uint32_t>(status.code()));
  pen.write(static_cast<uint32_t>(text.size()));
  pen.write(static_cast<uint32_t>(type.size()));
  pen.write(uint32_t{0});
  pen.bytes(std::as_bytes(std::span(text)));
  pen.bytes(std::as_bytes(std::span(type)));
  const auto ids = id_bytes(kept);
  body.append(reinterpret_cast<const char*>(ids.data()), ids.size());
  ReplyHeader header;
  header.cookie = cookie;
  header.kept = static_cast<uint32_t>(kept.size());
  header.run_ns = run_ns;
  reply(caller, ReplyKind::kFailed, header, std::as_bytes(std::span(body)));
}

// ---------------------------------------------------------------------------------------------------- running

void Worker::begin(Job& job) {
  const std::lock_guard lock(running_mutex_);
  jobs_.push_back(&job);
}

void Worker::refuse(Job& job, const Status& status) {
  reply_failed(*job.caller, job.header.cookie, 0, status, {});
  const std::lock_guard lock(running_mutex_);
  jobs_.remove(&job);
}

void Worker::set_blocked(bool blocked) {
  if (shared_) return shared_->on_blocked(blocked);
  const std::lock_guard lock(blocked_mutex_);
  // The process gives its CPUs back only when none of its executors runs.
  const bool before = blocked_ == executors_;
  blocked_ += blocked ? 1 : -1;
  if (const bool after = blocked_ == executors_; after != before) (void)runtime_->send(wire::Blocked{after});
}

void Worker::execute(Job& job) {
  const auto start = std::chrono::steady_clock::now();
  Running here;
  here.cancelled = &job.cancelled;
  here.on_blocked = [this](bool blocked) { set_blocked(blocked); };
  if (!actor_) here.give_back = [this, &job] { return give_back_behind(job); };
  running() = &here;
  const std::string& label = job.known->label;
  set_stdio_label(&label);

  Status status;
  uint64_t run_ns = 0;
  std::vector<ObjectId> kept;
  CallOnWorker call(*this, &job);
  if (job.cancelled) {
    status = Status(Code::kCancelled, label + " was cancelled");
  } else if (status = call.read_arguments(job.arguments, job.header.argument_count); status.ok()) {
    call.self = job.self;
    status = run_guarded(job.known->function->thunk, call);
  }
  if (status.code() == Code::kTaskFailed && !status.message().starts_with("in ")) {
    status = status.with_context("in " + label + " (process " + std::to_string(::getpid()) + "): " + status.origin_type());
  }
  if (!status.ok())
    MANTA_LOG(kDebug, "worker", "call failed", {"what", label}, {"attempt", job.header.attempt}, {"why", status});
  if (shared_ && job.known->function->kind == detail::FunctionKind::kConstructor) {
    if (status.ok()) call.emit(0, Encoder());
    shared_->constructed(job.header.instance, std::move(call.instance), status);
  }
  call.drop_arguments();
  if (job.in_ring) job.caller->channel->requests.release(*std::exchange(job.in_ring, std::nullopt));
  here.give_back = nullptr;
  for (const HeldBack& held : job.behind) held.caller->channel->requests.release(held.message);
  kept = runtime_->keep(here.uncovered);
  if (actor_ && !shared_ && status.ok()) save_state();
  flush_stdio();
  set_stdio_label(nullptr);
  run_ns = static_cast<uint64_t>(std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count());
  call.finish(run_ns, status, kept);
  running() = nullptr;
  const std::lock_guard lock(running_mutex_);
  jobs_.remove(&job);
}

void Worker::save_state() {
  if (actor_->hooks.save == nullptr) return;
  const std::lock_guard lock(actor_->state_mutex);
  std::string state = actor_->hooks.save(actor_->instance.get());
  if (state == actor_->last_state) return;
  // In the kernel's hands before the reply leaves: the raylet reads it also when this process dies now.
  (void)runtime_->send(wire::SaveActorState{actor_->start.actor, actor_->start.incarnation, state});
  (void)runtime_->drain();
  actor_->last_state = std::move(state);
}

void Worker::start_actor(wire::StartActor message) {
  auto side = std::make_unique<ActorSide>();
  side->start = std::move(message);
  const wire::StartActor& start = side->start;
  if (start.class_key == kSharedHostKey) {
    shared_ = std::make_unique<SharedHost>(*this);
    executors_ = std::numeric_limits<int>::max();  // as many as wait
    actor_ = std::move(side);
    (void)runtime_->send(wire::ActorStarted{actor_->start.actor, actor_->start.incarnation, {}});
    return;
  }
  runtime_->set_devices(start.devices);
  set_stdio_label(&start.class_name);
  const auto construct = [&]() -> Status {
    const detail::Function* const constructor = find_function(start.class_key);
    if (constructor == nullptr) return Status(Code::kInvalid, "this program has no actor class " + start.class_name);
    const auto bytes = std::as_bytes(std::span(start.arguments));
    Cursor cursor(bytes);
    const auto count = cursor.read<uint64_t>();
    if (!cursor.ok() || count > bytes.size()) return Status(Code::kInvalid, "an actor's arguments are malformed");
    CallOnWorker call(*this, nullptr);
    MANTA_RETURN_IF_ERROR(call.read_arguments(cursor.rest(), static_cast<uint32_t>(count)));
    MANTA_RETURN_IF_ERROR(run_guarded(constructor->thunk, call));
    side->instance = std::move(call.instance);
    side->hooks = call.hooks;
    if (!start.has_state || side->hooks.restore == nullptr) return {};
    side->last_state = start.state;
    Decoder state(std::as_bytes(std::span(start.state)));
    try {
      side->hooks.restore(side->instance.get(), state);
    } catch (const std::exception& error) {
      return Status(Code::kTaskFailed, std::string("restore: ") + error.what())
          .with_origin_type(detail::type_name(typeid(error).name()));
    }
    return {};
  };
  Status status = construct();
  flush_stdio();
  set_stdio_label(nullptr);
  if (status.code() == Code::kTaskFailed) {
    status =
        status.with_context("in the constructor of " + start.class_name + " (process " + std::to_string(::getpid()) + ")");
  }
  MANTA_LOG(kDebug, "worker", status.ok() ? "became an actor" : "the actor's constructor failed",
            {"class", start.class_name}, {"actor", ActorId{start.actor.owner, start.actor.sequence}},
            {"incarnation", start.incarnation}, {"status", status});
  if (status.ok()) {
    executors_ = start.max_concurrency;
    for (const auto& [name, threads] : start.concurrency_groups) executors_ += std::max(threads, 1);
    if (executors_ > 1) {
      side->pool = std::make_unique<ExecutorPool>(*this, start.max_concurrency);
      for (const auto& [name, threads] : start.concurrency_groups) {
        side->groups[name] = std::make_unique<ExecutorPool>(*this, std::max(threads, 1));
      }
    }
    actor_ = std::move(side);
    (void)runtime_->send(wire::ActorStarted{actor_->start.actor, actor_->start.incarnation, {}});
  } else {
    (void)runtime_->send(wire::ActorStarted{start.actor, start.incarnation, wire::to_wire(status)});
  }
}

// ---------------------------------------------------------------------------------------------------- taking calls

void Worker::learn(Caller& caller, std::span<const std::byte> body) {
  Cursor cursor(body);
  const auto id = cursor.read<uint32_t>();
  const auto key = cursor.read<uint32_t>();
  const auto name = cursor.read<uint32_t>();
  const auto group = cursor.read<uint32_t>();
  auto known = std::make_unique<Caller::Known>();
  known->key = cursor.text(key);
  known->name = cursor.text(name);
  known->group = cursor.text(group);
  constexpr uint32_t kMostTemplates = 1 << 20;
  if (!cursor.ok() || id > kMostTemplates) return;
  if (id < caller.templates.size() && caller.templates[id]) return;  // it may be in use
  known->function = find_function(known->key);
  known->label = label_of(*known, actor_ && !shared_ ? actor_->start.class_name : std::string());
  if (caller.templates.size() <= id) caller.templates.resize(id + 1);
  caller.templates[id] = std::move(known);
}

bool Worker::take_from(const std::shared_ptr<Caller>& caller) {
  Result<std::optional<wire::RingMessage>> claimed = caller->channel->requests.claim();
  if (!claimed.ok()) {
    caller->is_gone = true;
    return false;
  }
  if (!claimed->has_value()) return false;
  const wire::RingMessage message = **claimed;
  if (message.kind != static_cast<uint16_t>(RequestKind::kCall)) {
    if (message.kind == static_cast<uint16_t>(RequestKind::kTemplate)) learn(*caller, message.body);
    caller->channel->requests.release(message);
    return true;
  }
  auto job = std::make_unique<Job>();
  job->caller = caller;
  Cursor cursor(message.body);
  job->header = cursor.read<CallHeader>();
  if (executors_ == 1 && cursor.ok()) {
    job->arguments = cursor.rest();
    job->in_ring = message;
  } else {
    job->copied.assign(reinterpret_cast<const char*>(cursor.rest().data()), cursor.rest().size());
    job->arguments = std::as_bytes(std::span(job->copied));
    caller->channel->requests.release(message);
  }
  if (!cursor.ok()) return true;
  const uint32_t id = job->header.template_id;
  job->known = id < caller->templates.size() ? caller->templates[id].get() : nullptr;
  if (job->known == nullptr || job->known->function == nullptr) {
    const std::string what =
        job->known == nullptr ? "a function it was not taught" : detail::type_name(job->known->key.c_str());
    if (job->in_ring) caller->channel->requests.release(*job->in_ring);
    reply_failed(*caller, job->header.cookie, 0, Status(Code::kInvalid, "this worker's program does not have " + what), {});
    return true;
  }
  begin(*job);
  hand_out(std::move(job));
  return true;
}

void Worker::hand_out(std::unique_ptr<Job> job) {
  if (shared_) return shared_->take(std::move(job));
  if (actor_) job->self = actor_->instance.get();
  if (executors_ == 1) return execute(*job);
  if (std::vector<wire::ObjectLocation> own; job->header.argument_count > 0) {
    append_remote_arguments(job->header, job->arguments, wire::node_of(runtime_->self().value), own);
    if (!own.empty()) runtime_->store().read_soon(own, wire::TransferPriority::kArgument);
  }
  ExecutorPool* pool = actor_->pool.get();
  if (!job->known->group.empty()) {
    const auto at = actor_->groups.find(job->known->group);
    if (at == actor_->groups.end()) {
      return refuse(
          *job, Status(Code::kInvalid, actor_->start.class_name + " has no concurrency group named " + job->known->group));
    }
    pool = at->second.get();
  }
  pool->post(std::move(job));
}

void Worker::refresh_callers() {
  if (callers_version_.load(std::memory_order_acquire) == snapshot_version_) return;
  const std::lock_guard lock(mutex_);
  snapshot_ = callers_;
  snapshot_version_ = callers_version_.load();
}

// On the main thread, inside its call, which is a task's. The last first: an owner puts each before what it has queued.
bool Worker::give_back_behind(Job& job) {
  refresh_callers();
  std::vector<std::pair<Caller*, uint64_t>> not_begun;
  bool may_come = false;
  for (const std::shared_ptr<Caller>& caller : snapshot_) {
    if (caller->is_gone || wire::node_of(caller->process.value) == wire::node_of(runtime_->self().value)) continue;
    may_come = true;
    while (true) {
      const Result<std::optional<wire::RingMessage>> claimed = caller->channel->requests.claim();
      if (!claimed.ok()) caller->is_gone = true;
      if (!claimed.ok() || !claimed->has_value()) break;
      const wire::RingMessage& message = **claimed;
      job.behind.push_back({caller, message});
      if (message.kind == static_cast<uint16_t>(RequestKind::kTemplate)) learn(*caller, message.body);
      if (message.kind != static_cast<uint16_t>(RequestKind::kCall)) continue;
      not_begun.emplace_back(caller.get(), Cursor(message.body).read<CallHeader>().cookie);
    }
  }
  for (auto it = not_begun.rbegin(); it != not_begun.rend(); ++it) {
    ReplyHeader header;
    header.cookie = it->second;
    reply(*it->first, ReplyKind::kNotBegun, header, {});
  }
  return may_come;
}

/// The first argument that is not here, of a call that this thread has claimed and runs: what is read next comes meanwhile.
bool Worker::ask_ahead(const Job& job, const PackedLocation& first) {
  const wire::NodeNumber here = wire::node_of(runtime_->self().value), there = wire::node_of(first.segment);
  if (there == 0 || there == here || executors_ != 1) return false;
  std::vector<wire::ObjectLocation> own;
  append_remote_arguments(job.header, job.arguments, here, own);
  runtime_->store().read_soon(own);
  ask_behind(job);
  return true;
}

void Worker::ask_behind(const Job& job) {
  std::vector<wire::ObjectLocation> behind;
  const wire::NodeNumber here = wire::node_of(runtime_->self().value);
  append_arguments_behind(job.caller->channel->requests, job.caller->looked_to, here, behind);
  if (!behind.empty()) runtime_->store().read_soon(behind, wire::TransferPriority::kArgument);
}

// One call of each caller in turn: nobody's flood starves another.
bool Worker::take_one() {
  refresh_callers();
  const size_t first = next_caller_;
  for (size_t i = 0; i < snapshot_.size(); ++i) {
    const size_t at = (first + i) % snapshot_.size();
    if (snapshot_[at]->is_gone) continue;
    next_caller_ = at + 1;  // not later: a call that waits leaves all this to another thread
    if (take_from(snapshot_[at])) return true;
  }
  return false;
}

bool Worker::should_stop() {
  if (!stop_asked_) return false;
  if (!actor_) return true;
  if (shared_) return shared_->is_idle();
  if (actor_->pool && !actor_->pool->is_idle()) return false;
  return std::all_of(actor_->groups.begin(), actor_->groups.end(),
                     [](const auto& group) { return group.second->is_idle(); });
}

void Worker::main_loop() {
  wire::Bell& bell = runtime_->bell();
  while (true) {
    if (shared_) shared_->lead();
    if (has_posted_.exchange(false)) {
      std::vector<wire::StartActor> to_start;
      {
        const std::lock_guard lock(mutex_);
        to_start.swap(to_start_);
      }
      for (wire::StartActor& start : to_start) start_actor(std::move(start));
    }
    if (take_one()) continue;
    if (should_stop()) return;
    const auto start = std::chrono::steady_clock::now();
    bool found = false;
    while (!found && processors() > 1 && std::chrono::steady_clock::now() - start < kSpin) {
      __builtin_ia32_pause();
      found = take_one();
    }
    if (found) continue;
    const uint32_t ticket = bell.prepare_sleep(wire::Bell::Line::kRequests);
    if (take_one() || has_posted_ || (stop_asked_ && should_stop())) {
      bell.cancel_sleep(wire::Bell::Line::kRequests);
      continue;
    }
    bell.sleep(wire::Bell::Line::kRequests, ticket, stop_asked_ ? 1'000 : kSleepUs);
  }
}

Worker::Worker() = default;
Worker::~Worker() = default;

/// The worker's log stands beside mantad's. Settings that are wrong were refused by the driver, or came with the worker's
/// own environment: then it does not start.
Status begin_worker_log(const wire::Welcome& welcome) {
  MANTA_ASSIGN_OR_RETURN(const log::Settings settings, log::settings_from_environment());
  const std::string& folder = settings.folder.empty() ? welcome.session_dir : settings.folder;
  log::init_at_first_line({.path = folder + "/worker-" + std::to_string(::getpid()) + ".log", .level = settings.level});
  MANTA_LOG(kDebug, "worker", "executor started", {"node", welcome.raylet_name});
  return {};
}

int Worker::serve(Fd socket, wire::Hello hello) {
  capture_stdio();
  NodeRuntimeOptions options;
  options.socket = std::move(socket);
  options.hello = std::move(hello);
  options.worker = this;
  Result<std::unique_ptr<NodeRuntime>> runtime = NodeRuntime::connect(std::move(options), std::chrono::seconds(10));
  const Status status = runtime.ok() ? begin_worker_log((*runtime)->welcome()) : runtime.status();
  if (!status.ok()) {
    std::fprintf(stderr, "manta worker: %s\n", status.to_string().c_str());
    flush_stdio();
    return 1;
  }
  runtime_ = std::move(runtime).value();
  Runtime::install(runtime_.get());
  runtime_->start();
  serve_calls();
}

void Worker::serve_calls() {
  main_loop();
  flush_stdio();
  // The user's actors are destroyed in an orderly way; what else the process holds goes with it.
  if (shared_) shared_->clear();
  actor_.reset();
  flush_stdio();
  ::_exit(0);
}

}  // namespace manta
