// Which programs of submitted jobs the head's node has, or waits for: by parts (the program's own file and its shared
// libraries), each under its hash, so that what jobs have in common is uploaded and kept once.
//
//   (none) --a job needs it--> WANTED --stored--> STORED --last job over--> KEPT --room is needed--> dropped
//                                |  last job over                             |  a job needs it
//                                +--> dropped                                 +--> STORED
//
// Invariants: 1 what is not stored has a job that needs it. 2 What jobs need is within max_needed_bytes, what no job needs
// within max_kept_bytes, but for what is stored by a call until it returns.
//
// Pure; part of the job table.
#pragma once

#include "wire/job_messages.h"

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace manta::head {

struct ShelfSettings {
  uint64_t max_needed_bytes = uint64_t{16} << 30;
  uint64_t max_kept_bytes = uint64_t{2} << 30;
};

class ProgramShelf {
 public:
  explicit ProgramShelf(ShelfSettings settings) : settings_(settings) {}

  struct Part {
    uint64_t bytes = 0;
    bool is_stored = false;
    std::set<uint64_t> users;  ///< Jobs that are not over.
    uint64_t used = 0;         ///< Counts uses, for those that no job needs.
  };

  /// kInvalid: a part is known with another size; kFull: there is no room.
  [[nodiscard]] Status check(const wire::SubmitJob& spec) const;
  void need(uint64_t job, const wire::SubmitJob& spec);
  /// The job is over. Returns what is to be dropped.
  [[nodiscard]] std::vector<std::string> release(uint64_t job, const wire::SubmitJob& spec);
  /// Hashes of what is not stored yet.
  [[nodiscard]] std::vector<std::string> missing(const wire::SubmitJob& spec) const;

  /// A part is stored as a whole. Returns what is to be dropped to keep within the bounds.
  [[nodiscard]] std::vector<std::string> stored(const std::string& hash, uint64_t bytes);
  /// Null when nobody needs it and it is not stored.
  [[nodiscard]] const Part* find(const std::string& hash) const;

  [[nodiscard]] static bool has_part(const wire::SubmitJob& spec, const std::string& hash);
  void check_invariants() const;

 private:
  [[nodiscard]] std::vector<std::string> drop_oldest();

  ShelfSettings settings_;
  std::map<std::string, Part> parts_;  // by hash
  uint64_t uses_ = 0;
};

}  // namespace manta::head
