#include "wire/net/program_parts.h"

#include "common/check.h"
#include "wire/net/sha256.h"

#include <set>

namespace manta::wire {
namespace {

Status check_part(const std::string& what, const std::string& hash, uint64_t size_bytes) {
  if (!is_hash(hash) || size_bytes == 0) return Status(Code::kInvalid, what + " has no sensible hash or size");
  if (size_bytes <= kMaxPartBytes) return {};
  return Status(Code::kInvalid, what + " has " + std::to_string(size_bytes) + " bytes, at most " +
                                    std::to_string(kMaxPartBytes) + " are taken");
}

}  // namespace

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() < 200 && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

Status check_parts(const std::string& name, const std::string& hash, uint64_t size_bytes,
                   const std::vector<ProgramLibrary>& libraries) {
  if (!is_plain_name(name)) return Status(Code::kInvalid, "the job's program has no sensible name");
  MANTA_RETURN_IF_ERROR(check_part("the job's program", hash, size_bytes));
  if (libraries.size() > kMaxLibraries)
    return Status(Code::kInvalid, "the program brings " + std::to_string(libraries.size()) + " shared libraries, at most " +
                                      std::to_string(kMaxLibraries) + " are taken");
  std::set<std::string> names;
  uint64_t total = size_bytes;
  for (const ProgramLibrary& library : libraries) {
    if (!is_plain_name(library.name) || !names.insert(library.name).second)
      return Status(Code::kInvalid, "a shared library of the program has no sensible name, or one that another has");
    MANTA_RETURN_IF_ERROR(check_part("the shared library " + library.name, library.hash, library.size_bytes));
    total += library.size_bytes;
  }
  if (total <= kMaxProgramBytes) return {};
  return Status(Code::kInvalid, "the program has " + std::to_string(total) + " bytes with its libraries, at most " +
                                    std::to_string(kMaxProgramBytes) + " are taken");
}

std::string program_key(const std::string& name, const std::string& hash, const std::vector<ProgramLibrary>& libraries) {
  Sha256 sum;
  sum.add(hash + "/" + name);
  for (const ProgramLibrary& library : libraries) sum.add("/" + library.hash + "/" + library.name);
  return sum.finish();
}

}  // namespace manta::wire
