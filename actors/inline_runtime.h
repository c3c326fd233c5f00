// MANTA_MODE=inline: every call runs to its end inside the call, in this thread. For a debugger and for quick tests; nothing
// is spawned, values still go through the codec, so what cannot travel shows here too.
//
// Threads: one lock over the tables; user code runs outside it. Options of placement, retries and timeouts have no effect.
#pragma once

#include "actors/runtime.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <unordered_map>

namespace manta {

class InlineRuntime : public Runtime {
 public:
  InlineRuntime();
  ~InlineRuntime() override;

  void submit_task(const detail::Function& function, const TaskOptions* options, std::vector<detail::Argument>&& arguments,
                   int returns, detail::Handle* out) override;
  detail::ActorHandle create_actor(const detail::Function& constructor, const char* class_key, const ActorOptions& options,
                                   std::vector<detail::Argument>&& arguments) override;
  detail::ActorHandle find_actor(const std::string& name, const std::string& name_space, const char* class_key) override;
  void submit_call(const detail::ActorHandle& actor, const detail::Function& method, const CallOptions* options,
                   std::vector<detail::Argument>&& arguments, int returns, detail::Handle* out) override;
  void kill_actor(const detail::ActorHandle& actor, bool allow_restart) override;
  Status await_actor(const detail::ActorHandle& actor, detail::Deadline deadline) override;
  void encode_actor(Encoder& out, const detail::ActorHandle& actor) override;
  detail::ActorHandle decode_actor(Decoder& in) override;
  void forget_actor(const ActorId& id) noexcept override;

  detail::Argument make_argument(const Encoder& value, bool outlives_submission) override;
  std::shared_ptr<detail::OwnMemory> allocate(size_t) override { return nullptr; }
  detail::Handle put(const Encoder& value) override;
  detail::Handle failed(const Status& status) override;
  detail::Handle handle_for(const ObjectId& id) override;
  void note_exported(detail::ObjectEntry& entry) override;
  void release_exported(detail::ObjectEntry* entry) noexcept override;
  void forget(detail::ObjectEntry* entry) noexcept override;

  Result<detail::Value> await_value(const detail::Handle& handle, detail::Deadline deadline) override;
  bool is_lost(detail::ObjectEntry& entry) override;
  size_t await_some(std::span<detail::ObjectEntry* const> entries, size_t count, detail::Deadline deadline) override;
  void ask_for(std::span<detail::ObjectEntry* const> entries) override { (void)entries; }
  void idle_until(const std::function<bool()>& done) override;
  void on_ready(const detail::Handle& handle, void (*ready)(void*), void* context) override;
  Status cancel(const detail::Handle& handle, bool force) override;
  detail::Handle next_stream_item(const detail::Handle& stream, uint64_t index, detail::Deadline deadline,
                                  Status& status) override;
  void close_stream(const detail::Handle& stream) override;
  [[nodiscard]] bool is_cancelled() const noexcept override { return false; }

  detail::GroupHandle create_group(const std::vector<Bundle>& bundles, const GroupOptions& options) override;
  detail::GroupHandle group_of(uint64_t number) override;
  uint64_t group_number(detail::GroupRecord& group) override;
  Status await_group(detail::GroupRecord& group, detail::Deadline deadline) override;
  detail::Handle group_ready(detail::GroupRecord& group) override;
  std::string why_group_waits(detail::GroupRecord& group) override;
  std::vector<NodeNumber> nodes_of_group(detail::GroupRecord& group) override;
  void remove_group(detail::GroupRecord& group) override;

  std::string explain(const detail::Handle& handle) override;
  std::string explain(const detail::ActorHandle& actor) override;

  NodeInfo node_info() override;
  [[nodiscard]] NodeNumber this_node() const override { return {1}; }
  [[nodiscard]] std::vector<int> my_devices() const override { return {}; }
  void cleanup_path(const std::string&, bool) override {}

 private:
  struct Instance {
    std::shared_ptr<void> object;
    Status error;
    std::string name;
    std::string class_key;
    bool detached = false;
    std::weak_ptr<detail::ActorRecord> record;
  };
  class Call;

  detail::Handle new_object();
  /// Runs `function` now; results go to `out`, or as items to the stream out[0].
  void run(const detail::Function& function, const std::string& name, void* self, Instance* made,
           std::vector<detail::Argument>&& arguments, int returns, detail::Handle* out);
  void finish(detail::ObjectEntry& entry, Result<std::string> blob, std::vector<detail::Handle> inside);

  std::mutex mutex_;
  std::atomic<uint64_t> next_{0};
  std::unordered_map<ObjectId, detail::ObjectEntry*> exported_;
  std::unordered_map<const detail::ObjectEntry*, std::vector<detail::Handle>> streams_;
  std::map<ActorId, std::shared_ptr<Instance>> actors_;
};

}  // namespace manta
