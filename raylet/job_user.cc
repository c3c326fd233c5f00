#include "raylet/job_user.h"

#include "common/check.h"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace manta::raylet {
namespace {

Status os_error(const std::string& what) { return Status(Code::kIo, what + ": " + std::strerror(errno)); }

/// Numbers between the given marks; empty when there is anything else.
std::vector<uint32_t> numbers_in(const std::string& word) {
  std::vector<uint32_t> numbers;
  const char* at = word.data();
  const char* const end = at + word.size();
  while (at < end) {
    uint32_t number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc() || (next < end && *next != ':' && *next != ',')) return {};
    numbers.push_back(number);
    at = next + 1;
  }
  return numbers;
}

}  // namespace

Result<JobUser> find_job_user(const std::string& name) {
  if (::geteuid() != 0)
    return Status(Code::kInvalid, "--job-user: only a mantad that runs as root can run jobs as another user");
  const passwd* const entry = ::getpwnam(name.c_str());
  if (entry == nullptr) return Status(Code::kInvalid, "--job-user: there is no user '" + name + "'");
  if (entry->pw_uid == 0) return Status(Code::kInvalid, "--job-user: '" + name + "' is root, from whom nothing is kept");
  JobUser user{.name = name, .uid = entry->pw_uid, .gid = entry->pw_gid, .groups = {}, .home = entry->pw_dir};
  int count = 0;
  ::getgrouplist(name.c_str(), user.gid, nullptr, &count);
  user.groups.resize(static_cast<size_t>(count));
  if (::getgrouplist(name.c_str(), user.gid, user.groups.data(), &count) < 0)
    return Status(Code::kIo, "--job-user: the groups of '" + name + "' cannot be found");
  user.groups.resize(static_cast<size_t>(count));
  return user;
}

Status check_may_run(const JobUser& user, const std::string& program) {
  const std::string word = to_word(user);
  const pid_t child = ::fork();
  if (child < 0) return os_error("fork");
  if (child == 0) ::_exit(!become_job_user(word).ok() ? EPERM : ::access(program.c_str(), X_OK) == 0 ? 0 : errno);
  int ended = 0;
  while (::waitpid(child, &ended, 0) < 0)
    if (errno != EINTR) return os_error("waiting for a process of " + user.name);
  if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0) return {};
  const std::string why = WIFEXITED(ended) ? std::strerror(WEXITSTATUS(ended)) : "the attempt was killed";
  return Status(Code::kInvalid, "--job-user: '" + user.name + "' may not run " + program + " (" + why +
                                    "), as its jobs must; put it where that user can, as in /usr/local/bin");
}

std::string to_word(const JobUser& user) {
  std::string word = std::to_string(user.uid);
  word.append(1, ':').append(std::to_string(user.gid));
  for (const gid_t group : user.groups) word.append(1, ',').append(std::to_string(group));
  return word;
}

Status become_job_user(const std::string& word) {
  const std::vector<uint32_t> numbers = numbers_in(word);
  if (numbers.size() < 2 || numbers[0] == 0) return Status(Code::kInvalid, "no user: " + word);
  const std::vector<gid_t> groups(numbers.begin() + 2, numbers.end());
  ::umask(022);
  if (::setgroups(groups.size(), groups.data()) != 0) return os_error("setgroups");
  if (::setresgid(numbers[1], numbers[1], numbers[1]) != 0) return os_error("setresgid");
  if (::setresuid(numbers[0], numbers[0], numbers[0]) != 0) return os_error("setresuid");
  MANTA_CHECK(::setuid(0) != 0, "the way back to root is open");
  return {};
}

Status close_session(const std::string& session_dir) {
  ::umask(077);
  if (::mkdir(session_dir.c_str(), 0700) != 0 && errno != EEXIST) return os_error("making " + session_dir);
  return open_way(session_dir);
}

Status open_way(const std::string& folder) {
  return ::chmod(folder.c_str(), 0711) == 0 ? Status() : os_error("opening a way through " + folder);
}

Status give(const std::string& path, const JobUser& user) {
  return ::lchown(path.c_str(), user.uid, user.gid) == 0 ? Status() : os_error("giving " + path + " to " + user.name);
}

Status make_user_folder(const std::string& path, const JobUser& user) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return os_error("making " + path);
  return give(path, user);
}

void set_user(std::map<std::string, std::string>& env, const JobUser& user) {
  env["HOME"] = user.home;
  env["USER"] = env["LOGNAME"] = user.name;
  // Empty is as good as not there.
  for (const char* name : {"MANTA_LOG_DIR", "MANTA_SESSION_DIR", "MANTA_SPILL_DIR", "TMPDIR"}) env.try_emplace(name, "");
}

}  // namespace manta::raylet
