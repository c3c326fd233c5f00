#include "object_store/store_server.h"

#include "common/check.h"
#include "object_store/hazard_page.h"
#include "object_store/object_table.h"
#include "object_store/page_warmer.h"
#include "object_store/spill_disk.h"
#include "object_store/store_core.h"

#include <fcntl.h>

#include <algorithm>
#include <set>
#include <span>
#include <unordered_map>

namespace manta::object_store {
namespace {

constexpr size_t kObjectsPerFrame = 65'536;

struct SegmentFile {
  Fd fd;
  uint64_t size_bytes = 0;
  std::set<uint64_t> known_to;       // processes that were given a descriptor
  std::shared_ptr<Mapping> mapping;  // of a segment that copies were pulled into; shared with the threads that do
};

struct ClientEntry {
  Hazards hazards;
  StoreServer::SendFn send;
};

}  // namespace

struct StoreServer::State {
  State(const Options& given, ObjectTable made, std::unique_ptr<SpillDisk> spill)
      : clock(given.clock),
        capacity_bytes(given.capacity_bytes),
        table(std::move(made)),
        disk(std::move(spill)),
        core({given.capacity_bytes, StoreCore::slots_for(given.capacity_bytes), given.spill_bytes, given.spill_folder,
              given.prepared_bytes, given.node, given.ids_from}),
        node(given.node) {}

  const Clock* clock;
  uint64_t capacity_bytes;
  ObjectTable table;
  std::unique_ptr<SpillDisk> disk;
  StoreCore core;
  wire::NodeNumber node;
  Beyond beyond;
  std::unordered_map<uint64_t, SegmentFile> segments;
  std::unordered_map<uint64_t, ClientEntry> clients;
  PageWarmer warmer;

  /// Steps the core and carries its effects out. The status is why `process` was rejected.
  Status step(const Event& event, ProcessId process = {});
  void open_segment(ProcessId process, SegmentId segment);

  template <typename Message>
  void send(ProcessId process, const Message& message, const std::vector<int>& descriptors = {}) {
    auto client = clients.find(process.value);
    // A client that cannot be sent to is about to hang up, which frees all it has.
    if (client != clients.end()) (void)client->second.send(Message::kType, wire::encode(message), descriptors);
  }

  void carry_out(effect::Grant& grant);
  void carry_out(effect::Refuse& refuse) {
    send(refuse.process, wire::SegmentRefused{refuse.request, wire::to_wire(refuse.status)});
  }
  void carry_out(effect::Reclaim& reclaim);
  void carry_out(effect::SetGeneration& set) { table.set(set.slot, set.generation); }
  void carry_out(effect::Scan&) { (void)step(event::Scanned{pins()}); }
  void carry_out(effect::Punch& punch) { give_back(segments.at(punch.segment.value).fd, punch.offset, punch.size_bytes); }
  void carry_out(effect::Retire& retire);
  void carry_out(effect::Trim& trim) { send(trim.process, wire::TrimSegments{trim.wanted_bytes}); }
  void carry_out(effect::Reject&) {}  // becomes the status of `step`
  void carry_out(effect::MakeOwn& make);
  void carry_out(effect::MakeWarm& make);
  void carry_out(effect::WriteSpill& write) {
    Fd memory = memory_of(write.segment);
    disk->start(std::move(write), std::move(memory));
  }
  void carry_out(effect::ReadSpill& read) {
    (void)settle(read.segment);  // without memory the reading fails
    disk->start(read, memory_of(read.segment));
  }
  void carry_out(effect::Pull& pull);
  void carry_out(effect::ForwardFree& free) {
    if (beyond.forward)
      beyond.forward(free.node, free.process, wire::Type::kFree, wire::encode(wire::Free{std::move(free.objects)}));
  }
  void carry_out(effect::DropCopies& drop) { tell(drop.node, wire::DropCopies{node, std::move(drop.names)}); }
  void carry_out(effect::AskToAdopt& ask) { tell(ask.node, std::move(ask.message)); }
  void carry_out(effect::RefuseAdoption& refuse) { tell(refuse.node, wire::AdoptionRefused{std::move(refuse.names)}); }
  void carry_out(effect::TellMoved& moved) {
    const wire::ObjectsMoved message{{moved.move}};
    if (clients.contains(moved.owner.value)) return send(moved.owner, message);
    if (beyond.deliver) beyond.deliver(moved.owner, wire::ObjectsMoved::kType, wire::encode(message));
  }
  void tell(wire::NodeNumber to, const wire::StoreWord& word) {
    if (beyond.tell) beyond.tell(to, word);
  }
  void carry_out(effect::PunchSpill& punch) { disk->start(punch); }
  void carry_out(effect::RemoveSpill& remove) { disk->start(remove); }
  void carry_out(effect::Restored& restored) {
    send(restored.process, wire::ObjectRestored{restored.request, restored.location, wire::to_wire(restored.status)});
  }
  /// Before anybody uses a segment that may still be warmed. kIo when the machine has no memory: the segment has none then.
  Status settle(SegmentId segment);
  /// For a disk thread, which may outlast the segment; none when the segment could not be made.
  [[nodiscard]] Fd memory_of(SegmentId segment) const;
  [[nodiscard]] Result<std::shared_ptr<Mapping>> mapping_of(SegmentId segment);

  [[nodiscard]] std::vector<uint64_t> pins() const;
  static void give_back(const Fd& fd, uint64_t offset, uint64_t size_bytes);
};

Status StoreServer::State::step(const Event& event, ProcessId process) {
  Status rejected;
  for (Effect& effect : core.step(event, clock->now())) {
    if (auto* reject = std::get_if<effect::Reject>(&effect); reject != nullptr && reject->process == process) {
      rejected = reject->status;
    }
    std::visit([this](auto& e) { carry_out(e); }, effect);
  }
  return rejected;
}

std::vector<uint64_t> StoreServer::State::pins() const {
  std::vector<uint64_t> keys;
  for (const auto& [process, client] : clients) client.hazards.collect(keys);
  return keys;
}

void StoreServer::State::give_back(const Fd& fd, uint64_t offset, uint64_t size_bytes) {
  // Punching allocates nothing, so it does not fail for lack of memory; were it to, the pages stay until the file is closed.
  (void)::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                    static_cast<off_t>(size_bytes));
}

void StoreServer::State::carry_out(effect::Grant& grant) {
  SegmentFile& file = segments[grant.segment.value];
  if (grant.only_slots) {
    for (size_t i = 0; i < grant.slots.size(); ++i) table.set(grant.slots[i], grant.generations[i]);
    wire::SegmentGranted more{grant.request, grant.segment.value, grant.size_bytes, std::move(grant.slots),
                              std::move(grant.generations)};
    return send(grant.process, more);
  }
  if (grant.is_new) {
    Result<Fd> fd = create_shared_memory("manta-segment", grant.size_bytes);
    if (!fd.ok()) {
      send(grant.process, wire::SegmentRefused{grant.request, wire::to_wire(fd.status())});
      (void)step(event::Failed{grant.process, grant.segment});
      return;
    }
    file.fd = std::move(fd).value();
    file.size_bytes = grant.size_bytes;
  } else {
    if (Status status = settle(grant.segment); !status.ok()) {
      send(grant.process, wire::SegmentRefused{grant.request, wire::to_wire(status)});
      (void)step(event::Failed{grant.process, grant.segment});
      return;
    }
  }
  for (size_t i = 0; i < grant.slots.size(); ++i) table.set(grant.slots[i], grant.generations[i]);
  file.known_to.insert(grant.process.value);
  wire::SegmentGranted message{grant.request, grant.segment.value, grant.size_bytes, std::move(grant.slots),
                               std::move(grant.generations)};
  send(grant.process, message, {file.fd.get()});
}

void StoreServer::State::carry_out(effect::Reclaim& reclaim) {
  for (size_t at = 0; at < reclaim.objects.size(); at += kObjectsPerFrame) {
    auto part = std::span(reclaim.objects).subspan(at, std::min(kObjectsPerFrame, reclaim.objects.size() - at));
    send(reclaim.process, wire::Reclaimed{{part.begin(), part.end()}});
  }
}

void StoreServer::State::carry_out(effect::MakeOwn& make) {
  Result<Fd> fd = create_shared_memory("manta-segment", make.size_bytes);
  SegmentFile& file = segments[make.segment.value];
  file.size_bytes = make.size_bytes;
  if (fd.ok()) file.fd = std::move(fd).value();
}

void StoreServer::State::carry_out(effect::MakeWarm& make) {
  std::vector<PageWarmer::Job> jobs;
  for (const auto& [segment, size_bytes] : make.segments) {
    SegmentFile& file = segments[segment.value];
    file.size_bytes = size_bytes;
    Result<Fd> fd = create_shared_memory("manta-segment", size_bytes);
    Result<Fd> copy = fd.ok() ? duplicate(*fd) : Result<Fd>(fd.status());
    if (!copy.ok()) {
      (void)step(event::Failed{{}, segment});
      continue;
    }
    file.fd = std::move(fd).value();
    jobs.push_back({segment, std::move(copy).value(), size_bytes});
  }
  if (!jobs.empty()) warmer.start(std::move(jobs));
}

// Its user takes what pages are left. A step of the warmer that is under way would write over what the user writes: then
// the segment gets a file of its own that is new.
Status StoreServer::State::settle(SegmentId segment) {
  if (warmer.stop(segment) != PageWarmer::Stopped::kMidStep) return {};
  SegmentFile& file = segments.at(segment.value);
  file.fd = {};
  MANTA_ASSIGN_OR_RETURN(file.fd, create_shared_memory("manta-segment", file.size_bytes));
  return {};
}

Fd StoreServer::State::memory_of(SegmentId segment) const {
  const Fd& fd = segments.at(segment.value).fd;
  Result<Fd> copy = fd ? duplicate(fd) : Result<Fd>(Fd());
  return copy.ok() ? std::move(copy).value() : Fd();
}

Result<std::shared_ptr<Mapping>> StoreServer::State::mapping_of(SegmentId segment) {
  SegmentFile& file = segments.at(segment.value);
  if (file.mapping) return file.mapping;
  MANTA_RETURN_IF_ERROR(settle(segment));
  if (!file.fd) return Status(Code::kIo, "the machine has no memory for a copy of another node's object");
  MANTA_ASSIGN_OR_RETURN(Mapping mapping, Mapping::map(file.fd, file.size_bytes, Mapping::Access::kReadWrite));
  file.mapping = std::make_shared<Mapping>(std::move(mapping));
  return file.mapping;
}

void StoreServer::State::carry_out(effect::Pull& pull) {
  Status status(Code::kUnavailable, "this node is in no cluster");
  if (beyond.pull) {
    Result<std::shared_ptr<Mapping>> mapping = mapping_of(pull.segment);
    if (mapping.ok()) {
      return beyond.pull(
          {pull.name, pull.from, pull.priority, pull.deadline, std::move(mapping).value(), pull.offset, pull.patience});
    }
    status = mapping.status();
  }
  (void)step(event::RestoreDone{pull.name, status});
}

void StoreServer::State::carry_out(effect::Retire& retire) {
  auto found = segments.find(retire.segment.value);
  SegmentFile file = std::move(found->second);
  segments.erase(found);
  // Others may have it mapped: its pages go now, not when the last mapping does. Nobody has one that is still being warmed,
  // whose file the warming thread may keep from us.
  if (warmer.stop(retire.segment) == PageWarmer::Stopped::kNothing && file.fd) give_back(file.fd, 0, file.size_bytes);
  for (uint64_t process : file.known_to) send({process}, wire::SegmentRetired{retire.segment.value});
}

void StoreServer::State::open_segment(ProcessId process, SegmentId segment) {
  auto found = segments.find(segment.value);
  if (found == segments.end() || !found->second.fd) {
    Status status(Code::kLost, "segment " + segment.to_string() + " is gone");
    send(process, wire::SegmentOpened{segment.value, 0, wire::to_wire(status)});
    return;
  }
  Result<Fd> read_only = reopen_read_only(found->second.fd);
  if (!read_only.ok()) {
    send(process, wire::SegmentOpened{segment.value, 0, wire::to_wire(read_only.status())});
    return;
  }
  found->second.known_to.insert(process.value);
  send(process, wire::SegmentOpened{segment.value, found->second.size_bytes, {}}, {read_only->get()});
}

StoreServer::StoreServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
StoreServer::~StoreServer() = default;

Result<std::unique_ptr<StoreServer>> StoreServer::create(const Options& options) {
  if (options.capacity_bytes < kPageBytes)
    return Status(Code::kInvalid, "an object store needs a capacity of a page at least");
  MANTA_ASSIGN_OR_RETURN(ObjectTable table, ObjectTable::create(StoreCore::slots_for(options.capacity_bytes)));
  MANTA_ASSIGN_OR_RETURN(std::unique_ptr<SpillDisk> disk, SpillDisk::create(options.spill_folder));
  return std::unique_ptr<StoreServer>(new StoreServer(std::make_unique<State>(options, std::move(table), std::move(disk))));
}

const Fd& StoreServer::table_fd() const { return state_->table.read_only_fd(); }

Status StoreServer::client_joined(ProcessId process, int pid, Fd hazard, SendFn send) {
  MANTA_ASSIGN_OR_RETURN(Hazards hazards, Hazards::open(hazard));
  if (!state_->clients.try_emplace(process.value, ClientEntry{std::move(hazards), std::move(send)}).second) {
    return Status(Code::kInvalid, "process " + process.to_string() + " is a client of the store already");
  }
  return state_->step(event::ClientJoined{process, pid});
}

Result<bool> StoreServer::handle(ProcessId process, const wire::Frame& frame) {
  switch (frame.type) {
    case wire::Type::kRequestSegment: {
      MANTA_ASSIGN_OR_RETURN(auto message, wire::decode<wire::RequestSegment>(frame.body));
      MANTA_RETURN_IF_ERROR(state_->step(event::Request{process, message}, process));
      return true;
    }
    case wire::Type::kReturnSegment: {
      MANTA_ASSIGN_OR_RETURN(auto message, wire::decode<wire::ReturnSegment>(frame.body));
      MANTA_RETURN_IF_ERROR(state_->step(event::Return{process, {message.segment}, message.from_offset}, process));
      return true;
    }
    case wire::Type::kSealed: {
      MANTA_ASSIGN_OR_RETURN(auto message, wire::decode<wire::Sealed>(frame.body));
      MANTA_RETURN_IF_ERROR(state_->step(event::Seal{process, message}, process));
      return true;
    }
    case wire::Type::kFree: {
      MANTA_ASSIGN_OR_RETURN(auto message, wire::decode<wire::Free>(frame.body));
      MANTA_RETURN_IF_ERROR(state_->step(event::Freed{process, std::move(message.objects)}, process));
      return true;
    }
    case wire::Type::kCancelSegmentRequest: {
      MANTA_ASSIGN_OR_RETURN(auto message, wire::decode<wire::CancelSegmentRequest>(frame.body));
      MANTA_RETURN_IF_ERROR(state_->step(event::Cancel{process, message.request}, process));
      return true;
    }
    case wire::Type::kRestoreObject: {
      MANTA_ASSIGN_OR_RETURN(auto message, wire::decode<wire::RestoreObject>(frame.body));
      MANTA_RETURN_IF_ERROR(state_->step(event::Restore{process, message}, process));
      return true;
    }
    case wire::Type::kPrefetchObjects: {
      MANTA_ASSIGN_OR_RETURN(auto message, wire::decode<wire::PrefetchObjects>(frame.body));
      prefetch(std::move(message.objects), static_cast<wire::TransferPriority>(message.priority));
      return true;
    }
    case wire::Type::kOpenSegment: {
      MANTA_ASSIGN_OR_RETURN(auto message, wire::decode<wire::OpenSegment>(frame.body));
      state_->open_segment(process, {message.segment});
      return true;
    }
    default: return false;
  }
}

void StoreServer::client_gone(ProcessId process) {
  if (state_->clients.erase(process.value) == 0) return;
  for (auto& [id, file] : state_->segments) file.known_to.erase(process.value);
  (void)state_->step(event::ClientGone{process});
}

void StoreServer::connect(Beyond beyond) { state_->beyond = std::move(beyond); }

void StoreServer::pull_done(uint64_t name, const Status& status) { (void)state_->step(event::RestoreDone{name, status}); }

Result<bool> StoreServer::handle_forwarded(ProcessId from, wire::Type type, std::string_view body) {
  if (type != wire::Type::kFree) return false;
  MANTA_ASSIGN_OR_RETURN(auto message, wire::decode<wire::Free>(body));
  // What is not here is for nobody else: a free is forwarded once.
  std::erase_if(message.objects,
                [this](const wire::ObjectLocation& at) { return wire::node_of(at.segment) != state_->node; });
  (void)state_->step(event::Freed{from, std::move(message.objects)});
  return true;
}

std::optional<wire::ObjectLocation> StoreServer::find(uint32_t slot, uint32_t generation) const {
  return state_->core.find(slot, generation);
}

void StoreServer::copied(wire::NodeNumber to, std::vector<wire::ObjectLocation> objects) {
  (void)state_->step(event::Copied{to, std::move(objects)});
}

void StoreServer::hear(wire::NodeNumber from, const wire::StoreWord& word) {
  if (const auto* drop = std::get_if<wire::DropCopies>(&word); drop != nullptr && drop->home == from) {
    (void)state_->step(event::CopiesFreed{from, drop->names});
  } else if (const auto* adopt = std::get_if<wire::AdoptObjects>(&word)) {
    (void)state_->step(event::Adopt{from, *adopt});
  } else if (const auto* refused = std::get_if<wire::AdoptionRefused>(&word)) {
    (void)state_->step(event::AdoptionRefused{from, refused->names});
  }
}

void StoreServer::move_away(std::vector<wire::NodeNumber> to) { (void)state_->step(event::MoveAway{std::move(to)}); }

void StoreServer::prefetch(std::vector<wire::ObjectLocation> objects, wire::TransferPriority priority) {
  (void)state_->step(event::Prefetch{std::move(objects), std::min(priority, wire::TransferPriority::kArgument)});
}

void StoreServer::owner_gone(ProcessId process) { (void)state_->step(event::OwnerGone{process}); }

void StoreServer::node_lost(wire::NodeNumber node, const Status& cause) { (void)state_->step(event::NodeLost{node, cause}); }

void StoreServer::node_back(wire::NodeNumber node, uint64_t ids_from) {
  (void)state_->step(event::NodeBack{node, ids_from});
}

std::optional<Time> StoreServer::next_deadline() const { return state_->core.next_deadline(); }
void StoreServer::tick() { (void)state_->step(event::Tick{}); }

int StoreServer::disk_fd() const { return state_->disk->wake_fd(); }
void StoreServer::on_disk() {
  for (const Event& event : state_->disk->take_events()) (void)state_->step(event);
}

wire::Listed StoreServer::list(const wire::ListRequest& request) const { return state_->core.list(request); }

StoreStats StoreServer::stats() const {
  StoreCore::Counts counts = state_->core.counts();
  StoreStats stats;
  stats.capacity_bytes = state_->capacity_bytes;
  stats.granted_bytes = counts.held_bytes, stats.warm_bytes = counts.warm_bytes;
  stats.objects = counts.objects, stats.object_bytes = counts.object_bytes;
  stats.limbo_objects = counts.limbo_objects;
  stats.waiting_requests = counts.waiting_requests, stats.waiting_restores = counts.waiting_restores;
  stats.spilled_objects = counts.spilled_objects, stats.spilled_bytes = counts.spilled_bytes;
  stats.disk_bytes = counts.disk_bytes, stats.disk_files = counts.disk_files;
  stats.copies = counts.copies, stats.copy_bytes = counts.copy_bytes, stats.pulls = counts.pulls;
  return stats;
}

}  // namespace manta::object_store
