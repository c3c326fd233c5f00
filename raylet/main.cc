// mantad: the daemon of a node. In a local session, which is all it knows so far, it is raylet and head in one, started by
// the driver with a connected socket and gone when the driver is gone.
#include "common/check.h"
#include "common/log.h"
#include "head/head_server.h"   // tidy: allow(layer) because a program joins the peers that otherwise meet through wire
#include "head/sqlite_store.h"  // tidy: allow(layer) because a program joins the peers that otherwise meet through wire
#include "raylet/flags.h"
#include "raylet/node_server.h"

#include <unistd.h>

#include <cstdio>

namespace {

manta::Status serve(int argc, char** argv) {
  MANTA_ASSIGN_OR_RETURN(manta::raylet::NodeOptions options, manta::raylet::parse_flags(argc, argv));
  MANTA_ASSIGN_OR_RETURN(const manta::log::Settings log, manta::log::settings_from_environment());
  options.log_dir = log.folder;
  manta::log::init_at_first_line(
      {.path = (log.folder.empty() ? options.session_dir : log.folder) + "/mantad-" + std::to_string(getpid()) + ".log",
       .level = log.level});
  setpgid(0, 0);  // the terminal's Ctrl-C is for the driver
  const std::string database = options.session_dir + "/head.db";
  auto head = manta::head::HeadServer::local([database] { return manta::head::SqliteStore::open(database, false); });
  MANTA_ASSIGN_OR_RETURN(auto server, manta::raylet::NodeServer::start(std::move(options), std::move(head)));
  server->run();
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (manta::Status status = serve(argc, argv); !status.ok()) {
    std::fprintf(stderr, "mantad: %s\n", status.message().c_str());
    return 1;
  }
  return 0;
}
