// Reading the small JSON files of a model folder. Every error names the file and what is wrong in it.
//
// Files are taken as hostile: at most kMaxJsonBytes, no duplicate keys in an object, and numbers checked for kind and range.
#pragma once

#include <manta/status.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace manta::models {

inline constexpr size_t kMaxJsonBytes = size_t{64} << 20;

/// 'text', as errors show names.
inline std::string in_quotes(std::string_view text) { return std::string(1, '\'').append(text).append("'"); }

/// The whole file. kNotFound when there is none, kInvalid over `max_bytes`, kIo when it cannot be read.
Result<std::string> read_file(const std::filesystem::path& path, size_t max_bytes = kMaxJsonBytes);

/// `text` as JSON. `source` is what errors call it.
Result<nlohmann::json> parse_json(std::string_view text, const std::string& source);

/// A JSON object of one file, read key by key with checks.
class JsonObject {
 public:
  /// kInvalid when the file's top level is no object.
  static Result<JsonObject> read(const std::filesystem::path& path);
  static Result<JsonObject> make(nlohmann::json value, std::string source);

  [[nodiscard]] bool has(const char* key) const;  ///< There, and not null.
  [[nodiscard]] const nlohmann::json& json() const { return value_; }
  [[nodiscard]] const std::string& source() const { return source_; }

  /// The value, or an error: missing, of another kind, or out of [low, high].
  [[nodiscard]] Result<int64_t> integer(const char* key, int64_t low, int64_t high) const;
  [[nodiscard]] Result<double> number(const char* key, double low, double high) const;
  [[nodiscard]] Result<std::string> string(const char* key) const;
  [[nodiscard]] Result<bool> boolean(const char* key) const;
  [[nodiscard]] Result<JsonObject> object(const char* key) const;
  /// The same with a value for "missing or null"; of another kind is an error still.
  [[nodiscard]] Result<int64_t> integer_or(const char* key, int64_t low, int64_t high, int64_t fallback) const;
  [[nodiscard]] Result<double> number_or(const char* key, double low, double high, double fallback) const;
  [[nodiscard]] Result<std::string> string_or(const char* key, std::string fallback) const;
  [[nodiscard]] Result<bool> boolean_or(const char* key, bool fallback) const;

  /// kInvalid: "<source>: <what>".
  [[nodiscard]] Status error(const std::string& what) const;

 private:
  JsonObject(nlohmann::json value, std::string source) : value_(std::move(value)), source_(std::move(source)) {}
  [[nodiscard]] Result<const nlohmann::json*> find(const char* key) const;

  nlohmann::json value_;
  std::string source_;
};

}  // namespace manta::models
