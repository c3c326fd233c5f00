// manta: the command line of a cluster.
#include "cli/commands.h"

#include <cstdio>

int main(int argc, char** argv) {
  CLI::App app("manta: the command line of a Manta cluster");
  app.require_subcommand(1);
  app.set_version_flag("--version", MANTA_VERSION);
  manta::cli::add_key_commands(app);
  try {
    app.parse(argc, argv);
  } catch (const manta::cli::Failed& failed) {
    std::fprintf(stderr, "manta: %s\n", failed.why().c_str());
    return 1;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return 0;
}
