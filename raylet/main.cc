// mantad: the daemon of a node. Started by a driver for a session of one node it is raylet and head in one, and gone when
// the driver is gone; in a cluster it is the first node, with the head, or one that joins it.
#include "common/check.h"
#include "common/log.h"
#include "head/head_server.h"   // tidy: allow(layer) because a program joins the peers that otherwise meet through wire
#include "head/sqlite_store.h"  // tidy: allow(layer) because a program joins the peers that otherwise meet through wire
#include "object_store/transfer/stream.h"
#include "raylet/flags.h"
#include "raylet/join.h"
#include "raylet/node_server.h"
#include "wire/net/own_keys.h"

#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

namespace manta::raylet {
namespace {

constexpr auto kJoinTimeout = std::chrono::seconds(30);

Status run_local(NodeOptions options) {
  const std::string database = options.session_dir + "/head.db";
  auto head = head::HeadServer::local([database] { return head::SqliteStore::open(database, false); });
  MANTA_ASSIGN_OR_RETURN(auto server, NodeServer::start(std::move(options), std::move(head)));
  server->run();
  return {};
}

wire::NodeInfo describe_self(const NodeOptions& options, const ClusterFlags& flags, const wire::NodeLink& link) {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  wire::NodeInfo info;
  info.name = std::string(host) + " (mantad " + std::to_string(::getpid()) + ")";
  info.endpoint = link.endpoint();
  info.labels = flags.labels;
  info.capacity = ResourcePool(options.capacity).left();
  info.is_driver = options.driver_fd >= 0;
  return info;
}

Status run_head(NodeOptions options, const ClusterFlags& flags, ClusterParts parts) {
  std::error_code error;
  const std::string folder = flags.state_dir.empty() ? options.session_dir : flags.state_dir;
  std::filesystem::create_directories(folder, error);
  if (options.job_user && !flags.state_dir.empty()) ::chmod(folder.c_str(), 0700);
  MANTA_ASSIGN_OR_RETURN(auto store, head::SqliteStore::open(folder + "/head.db", true));
  MANTA_ASSIGN_OR_RETURN(auto head, head::HeadServer::lasting(std::move(store), {.job_quota = options.job_quota}));
  MANTA_RETURN_IF_ERROR(head->keep_files(folder));
  options.number = parts.self.number = wire::kHeadNode;
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  options.ids_from = parts.self.ids_from =
      wire::first_id_of_life(std::chrono::duration_cast<std::chrono::milliseconds>(since_1970).count());
  parts.link->set_number(wire::kHeadNode);
  if (!flags.keys_dir.empty()) {
    MANTA_ASSIGN_OR_RETURN(parts.gatekeeper, Gatekeeper::open(flags.keys_dir, *parts.link));
  }
  MANTA_ASSIGN_OR_RETURN(auto server, NodeServer::start(std::move(options), std::move(head), std::move(parts)));
  std::printf("mantad: the head listens on %s\n", server->endpoint().c_str());
  std::fflush(stdout);
  server->run();
  return {};
}

Status run_member(NodeOptions options, const ClusterFlags& flags, ClusterParts parts) {
  MANTA_ASSIGN_OR_RETURN(const std::vector<wire::LinkPeer> heads,
                         wire::find_head(flags.address, flags.keys_dir, flags.join_token));
  MANTA_ASSIGN_OR_RETURN(JoinedCluster joined, join_cluster(*parts.link, heads, parts.self, kJoinTimeout));
  MANTA_RETURN_IF_ERROR(settle_with_head(*parts.link, joined.head, flags.keys_dir));
  options.number = parts.self.number = joined.answer.number;
  options.job_quota = wire::tighter(options.job_quota, joined.answer.job_quota);
  parts.members = std::move(joined.answer.members);
  parts.early = std::move(joined.early);
  auto head = std::make_unique<RemoteHead>(*parts.link);
  const bool has_driver = options.driver_fd >= 0;
  MANTA_ASSIGN_OR_RETURN(auto server, NodeServer::start(std::move(options), std::move(head), std::move(parts)));
  if (!has_driver) std::printf("mantad: joined %s as node %u\n", flags.address.c_str(), server->number());
  std::fflush(stdout);
  server->run();
  return server->how_it_ended();
}

JobRunnerSettings describe_jobs(const NodeOptions& options, const ClusterFlags& flags, const wire::NodeLink& link) {
  if (options.driver_fd >= 0) return {};
  std::error_code error;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe", error);
  return {.folder = std::filesystem::absolute(options.session_dir, error).string() + "/jobs",
          .mantad = program,
          .address = flags.is_head ? link.endpoint() : flags.address,
          .listen = flags.listen,
          .advertise = flags.advertise,
          .has_keys = !flags.keys_dir.empty(),
          .user = options.job_user};
}

Result<std::string> make_session_dir() {
  const auto setting = [](const char* name) -> std::string {
    const char* const value = std::getenv(name);
    return value != nullptr ? value : "";
  };
  std::string base = setting("MANTA_SESSION_DIR");
  if (base.empty()) {
    const std::string tmp = setting("TMPDIR");
    base = (tmp.empty() ? "/tmp" : tmp) + "/manta-" + std::to_string(::getuid());
  }
  std::error_code error;
  std::filesystem::create_directories(base, error);
  ::chmod(base.c_str(), 0711);  // a job's user passes through
  std::string path = base + "/node-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return Status(Code::kIo, "cannot make a folder in " + base);
  return path;
}

/// The bulk port: any, of the address that the link listens on.
Result<Fd> listen_beside(const std::string& link) {
  std::string host = link.substr(0, link.rfind(':'));
  host = host.substr(host.rfind('/') + 1);
  if (host == "*") host = "0.0.0.0";
  MANTA_ASSIGN_OR_RETURN(const object_store::Endpoint endpoint, object_store::parse_endpoint(host + ":0"));
  return object_store::Stream::listen_on(endpoint);
}

Status serve(int argc, char** argv) {
  MANTA_ASSIGN_OR_RETURN(Flags flags, parse_flags(argc, argv));
  NodeOptions& options = flags.node;
  MANTA_ASSIGN_OR_RETURN(const log::Settings log, log::settings_from_environment());
  if (options.session_dir.empty()) {
    MANTA_ASSIGN_OR_RETURN(options.session_dir, make_session_dir());
  }
  options.log_dir = log.folder;
  if (options.job_user) MANTA_RETURN_IF_ERROR(close_session(options.session_dir));
  log::init_at_first_line(
      {.path = (log.folder.empty() ? options.session_dir : log.folder) + "/mantad-" + std::to_string(getpid()) + ".log",
       .level = log.level});
  setpgid(0, 0);  // the terminal's Ctrl-C is for the driver
  if (!flags.cluster) return run_local(std::move(options));
  options.labels = flags.cluster->labels;
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);  // what others send here to be run gains nothing by a set-user-id program
  ClusterParts parts;
  if (flags.cluster->is_head) MANTA_RETURN_IF_ERROR(wire::take_next_keys(flags.cluster->keys_dir));
  MANTA_ASSIGN_OR_RETURN(const wire::LinkKeys keys, wire::own_keys(flags.cluster->keys_dir, !flags.cluster->is_head));
  MANTA_ASSIGN_OR_RETURN(
      parts.link,
      wire::NodeLink::start({.listen = flags.cluster->listen, .advertise = flags.cluster->advertise, .keys = keys}));
  MANTA_ASSIGN_OR_RETURN(parts.bulk_listener, listen_beside(flags.cluster->listen));
  MANTA_ASSIGN_OR_RETURN(const std::string bulk, object_store::Stream::endpoint_of(parts.bulk_listener));
  parts.self = describe_self(options, *flags.cluster, *parts.link);
  parts.self.public_key = keys.public_key;
  parts.jobs = describe_jobs(options, *flags.cluster, *parts.link);
  if (keys.are_given()) {
    MANTA_ASSIGN_OR_RETURN(parts.identity, object_store::Identity::load_or_make(flags.cluster->keys_dir + "/bulk.pem"));
    parts.self.certificate = parts.identity.fingerprint;
  }
  const std::string reached = parts.self.endpoint.substr(parts.self.endpoint.rfind('/') + 1);
  parts.self.bulk_endpoint = reached.substr(0, reached.rfind(':')) + bulk.substr(bulk.rfind(':'));
  if (flags.cluster->is_head) return run_head(std::move(options), *flags.cluster, std::move(parts));
  return run_member(std::move(options), *flags.cluster, std::move(parts));
}

}  // namespace
}  // namespace manta::raylet

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == manta::raylet::kLaunchFlag) return manta::raylet::launch_driver(argc, argv);
  if (manta::Status status = manta::raylet::serve(argc, argv); !status.ok()) {
    std::fprintf(stderr, "mantad: %s\n", status.message().c_str());
    return 1;
  }
  return 0;
}
