#include "cli/find.h"

#include "common/check.h"
#include "wire/net/own_keys.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

namespace manta::cli {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using Line = std::unique_ptr<wire::VisitorLine>;

constexpr milliseconds kLocalPatience(2'000);
constexpr int kAgainMs = 250;

std::string user_name() {
  const char* const user = std::getenv("USER");
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  return std::string(user != nullptr ? user : std::to_string(::getuid())) + " on " + host;
}

// ---------------------------------------------------------------------------------------------------- at an address

Status enroll_once(const std::string& address, const wire::LinkKeys& own, const wire::JoinToken& token,
                   milliseconds patience) {
  MANTA_ASSIGN_OR_RETURN(const Line line, wire::visit_head({address, token.head_public_key, token.keys}));
  MANTA_RETURN_IF_ERROR(line->send(wire::Enroll{own.public_key, user_name()}));
  MANTA_ASSIGN_OR_RETURN(const wire::Frame frame, line->receive_one(patience));
  if (frame.type != wire::Type::kEnrolled) return Status(Code::kInvalid, "the head did not understand the token");
  MANTA_ASSIGN_OR_RETURN(const wire::Enrolled answer, wire::decode<wire::Enrolled>(frame.body));
  return wire::from_wire(answer.status);
}

/// Brings this user's key in by the token. A token that was made just now may not be known to a busy head yet, and one that
/// was used may have brought in this very key: the answer to an earlier try was lost, or another process was first.
Status enroll(const std::string& address, const wire::LinkKeys& own, const wire::JoinToken& token, milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (true) {
    Status status = enroll_once(address, own, token, patience);
    if (status.ok()) return status;
    MANTA_ASSIGN_OR_RETURN(const Line line, wire::visit_head({address, token.head_public_key, own}));
    if (greet(*line, patience).ok()) return {};
    if (status.code() != Code::kInvalid || std::chrono::steady_clock::now() >= deadline) return status;
    ::poll(nullptr, 0, kAgainMs);
  }
}

/// The head may have one of two keys: the line of the one that it answers by.
Result<Line> open_known(const Where& where, const wire::LinkKeys& own, const std::vector<wire::LinkPeer>& heads,
                        milliseconds patience) {
  Result<Line> line = Status(Code::kInternal, "no head is known");
  for (const wire::LinkPeer& head : heads) {
    line = wire::visit_head({where.address, head.public_key, own});
    if (heads.size() == 1 || !line.ok()) return line;
    const Status status = greet(**line, patience / static_cast<int>(heads.size()));
    if (status.ok()) {
      MANTA_RETURN_IF_ERROR(wire::remember_head(where.keys, head.public_key));
      return wire::visit_head({where.address, head.public_key, own});
    }
    line = status;
  }
  return line;
}

Result<Line> open_remote(const Where& where, milliseconds patience) {
  if (where.keys.empty()) return wire::visit_head({where.address, {}, {}});
  MANTA_ASSIGN_OR_RETURN(const wire::LinkKeys own, wire::own_keys(where.keys, true));
  const Result<std::vector<wire::LinkPeer>> known = wire::find_head(where.address, where.keys, "");
  const Result<wire::JoinToken> token =
      where.join_token.empty() ? Status(Code::kNotFound, "no token") : wire::load_token(where.join_token);
  const auto is_known = [&](const std::string& key) {
    return std::ranges::any_of(*known, [&](const wire::LinkPeer& head) { return head.public_key == key; });
  };
  if (known.ok() && (!token.ok() || is_known(token->head_public_key))) return open_known(where, own, *known, patience);
  if (where.join_token.empty()) return known.status();
  MANTA_RETURN_IF_ERROR(token.status());
  MANTA_RETURN_IF_ERROR(enroll(where.address, own, *token, patience));
  MANTA_RETURN_IF_ERROR(wire::remember_head(where.keys, token->head_public_key));
  return wire::visit_head({where.address, token->head_public_key, own});
}

// ---------------------------------------------------------------------------------------------------- on this machine

Result<Line> open_session(const std::string& folder) { return wire::visit_local(folder + "/mantad.sock"); }

/// Its cluster's name; empty: a program's own session.
Result<std::string> cluster_of(const std::string& folder) {
  MANTA_ASSIGN_OR_RETURN(const Line line, open_session(folder));
  MANTA_RETURN_IF_ERROR(greet(*line, kLocalPatience));
  MANTA_RETURN_IF_ERROR(line->send(wire::GetClusterStatus{1}));
  MANTA_ASSIGN_OR_RETURN(const wire::Frame frame, line->receive_one(kLocalPatience));
  if (frame.type != wire::Type::kClusterStatus) return Status(Code::kInvalid, "mantad answers something else");
  MANTA_ASSIGN_OR_RETURN(const wire::ClusterStatus status, wire::decode<wire::ClusterStatus>(frame.body));
  return status.cluster;
}

/// One is enough, and so are several of one cluster.
Result<std::string> choose_session() {
  const std::vector<std::string> all = local_sessions();
  if (all.size() == 1) return all.front();
  std::map<std::string, std::string> of_cluster;
  std::vector<std::string> alone;
  for (const std::string& folder : all) {
    const Result<std::string> cluster = cluster_of(folder);
    if (!cluster.ok()) continue;
    cluster->empty() ? alone.push_back(folder) : void(of_cluster[*cluster] = folder);
  }
  if (of_cluster.size() == 1) return of_cluster.begin()->second;
  if (of_cluster.empty() && alone.size() == 1) return alone.front();
  std::string list;
  for (const std::string& folder : all) list += (list.empty() ? "" : ", ") + folder;
  if (all.empty())
    return Status(Code::kNotFound, "no mantad of this user runs on this machine (looked in " + sessions_folder() +
                                       "); start one with: manta start --head, or name a cluster with --address "
                                       "tcp://HEAD:PORT or MANTA_ADDRESS");
  return Status(Code::kInvalid, "several run on this machine; name one with --session: " + list);
}

}  // namespace

std::string sessions_folder() {
  if (const char* given = std::getenv("MANTA_SESSION_DIR"); given != nullptr && *given != '\0') return given;
  const char* const tmp = std::getenv("TMPDIR");
  return std::string(tmp != nullptr && *tmp != '\0' ? tmp : "/tmp") + "/manta-" + std::to_string(::getuid());
}

std::vector<std::string> local_sessions() {
  std::vector<std::string> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(sessions_folder(), error))
    if (open_session(entry.path().string()).ok()) found.push_back(entry.path().string());
  return found;
}

Result<Line> open_line(const Where& where, milliseconds patience) {
  if (!where.session.empty()) return open_session(where.session);
  if (!where.address.empty()) return open_remote(where, patience);
  MANTA_ASSIGN_OR_RETURN(const std::string folder, choose_session());
  return open_session(folder);
}

Status greet(wire::VisitorLine& line, milliseconds patience) {
  wire::Hello hello;
  hello.build_id = "manta " MANTA_VERSION;
  hello.pid = ::getpid();
  hello.role = static_cast<uint8_t>(wire::Role::kObserver);
  MANTA_RETURN_IF_ERROR(line.send(hello));
  MANTA_ASSIGN_OR_RETURN(const wire::Frame frame, line.receive_one(patience));
  if (frame.type == wire::Type::kWelcome) return {};
  if (frame.type != wire::Type::kRefused) return Status(Code::kInvalid, "mantad did not answer the greeting");
  MANTA_ASSIGN_OR_RETURN(const wire::Refused refused, wire::decode<wire::Refused>(frame.body));
  return wire::from_wire(refused.status);
}

}  // namespace manta::cli
