#include "actors/travel.h"

#include "common/check.h"
#include "common/shared_libraries.h"

#include <cstdlib>
#include <filesystem>

namespace manta {
namespace {

namespace fs = std::filesystem;

std::string setting(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  for (size_t from = 0; from < text.size();) {
    const size_t end = std::min(text.find(':', from), text.size());
    if (end > from) words.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return words;
}

}  // namespace

Result<std::vector<std::string>> libraries_to_bring() {
  std::vector<std::string> files;
  if (const std::string came = setting("MANTA_LIBRARIES"); !came.empty()) {
    std::error_code error;
    for (fs::directory_iterator file(came, error), end; !error && file != end; file.increment(error))
      files.push_back(file->path());
    if (error) return Status(Code::kIo, "the program's libraries in " + came + ": " + error.message());
    return files;
  }
  const std::string wish = setting("MANTA_PACKAGE");
  if (wish.empty() || wish == "0") return files;
  const auto brought = with_needed(loaded_libraries(), wish == "1" ? std::vector<std::string>() : split(wish));
  if (!brought.ok()) return brought.status().with_context("MANTA_PACKAGE");
  for (const SharedLibrary& library : *brought) files.push_back(library.path);
  return files;
}

Status check_libraries_came_first() {
  const std::string came = setting("MANTA_LIBRARIES");
  if (came.empty()) return {};
  std::error_code ignored;
  for (const SharedLibrary& library : loaded_libraries()) {
    const fs::path mine = fs::path(came) / library.name;
    if (!fs::exists(mine, ignored) || fs::equivalent(mine, library.path, ignored)) continue;
    return Status(Code::kInvalid, "this process loaded " + library.path + ", not the " + library.name +
                                      " that came with the program: its DT_RPATH names that folder, and comes first; link "
                                      "the program with -Wl,--enable-new-dtags, or remove that library from this node");
  }
  return {};
}

}  // namespace manta
