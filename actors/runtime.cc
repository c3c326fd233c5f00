#include "actors/runtime.h"

#include <manta/error.h>

#include <filesystem>

namespace manta {
namespace {

Runtime* g_runtime = nullptr;

}  // namespace

Runtime& Runtime::get() {
  if (g_runtime == nullptr) {
    throw Error(Status(Code::kInvalid,
                       "Manta is not running here: call tasks and actors from inside manta::run(argc, argv, program)"));
  }
  return *g_runtime;
}
bool Runtime::is_installed() { return g_runtime != nullptr; }
void Runtime::install(Runtime* runtime) { g_runtime = runtime; }

namespace detail {

void retain(ObjectEntry* entry) noexcept { entry->refs.fetch_add(1, std::memory_order_relaxed); }
void release(ObjectEntry* entry) noexcept {
  // Handles that outlive the session (statics) have nothing left to tell anybody.
  uint32_t refs = entry->refs.load(std::memory_order_acquire);
  while (!entry->exported.load(std::memory_order_acquire)) {
    if (refs > 1) {
      if (entry->refs.compare_exchange_weak(refs, refs - 1, std::memory_order_acq_rel, std::memory_order_acquire)) return;
      continue;
    }
    // This is the last handle, and only with a handle could another thread have exported it: that would be seen by now.
    entry->refs.store(0, std::memory_order_relaxed);
    if (g_runtime != nullptr) g_runtime->forget(entry);
    return;
  }
  if (g_runtime != nullptr) g_runtime->release_exported(entry);
}
ObjectId id_of(const ObjectEntry* entry) noexcept { return entry->id; }
bool is_ready(const ObjectEntry* entry) noexcept { return entry != nullptr && entry->is_ready(); }

bool is_here(const ObjectEntry* entry) noexcept {
  return entry == nullptr || (entry->is_ready() && entry->state.load(std::memory_order_relaxed) != ObjectState::kStored);
}

bool is_lost(const Handle& handle) { return handle && Runtime::get().is_lost(*handle.get()); }

ActorRecord::~ActorRecord() {
  if (g_runtime != nullptr) g_runtime->forget_actor(id);
}
ActorId ActorHandle::id() const { return record_ ? record_->id : ActorId{}; }

void submit_task(const Function& function, const TaskOptions* options, std::vector<Argument>&& arguments, int returns,
                 Handle* out) {
  Runtime::get().submit_task(function, options, std::move(arguments), returns, out);
}
ActorHandle create_actor(const Function& constructor, const char* class_key, const ActorOptions& options,
                         std::vector<Argument>&& arguments) {
  return Runtime::get().create_actor(constructor, class_key, options, std::move(arguments));
}
ActorHandle find_actor(const std::string& name, const std::string& name_space, const char* class_key) {
  return Runtime::get().find_actor(name, name_space, class_key);
}
void submit_call(const ActorHandle& actor, const Function& method, const CallOptions* options,
                 std::vector<Argument>&& arguments, int returns, Handle* out) {
  if (!actor) throw Error(Status(Code::kInvalid, "this Actor handle is empty: make one with spawn or get_actor"));
  Runtime::get().submit_call(actor, method, options, std::move(arguments), returns, out);
}
void kill_actor(const ActorHandle& actor, bool allow_restart) {
  if (actor) Runtime::get().kill_actor(actor, allow_restart);
}
Status await_actor(const ActorHandle& actor, Deadline deadline) {
  if (!actor) return Status(Code::kInvalid, "this Actor handle is empty");
  return Runtime::get().await_actor(actor, deadline);
}
void encode_actor(Encoder& out, const ActorHandle& actor) { Runtime::get().encode_actor(out, actor); }
ActorHandle decode_actor(Decoder& in) { return Runtime::get().decode_actor(in); }

namespace {
GroupRecord& there(const GroupHandle& group) {
  if (!group) throw Error(Status(Code::kInvalid, "this PlacementGroup is empty: make one with placement_group"));
  return *group;
}
}  // namespace

GroupHandle create_group(const std::vector<Bundle>& bundles, const GroupOptions& options) {
  return Runtime::get().create_group(bundles, options);
}
GroupHandle group_of(uint64_t number) { return Runtime::get().group_of(number); }
uint64_t group_number(const GroupHandle& group) { return Runtime::get().group_number(there(group)); }
Status await_group(const GroupHandle& group, Deadline deadline) {
  return Runtime::get().await_group(there(group), deadline);
}
Handle group_ready(const GroupHandle& group) { return Runtime::get().group_ready(there(group)); }
bool is_group_ready(const GroupHandle& group) {
  return group != nullptr && group->state.load(std::memory_order_acquire) == GroupRecord::State::kReady;
}
std::string why_group_waits(const GroupHandle& group) { return Runtime::get().why_group_waits(there(group)); }
std::vector<NodeNumber> nodes_of_group(const GroupHandle& group) { return Runtime::get().nodes_of_group(there(group)); }
void remove_group(const GroupHandle& group) { Runtime::get().remove_group(there(group)); }

std::string explain(const Handle& handle) { return handle ? Runtime::get().explain(handle) : "this Ref is empty"; }
std::string explain(const ActorHandle& actor) {
  return actor ? Runtime::get().explain(actor) : "this Actor handle is empty";
}

Argument make_argument(const Encoder& value, bool outlives_submission) {
  return Runtime::get().make_argument(value, outlives_submission);
}
Handle put(const Encoder& value) { return Runtime::get().put(value); }
Handle failed(const Status& status) { return Runtime::get().failed(status); }
Handle handle_for(const ObjectId& id) { return Runtime::get().handle_for(id); }

void encode_ref(Encoder& out, const Handle& handle) {
  out.array_header(handle ? 1 : 0);
  if (!handle) return;
  Runtime::get().note_exported(*handle.get());
  out.ref(handle.get()->id);
}
Handle decode_ref(Decoder& in) {
  if (in.array_header() == 0) return {};
  const ObjectId id = in.ref();
  return in.ok() && id ? handle_for(id) : Handle();
}

namespace {
Status empty_ref() { return Status(Code::kInvalid, "this Ref is empty: it was default-constructed or moved from"); }
}  // namespace

Result<Value> await_value(const Handle& handle, Deadline deadline) {
  if (!handle) return empty_ref();
  return Runtime::get().await_value(handle, deadline);
}
size_t await_some(std::span<ObjectEntry* const> entries, size_t count, Deadline deadline) {
  for (const ObjectEntry* entry : entries) {
    if (entry == nullptr) throw Error(empty_ref());
  }
  return Runtime::get().await_some(entries, count, deadline);
}
void ask_for(std::span<ObjectEntry* const> entries) { Runtime::get().ask_for(entries); }
void on_ready(const Handle& handle, void (*ready)(void*), void* context) {
  if (!handle) throw Error(empty_ref());
  Runtime::get().on_ready(handle, ready, context);
}
Status cancel(const Handle& handle, bool force) { return handle ? Runtime::get().cancel(handle, force) : empty_ref(); }
Handle next_stream_item(const Handle& stream, uint64_t index, Deadline deadline, Status& status) {
  return Runtime::get().next_stream_item(stream, index, deadline, status);
}
void close_stream(const Handle& stream) {
  if (g_runtime != nullptr) g_runtime->close_stream(stream);
}
bool is_cancelled() noexcept { return g_runtime != nullptr && g_runtime->is_cancelled(); }

}  // namespace detail

NodeInfo node_info() { return Runtime::get().node_info(); }
NodeNumber this_node() { return Runtime::get().this_node(); }
std::vector<int> my_devices() { return Runtime::get().my_devices(); }

StagingFolder::StagingFolder(std::string path) : path_(std::move(path)) {
  const std::filesystem::path folder(path_);
  if (!folder.filename().string().starts_with(".manta-")) {
    throw Error(Status(Code::kInvalid, "a staging folder's name begins with \".manta-\", not " + path_));
  }
  path_ = std::filesystem::absolute(folder).string();
  Runtime::get().cleanup_path(path_, true);
  std::error_code error;
  if (!std::filesystem::create_directories(path_, error) || error) {
    throw Error(
        Status(Code::kIo, "cannot make the staging folder " + path_ + ": " + (error ? error.message() : "it exists")));
  }
}
void StagingFolder::keep() {
  if (!kept_ && Runtime::is_installed()) Runtime::get().cleanup_path(path_, false);
  kept_ = true;
}
StagingFolder::~StagingFolder() {
  if (kept_) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  keep();
}

}  // namespace manta
