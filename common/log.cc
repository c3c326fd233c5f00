#include "common/log.h"

#include "common/check.h"

#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>

namespace manta::log {
namespace detail {
std::atomic<int> threshold{static_cast<int>(Level::kWarn)};
}

namespace {

constexpr std::array<std::string_view, 6> kNames = {"trace", "debug", "info", "warn", "error", "off"};
constexpr std::array<spdlog::level::level_enum, 6> kTheirs = {spdlog::level::trace, spdlog::level::debug,
                                                              spdlog::level::info,  spdlog::level::warn,
                                                              spdlog::level::err,   spdlog::level::off};

std::shared_ptr<spdlog::logger> logger_of(std::shared_ptr<spdlog::sinks::sink> sink) {
  auto logger = std::make_shared<spdlog::logger>("manta", std::move(sink));
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%fZ %L %P %v", spdlog::pattern_time_type::utc);
  logger->set_level(spdlog::level::trace);  // `threshold` decides
  logger->flush_on(spdlog::level::trace);
  logger->set_error_handler([](const std::string&) {});  // it would print to stderr
  return logger;
}

std::shared_ptr<spdlog::logger> file_logger(const Options& options) {
  return logger_of(
      std::make_shared<spdlog::sinks::rotating_file_sink_mt>(options.path, options.max_file_bytes, options.max_files));
}

/// Never null. The sink would make a folder that is missing; ours may be missing because the session is over.
std::shared_ptr<spdlog::logger> file_logger_or_none(const Options& options) {
  std::error_code error;
  const bool has_folder = std::filesystem::is_directory(std::filesystem::path(options.path).parent_path(), error);
  try {
    if (has_folder) return file_logger(options);
  } catch (const std::exception&) {
  }
  return logger_of(std::make_shared<spdlog::sinks::null_sink_mt>());
}

// Shared: a line being written keeps the old logger alive while `init` puts another in its place.
struct Current {
  std::mutex mutex;
  std::shared_ptr<spdlog::logger> logger;
  std::optional<Options> to_open;
};

/// Never destroyed: other static objects may log while the process ends.
Current& current() {
  static Current* const instance = new Current();
  return *instance;
}

std::shared_ptr<spdlog::logger> logger() {
  Current& now = current();
  std::lock_guard lock(now.mutex);
  if (now.to_open) now.logger = file_logger_or_none(*std::exchange(now.to_open, std::nullopt));
  if (!now.logger) now.logger = logger_of(std::make_shared<spdlog::sinks::stderr_sink_mt>());
  return now.logger;
}

bool needs_quotes(std::string_view value) {
  if (value.empty()) return true;
  for (char c : value) {
    if (static_cast<unsigned char>(c) <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f) return true;
  }
  return false;
}

/// One event is one line, whatever is in it.
void append_escaped(std::string& line, std::string_view text, bool quotes) {
  for (char c : text) {
    if (c == '\n') {
      line += "\\n";
    } else if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) {
      char hex[5];
      std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(c));
      line += hex;
    } else {
      if (quotes && (c == '"' || c == '\\')) line += '\\';
      line += c;
    }
  }
}

}  // namespace

Status init(const Options& options) {
  try {
    auto made = file_logger(options);
    std::lock_guard lock(current().mutex);
    current().logger = std::move(made);
    current().to_open.reset();
  } catch (const std::exception& error) {
    return Status(Code::kIo, "the log file " + options.path + ": " + error.what());
  }
  set_level(options.level);
  return {};
}

void init_at_first_line(Options options) {
  const Level level = options.level;
  {
    std::lock_guard lock(current().mutex);
    current().to_open = std::move(options);
  }
  set_level(level);
}

void stop() {
  set_level(Level::kOff);
  std::lock_guard lock(current().mutex);
  current().to_open.reset();
  current().logger = logger_of(std::make_shared<spdlog::sinks::null_sink_mt>());
}

Result<Settings> settings_from_environment() {
  Settings settings;
  if (const char* const level = std::getenv("MANTA_LOG_LEVEL"); level != nullptr && *level != '\0') {
    const Result<Level> parsed = parse_level(level);
    if (!parsed.ok()) return parsed.status().with_context("MANTA_LOG_LEVEL");
    settings.level = *parsed;
  }
  if (const char* const folder = std::getenv("MANTA_LOG_DIR"); folder != nullptr && *folder != '\0') {
    std::error_code error;
    settings.folder = std::filesystem::absolute(folder, error).string();
    if (!error) std::filesystem::create_directories(settings.folder, error);
    if (error) return Status(Code::kIo, "MANTA_LOG_DIR: cannot make the folder " + settings.folder + ": " + error.message());
  }
  return settings;
}

void set_level(Level level) { detail::threshold.store(static_cast<int>(level), std::memory_order_relaxed); }

Result<Level> parse_level(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<Level>(i);
  }
  return Status(Code::kInvalid, "no log level '" + std::string(name) + "': trace, debug, info, warn, error or off");
}

void write(Level level, std::string_view component, std::string_view message, std::initializer_list<Field> fields) {
  if (level >= Level::kOff) return;
  std::string line;
  line.reserve(component.size() + message.size() + 32 * fields.size() + 2);
  line.append(component).append(": ");
  append_escaped(line, message, false);
  for (const Field& field : fields) {
    line.append(" ").append(field.key).append("=");
    bool quotes = needs_quotes(field.value);
    if (quotes) line += '"';
    append_escaped(line, field.value, quotes);
    if (quotes) line += '"';
  }
  logger()->log(kTheirs[static_cast<size_t>(level)], spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace manta::log
