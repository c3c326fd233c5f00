// The head in one process with its raylet: head_core behind the HeadLink, its records written by a store on a thread of its
// own.
//
// Two ways to write. Lasting: messages wait until the store says that their records are durable (acknowledged means
// durable), and come out through `wake_fd`. Local: a session's database is for looking at and dies with it, so nothing waits
// for it. The writing queue is bounded in bytes; in the lasting mode a full queue makes `send` fail with kFull, in the local
// one the store is given up (it could no longer be replayed) and the reason kept in `store_status`.
//
// Thread safety: `send`, `receive` and `tick` belong to one thread. The store is used only by the writer thread.
#pragma once

#include "common/clock.h"
#include "common/fd.h"
#include "head/head_core.h"
#include "head/job_files.h"
#include "head/store.h"
#include "wire/head_link.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace manta::head {

class HeadServer : public wire::HeadLink {
 public:
  enum class Durability : uint8_t { kLocal, kLasting };
  using OpenStore = std::function<Result<std::unique_ptr<Store>>()>;

  static constexpr size_t kMaxQueuedBytes = size_t{256} << 20;

  /// Local: `open` runs on the writer thread at the first record, so that a node starts without waiting for the disk.
  static std::unique_ptr<HeadServer> local(OpenStore open, HeadSettings settings = {}, const Clock& clock = Clock::real());
  /// Lasting: takes up what the store holds. Fails when it cannot be read.
  static Result<std::unique_ptr<HeadServer>> lasting(std::unique_ptr<Store> store, HeadSettings settings = {},
                                                     const Clock& clock = Clock::real());
  /// Before anything is sent: submitted jobs have their programs and logs in this folder. Without it none are stored.
  Status keep_files(const std::filesystem::path& folder, JobLogs::Settings logs = {});

  ~HeadServer() override;

  using HeadLink::send;
  Status send(wire::NodeNumber from, wire::Told told) override;
  void note_heard(wire::NodeNumber node, int64_t at_us) override { core_.note_heard(node, at_us); }
  std::vector<wire::ToNode> receive() override;
  [[nodiscard]] int wake_fd() const override { return wake_.get(); }
  [[nodiscard]] std::optional<int64_t> next_deadline_us() const override;
  Status tick() override;

  /// Why nothing is written any more; OK while all is well.
  [[nodiscard]] Status store_status() const;

 private:
  struct Batch {
    uint64_t number = 0;
    std::vector<Record> records;
    std::vector<JobFiles::Seal> seals;  ///< First: the records count on them.
    size_t bytes = 0;
  };
  struct Held {
    uint64_t batch = 0;  ///< Leaves once this batch is durable.
    std::vector<wire::ToNode> messages;
  };

  HeadServer(Durability durability, OpenStore open, HeadSettings settings, const Clock& clock);
  [[nodiscard]] int64_t now_us() const;
  [[nodiscard]] Status can_write() const;
  Status take(HeadEffects effects);
  [[nodiscard]] std::vector<JobFiles::Seal> carry_out_files(HeadEffects& effects);
  void write_loop();
  [[nodiscard]] Status append(std::deque<Batch>& batches);
  Status write(std::vector<Record> records, std::vector<JobFiles::Seal> seals);

  const Durability durability_;
  const Clock& clock_;
  HeadCore core_;
  std::optional<JobFiles> files_;
  std::vector<wire::ToNode> ready_;
  std::deque<Held> held_;
  uint64_t last_batch_ = 0;
  Fd wake_;

  mutable std::mutex mutex_;
  std::condition_variable has_work_;
  // Guarded by mutex_:
  std::deque<Batch> queue_;
  size_t queued_bytes_ = 0;
  uint64_t durable_batch_ = 0;
  Status store_status_;
  bool is_stopping_ = false;

  // The writer thread's own.
  OpenStore open_;
  std::unique_ptr<Store> store_;

  std::thread writer_;
};

}  // namespace manta::head
