#include <glob.h>

#include <algorithm>
#include <filesystem>

#include "common/check.h"
#include "data/parquet_source.h"

namespace manta::data {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with(".") || name.starts_with("_");
}

/// The *.parquet of a folder and of the folders in it. Names that begin with "." or "_" are not data.
Status add_folder(const std::string& folder, std::vector<std::string>& out) {
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error);
  for (const fs::recursive_directory_iterator end; !error && it != end; it.increment(error)) {
    if (is_hidden(it->path())) {
      if (it->is_directory()) it.disable_recursion_pending();
    } else if (it->path().extension() == ".parquet" && !it->is_directory()) {
      out.push_back(it->path().string());
    }
  }
  if (error) return Status(Code::kIo, "cannot list the folder '" + folder + "': " + error.message());
  return {};
}

Status add_matches(const std::string& pattern, std::vector<std::string>& out) {
  glob_t found{};
  const int code = ::glob(pattern.c_str(), GLOB_BRACE, nullptr, &found);
  std::vector<std::string> paths;
  for (size_t i = 0; code == 0 && i < found.gl_pathc; ++i) paths.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
  if (code != 0 && code != GLOB_NOMATCH) return Status(Code::kIo, "cannot look for files that match '" + pattern + "'");
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) {
      MANTA_RETURN_IF_ERROR(add_folder(path, out));
    } else {
      out.push_back(path);
    }
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> find_files(const std::vector<std::string>& paths) {
  if (paths.empty()) return Status(Code::kInvalid, "read_parquet was given no path");
  std::vector<std::string> out;
  for (const std::string& path : paths) {
    std::vector<std::string> here;
    std::error_code ignored;
    const bool is_pattern = path.find_first_of("*?[{") != std::string::npos && !fs::exists(path, ignored);
    if (is_pattern) {
      MANTA_RETURN_IF_ERROR(add_matches(path, here));
      if (here.empty()) return Status(Code::kNotFound, "no file matches '" + path + "'");
    } else if (fs::is_directory(path, ignored)) {
      MANTA_RETURN_IF_ERROR(add_folder(path, here));
      if (here.empty()) return Status(Code::kNotFound, "the folder '" + path + "' has no *.parquet in it");
    } else if (fs::exists(path, ignored)) {
      here.push_back(path);
    } else {
      return Status(Code::kNotFound, "there is no file or folder '" + path + "'");
    }
    std::sort(here.begin(), here.end());
    for (std::string& file : here) {
      if (std::find(out.begin(), out.end(), file) == out.end()) out.push_back(std::move(file));
    }
  }
  return out;
}

}  // namespace manta::data
