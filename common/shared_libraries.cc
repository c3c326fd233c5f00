#include "common/shared_libraries.h"

#include "common/check.h"
#include "common/fd.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <sstream>

extern char** environ;

namespace manta {
namespace {

namespace fs = std::filesystem;

constexpr auto kPatience = std::chrono::seconds(30);
constexpr const char* kTrace = "LD_TRACE_LOADED_OBJECTS=1";  // say what you load, instead of running it
constexpr size_t kMaxSaidBytes = size_t{64} << 20;
constexpr std::string_view kSystemFolders[] = {"/lib/", "/lib32/", "/lib64/", "/usr/lib/", "/usr/lib32/", "/usr/lib64/"};
// They fit the machine's kernel, its loader and each other, and nothing else.
constexpr std::string_view kSystemNames[] = {"ld-linux",     "ld-musl",     "ld64.so",    "libc.so.",       "libm.so.",
                                             "libmvec.so.",  "libdl.so.",   "librt.so.",  "libpthread.so.", "libresolv.so.",
                                             "libutil.so.",  "libnsl.so.",  "libanl.so.", "libnss_",        "libstdc++.so.",
                                             "libgcc_s.so.", "linux-vdso.", "linux-gate."};

std::string name_of(const std::string& path) { return fs::path(path).filename(); }

/// The program's loader; empty for one that needs none. kInvalid: no program at all.
Result<std::string> loader_of(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ElfW(Ehdr) header{};
  const auto read = [&](void* out, size_t size, uint64_t at) {
    return ::pread(file.get(), out, size, static_cast<off_t>(at)) == static_cast<ssize_t>(size);
  };
  if (!file) return Status(Code::kInvalid, "cannot read " + path + ": " + std::strerror(errno));
  if (!read(&header, sizeof header, 0) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_phentsize != sizeof(ElfW(Phdr)))
    return Status(Code::kInvalid, path + " is not a program or shared library of this machine");
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    ElfW(Phdr) part{};
    if (!read(&part, sizeof part, header.e_phoff + uint64_t{i} * sizeof part)) break;
    if (part.p_type != PT_INTERP) continue;
    std::string loader(std::min<uint64_t>(part.p_filesz, 4096), '\0');
    if (!read(loader.data(), loader.size(), part.p_offset)) break;
    loader.resize(std::strlen(loader.c_str()));
    return loader;
  }
  return std::string();
}

/// What a program prints on one of its streams.
Result<std::string> output_of(std::vector<std::string> words, std::vector<std::string> env, int stream) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Status(Code::kIo, std::string("pipe: ") + std::strerror(errno));
  const Fd read(ends[0]);
  Fd write(ends[1]);
  for (char** entry = environ; *entry != nullptr; ++entry) env.emplace_back(*entry);
  const auto pointers = [](std::vector<std::string>& texts) {
    std::vector<char*> out;
    for (std::string& text : texts) out.push_back(text.data());
    out.push_back(nullptr);
    return out;
  };
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int number : {0, 1, 2}) posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_RDWR, 0);
  posix_spawn_file_actions_adddup2(&actions, write.get(), stream);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, words[0].c_str(), &actions, nullptr, pointers(words).data(), pointers(env).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Status(Code::kIo, "running " + words[0] + ": " + std::strerror(error));
  write.reset();
  std::string said;
  const auto until = std::chrono::steady_clock::now() + kPatience;
  bool is_over = false;
  while (!is_over && said.size() < kMaxSaidBytes) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    pollfd ready{read.get(), POLLIN, 0};
    if (left.count() <= 0 || (::poll(&ready, 1, static_cast<int>(left.count())) <= 0 && errno != EINTR)) break;
    char bytes[16384];
    const ssize_t size = ::read(read.get(), bytes, sizeof bytes);
    if (size > 0) said.append(bytes, static_cast<size_t>(size));
    is_over = size == 0;
  }
  if (!is_over) ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!is_over) return Status(Code::kTimeout, "the loader does not say what libraries are needed: " + words.back());
  return said;
}

/// "; needed by ./program", from the loader's own account of what it opens for whom.
std::string who_needs(const std::string& name, const std::vector<std::string>& words) {
  const Result<std::string> said = output_of(words, {kTrace, "LD_DEBUG=files"}, STDERR_FILENO);
  const std::string mark = "file=" + name + " [";
  const size_t at = said.ok() ? said->find(mark) : std::string::npos;
  if (at == std::string::npos) return "";
  const std::string line = said->substr(at, said->find('\n', at) - at);
  const size_t needed = line.find("needed by ");
  if (needed == std::string::npos) return "";
  return ", needed by " + line.substr(needed + 10, line.rfind(" [") - needed - 10);
}

}  // namespace

bool is_system_library(const std::string& path) {
  const std::string name = name_of(path);
  if (std::ranges::any_of(kSystemNames, [&](std::string_view start) { return name.starts_with(start); })) return true;
  std::error_code error;
  const std::string real = fs::weakly_canonical(path, error).string();
  return std::ranges::any_of(kSystemFolders,
                             [&](std::string_view folder) { return real.starts_with(folder) || path.starts_with(folder); });
}

std::vector<SharedLibrary> loaded_libraries() {
  std::vector<std::string> paths;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        if (info->dlpi_name != nullptr && *info->dlpi_name == '/')
          static_cast<std::vector<std::string>*>(out)->emplace_back(info->dlpi_name);
        return 0;
      },
      &paths);
  std::vector<SharedLibrary> libraries;
  for (const std::string& path : paths)
    if (!is_system_library(path)) libraries.push_back({name_of(path), path});
  return libraries;
}

Result<std::vector<SharedLibrary>> needed_libraries(const std::string& path) {
  MANTA_ASSIGN_OR_RETURN(std::string loader, loader_of(path));
  if (loader.empty() && name_of(path).find(".so") == std::string::npos) return std::vector<SharedLibrary>();
  if (loader.empty()) {
    MANTA_ASSIGN_OR_RETURN(loader, loader_of("/proc/self/exe"));
  }
  // Another would run the program.
  if (!name_of(loader).starts_with("ld-linux") && !name_of(loader).starts_with("ld64"))
    return Status(Code::kInvalid, "the loader of " + path + ", " + loader + ", is not that of the GNU C library");
  // As the kernel would name it: what is searched beside the program is beside the file that a link leads to.
  std::error_code error;
  const std::vector<std::string> words{loader, fs::canonical(path, error)};
  MANTA_ASSIGN_OR_RETURN(const std::string said, output_of(words, {kTrace}, STDOUT_FILENO));
  std::vector<SharedLibrary> libraries;
  std::string missing;
  std::istringstream lines(said);
  // "libfoo.so.1 => /opt/foo/libfoo.so.1 (0x...)", "libbar.so => not found", "/opt/named/by/path.so (0x...)"
  for (std::string line; std::getline(lines, line);) {
    const size_t start = line.find_first_not_of(" \t");
    if (start == std::string::npos) continue;
    const size_t arrow = line.find(" => ");
    const std::string name = line.substr(start, std::min(arrow, line.rfind(" (")) - start);
    if (arrow == std::string::npos) {
      if (name.starts_with('/') && !is_system_library(name))
        return Status(Code::kInvalid, path + " names the library " + name +
                                          " by its path, so that no other can take its place: link it with -l, or give it "
                                          "a soname");
      continue;
    }
    const std::string found = line.substr(arrow + 4, line.rfind(" (") - arrow - 4);
    if (found.starts_with("not found")) {
      missing += (missing.empty() ? "" : "; ") + name + who_needs(name, words);
    } else if (!is_system_library(found)) {
      libraries.push_back({name_of(name), found});
    }
  }
  if (missing.empty()) return libraries;
  return Status(Code::kNotFound, "the loader finds no " + missing + ": set LD_LIBRARY_PATH to where it is, as for running " +
                                     name_of(path) + " here");
}

Result<std::vector<SharedLibrary>> with_needed(std::vector<SharedLibrary> libraries, const std::vector<std::string>& also) {
  for (const std::string& path : also) {
    MANTA_ASSIGN_OR_RETURN(const std::vector<SharedLibrary> needed, needed_libraries(path));
    libraries.push_back({name_of(path), path});
    libraries.insert(libraries.end(), needed.begin(), needed.end());
  }
  std::vector<SharedLibrary> unique;
  for (SharedLibrary& library : libraries) {
    const auto known = std::ranges::find(unique, library.name, &SharedLibrary::name);
    std::error_code error;
    if (known == unique.end()) {
      unique.push_back(std::move(library));
    } else if (!fs::equivalent(known->path, library.path, error)) {
      return Status(Code::kInvalid, "two libraries are named " + library.name + ": " + known->path + " and " + library.path);
    }
  }
  return unique;
}

}  // namespace manta
