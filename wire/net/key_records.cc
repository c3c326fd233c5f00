#include "wire/net/key_records.h"

#include "common/check.h"
#include "common/fd.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace manta::wire {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxRecords = 100'000;
constexpr size_t kMaxRecordBytes = 4096;
constexpr size_t kMaxNameBytes = 256;

Status os_error(const std::string& what) { return Status(Code::kIo, what + ": " + std::strerror(errno)); }

Result<KeyRecord> read_record(const fs::path& file) {
  std::ifstream in(file);
  std::string text(kMaxRecordBytes, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  Result<KeyRecord> record = parse_record(text);
  return record.ok() ? std::move(record) : Status(Code::kInvalid, file.string() + " is no key record");
}

}  // namespace

Result<LinkRole> role_of(const std::string& name) {
  for (const LinkRole role : {LinkRole::kNode, LinkRole::kDriver, LinkRole::kViewer})
    if (role_name(role) == name) return role;
  return Status(Code::kNotFound, "no role is called '" + name + "'; there are node, driver and viewer");
}

Result<KeyRecord> parse_record(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  const Status malformed(Code::kInvalid, "this is no key record");
  if (!json.is_object()) return malformed;
  try {
    KeyRecord record;
    MANTA_ASSIGN_OR_RETURN(record.role, role_of(json.at("role").get<std::string>()));
    record.public_key = json.at("public_key").get<std::string>();
    record.name = json.value("name", "");
    record.expires_s = json.value("expires_s", int64_t{0});
    return is_key(record.public_key) ? Result<KeyRecord>(std::move(record)) : malformed;
  } catch (const nlohmann::json::exception&) {
    return malformed;
  }
}

std::string record_text(const KeyRecord& record) {
  const nlohmann::json json{{"role", role_name(record.role)},
                            {"public_key", record.public_key},
                            {"name", record.name.substr(0, kMaxNameBytes)},
                            {"expires_s", record.expires_s}};
  // A name that is no UTF-8 came over the network like any other.
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string key_id(const std::string& public_key) {
  static constexpr char kHex[] = "0123456789abcdef";
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_Digest(public_key.data(), public_key.size(), bytes, &length, EVP_sha256(), nullptr);
  std::string id;
  for (int i = 0; i < 8; ++i) {
    id += kHex[bytes[i] >> 4];
    id += kHex[bytes[i] & 15];
  }
  return id;
}

Status write_record(const fs::path& folder, const KeyRecord& record) {
  std::error_code error;
  fs::create_directories(folder, error);
  ::chmod(folder.c_str(), 0700);
  const std::string text = record_text(record);
  const fs::path path = folder / key_id(record.public_key);
  const fs::path part = folder / (".part-" + std::to_string(::getpid()));
  const Fd file(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return os_error("writing " + part.string());
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(file.get()) != 0)
    return os_error("writing " + part.string());
  if (::rename(part.c_str(), path.c_str()) != 0) return os_error("renaming to " + path.string());
  const Fd directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return directory && ::fsync(directory.get()) == 0 ? Status() : os_error("fsync of " + folder.string());
}

Status remove_record(const fs::path& folder, const std::string& id) {
  const bool is_id = id.size() == 16 && id.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (is_id && ::unlink((folder / id).c_str()) == 0) return {};
  return is_id && errno != ENOENT ? os_error("removing " + (folder / id).string())
                                  : Status(Code::kNotFound, "there is no '" + id + "' in " + folder.string());
}

Result<KeyRecords> read_records(const fs::path& folder, const std::function<void(const Status&)>& skipped) {
  KeyRecords records;
  std::error_code error;
  fs::create_directories(folder, error);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename().string().starts_with('.') || records.size() >= kMaxRecords) continue;
    Result<KeyRecord> record = read_record(entry.path());
    if (record.ok()) {
      records.insert_or_assign(record->public_key, std::move(*record));
    } else {
      skipped(record.status());
    }
  }
  if (error) return Status(Code::kIo, "reading " + folder.string() + ": " + error.message());
  return records;
}

}  // namespace manta::wire
