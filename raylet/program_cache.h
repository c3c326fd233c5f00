// Programs of jobs that came from other nodes: fetched in chunks under their content's hash, checked, kept while a job on
// this node needs them. And the other side: the program of this node's own driver, served from the file that the driver
// runs, even if it was rebuilt or removed meanwhile.
//
//   (none) --start--> FETCHING (up to kWindow chunks asked for) --all there, hash right--> READY --last job ends--> removed
//                        |  a chunk refused, the hash wrong, the disk full, the node lost
//                        +-----> failed: told to all that wait; the next `start` begins anew
//
// Thread safety: none; owned by the raylet's loop. A chunk costs one write of 1 MiB in it.
#pragma once

#include "common/fd.h"
#include "wire/cluster.h"
#include "wire/net/sha256.h"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

namespace manta::raylet {

/// Serves one file.
class ServedProgram {
 public:
  /// `path` may be /proc/PID/exe, which stays the program that runs.
  static Result<ServedProgram> open(const std::string& path);
  [[nodiscard]] const wire::Digest& digest() const { return digest_; }
  /// kInvalid past the end.
  [[nodiscard]] Result<std::string> chunk(uint64_t offset) const;

 private:
  Fd file_;
  wire::Digest digest_;
};

class ProgramCache {
 public:
  static constexpr int kWindow = 4;
  static constexpr uint64_t kMaxProgramBytes = uint64_t{4} << 30;

  using Ask = std::function<void(wire::NodeNumber node, const wire::GetProgram& message)>;
  using Done = std::function<void(uint64_t job, const Result<std::string>& path)>;

  /// `folder` is made when it is needed.
  ProgramCache(std::string folder, Ask ask, Done done)
      : folder_(std::move(folder)), ask_(std::move(ask)), done_(std::move(done)) {}

  /// Gets the job's program from `node`; `done` is called, at once if it is here.
  void start(const wire::JobSpec& spec, wire::NodeNumber node);
  void on_chunk(wire::NodeNumber from, const wire::ProgramChunk& chunk);
  /// What was asked for and has not come may be lost: it is asked for again.
  void ask_again(const std::string& hash);
  void on_node_lost(wire::NodeNumber node, const Status& cause);
  /// The job ended here: its program goes with the last that needs it.
  void release(uint64_t job);

 private:
  struct Program {
    std::string path;
    uint64_t size_bytes = 0;
    wire::NodeNumber node = 0;
    Fd file;  // while it is fetched
    uint64_t asked_bytes = 0;
    uint64_t written_bytes = 0;
    bool is_ready = false;
    std::set<uint64_t> jobs;
  };
  using Entry = std::map<std::string, Program>::iterator;

  Status begin(Program& program, const wire::JobSpec& spec);
  void ask_more(const std::string& hash, Program& program);
  Status take(Program& program, const wire::ProgramChunk& chunk);
  Status finish(const std::string& hash, Program& program);
  void fail(Entry entry, const Status& status);

  std::string folder_;
  Ask ask_;
  Done done_;
  std::map<std::string, Program> programs_;  // by hash
};

}  // namespace manta::raylet
