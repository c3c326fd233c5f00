#include "object_store/transfer/local_reader.h"

#include "common/check.h"

namespace manta::object_store {
namespace {

constexpr size_t kMaxCopied = 65'536;  // that the loop has not come to

}  // namespace

Result<std::unique_ptr<LocalReader>> LocalReader::create(StoreServer& store, ProcessId process, wire::NodeNumber node,
                                                         const Wake& wake) {
  std::unique_ptr<LocalReader> reader(new LocalReader(store, process, wake));
  LocalReader* self = reader.get();
  MANTA_ASSIGN_OR_RETURN(HazardPage hazard, HazardPage::create());
  MANTA_ASSIGN_OR_RETURN(Fd pins, duplicate(hazard.fd()));
  auto send = [self](wire::Type type, std::string_view body, const std::vector<int>&) -> Status {
    std::lock_guard lock(self->mutex_);
    if (self->closed_) return Status(Code::kUnavailable, "bulk transfer has ended");
    if (self->asked_.empty()) self->wake_.ring();
    self->asked_.push_back({type, std::string(body)});
    return {};
  };
  MANTA_ASSIGN_OR_RETURN(reader->client_, StoreClient::create(store.table_fd(), std::move(hazard), std::move(send), node));
  auto receive = [self](wire::Type type, std::string_view body, const std::vector<int>& descriptors) -> Status {
    wire::Frame frame{type, std::string(body), {}};
    for (int each : descriptors) frame.descriptors.emplace_back(::dup(each));
    self->client_->handle(frame);
    return {};
  };
  MANTA_RETURN_IF_ERROR(store.client_joined(process, ::getpid(), std::move(pins), std::move(receive)));
  return reader;
}

LocalReader::~LocalReader() {
  close();
  store_.client_gone(process_);
}

void LocalReader::copied(wire::NodeNumber to, const wire::ObjectLocation& object) {
  std::unique_lock lock(mutex_);
  drained_.wait(lock, [this] { return closed_ || copied_count_ < kMaxCopied; });
  if (closed_) return;
  if (copied_count_++ == 0) wake_.ring();
  copied_[to].push_back(object);
}

std::vector<std::optional<wire::ObjectLocation>> LocalReader::locate(std::vector<wire::ObjectLocation> objects,
                                                                     Time deadline) {
  auto search = std::make_shared<Search>();
  search->found.resize(objects.size());
  search->objects = std::move(objects);
  std::unique_lock lock(mutex_);
  if (searches_.empty()) wake_.ring();
  searches_.push_back(search);
  if (!searched_.wait_until(lock, deadline, [&] { return search->is_done || closed_; }) || closed_)
    return std::vector<std::optional<wire::ObjectLocation>>(search->found.size());
  return std::move(search->found);
}

void LocalReader::on_wake() {
  std::vector<Asked> asked;
  std::vector<std::shared_ptr<Search>> searches;
  std::map<wire::NodeNumber, std::vector<wire::ObjectLocation>> copied;
  {
    std::lock_guard lock(mutex_);
    asked.swap(asked_);
    searches.swap(searches_);
    copied.swap(copied_);
    copied_count_ = 0;
    drained_.notify_all();
  }
  for (auto& [node, objects] : copied) store_.copied(node, std::move(objects));
  for (Asked& each : asked) {
    Result<bool> handled = store_.handle(process_, wire::Frame{each.type, std::move(each.body), {}});
    MANTA_CHECK(handled.ok(), handled.status().to_string());
  }
  if (searches.empty()) return;
  std::lock_guard lock(mutex_);
  for (const auto& search : searches) {
    for (size_t i = 0; i < search->objects.size(); ++i)
      search->found[i] = store_.find(search->objects[i].slot, search->objects[i].generation);
    search->is_done = true;
  }
  searched_.notify_all();
}

void LocalReader::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    drained_.notify_all();
    searched_.notify_all();
  }
  client_->disconnected(Status(Code::kUnavailable, "bulk transfer has ended"));
}

}  // namespace manta::object_store
