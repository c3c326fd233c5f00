// manta: the command line of a cluster.
#include "cli/commands.h"

#include <cstdio>

int main(int argc, char** argv) {
  CLI::App app("manta: the command line of a Manta cluster");
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", MANTA_VERSION);
  const auto where = std::make_shared<manta::cli::Where>();
  app.add_option("--address", where->address, "the head: tcp://HOST:PORT; without, the mantad of this user here")
      ->envname("MANTA_ADDRESS");
  app.add_option("--keys", where->keys, "the folder with your keys, for a cluster that has keys")->envname("MANTA_KEYS");
  app.add_option("--join-token", where->join_token, "the file with your token, for the first time")
      ->envname("MANTA_JOIN_TOKEN");
  app.add_option("--session", where->session, "the session folder of a mantad of this machine");
  app.add_option("--timeout", where->timeout_s, "seconds to wait for an answer")->capture_default_str();
  manta::cli::add_key_commands(app, where);
  manta::cli::add_look_commands(app, where);
  manta::cli::add_explain_command(app, where);
  manta::cli::add_drain_command(app, where);
  manta::cli::add_kill_command(app, where);
  manta::cli::add_job_commands(app, where);
  manta::cli::add_start_commands(app, where);
  manta::cli::add_completion_command(app);
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
