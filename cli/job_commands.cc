// Submitted jobs: what runs, what it printed, its end.
#include "cli/commands.h"
#include "cli/output.h"
#include "common/shared_libraries.h"
#include "wire/job_messages.h"
#include "wire/net/sha256.h"
#include "wire/quota.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>

namespace manta::cli {
namespace {

constexpr int64_t kPollUs = 2'000'000;  // below what Session gives one line

struct Settings {
  wire::SubmitJob spec;
  std::vector<std::string> env;
  std::string deadline;
  std::string quota;
  bool package = false;
  std::vector<std::string> libraries;
  bool wait = false;
  uint64_t job = 0;
  uint64_t offset = 0;
  bool follow = false;
  CLI::App* command = nullptr;
};

const char* state_name(uint8_t state) {
  constexpr const char* kNames[] = {"submitted", "pending", "running", "succeeded", "failed", "stopped"};
  return state < std::size(kNames) ? kNames[state] : "unknown";
}

/// "90", "90s", "30m", "2h".
int64_t parse_duration_us(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  const double seconds = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86400 : 0;
  if (error != std::errc() || seconds == 0 || !(value > 0 && value < 1e9))
    throw Failed("--deadline: '" + text + "' is not a time such as 90s, 30m or 2h");
  return static_cast<int64_t>(value * seconds * 1e6);
}

std::string random_key() {
  std::random_device device;
  char text[40];
  std::snprintf(text, sizeof text, "auto-%08x%08x%08x", device(), device(), device());
  return text;
}

/// Tries until there is an answer: what is asked for goes on without us.
template <typename Answer, typename Request>
Answer ask_patiently(Session& session, const Request& request) {
  for (bool is_first = true;; is_first = false) {
    Result<Answer> answer = session.ask<Answer>(request);
    if (answer.ok()) return std::move(*answer);
    if (answer.status().code() != Code::kUnavailable && answer.status().code() != Code::kTimeout)
      throw Failed(answer.status().message());
    if (is_first)
      std::fprintf(stderr, "manta: the head does not answer (%s); trying on\n", answer.status().message().c_str());
  }
}

// ---------------------------------------------------------------------------------------------------- submit

Fd open_program(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0)
    throw Failed("cannot read the program " + path + ": " + std::strerror(errno));
  if (!S_ISREG(info.st_mode) || (info.st_mode & 0111) == 0)
    throw Failed(path + " is not a program: name the file to run, with its path");
  return file;
}

void read_command_line(Settings& settings, std::string& path) {
  std::vector<std::string> words = settings.command->remaining();
  if (!words.empty() && words[0] == "--") words.erase(words.begin());
  if (words.empty()) throw Failed("name the program to run: manta submit [OPTIONS] ./program ARGUMENTS...");
  if (words[0].starts_with("-"))
    throw Failed("submit has no option " + words[0] +
                 ": see manta submit --help; --address and the other options of every " +
                 "command come before it, as in manta --address tcp://HEAD:PORT submit ./program");
  path = words[0];
  settings.spec.arguments.assign(words.begin() + 1, words.end());
  for (const std::string& entry : settings.env) {
    const size_t equals = entry.find('=');
    if (equals == 0 || equals == std::string::npos) throw Failed("--env: '" + entry + "' is not NAME=VALUE");
    settings.spec.env[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  if (!settings.quota.empty()) {
    (void)must(wire::parse_quota(settings.quota));
    settings.spec.env["MANTA_QUOTA"] = settings.quota;
  }
  if (!settings.deadline.empty()) settings.spec.deadline_us = parse_duration_us(settings.deadline);
  if (settings.spec.key.empty()) settings.spec.key = random_key();
  settings.spec.program_name = std::filesystem::path(path).filename();
}

wire::JobInfo must_info(const wire::JobAnswer& answer) {
  must(wire::from_wire(answer.status));
  return answer.info;
}

/// A file that goes to the head: the program, or a library of it.
struct Part {
  std::string path;
  Fd file;
  wire::Digest digest;
};

Part measure(const std::string& path, Fd file) {
  wire::Digest digest = must(wire::digest(file));
  return {path, std::move(file), std::move(digest)};
}

void upload(Session& session, const Part& part) {
  for (uint64_t offset = 0; offset < part.digest.size_bytes;) {
    std::string bytes(std::min<uint64_t>(wire::kJobChunkBytes, part.digest.size_bytes - offset), '\0');
    const ssize_t size = ::pread(part.file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (size <= 0) throw Failed(part.path + " changed while it was read");
    bytes.resize(static_cast<size_t>(size));
    const auto received = must(session.ask<wire::ProgramReceived>(
        wire::UploadProgram{.hash = part.digest.hash, .offset = offset, .bytes = std::move(bytes)}));
    const Status status = wire::from_wire(received.status);
    if (status.code() == Code::kNotFound) return;  // the job is over already
    must(status);
    offset = received.next_offset;
  }
}

/// What goes along with the program.
std::vector<SharedLibrary> libraries_of(const Settings& settings, const std::string& path) {
  if (!settings.package && settings.libraries.empty()) return {};
  return must(with_needed(must(needed_libraries(path)), settings.libraries));
}

[[noreturn]] void follow(Session& session, uint64_t job, uint64_t offset);

void submit(Session& session, Settings& settings) {
  std::string path;
  read_command_line(settings, path);
  std::vector<Part> parts;
  parts.push_back(measure(path, open_program(path)));
  settings.spec.program_hash = parts[0].digest.hash;
  settings.spec.program_bytes = parts[0].digest.size_bytes;
  for (const SharedLibrary& library : libraries_of(settings, path)) {
    Fd file(::open(library.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) throw Failed("cannot read the library " + library.path + ": " + std::strerror(errno));
    const Part& part = parts.emplace_back(measure(library.path, std::move(file)));
    settings.spec.libraries.push_back({library.name, part.digest.hash, part.digest.size_bytes});
  }
  const wire::JobInfo job = must_info(must(session.ask<wire::JobAnswer>(settings.spec)));
  for (const std::string& wanted : job.wanted)
    for (const Part& part : parts)
      if (part.digest.hash == wanted) {
        upload(session, part);
        break;
      }
  std::fprintf(settings.wait ? stderr : stdout, settings.wait ? "manta: job %" PRIu64 "\n" : "%" PRIu64 "\n", job.job);
  std::fflush(nullptr);
  if (settings.wait) follow(session, job.job, 0);
}

// ---------------------------------------------------------------------------------------------------- logs

/// Where the log goes on: says what is missing, and where another attempt begins.
class LogWriter {
 public:
  explicit LogWriter(uint64_t offset) : next_(offset) {}
  void write(const wire::JobLogChunk& chunk) {
    if (!chunk.bytes.empty() && attempt_ != 0 && chunk.attempt != attempt_)
      note("attempt " + std::to_string(chunk.attempt) + " begins here");
    if (!chunk.bytes.empty() && chunk.offset > next_)
      note(std::to_string(chunk.offset - next_) + " bytes are not there any more: the log was too long");
    if (!chunk.bytes.empty()) attempt_ = chunk.attempt;
    next_ = std::max(next_, chunk.offset) + chunk.bytes.size();
    if (std::fwrite(chunk.bytes.data(), 1, chunk.bytes.size(), stdout) != chunk.bytes.size() || std::fflush(stdout) != 0)
      throw Failed("the log cannot be written: " + std::string(std::strerror(errno)) + "; go on with --offset " +
                   std::to_string(chunk.offset));
  }
  [[nodiscard]] uint64_t next() const { return next_; }

 private:
  static void note(const std::string& text) {
    std::fflush(stdout);
    std::fprintf(stderr, "manta: %s\n", text.c_str());
  }
  uint64_t next_;
  uint32_t attempt_ = 0;
};

[[noreturn]] void follow(Session& session, uint64_t job, uint64_t offset) {
  LogWriter writer(offset);
  while (true) {
    const auto chunk =
        ask_patiently<wire::JobLogChunk>(session, wire::ReadJobLog{.job = job, .offset = writer.next(), .wait_us = kPollUs});
    must(wire::from_wire(chunk.status));
    writer.write(chunk);
    if (chunk.is_over) break;
  }
  const wire::JobInfo info = must_info(ask_patiently<wire::JobAnswer>(session, wire::FindJob{.job = job}));
  if (info.exit_code != 0)
    std::fprintf(stderr, "manta: job %" PRIu64 " %s: %s\n", job, state_name(info.state), info.cause.message.c_str());
  throw CLI::RuntimeError(info.exit_code);
}

void logs(Session& session, Settings& settings) {
  if (settings.follow) follow(session, settings.job, settings.offset);
  LogWriter writer(settings.offset);
  while (true) {
    const auto chunk = must(session.ask<wire::JobLogChunk>(wire::ReadJobLog{.job = settings.job, .offset = writer.next()}));
    must(wire::from_wire(chunk.status));
    writer.write(chunk);
    if (chunk.bytes.empty() || chunk.is_over) return;
  }
}

}  // namespace

void stop_job(const Where& where, uint64_t job) {
  Session session(where);
  const wire::JobInfo info = must_info(must(session.ask<wire::JobAnswer>(wire::StopJob{.job = job})));
  const bool is_over = wire::is_over(static_cast<wire::JobState>(info.state));
  std::printf("job %" PRIu64 " %s %s\n", info.job, is_over ? "is" : "will be stopped; it is", state_name(info.state));
}

void add_job_commands(CLI::App& app, const std::shared_ptr<const Where>& where) {
  auto settings = std::make_shared<Settings>();
  const auto add = [&](const char* name, const char* help, void (*run)(Session&, Settings&)) {
    CLI::App* const command = app.add_subcommand(name, help);
    command->callback([=] {
      Session session(*where);
      settings->command = command;
      run(session, *settings);
    });
    return command;
  };
  CLI::App* const to_submit =
      add("submit", "run a program on the cluster, under the head's care; prints the job's number", submit);
  to_submit->prefix_command();
  to_submit->fallthrough(false);
  to_submit->footer("Then the program and its arguments: manta submit [OPTIONS] ./program ARGUMENTS...");
  to_submit->add_option("--name", settings->spec.name, "for people; else the program's");
  to_submit->add_option("--env", settings->env, "NAME=VALUE, set for the program; may be given again")
      ->allow_extra_args(false);
  to_submit->add_option("--retries", settings->spec.retries, "run it again so often, when it is killed or its node is lost");
  to_submit->add_flag("--retry-exits", settings->spec.retry_exits, "and when it ends with another exit code than 0");
  to_submit->add_option("--deadline", settings->deadline, "stop it after this time, such as 90s, 30m or 2h");
  to_submit->add_option("--quota", settings->quota,
                        "the most that the job may hold at a time, such as cpus=8,gpus=2,memory=4000000000 (bytes)");
  to_submit->add_option("--key", settings->spec.key, "submitted again with the same key it is the same job");
  to_submit->add_flag("--package", settings->package,
                      "the shared libraries that it needs and that are not the system's go along");
  to_submit->add_option("--library", settings->libraries, "and this file, with what it needs; may be given again")
      ->allow_extra_args(false);
  to_submit->add_flag("--wait", settings->wait, "write its log here and end with its exit code");
  CLI::App* const to_read = add("logs", "what a job's program printed", logs);
  to_read->add_option("job", settings->job, "its number")->required();
  to_read->add_flag("-f,--follow", settings->follow, "go on until the job is over, and end with its exit code");
  to_read->add_option("--offset", settings->offset, "from this byte on");
}

}  // namespace manta::cli
