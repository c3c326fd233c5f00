#include "head/head_server.h"

#include "common/check.h"
#include "common/log.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <iterator>

namespace manta::head {
namespace {

size_t size_of(const std::vector<Record>& records) {
  size_t bytes = 0;
  for (const Record& record : records) bytes += sizeof(Record) + record.key.size() + record.value.size();
  return bytes;
}

}  // namespace

HeadServer::HeadServer(Durability durability, OpenStore open, HeadSettings settings, const Clock& clock)
    : durability_(durability),
      clock_(clock),
      core_(settings),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      open_(std::move(open)) {
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  core_.set_wall(std::chrono::duration_cast<std::chrono::microseconds>(wall).count() - now_us());
}

std::unique_ptr<HeadServer> HeadServer::local(OpenStore open, HeadSettings settings, const Clock& clock) {
  return std::unique_ptr<HeadServer>(new HeadServer(Durability::kLocal, std::move(open), settings, clock));
}

Result<std::unique_ptr<HeadServer>> HeadServer::lasting(std::unique_ptr<Store> store, HeadSettings settings,
                                                        const Clock& clock) {
  MANTA_ASSIGN_OR_RETURN(const std::vector<Record> records, store->load());
  std::unique_ptr<HeadServer> server(new HeadServer(Durability::kLasting, {}, settings, clock));
  MANTA_RETURN_IF_ERROR(server->core_.replay(records));
  server->store_ = std::move(store);
  return server;
}

Status HeadServer::keep_files(const std::filesystem::path& folder, JobLogs::Settings logs) {
  MANTA_ASSIGN_OR_RETURN(files_, JobFiles::open(folder, logs));
  for (uint64_t job : files_->logged_jobs())
    if (!core_.submitted().jobs().contains(job)) (void)files_->carry_out(DropLog{job}, now_us());
  for (const JobFiles::Stored& program : files_->found())
    MANTA_RETURN_IF_ERROR(take(core_.program_stored(program.hash, program.bytes, now_us())));
  return {};
}

HeadServer::~HeadServer() {
  {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
    if (durability_ == Durability::kLocal) queue_.clear();  // its file goes with the session
  }
  has_work_.notify_one();
  if (writer_.joinable()) writer_.join();
}

int64_t HeadServer::now_us() const {
  return std::chrono::duration_cast<std::chrono::microseconds>(clock_.now().time_since_epoch()).count();
}

Status HeadServer::can_write() const {
  if (durability_ == Durability::kLocal) return {};
  std::lock_guard lock(mutex_);
  MANTA_RETURN_IF_ERROR(store_status_);
  if (queued_bytes_ > kMaxQueuedBytes)
    return Status(Code::kFull, "the head's disk is too slow: " + std::to_string(queued_bytes_) + " bytes wait for it");
  return {};
}

Status HeadServer::send(wire::NodeNumber from, wire::Told told) {
  MANTA_RETURN_IF_ERROR(can_write());
  return take(core_.step(from, std::move(told.message), now_us(), told.number));
}

Status HeadServer::tick() {
  MANTA_RETURN_IF_ERROR(can_write());
  HeadEffects effects = core_.tick(now_us());
  if (files_) std::ranges::move(files_->tick(now_us()), std::back_inserter(effects.messages));
  return take(std::move(effects));
}

std::optional<int64_t> HeadServer::next_deadline_us() const {
  const std::optional<int64_t> of_core = core_.next_deadline_us();
  const std::optional<int64_t> of_files = files_ ? files_->next_deadline_us() : std::nullopt;
  if (!of_core || !of_files) return of_core ? of_core : of_files;
  return std::min(*of_core, *of_files);
}

Status HeadServer::take(HeadEffects effects) {
  std::vector<JobFiles::Seal> seals = carry_out_files(effects);
  if (!effects.records.empty() || !seals.empty()) MANTA_RETURN_IF_ERROR(write(std::move(effects.records), std::move(seals)));
  // Also a message that writes nothing waits behind those that do: what it tells may rest on them.
  const bool must_wait = durability_ == Durability::kLasting && last_batch_ > [this] {
    std::lock_guard lock(mutex_);
    return durable_batch_;
  }();
  if (effects.messages.empty()) return {};
  if (must_wait || !held_.empty()) {
    held_.push_back({last_batch_, std::move(effects.messages)});
  } else {
    std::ranges::move(effects.messages, std::back_inserter(ready_));
  }
  return {};
}

// Without a place for files nothing is answered: a session of one node takes no jobs.
std::vector<JobFiles::Seal> HeadServer::carry_out_files(HeadEffects& effects) {
  std::vector<JobFiles::Seal> seals;
  std::deque<FileOrder> orders(std::make_move_iterator(effects.files.begin()), std::make_move_iterator(effects.files.end()));
  for (; files_ && !orders.empty(); orders.pop_front()) {
    JobFiles::Done done = files_->carry_out(std::move(orders.front()), now_us());
    std::ranges::move(done.answers, std::back_inserter(effects.messages));
    if (!done.stored) continue;
    seals.push_back(std::move(done.seal));
    HeadEffects more = core_.program_stored(done.stored->hash, done.stored->bytes, now_us());
    std::ranges::move(more.messages, std::back_inserter(effects.messages));
    std::ranges::move(more.records, std::back_inserter(effects.records));
    std::ranges::move(more.files, std::back_inserter(orders));
  }
  return seals;
}

std::vector<wire::ToNode> HeadServer::receive() {
  if (!held_.empty()) {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t drained = ::read(wake_.get(), &count, sizeof count);
    std::lock_guard lock(mutex_);
    for (; !held_.empty() && held_.front().batch <= durable_batch_; held_.pop_front())
      std::ranges::move(held_.front().messages, std::back_inserter(ready_));
  }
  return std::exchange(ready_, {});
}

Status HeadServer::store_status() const {
  std::lock_guard lock(mutex_);
  return store_status_;
}

Status HeadServer::write(std::vector<Record> records, std::vector<JobFiles::Seal> seals) {
  const size_t bytes = size_of(records);
  {
    std::lock_guard lock(mutex_);
    if (!store_status_.ok()) return durability_ == Durability::kLocal ? Status() : store_status_;
    if (durability_ == Durability::kLocal && queued_bytes_ + bytes > kMaxQueuedBytes) {
      store_status_ = Status(Code::kFull, "the session's database was given up: its disk is too slow");
      queue_.clear();
      MANTA_LOG(kError, "head", "no longer written", {"why", store_status_});
      return {};
    }
    queue_.push_back({++last_batch_, std::move(records), std::move(seals), bytes});
    queued_bytes_ += bytes;
  }
  if (!writer_.joinable()) writer_ = std::thread([this] { write_loop(); });
  has_work_.notify_one();
  return {};
}

Status HeadServer::append(std::deque<Batch>& batches) {
  std::vector<Record> records;
  for (Batch& batch : batches) {
    for (const JobFiles::Seal& seal : batch.seals) MANTA_RETURN_IF_ERROR(seal());
    std::ranges::move(batch.records, std::back_inserter(records));
  }
  return records.empty() ? Status() : store_->append(records);
}

// Group commit: whatever has gathered while the disk was busy is the next transaction.
void HeadServer::write_loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    has_work_.wait(lock, [this] { return is_stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    std::deque<Batch> batches = std::exchange(queue_, {});
    lock.unlock();
    Status status;
    if (store_ == nullptr) {
      Result<std::unique_ptr<Store>> opened = open_();
      if (opened.ok()) store_ = std::move(*opened);
      status = opened.ok() ? Status() : opened.status();
    }
    size_t bytes = 0;
    for (const Batch& batch : batches) bytes += batch.bytes;
    if (status.ok()) status = append(batches);
    lock.lock();
    queued_bytes_ -= bytes;
    if (status.ok()) {
      durable_batch_ = batches.back().number;
    } else {
      store_status_ = status;
      queue_.clear();
      MANTA_LOG(kError, "head", "the database cannot be written", {"why", status});
    }
    if (durability_ == Durability::kLasting) {
      const uint64_t one = 1;
      [[maybe_unused]] const ssize_t woken = ::write(wake_.get(), &one, sizeof one);
    }
    if (!status.ok()) return;
  }
}

}  // namespace manta::head
