#include "raylet/program_cache.h"

#include "common/check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace manta::raylet {
namespace {

namespace fs = std::filesystem;

Status os_error(const std::string& what) {
  return Status(errno == ENOSPC || errno == EDQUOT ? Code::kFull : Code::kIo, what + ": " + std::strerror(errno));
}

/// A second name for the file; a copy where the file system has no second names.
Status lay(const std::string& from, const std::string& to) {
  if (::link(from.c_str(), to.c_str()) == 0) return {};
  std::error_code error;
  fs::copy_file(from, to, error);
  return error ? Status(Code::kIo, "writing " + to + ": " + error.message()) : Status();
}

/// With another mode than the umask's: a job's user passes through, and may list what is its own.
Status make_folder(const std::string& path, mode_t mode) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error && ::chmod(path.c_str(), mode) != 0) return os_error("making " + path);
  return error ? Status(Code::kIo, "making " + path + ": " + error.message()) : Status();
}

void remove(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

}  // namespace

// ---------------------------------------------------------------------------------------------------- serving

Result<ServedProgram> ServedProgram::open(const std::string& path, const std::vector<std::string>& libraries) {
  if (libraries.size() > wire::kMaxLibraries)
    return Status(Code::kInvalid, "the driver's program brings " + std::to_string(libraries.size()) +
                                      " shared libraries, at most " + std::to_string(wire::kMaxLibraries) + " are taken");
  ServedProgram program;
  const auto add = [&](const std::string& what, const std::string& from) -> Status {
    Part& part = program.parts_.emplace_back();
    part.name = fs::path(from).filename();
    part.file = Fd(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
    return part.file ? Status() : os_error("opening the driver's " + what + " " + from);
  };
  MANTA_RETURN_IF_ERROR(add("program", path));
  for (const std::string& library : libraries) MANTA_RETURN_IF_ERROR(add("shared library", library));
  return program;
}

Status ServedProgram::measure() {
  for (Part& part : parts_) {
    MANTA_ASSIGN_OR_RETURN(part.digest, wire::digest(part.file));
  }
  return {};
}

void ServedProgram::describe(wire::JobSpec& spec) const {
  spec.program_hash = parts_[0].digest.hash;
  spec.program_bytes = parts_[0].digest.size_bytes;
  spec.libraries.clear();
  for (size_t i = 1; i < parts_.size(); ++i)
    spec.libraries.push_back({parts_[i].name, parts_[i].digest.hash, parts_[i].digest.size_bytes});
}

Result<std::string> ServedProgram::chunk(const std::string& hash, uint64_t offset) const {
  const auto part = std::ranges::find_if(parts_, [&](const Part& one) { return one.digest.hash == hash; });
  if (part == parts_.end()) return Status(Code::kNotFound, "the job of this program has ended");
  if (offset >= part->digest.size_bytes)
    return Status(Code::kInvalid, "the program has " + std::to_string(part->digest.size_bytes) + " bytes, none at " +
                                      std::to_string(offset));
  std::string bytes(std::min<uint64_t>(wire::kProgramChunkBytes, part->digest.size_bytes - offset), '\0');
  for (size_t have = 0; have < bytes.size();) {
    const ssize_t size =
        ::pread(part->file.get(), bytes.data() + have, bytes.size() - have, static_cast<off_t>(offset + have));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return os_error("reading the driver's program");
    have += static_cast<size_t>(size);
  }
  return bytes;
}

// ---------------------------------------------------------------------------------------------------- jobs

ProgramCache::ProgramCache(std::string folder, Ask ask, Done done, uint64_t max_kept_bytes)
    : folder_(std::move(folder)), ask_(std::move(ask)), done_(std::move(done)), max_kept_bytes_(max_kept_bytes) {
  remove(folder_);
}

std::string ProgramCache::library_folder(const std::string& program, const std::vector<wire::ProgramLibrary>& libraries) {
  return libraries.empty() ? "" : (fs::path(program).parent_path().parent_path() / "lib").string();
}

std::vector<std::string> ProgramCache::hashes_of(const Program& program) const {
  std::vector<std::string> hashes{program.hash};
  for (const wire::ProgramLibrary& library : program.libraries) hashes.push_back(library.hash);
  return hashes;
}

void ProgramCache::start(const wire::JobSpec& spec, wire::NodeNumber node) {
  if (const auto known = jobs_.find(spec.job); known != jobs_.end()) {
    if (known->second.is_ready) done_(spec.job, assemble(known->second));
    return;
  }
  if (const Status status = take_up(spec, node); !status.ok()) return done_(spec.job, status);
  go_on(spec.job);
}

Status ProgramCache::take_up(const wire::JobSpec& spec, wire::NodeNumber node) {
  MANTA_RETURN_IF_ERROR(wire::check_parts(spec.program_name, spec.program_hash, spec.program_bytes, spec.libraries));
  std::map<std::string, uint64_t> sizes{{spec.program_hash, spec.program_bytes}};
  for (const wire::ProgramLibrary& library : spec.libraries) sizes.emplace(library.hash, library.size_bytes);
  uint64_t needed = 0;
  for (const auto& [hash, bytes] : sizes) needed += bytes;
  for (const auto& [hash, part] : parts_) {
    const auto own = sizes.find(hash);
    if (own == sizes.end() && !part.jobs.empty()) needed += part.size_bytes;
    if (own != sizes.end() && own->second != part.size_bytes)
      return Status(Code::kInvalid, "what has the hash " + hash + " has " + std::to_string(part.size_bytes) + " bytes");
  }
  if (needed > kMaxNeededBytes)
    return Status(Code::kFull, "the programs of jobs on this node would take " + std::to_string(needed) +
                                   " bytes, at most " + std::to_string(kMaxNeededBytes) + " are kept");
  for (const auto& [hash, bytes] : sizes) {
    Part& part = parts_[hash];
    part.size_bytes = bytes;
    part.jobs.insert(spec.job);
  }
  jobs_[spec.job] = {.node = node,
                     .name = spec.program_name,
                     .key = wire::program_key(spec.program_name, spec.program_hash, spec.libraries),
                     .hash = spec.program_hash,
                     .libraries = spec.libraries};
  return {};
}

void ProgramCache::go_on(uint64_t job) {
  Program& program = jobs_.at(job);
  if (program.is_ready) return;
  for (const std::string& hash : hashes_of(program)) {
    Part& part = parts_.at(hash);
    if (part.is_ready) continue;
    if (part.file) return;
    if (const Status status = begin(hash, part, program.node); !status.ok()) return fail(job, status);
    return ask_more(hash, part);
  }
  Result<std::string> path = assemble(program);
  if (!path.ok()) return fail(job, path.status());
  program.is_ready = true;
  users_[program.key].insert(job);
  done_(job, path);
}

Result<std::string> ProgramCache::assemble(const Program& program) const {
  const std::string folder = folder_ + "/" + program.key;
  const std::string path = folder + "/bin/" + program.name;
  if (users_.contains(program.key)) return path;
  remove(folder);  // half of it, when an earlier try failed
  MANTA_RETURN_IF_ERROR(make_folder(folder, 0711));
  MANTA_RETURN_IF_ERROR(make_folder(folder + "/bin", 0711));
  MANTA_RETURN_IF_ERROR(make_folder(folder + "/lib", 0755));
  MANTA_RETURN_IF_ERROR(lay(path_of(program.hash), path));
  for (const wire::ProgramLibrary& library : program.libraries)
    MANTA_RETURN_IF_ERROR(lay(path_of(library.hash), folder + "/lib/" + library.name));
  return path;
}

void ProgramCache::fail(uint64_t job, const Status& status) {
  release(job);
  done_(job, status);
}

void ProgramCache::release(uint64_t job) {
  const auto program = jobs_.extract(job);
  if (!program) return;
  const std::string& key = program.mapped().key;
  if (const auto users = users_.find(key); users != users_.end()) {
    users->second.erase(job);
    if (users->second.empty()) {
      remove(folder_ + "/" + key);
      users_.erase(users);
    }
  }
  for (const std::string& hash : hashes_of(program.mapped())) {
    const auto part = parts_.find(hash);
    if (part == parts_.end()) continue;
    part->second.jobs.erase(job);
    part->second.used = ++uses_;
    if (!part->second.jobs.empty() || part->second.is_ready) continue;
    stop_fetching(hash, part->second);
    parts_.erase(part);
  }
  drop_oldest();
}

void ProgramCache::drop_oldest() {
  uint64_t kept = 0;
  for (const auto& [hash, part] : parts_)
    if (part.jobs.empty()) kept += part.size_bytes;
  while (kept > max_kept_bytes_) {
    auto oldest = parts_.end();
    for (auto it = parts_.begin(); it != parts_.end(); ++it)
      if (it->second.jobs.empty() && (oldest == parts_.end() || it->second.used < oldest->second.used)) oldest = it;
    kept -= oldest->second.size_bytes;
    remove(path_of(oldest->first));
    parts_.erase(oldest);
  }
}

// ---------------------------------------------------------------------------------------------------- parts

Status ProgramCache::begin(const std::string& hash, Part& part, wire::NodeNumber node) {
  MANTA_RETURN_IF_ERROR(make_folder(folder_, 0711));
  MANTA_RETURN_IF_ERROR(make_folder(folder_ + "/parts", 0700));
  const std::string path = path_of(hash) + ".part";
  part.file = Fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0700));
  if (!part.file) return os_error("writing " + path);
  part.node = node;
  part.sum = wire::Sha256();
  part.asked_bytes = part.written_bytes = 0;
  return {};
}

void ProgramCache::ask_more(const std::string& hash, Part& part) {
  while (part.asked_bytes < part.size_bytes && part.asked_bytes < part.written_bytes + kWindow * wire::kProgramChunkBytes) {
    const uint64_t offset = part.asked_bytes;
    part.asked_bytes = std::min(part.size_bytes, offset + wire::kProgramChunkBytes);
    ask_(part.node, {.hash = hash, .offset = offset});
  }
}

void ProgramCache::ask_again(uint64_t job) {
  const auto program = jobs_.find(job);
  if (program == jobs_.end() || program->second.is_ready) return;
  for (const std::string& hash : hashes_of(program->second)) {
    Part& part = parts_.at(hash);
    if (!part.file) continue;
    part.asked_bytes = part.written_bytes;
    return ask_more(hash, part);
  }
}

void ProgramCache::on_chunk(wire::NodeNumber from, const wire::ProgramChunk& chunk) {
  const auto entry = parts_.find(chunk.hash);
  if (entry == parts_.end() || !entry->second.file || entry->second.node != from) return;
  Part& part = entry->second;
  Status status = take(chunk.hash, part, chunk);
  if (status.ok() && part.written_bytes < part.size_bytes) return ask_more(chunk.hash, part);
  if (status.ok()) status = finish(chunk.hash, part);
  if (!status.ok()) return fail_part(chunk.hash, status);
  for (const uint64_t job : std::set<uint64_t>(part.jobs))
    if (jobs_.contains(job)) go_on(job);
}

Status ProgramCache::take(const std::string& hash, Part& part, const wire::ProgramChunk& chunk) {
  MANTA_RETURN_IF_ERROR(wire::from_wire(chunk.status));
  if (chunk.offset < part.written_bytes) return {};  // asked for twice
  // Asked for in order over one link, so they come in order.
  const uint64_t wanted = std::min<uint64_t>(wire::kProgramChunkBytes, part.size_bytes - part.written_bytes);
  if (chunk.offset != part.written_bytes || chunk.bytes.size() != wanted)
    return Status(Code::kInvalid, "a chunk of the program came that was not asked for, at " + std::to_string(chunk.offset));
  for (size_t have = 0; have < chunk.bytes.size();) {
    const ssize_t size = ::write(part.file.get(), chunk.bytes.data() + have, chunk.bytes.size() - have);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return os_error("writing " + path_of(hash));
    have += static_cast<size_t>(size);
  }
  part.sum.add(chunk.bytes);
  part.written_bytes += chunk.bytes.size();
  return {};
}

Status ProgramCache::finish(const std::string& hash, Part& part) {
  if (const std::string came = part.sum.finish(); came != hash)
    return Status(Code::kInvalid,
                  "what came is not the part of the program that was promised: its SHA-256 is " + came + ", not " + hash);
  // Nobody writes to it any more, whatever the umask; and a file open for writing cannot be executed.
  if (::fchmod(part.file.get(), 0555) != 0) return os_error("finishing " + path_of(hash));
  part.file.reset();
  if (::rename((path_of(hash) + ".part").c_str(), path_of(hash).c_str()) != 0) return os_error("renaming " + path_of(hash));
  part.is_ready = true;
  return {};
}

void ProgramCache::stop_fetching(const std::string& hash, Part& part) const {
  part.file.reset();
  remove(path_of(hash) + ".part");
}

void ProgramCache::fail_part(const std::string& hash, const Status& status) {
  Part& part = parts_.at(hash);
  const wire::NodeNumber node = part.node;
  stop_fetching(hash, part);
  const std::set<uint64_t> jobs = part.jobs;
  for (const uint64_t job : jobs)
    if (jobs_.contains(job) && jobs_.at(job).node == node) fail(job, status);
  for (const uint64_t job : jobs)
    if (jobs_.contains(job)) go_on(job);
}

void ProgramCache::on_node_lost(wire::NodeNumber node, const Status& cause) {
  std::vector<uint64_t> lost;
  for (const auto& [job, program] : jobs_)
    if (!program.is_ready && program.node == node) lost.push_back(job);
  for (const uint64_t job : lost)
    if (jobs_.contains(job)) fail(job, cause);
  // What others want of it is fetched from where they have it.
  std::vector<std::string> fetched;
  for (const auto& [hash, part] : parts_)
    if (part.file && part.node == node) fetched.push_back(hash);
  for (const std::string& hash : fetched)
    if (parts_.contains(hash)) fail_part(hash, cause);
}

void find_first(std::map<std::string, std::string>& env, const std::string& library_folder) {
  if (library_folder.empty()) return;
  const char* const own = std::getenv("LD_LIBRARY_PATH");
  const std::string rest = env.contains("LD_LIBRARY_PATH") ? env["LD_LIBRARY_PATH"] : own != nullptr ? own : "";
  env["LD_LIBRARY_PATH"] = rest.empty() ? library_folder : library_folder + ":" + rest;
  env["MANTA_LIBRARIES"] = library_folder;
}

}  // namespace manta::raylet
