#include "raylet/program_cache.h"

#include "common/check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace manta::raylet {
namespace {

namespace fs = std::filesystem;

Status os_error(const std::string& what) {
  return Status(errno == ENOSPC || errno == EDQUOT ? Code::kFull : Code::kIo, what + ": " + std::strerror(errno));
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() < 200 && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

}  // namespace

Result<ServedProgram> ServedProgram::open(const std::string& path) {
  ServedProgram program;
  program.file_ = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!program.file_) return os_error("opening the driver's program " + path);
  MANTA_ASSIGN_OR_RETURN(program.digest_, wire::digest(program.file_));
  return program;
}

Result<std::string> ServedProgram::chunk(uint64_t offset) const {
  if (offset >= digest_.size_bytes)
    return Status(Code::kInvalid,
                  "the program has " + std::to_string(digest_.size_bytes) + " bytes, none at " + std::to_string(offset));
  std::string bytes(std::min<uint64_t>(wire::kProgramChunkBytes, digest_.size_bytes - offset), '\0');
  for (size_t have = 0; have < bytes.size();) {
    const ssize_t size = ::pread(file_.get(), bytes.data() + have, bytes.size() - have, static_cast<off_t>(offset + have));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return os_error("reading the driver's program");
    have += static_cast<size_t>(size);
  }
  return bytes;
}

void ProgramCache::start(const wire::JobSpec& spec, wire::NodeNumber node) {
  if (!wire::is_hash(spec.program_hash) || !is_plain_name(spec.program_name) || spec.program_bytes == 0 ||
      spec.program_bytes > kMaxProgramBytes)
    return done_(spec.job, Status(Code::kInvalid, "the job's program has no sensible name, hash or size"));
  const auto [entry, is_new] = programs_.try_emplace(spec.program_hash);
  Program& program = entry->second;
  program.jobs.insert(spec.job);
  if (program.is_ready) return done_(spec.job, program.path);
  if (!is_new) return;
  program.node = node;
  program.size_bytes = spec.program_bytes;
  if (Status status = begin(program, spec); !status.ok()) return fail(entry, status);
  ask_more(spec.program_hash, program);
}

Status ProgramCache::begin(Program& program, const wire::JobSpec& spec) {
  const std::string folder = folder_ + "/" + spec.program_hash;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return Status(Code::kIo, "making " + folder + ": " + error.message());
  program.path = folder + "/" + spec.program_name;
  program.file = Fd(::open((program.path + ".part").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0700));
  return program.file ? Status() : os_error("writing " + program.path);
}

void ProgramCache::ask_more(const std::string& hash, Program& program) {
  while (program.asked_bytes < program.size_bytes &&
         program.asked_bytes < program.written_bytes + kWindow * wire::kProgramChunkBytes) {
    const uint64_t offset = program.asked_bytes;
    program.asked_bytes = std::min(program.size_bytes, offset + wire::kProgramChunkBytes);
    ask_(program.node, {.hash = hash, .offset = offset});
  }
}

void ProgramCache::ask_again(const std::string& hash) {
  const auto entry = programs_.find(hash);
  if (entry == programs_.end() || entry->second.is_ready) return;
  entry->second.asked_bytes = entry->second.written_bytes;
  ask_more(hash, entry->second);
}

void ProgramCache::on_chunk(wire::NodeNumber from, const wire::ProgramChunk& chunk) {
  const auto entry = programs_.find(chunk.hash);
  if (entry == programs_.end() || entry->second.is_ready || entry->second.node != from) return;
  Program& program = entry->second;
  Status status = take(program, chunk);
  if (status.ok() && program.written_bytes == program.size_bytes) {
    status = finish(chunk.hash, program);
    if (status.ok()) {
      for (const uint64_t job : std::set<uint64_t>(program.jobs)) done_(job, program.path);
      return;
    }
  }
  if (!status.ok()) return fail(entry, status);
  ask_more(chunk.hash, program);
}

Status ProgramCache::take(Program& program, const wire::ProgramChunk& chunk) {
  MANTA_RETURN_IF_ERROR(wire::from_wire(chunk.status));
  if (chunk.offset < program.written_bytes) return {};  // asked for twice
  // Asked for in order over one link, so they come in order.
  const uint64_t wanted = std::min<uint64_t>(wire::kProgramChunkBytes, program.size_bytes - program.written_bytes);
  if (chunk.offset != program.written_bytes || chunk.bytes.size() != wanted)
    return Status(Code::kInvalid, "a chunk of the program came that was not asked for, at " + std::to_string(chunk.offset));
  for (size_t have = 0; have < chunk.bytes.size();) {
    const ssize_t size = ::write(program.file.get(), chunk.bytes.data() + have, chunk.bytes.size() - have);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return os_error("writing " + program.path);
    have += static_cast<size_t>(size);
  }
  program.written_bytes += chunk.bytes.size();
  return {};
}

Status ProgramCache::finish(const std::string& hash, Program& program) {
  MANTA_ASSIGN_OR_RETURN(const wire::Digest came, wire::digest(program.file));
  if (came.hash != hash)
    return Status(Code::kInvalid, "the program that came is not the one that was promised: " + came.hash);
  program.file.reset();  // a file open for writing cannot be executed
  if (::rename((program.path + ".part").c_str(), program.path.c_str()) != 0) return os_error("renaming " + program.path);
  program.is_ready = true;
  return {};
}

void ProgramCache::fail(Entry entry, const Status& status) {
  const std::set<uint64_t> jobs = std::move(entry->second.jobs);
  std::error_code ignored;
  fs::remove_all(folder_ + "/" + entry->first, ignored);
  programs_.erase(entry);
  for (const uint64_t job : jobs) done_(job, status);
}

void ProgramCache::on_node_lost(wire::NodeNumber node, const Status& cause) {
  for (auto entry = programs_.begin(); entry != programs_.end();) {
    const auto next = std::next(entry);
    if (!entry->second.is_ready && entry->second.node == node) fail(entry, cause);
    entry = next;
  }
}

void ProgramCache::release(uint64_t job) {
  for (auto entry = programs_.begin(); entry != programs_.end();) {
    const auto next = std::next(entry);
    if (entry->second.jobs.erase(job) > 0 && entry->second.jobs.empty()) {
      std::error_code ignored;
      fs::remove_all(folder_ + "/" + entry->first, ignored);
      programs_.erase(entry);
    }
    entry = next;
  }
}

}  // namespace manta::raylet
