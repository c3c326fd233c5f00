// Programs of jobs that came from other nodes, with the shared libraries that go along: fetched in parts and chunks under
// their content's hash, checked, and pinned while a job on this node needs them. And the other side: the program of this
// node's own driver, served from the files that the driver runs, even if they were rebuilt or removed meanwhile.
//
//   <folder>/parts/<hash>            a part: checked, never changed
//   <folder>/<key>/bin/<name>        a program, a second name of its part
//   <folder>/<key>/lib/<name>        its libraries, likewise; the loader looks here first
//
//   part: (none) --start--> FETCHING (up to kWindow chunks asked for) --hash right--> READY --last job ends--> KEPT
//                              |  a chunk refused, the hash wrong, the disk full, the node lost
//                              +-----> failed: told to all that had it from there; others fetch it from theirs
//
// A kept part goes, the oldest first, when more than kMaxKeptBytes are kept. A job's parts come one after the other.
//
// Thread safety: none, but for ServedProgram::measure; owned by the raylet's loop. A chunk costs one write of 1 MiB in it.
#pragma once

#include "common/fd.h"
#include "wire/cluster.h"
#include "wire/net/sha256.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace manta::raylet {

/// Serves the files of one program.
class ServedProgram {
 public:
  /// `path` may be /proc/PID/exe, which stays the program that runs. Libraries go by their files' names.
  static Result<ServedProgram> open(const std::string& path, const std::vector<std::string>& libraries);
  /// Hashes all, before any other call. Takes as long as reading them; may run on another thread.
  Status measure();
  /// Fills in what the parts are.
  void describe(wire::JobSpec& spec) const;
  /// kNotFound: no part of it; kInvalid: past the end.
  [[nodiscard]] Result<std::string> chunk(const std::string& hash, uint64_t offset) const;

 private:
  struct Part {
    std::string name;
    Fd file;
    wire::Digest digest;
  };
  std::vector<Part> parts_;  // the first is the program itself
};

class ProgramCache {
 public:
  static constexpr int kWindow = 4;
  static constexpr uint64_t kMaxNeededBytes = uint64_t{16} << 30;

  using Ask = std::function<void(wire::NodeNumber node, const wire::GetProgram& message)>;
  using Done = std::function<void(uint64_t job, const Result<std::string>& path)>;

  /// `folder` is made when it is needed; what an earlier process left there goes.
  ProgramCache(std::string folder, Ask ask, Done done, uint64_t max_kept_bytes = uint64_t{2} << 30);

  /// Gets the job's program from `node`; `done` is called, at once if it is here.
  void start(const wire::JobSpec& spec, wire::NodeNumber node);
  void on_chunk(wire::NodeNumber from, const wire::ProgramChunk& chunk);
  /// What was asked for and has not come may be lost: it is asked for again.
  void ask_again(uint64_t job);
  void on_node_lost(wire::NodeNumber node, const Status& cause);
  /// The job ended here.
  void release(uint64_t job);

  /// Where a program that `done` named has its libraries; empty when none came with it.
  static std::string library_folder(const std::string& program, const std::vector<wire::ProgramLibrary>& libraries);

 private:
  struct Part {
    uint64_t size_bytes = 0;
    wire::NodeNumber node = 0;  // where it is fetched from
    Fd file;                    // while it is fetched
    wire::Sha256 sum;
    uint64_t asked_bytes = 0;
    uint64_t written_bytes = 0;
    bool is_ready = false;
    std::set<uint64_t> jobs;
    uint64_t used = 0;  // counts uses, for those that no job needs
  };
  struct Program {
    wire::NodeNumber node = 0;
    std::string name;
    std::string key;
    std::string hash;
    std::vector<wire::ProgramLibrary> libraries;
    bool is_ready = false;
  };

  [[nodiscard]] Status take_up(const wire::JobSpec& spec, wire::NodeNumber node);
  [[nodiscard]] std::vector<std::string> hashes_of(const Program& program) const;
  /// Fetches the next part, or is done.
  void go_on(uint64_t job);
  Status begin(const std::string& hash, Part& part, wire::NodeNumber node);
  void ask_more(const std::string& hash, Part& part);
  Status take(const std::string& hash, Part& part, const wire::ProgramChunk& chunk);
  Status finish(const std::string& hash, Part& part);
  /// Lays its files where it finds them.
  [[nodiscard]] Result<std::string> assemble(const Program& program) const;
  void fail(uint64_t job, const Status& status);
  /// The part does not come from its node.
  void fail_part(const std::string& hash, const Status& status);
  void stop_fetching(const std::string& hash, Part& part) const;
  void drop_oldest();
  [[nodiscard]] std::string path_of(const std::string& hash) const { return folder_ + "/parts/" + hash; }

  std::string folder_;
  Ask ask_;
  Done done_;
  uint64_t max_kept_bytes_ = 0;
  std::map<std::string, Part> parts_;                // by hash
  std::map<uint64_t, Program> jobs_;                 // by job
  std::map<std::string, std::set<uint64_t>> users_;  // of the folders, by key
  uint64_t uses_ = 0;
};

/// What a process of a program needs in its environment to load these libraries before any others.
void find_first(std::map<std::string, std::string>& env, const std::string& library_folder);

}  // namespace manta::raylet
