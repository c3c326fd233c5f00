#include "torch/json_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "common/check.h"

namespace manta::models {
namespace {

Status io_error(const std::filesystem::path& path, const char* what) {
  const int code = errno;
  return {code == ENOENT || code == ENOTDIR ? Code::kNotFound : Code::kIo,
          path.string() + ": " + what + ": " + std::strerror(code)};
}

// Where a key stands twice, readers differ in which one they believe: such a file is refused.
class DuplicateFinder {
 public:
  bool operator()(int /*depth*/, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start) open_.emplace_back();
    if (event == Event::object_end && !open_.empty()) open_.pop_back();
    if (event == Event::key && !open_.empty() && !open_.back().insert(value.get<std::string>()).second && !duplicate_)
      duplicate_ = value.get<std::string>();
    return true;
  }
  [[nodiscard]] const std::optional<std::string>& duplicate() const { return duplicate_; }

 private:
  std::vector<std::set<std::string>> open_;
  std::optional<std::string> duplicate_;
};

}  // namespace

Result<std::string> read_file(const std::filesystem::path& path, size_t max_bytes) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return io_error(path, "cannot be opened");
  struct Closer {
    int file;
    ~Closer() { ::close(file); }
  } closer{file};
  struct stat about {};
  if (::fstat(file, &about) != 0) return io_error(path, "cannot be read");
  if (!S_ISREG(about.st_mode)) return Status(Code::kInvalid, path.string() + ": is no regular file");
  if (static_cast<size_t>(about.st_size) > max_bytes)
    return Status(Code::kInvalid, path.string() + ": is " + std::to_string(about.st_size) + " bytes long, more than the " +
                                      std::to_string(max_bytes) + " such a file may have");
  std::string text(static_cast<size_t>(about.st_size), '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = ::read(file, text.data() + have, text.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(path, "cannot be read");
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  text.resize(have);
  return text;
}

Result<nlohmann::json> parse_json(std::string_view text, const std::string& source) {
  DuplicateFinder finder;
  nlohmann::json value = nlohmann::json::parse(text.begin(), text.end(), std::ref(finder), /*allow_exceptions=*/false);
  if (value.is_discarded()) return Status(Code::kInvalid, source + ": is not valid JSON");
  if (finder.duplicate()) return Status(Code::kInvalid, source + ": the key '" + *finder.duplicate() + "' stands twice");
  return value;
}

Result<JsonObject> JsonObject::read(const std::filesystem::path& path) {
  MANTA_ASSIGN_OR_RETURN(const std::string text, read_file(path));
  MANTA_ASSIGN_OR_RETURN(nlohmann::json value, parse_json(text, path.string()));
  return make(std::move(value), path.string());
}

Result<JsonObject> JsonObject::make(nlohmann::json value, std::string source) {
  if (!value.is_object()) return Status(Code::kInvalid, source + ": is no JSON object");
  return JsonObject(std::move(value), std::move(source));
}

Status JsonObject::error(const std::string& what) const { return {Code::kInvalid, source_ + ": " + what}; }

bool JsonObject::has(const char* key) const {
  const auto found = value_.find(key);
  return found != value_.end() && !found->is_null();
}

Result<const nlohmann::json*> JsonObject::find(const char* key) const {
  if (!has(key)) return error(in_quotes(key) + " is missing");
  return &*value_.find(key);
}

Result<int64_t> JsonObject::integer(const char* key, int64_t low, int64_t high) const {
  MANTA_ASSIGN_OR_RETURN(const nlohmann::json* found, find(key));
  const bool too_large = found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (!found->is_number_integer() || too_large) return error(in_quotes(key) + " is no integer in range");
  const auto value = found->get<int64_t>();
  if (value < low || value > high)
    return error(in_quotes(key) + " is " + std::to_string(value) + ", not between " + std::to_string(low) + " and " +
                 std::to_string(high));
  return value;
}

Result<double> JsonObject::number(const char* key, double low, double high) const {
  MANTA_ASSIGN_OR_RETURN(const nlohmann::json* found, find(key));
  if (!found->is_number()) return error(in_quotes(key) + " is no number");
  const auto value = found->get<double>();
  if (!std::isfinite(value) || value < low || value > high) return error(in_quotes(key) + " is out of range");
  return value;
}

Result<std::string> JsonObject::string(const char* key) const {
  MANTA_ASSIGN_OR_RETURN(const nlohmann::json* found, find(key));
  if (!found->is_string()) return error(in_quotes(key) + " is no string");
  return found->get<std::string>();
}

Result<bool> JsonObject::boolean(const char* key) const {
  MANTA_ASSIGN_OR_RETURN(const nlohmann::json* found, find(key));
  if (!found->is_boolean()) return error(in_quotes(key) + " is neither true nor false");
  return found->get<bool>();
}

Result<JsonObject> JsonObject::object(const char* key) const {
  MANTA_ASSIGN_OR_RETURN(const nlohmann::json* found, find(key));
  if (!found->is_object()) return error(in_quotes(key) + " is no object");
  return JsonObject(*found, source_ + ": " + key);
}

Result<int64_t> JsonObject::integer_or(const char* key, int64_t low, int64_t high, int64_t fallback) const {
  return has(key) ? integer(key, low, high) : Result<int64_t>(fallback);
}
Result<double> JsonObject::number_or(const char* key, double low, double high, double fallback) const {
  return has(key) ? number(key, low, high) : Result<double>(fallback);
}
Result<std::string> JsonObject::string_or(const char* key, std::string fallback) const {
  return has(key) ? string(key) : Result<std::string>(std::move(fallback));
}
Result<bool> JsonObject::boolean_or(const char* key, bool fallback) const {
  return has(key) ? boolean(key) : Result<bool>(fallback);
}

}  // namespace manta::models
