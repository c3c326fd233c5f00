#include "actors/local_node.h"

#include "common/check.h"
#include "wire/connection.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <vector>

extern char** environ;

namespace manta {
namespace {

namespace fs = std::filesystem;

const char* setting(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

Result<std::string> find_mantad(const char* hint) {
  std::vector<std::string> tried;
  const auto is_program = [&](const std::string& path) {
    tried.push_back(path);
    return ::access(path.c_str(), X_OK) == 0;
  };
  if (const char* named = setting("MANTA_MANTAD"); named != nullptr && is_program(named)) return std::string(named);
  const fs::path here = fs::path(program_path()).parent_path();
  for (const fs::path& path : {here / "mantad", here / "../bin/mantad"}) {
    if (is_program(path.string())) return path.string();
  }
  if (hint != nullptr && is_program(hint)) return std::string(hint);
  if (const char* search = std::getenv("PATH"); search != nullptr) {
    std::string_view rest = search;
    while (!rest.empty()) {
      const size_t end = rest.find(':');
      const std::string path = std::string(rest.substr(0, end)) + "/mantad";
      if (::access(path.c_str(), X_OK) == 0) return path;
      rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    }
  }
  std::string list;
  for (const std::string& path : tried) list += (list.empty() ? "" : ", ") + path;
  return Status(Code::kNotFound, "the program mantad, which runs the local node, was not found (tried " + list +
                                     ", and PATH); install Manta or set MANTA_MANTAD to its path");
}

Result<std::string> make_session_dir() {
  std::string base;
  if (const char* given = setting("MANTA_SESSION_DIR")) {
    base = given;
  } else {
    const char* const tmp = setting("TMPDIR");
    base = std::string(tmp != nullptr ? tmp : "/tmp") + "/manta-" + std::to_string(::getuid());
  }
  std::error_code error;
  fs::create_directories(base, error);
  struct stat info {};
  if (error || ::stat(base.c_str(), &info) != 0) {
    return Status(Code::kIo,
                  "cannot make the session folder " + base + ": " + (error ? error.message() : std::strerror(errno)));
  }
  if (info.st_uid != ::getuid())
    return Status(Code::kIo, "the session folder " + base + " belongs to another user; set MANTA_SESSION_DIR");
  ::chmod(base.c_str(), 0711);  // nobody lists it; a job's user passes through to a node's session
  std::string path = base + "/session-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr)
    return Status(Code::kIo, "cannot make a session folder in " + base + ": " + std::strerror(errno));
  return path;
}

/// This process's, but that libraries which came with the program are not mantad's.
std::vector<std::string> environment_of_mantad() {
  constexpr std::string_view kSearch = "LD_LIBRARY_PATH=";
  const char* const came = setting("MANTA_LIBRARIES");
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string text = *entry;
    if (came != nullptr && text.starts_with(kSearch) && text.compare(kSearch.size(), std::strlen(came), came) == 0) {
      text.erase(kSearch.size(), std::strlen(came));
      if (text.size() > kSearch.size() && text[kSearch.size()] == ':') text.erase(kSearch.size(), 1);
      if (text.size() == kSearch.size()) continue;
    }
    environment.push_back(std::move(text));
  }
  return environment;
}

}  // namespace

std::string program_path() {
  std::error_code error;
  const fs::path path = fs::read_symlink("/proc/self/exe", error);
  return error ? std::string() : path.string();
}

std::string build_id() {
  std::string id;
  // The first object is the program itself.
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_NOTE) continue;
          const char* at = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
          const char* const end = at + header.p_memsz;
          while (at + sizeof(ElfW(Nhdr)) <= end) {
            const auto* const note = reinterpret_cast<const ElfW(Nhdr)*>(at);
            const char* const name = at + sizeof(*note);
            const char* const bytes = name + ((note->n_namesz + 3) & ~3u);
            if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0) {
              static constexpr char kHex[] = "0123456789abcdef";
              for (unsigned k = 0; k < note->n_descsz; ++k) {
                *static_cast<std::string*>(out) += kHex[(static_cast<unsigned char>(bytes[k])) >> 4];
                *static_cast<std::string*>(out) += kHex[bytes[k] & 15];
              }
            }
            at = bytes + ((note->n_descsz + 3) & ~3u);
          }
        }
        return 1;
      },
      &id);
  if (!id.empty()) return id;
  struct stat info {};
  if (::stat("/proc/self/exe", &info) != 0) return "unknown";
  return std::to_string(info.st_size) + "-" + std::to_string(info.st_mtim.tv_sec) + "-" +
         std::to_string(info.st_mtim.tv_nsec);
}

Result<LocalNode> start_local_node(const char* daemon_hint) {
  MANTA_ASSIGN_OR_RETURN(const std::string mantad, find_mantad(daemon_hint));
  MANTA_ASSIGN_OR_RETURN(auto pair, wire::Connection::make_pair());
  LocalNode node;
  MANTA_ASSIGN_OR_RETURN(node.session_dir, make_session_dir());
  constexpr int kDriverFd = 3;
  std::vector<std::string> words = {mantad, "--driver-fd", std::to_string(kDriverFd), "--session-dir", node.session_dir};
  const std::pair<const char*, const char*> flags[] = {{"MANTA_CPUS", "--cpus"},
                                                       {"MANTA_GPUS", "--gpus"},
                                                       {"MANTA_MEMORY_BYTES", "--memory"},
                                                       {"MANTA_STORE_BYTES", "--store-bytes"},
                                                       {"MANTA_STORE_WARM_BYTES", "--store-warm-bytes"},
                                                       {"MANTA_SPILL_DIR", "--spill-dir"},
                                                       {"MANTA_SPILL_BYTES", "--spill-bytes"},
                                                       {"MANTA_RESOURCES", "--resources"},
                                                       {"MANTA_QUOTA", "--job-quota"}};
  // With an address it joins that cluster, and its driver's work runs on the other nodes.
  if (const char* const address = setting("MANTA_ADDRESS")) {
    words.insert(words.end(), {"--address", address});
    const std::pair<const char*, const char*> of_cluster[] = {{"MANTA_LISTEN", "--listen"},
                                                              {"MANTA_ADVERTISE", "--advertise"},
                                                              {"MANTA_KEYS", "--keys"},
                                                              {"MANTA_LABELS", "--labels"},
                                                              {"MANTA_JOIN_TOKEN", "--join-token"}};
    for (const auto& [name, flag] : of_cluster)
      if (const char* value = setting(name)) words.insert(words.end(), {flag, value});
  } else {
    words.emplace_back("--local");
  }
  for (const auto& [name, flag] : flags) {
    if (const char* value = setting(name)) words.insert(words.end(), {flag, value});
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  std::vector<std::string> environment = environment_of_mantad();
  std::vector<char*> envp;
  for (std::string& entry : environment) envp.push_back(entry.data());
  envp.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, pair.second.get(), kDriverFd);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // A process group of its own: the terminal's Ctrl-C is for the driver.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  const int error = ::posix_spawn(&node.mantad_pid, mantad.c_str(), &actions, &attributes, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return Status(Code::kIo, "cannot start " + mantad + ": " + std::strerror(error));
  node.socket = std::move(pair.first);
  return node;
}

void wait_for_end(const LocalNode& node) {
  constexpr int kPatienceMs = 5'000;
  const Fd mantad(static_cast<int>(::syscall(SYS_pidfd_open, node.mantad_pid, 0)));
  pollfd ended{mantad.get(), POLLIN, 0};
  if (!mantad || ::poll(&ended, 1, kPatienceMs) <= 0) ::kill(node.mantad_pid, SIGKILL);
  ::waitpid(node.mantad_pid, nullptr, 0);
  // mantad removes its session's folders, unless it was killed.
  std::error_code ignored;
  const fs::path session(node.session_dir);
  const fs::path spill = fs::read_symlink(session / "spill", ignored);
  if (!ignored && spill.filename() == "manta-" + session.filename().string()) fs::remove_all(spill, ignored);
  fs::remove_all(session, ignored);
}

}  // namespace manta
