#include "examples/embed/program_output.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

extern char** environ;

namespace embed {
namespace {

using manta::Code;
using manta::Status;
using Clock = std::chrono::steady_clock;

/// Starts the program with standard output in `pipe_end`; the process id, or why not.
manta::Result<pid_t> start(std::vector<std::string>& words, int pipe_end) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, pipe_end, 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, words[0].c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) return Status(Code::kNotFound, "the program " + words[0] + " is not installed");
  if (error != 0) return Status(Code::kIo, "cannot start " + words[0] + ": " + std::strerror(error));
  return pid;
}

Status read_all(int fd, const std::string& name, const OutputLimits& limits, std::string& out) {
  const Clock::time_point deadline = Clock::now() + limits.timeout;
  std::array<char, 1 << 16> bytes;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0)
      return {Code::kTimeout, name + " took more than " + std::to_string(limits.timeout.count()) + " ms"};
    pollfd waiting{fd, POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) return {Code::kIo, std::strerror(errno)};
    if (waiting.revents == 0) continue;
    const ssize_t count = ::read(fd, bytes.data(), bytes.size());
    if (count == 0) return {};
    if (count < 0 && errno != EINTR) return {Code::kIo, std::strerror(errno)};
    if (count > 0) out.append(bytes.data(), static_cast<size_t>(count));
    if (out.size() > limits.max_bytes)
      return {Code::kFull, name + " prints more than " + std::to_string(limits.max_bytes) + " bytes"};
  }
}

}  // namespace

manta::Result<std::string> output_of(std::vector<std::string> words, const OutputLimits& limits) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Status(Code::kIo, std::string("cannot make a pipe: ") + std::strerror(errno));
  const manta::Result<pid_t> pid = start(words, ends[1]);
  ::close(ends[1]);
  std::string out;
  const Status read = pid.ok() ? read_all(ends[0], words[0], limits, out) : pid.status();
  ::close(ends[0]);
  if (!pid.ok()) return read;
  if (!read.ok()) ::kill(*pid, SIGKILL);
  int ended = 0;
  while (::waitpid(*pid, &ended, 0) < 0 && errno == EINTR) {
  }
  if (!read.ok()) return read;
  if (ended != 0 && out.empty()) {
    std::string line;
    for (const std::string& word : words) (line += line.empty() ? "" : " ") += word;
    return Status(Code::kTaskFailed, line + ": failed and printed nothing");
  }
  return out;
}

}  // namespace embed
