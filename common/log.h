// Structured logging: one line an event, with a component, a message and key=value fields, into a file of this process.
//
//   MANTA_LOG(kInfo, "raylet", "worker started", {"pid", pid}, {"lease", lease});
//   2026-11-21T10:02:11.123456Z I 4711 raylet: worker started pid=4712 lease=7
//
// Until `init` (and when it fails) lines of kWarn and above go to stderr, from then on none. Each line is handed to the
// operating system at once, so that a process that dies leaves its last words.
// Thread safety: everything. Cost: a level that is off costs one relaxed load; its fields are not evaluated. A line costs a
// few microseconds: for events that people look for, never for each call.
#pragma once

#include <manta/status.h>

#include <atomic>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace manta::log {

enum class Level : int { kTrace = 0, kDebug = 1, kInfo = 2, kWarn = 3, kError = 4, kOff = 5 };

struct Options {
  std::string path;  ///< The file; its folder exists. Rotated to path.1, path.2, ...
  Level level = Level::kInfo;
  uint64_t max_file_bytes = uint64_t{16} << 20;
  uint32_t max_files = 3;
};

/// What the environment asks for: MANTA_LOG_LEVEL (kInfo when unset) and MANTA_LOG_DIR.
struct Settings {
  Level level = Level::kInfo;
  std::string folder;  ///< Absolute; empty when unset: then logs lie in the session's folder and go with it.
};
/// Makes the folder. kInvalid for a level of no name, kIo when the folder cannot be made.
[[nodiscard]] Result<Settings> settings_from_environment();

/// kIo when the file cannot be written. Calling it again moves the log to another file.
Status init(const Options& options);
/// The same, but the first line opens the file: a process that has nothing to say pays nothing. Lines that cannot be
/// written, then or later, are dropped: a log never stops the work.
void init_at_first_line(Options options);
/// Nothing is written any more.
void stop();
void set_level(Level level);
/// "trace" ... "off"; kInvalid for other words.
[[nodiscard]] Result<Level> parse_level(std::string_view name);

struct Field {
  std::string_view key;
  std::string value;

  Field(std::string_view name, std::string_view text) : key(name), value(text) {}
  Field(std::string_view name, const char* text) : key(name), value(text) {}
  Field(std::string_view name, const std::string& text) : key(name), value(text) {}
  Field(std::string_view name, bool yes) : key(name), value(yes ? "true" : "false") {}
  template <typename T>
  requires std::integral<T> || std::floating_point<T> Field(std::string_view name, T number)
      : key(name), value(std::to_string(number)) {}
  template <typename T>
  requires requires(const T& thing) {
    { thing.to_string() } -> std::convertible_to<std::string>;
  }
  Field(std::string_view name, const T& thing) : key(name), value(thing.to_string()) {}
};

namespace detail {
extern std::atomic<int> threshold;
}

[[nodiscard]] inline bool enabled(Level level) {
  return static_cast<int>(level) >= detail::threshold.load(std::memory_order_relaxed);
}
void write(Level level, std::string_view component, std::string_view message, std::initializer_list<Field> fields = {});

}  // namespace manta::log

#define MANTA_LOG(level, component, message, ...)                                         \
  do {                                                                                    \
    if (::manta::log::enabled(::manta::log::Level::level))                                \
      ::manta::log::write(::manta::log::Level::level, component, message, {__VA_ARGS__}); \
  } while (false)
