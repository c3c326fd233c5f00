#include "head/program_shelf.h"

#include "common/check.h"

#include <algorithm>

namespace manta::head {
namespace {

/// By hash: one part may go by several names.
std::map<std::string, uint64_t> parts_of(const wire::SubmitJob& spec) {
  std::map<std::string, uint64_t> parts{{spec.program_hash, spec.program_bytes}};
  for (const wire::ProgramLibrary& library : spec.libraries) parts.emplace(library.hash, library.size_bytes);
  return parts;
}

Status other_size(const std::string& hash, uint64_t bytes) {
  return Status(Code::kInvalid, "what has the hash " + hash + " has " + std::to_string(bytes) + " bytes");
}

}  // namespace

bool ProgramShelf::has_part(const wire::SubmitJob& spec, const std::string& hash) {
  return spec.program_hash == hash ||
         std::ranges::any_of(spec.libraries, [&](const auto& library) { return library.hash == hash; });
}

const ProgramShelf::Part* ProgramShelf::find(const std::string& hash) const {
  const auto it = parts_.find(hash);
  return it == parts_.end() ? nullptr : &it->second;
}

Status ProgramShelf::check(const wire::SubmitJob& spec) const {
  const std::map<std::string, uint64_t> parts = parts_of(spec);
  for (const wire::ProgramLibrary& library : spec.libraries)
    if (parts.at(library.hash) != library.size_bytes) return other_size(library.hash, parts.at(library.hash));
  uint64_t needed = 0;
  for (const auto& [hash, bytes] : parts) {
    if (const Part* known = find(hash); known != nullptr && known->bytes != bytes) return other_size(hash, known->bytes);
    needed += bytes;
  }
  for (const auto& [hash, part] : parts_)
    if (!part.users.empty() && !parts.contains(hash)) needed += part.bytes;
  if (needed <= settings_.max_needed_bytes) return {};
  return Status(Code::kFull, "the programs of jobs that are not over would take " + std::to_string(needed) +
                                 " bytes, at most " + std::to_string(settings_.max_needed_bytes) + " are kept");
}

void ProgramShelf::need(uint64_t job, const wire::SubmitJob& spec) {
  for (const auto& [hash, bytes] : parts_of(spec)) {
    Part& part = parts_[hash];
    part.bytes = bytes;
    part.users.insert(job);
  }
}

std::vector<std::string> ProgramShelf::missing(const wire::SubmitJob& spec) const {
  std::vector<std::string> hashes;
  for (const auto& [hash, bytes] : parts_of(spec))
    if (const Part* part = find(hash); part == nullptr || !part->is_stored) hashes.push_back(hash);
  return hashes;
}

std::vector<std::string> ProgramShelf::release(uint64_t job, const wire::SubmitJob& spec) {
  std::vector<std::string> dropped;
  for (const auto& [hash, bytes] : parts_of(spec)) {
    const auto it = parts_.find(hash);
    if (it == parts_.end()) continue;
    it->second.users.erase(job);
    it->second.used = ++uses_;
    if (!it->second.users.empty() || it->second.is_stored) continue;
    dropped.push_back(hash);
    parts_.erase(it);
  }
  std::ranges::move(drop_oldest(), std::back_inserter(dropped));
  return dropped;
}

std::vector<std::string> ProgramShelf::stored(const std::string& hash, uint64_t bytes) {
  Part& part = parts_[hash];
  part.bytes = bytes;
  part.is_stored = true;
  part.used = ++uses_;
  return drop_oldest();
}

std::vector<std::string> ProgramShelf::drop_oldest() {
  std::vector<std::string> dropped;
  uint64_t kept = 0;
  for (const auto& [hash, part] : parts_)
    if (part.users.empty()) kept += part.bytes;
  while (kept > settings_.max_kept_bytes) {
    auto oldest = parts_.end();
    for (auto it = parts_.begin(); it != parts_.end(); ++it)
      if (it->second.users.empty() && (oldest == parts_.end() || it->second.used < oldest->second.used)) oldest = it;
    kept -= oldest->second.bytes;
    dropped.push_back(oldest->first);
    parts_.erase(oldest);
  }
  return dropped;
}

void ProgramShelf::check_invariants() const {
  for (const auto& [hash, part] : parts_) MANTA_CHECK(part.is_stored || !part.users.empty(), hash);
}

}  // namespace manta::head
