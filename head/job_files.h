// The files of submitted jobs on the head's node: programs under their hashes, and logs (job_logs.h).
//
//   <folder>/programs/<hash>         a whole program, whose content was checked
//   <folder>/programs/<hash>.part    one that is being uploaded
//
// A program is uploaded in order, by one client or by several that send the same; what is there already is passed over. It
// counts once it is sealed: synced and renamed.
// Used by one thread, but for the seals, which may run on another.
#pragma once

#include "common/fd.h"
#include "head/job_logs.h"
#include "head/job_orders.h"
#include "wire/head_link.h"
#include "wire/net/sha256.h"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace manta::head {

class JobFiles {
 public:
  static constexpr size_t kMaxWaiting = 1'000;
  static constexpr size_t kMaxUploads = 1'000;  ///< At a time.
  static constexpr int64_t kMaxWaitUs = 20'000'000;

  struct Stored {
    std::string hash;
    uint64_t bytes = 0;
  };
  using Seal = std::function<Status()>;
  /// What an order led to.
  struct Done {
    std::vector<wire::ToNode> answers;
    std::optional<Stored> stored;  ///< As soon as `seal` has succeeded.
    Seal seal;                     ///< Makes it durable; waits for the disk.
  };

  static Result<JobFiles> open(const std::filesystem::path& folder, JobLogs::Settings logs);

  [[nodiscard]] Done carry_out(FileOrder order, int64_t now_us);
  /// Answers who has waited long enough.
  [[nodiscard]] std::vector<wire::ToNode> tick(int64_t now_us);
  [[nodiscard]] std::optional<int64_t> next_deadline_us() const;

  [[nodiscard]] const std::vector<Stored>& found() const { return found_; }  ///< When it was opened.
  [[nodiscard]] std::vector<uint64_t> logged_jobs() const { return logs_.jobs(); }

 private:
  struct Upload {
    Fd file;
    wire::Sha256 sum;
    uint64_t bytes = 0;
  };

  JobFiles(std::filesystem::path folder, JobLogs logs) : folder_(std::move(folder)), logs_(std::move(logs)) {}
  Status take_up();
  Done carry_out(StoreProgram& order, int64_t now_us);
  Done carry_out(ReadProgram& order, int64_t now_us);
  Done carry_out(DropProgram& order, int64_t now_us);
  Done carry_out(AppendLog& order, int64_t now_us);
  Done carry_out(ReadLog& order, int64_t now_us);
  Done carry_out(EndLog& order, int64_t now_us);
  Done carry_out(DropLog& order, int64_t now_us);
  [[nodiscard]] wire::ToNode answer(const ReadLog& order) const;
  /// Answers who waits for this log.
  void wake(uint64_t job, bool is_over, std::vector<wire::ToNode>& answers);
  Result<uint64_t> store(StoreProgram& order, Done& done);
  Status finish(const std::string& hash, Upload& upload, Done& done);
  [[nodiscard]] Result<std::string> read(const wire::GetProgramPart& part) const;

  std::filesystem::path folder_;
  JobLogs logs_;
  std::vector<Stored> found_;
  std::map<std::string, Upload> uploads_;  // by hash
  struct Waiting {
    ReadLog order;
    int64_t until_us = 0;
  };
  std::multimap<uint64_t, Waiting> waiting_;  // by job
};

}  // namespace manta::head
