#include "raylet/job_runner.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
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

int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::real().now().time_since_epoch()).count();
}

std::string name_of(const JobAttempt& attempt) {
  return std::to_string(attempt.job) + "." + std::to_string(attempt.attempt);
}

uint64_t size_of(const Fd& file) {
  struct stat info {};
  return ::fstat(file.get(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

std::string read_at(const Fd& file, uint64_t offset, size_t bytes) {
  std::string text(bytes, '\0');
  size_t have = 0;
  while (have < bytes) {
    const ssize_t size = ::pread(file.get(), text.data() + have, bytes - have, static_cast<off_t>(offset + have));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    have += static_cast<size_t>(size);
  }
  text.resize(have);
  return text;
}

/// The last lines, joined by " | ".
std::string last_words(const Fd& log) {
  constexpr size_t kBytes = 2'000;
  constexpr size_t kLines = 10;
  const uint64_t size = size_of(log);
  std::string text = read_at(log, size - std::min<uint64_t>(size, kBytes), kBytes);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  size_t from = text.size();
  for (size_t lines = 0; lines < kLines && from != std::string::npos && from != 0; ++lines)
    from = text.rfind('\n', from - 1);
  if (from != std::string::npos && from < text.size()) text.erase(0, text[from] == '\n' ? from + 1 : from);
  for (size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at)) text.replace(at, 1, " | ");
  return text;
}

bool has_part(const wire::SubmitJob& spec, const std::string& hash) {
  return spec.program_hash == hash ||
         std::ranges::any_of(spec.libraries, [&](const auto& library) { return library.hash == hash; });
}

/// The same host, any port.
std::string beside(const std::string& endpoint) { return endpoint.substr(0, endpoint.rfind(':')) + ":*"; }

}  // namespace

JobRunner::JobRunner(JobRunnerSettings settings, EventLoop& loop, std::function<void(wire::ToHead)> tell_head)
    : settings_(std::move(settings)),
      loop_(loop),
      tell_head_(std::move(tell_head)),
      programs_(
          settings_.folder + "/programs",
          [this](wire::NodeNumber, const wire::GetProgram& ask) {
            for (const auto& [user, fetch] : fetching_) {
              if (!has_part(fetch.spec, ask.hash)) continue;
              tell_head_(wire::GetProgramPart{fetch.attempt.job, fetch.attempt.attempt, ask.hash, ask.offset});
              return;
            }
          },
          [this](uint64_t user, const Result<std::string>& path) { program_came(user, path); }) {}

JobRunner::~JobRunner() {
  for (auto& [attempt, driver] : drivers_) {
    if (driver.process.pid == 0) continue;
    loop_.remove(driver.exit);
    (void)reap(driver.process);
  }
}

bool JobRunner::on(const wire::FromHead& message, int64_t now_us) {
  if (const auto* run = std::get_if<wire::RunJob>(&message)) {
    carry_out(core_.run(*run, now_us), now_us);
  } else if (const auto* end = std::get_if<wire::EndJob>(&message)) {
    carry_out(core_.end(*end, now_us), now_us);
  } else if (const auto* noted = std::get_if<wire::JobNoted>(&message)) {
    carry_out(core_.noted(*noted, now_us), now_us);
  } else if (const auto* chunk = std::get_if<wire::ProgramChunk>(&message)) {
    programs_.on_chunk(wire::kHeadNode, *chunk);
  } else {
    return false;
  }
  return true;
}

void JobRunner::tick(int64_t now_us) {
  if (now_us >= next_look_us_) {
    next_look_us_ = now_us + kLookUs;
    for (const JobAttempt& attempt : core_.running()) look_at_log(attempt, now_us);
  }
  carry_out(core_.tick(now_us), now_us);
}

std::optional<int64_t> JobRunner::next_deadline_us() const {
  std::optional<int64_t> due_us = core_.next_deadline_us();
  if (!core_.running().empty()) due_us = std::min(due_us.value_or(next_look_us_), next_look_us_);
  return due_us;
}

void JobRunner::carry_out(JobEffects effects, int64_t now_us) {
  for (const JobEffect& effect : effects) std::visit([&](const auto& one) { carry_out(one, now_us); }, effect);
}

void JobRunner::carry_out(const wire::JobReport& effect, int64_t) { tell_head_(effect); }

// ---------------------------------------------------------------------------------------------------- programs

void JobRunner::carry_out(const FetchDriver& effect, int64_t) {
  Driver& driver = drivers_[effect.attempt];
  if (driver.program != 0) return programs_.ask_again(driver.program);
  driver.program = ++last_user_;
  fetching_.emplace(driver.program, effect);
  wire::JobSpec spec;
  spec.job = driver.program;
  spec.program_name = effect.spec.program_name;
  spec.program_hash = effect.spec.program_hash;
  spec.program_bytes = effect.spec.program_bytes;
  spec.libraries = effect.spec.libraries;
  programs_.start(spec, wire::kHeadNode);
}

void JobRunner::program_came(uint64_t user, const Result<std::string>& path) {
  const auto fetched = fetching_.extract(user);
  if (fetched) carry_out(core_.program_came(fetched.mapped().attempt, path, now_us()), now_us());
}

// ---------------------------------------------------------------------------------------------------- processes

void JobRunner::carry_out(const StartDriver& effect, int64_t now_us) {
  Driver& driver = drivers_[effect.attempt];
  const Status status = start(driver, effect);
  if (!status.ok()) return carry_out(core_.could_not_start(effect.attempt, status, now_us), now_us);
  MANTA_LOG(kInfo, "raylet", "driver started", {"job", name_of(effect.attempt)}, {"pid", driver.process.pid},
            {"program", effect.spec.program_name});
  carry_out(core_.started(effect.attempt, driver.process.pid, now_us), now_us);
}

Status JobRunner::make_folder(Driver& driver, const StartDriver& effect) const {
  driver.folder = settings_.folder + "/" + name_of(effect.attempt);
  std::error_code error;
  fs::create_directories(driver.folder + "/work", error);
  if (error) return Status(Code::kIo, "making " + driver.folder + ": " + error.message());
  driver.log = Fd(::open((driver.folder + "/log").c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!driver.log) return os_error("making " + driver.folder + "/log");
  if (settings_.user) {
    MANTA_RETURN_IF_ERROR(open_way(settings_.folder));
    MANTA_RETURN_IF_ERROR(open_way(driver.folder));
    MANTA_RETURN_IF_ERROR(make_user_folder(driver.folder + "/work", *settings_.user));
    MANTA_RETURN_IF_ERROR(make_user_folder(driver.folder + "/keys", *settings_.user));
  }
  if (effect.join_token.empty()) return {};
  const Fd token(::open((driver.folder + "/token").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  const auto size = static_cast<ssize_t>(effect.join_token.size());
  if (!token || ::write(token.get(), effect.join_token.data(), effect.join_token.size()) != size)
    return os_error("writing " + driver.folder + "/token");
  return settings_.user ? give(driver.folder + "/token", *settings_.user) : Status();
}

Spawn JobRunner::plan(const Driver& driver, const StartDriver& effect) const {
  Spawn spawn{.token = {},
              .job = {},
              .build_id = {},
              .program = effect.program,
              .arguments = effect.spec.arguments,
              .working_directory = driver.folder + "/work",
              .env = effect.spec.env};
  find_first(spawn.env, ProgramCache::library_folder(effect.program, effect.spec.libraries));
  const bool has_keys = settings_.has_keys;
  spawn.env["MANTA_ADDRESS"] = settings_.address;
  spawn.env["MANTA_LISTEN"] = beside(settings_.listen);
  spawn.env["MANTA_ADVERTISE"] = settings_.advertise;
  spawn.env["MANTA_KEYS"] = has_keys ? driver.folder + "/keys" : "";
  spawn.env["MANTA_JOIN_TOKEN"] = has_keys ? driver.folder + "/token" : "";
  spawn.env["MANTA_LABELS"] = std::string(wire::kJobLabel) + "=" + name_of(effect.attempt);
  spawn.env["MANTA_MANTAD"] = settings_.mantad;
  return spawn;
}

Status JobRunner::start(Driver& driver, const StartDriver& effect) {
  MANTA_RETURN_IF_ERROR(make_folder(driver, effect));
  MANTA_ASSIGN_OR_RETURN(driver.process, start_driver(plan(driver, effect), driver.log, settings_.user));
  const JobAttempt attempt = effect.attempt;
  Result<EventLoop::Id> exit =
      loop_.add(driver.process.pidfd.get(), EPOLLIN, [this, attempt](uint32_t) { on_exit(attempt); });
  MANTA_CHECK(exit.ok(), "epoll takes no more descriptors");
  driver.exit = *exit;
  return {};
}

void JobRunner::on_exit(const JobAttempt& attempt) {
  Driver& driver = drivers_.at(attempt);
  const ExitCause cause = reap(driver.process);
  loop_.remove(driver.exit);
  driver.process.pidfd.reset();
  MANTA_LOG(kInfo, "raylet", "driver ended", {"job", name_of(attempt)}, {"how", describe(cause)});
  const int64_t now = now_us();
  look_at_log(attempt, now);
  carry_out(core_.exited(attempt, cause, last_words(driver.log), now), now);
}

void JobRunner::carry_out(const SignalDriver& effect, int64_t) {
  Driver& driver = drivers_.at(effect.attempt);
  if (effect.is_kill) return kill_group(driver.process);
  if (driver.process.pid > 0) ::kill(-driver.process.pid, SIGTERM);
}

// ---------------------------------------------------------------------------------------------------- logs

void JobRunner::look_at_log(const JobAttempt& attempt, int64_t now_us) {
  const auto driver = drivers_.find(attempt);
  if (driver != drivers_.end()) carry_out(core_.log_grew(attempt, size_of(driver->second.log), now_us), now_us);
}

void JobRunner::carry_out(const SendLog& effect, int64_t) {
  const Fd& log = drivers_.at(effect.attempt).log;
  std::string bytes = read_at(log, effect.offset, effect.bytes);
  bytes.resize(effect.bytes, '?');  // the disk does not give back what it took
  tell_head_(wire::JobLogPart{effect.attempt.job, effect.attempt.attempt, effect.offset, std::move(bytes)});
}

void JobRunner::carry_out(const FreeLog& effect, int64_t) {
  const Fd& log = drivers_.at(effect.attempt).log;
  // A file system that cannot do it keeps the bytes until the driver is forgotten.
  (void)::fallocate(log.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(effect.up_to));
}

void JobRunner::carry_out(const ForgetDriver& effect, int64_t) {
  const auto driver = drivers_.extract(effect.attempt);
  if (!driver) return;
  programs_.release(driver.mapped().program);
  fetching_.erase(driver.mapped().program);
  std::error_code ignored;
  if (!driver.mapped().folder.empty()) fs::remove_all(driver.mapped().folder, ignored);
}

}  // namespace manta::raylet
