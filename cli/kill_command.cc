// The end of an actor by somebody who has no handle to it, such as of a detached one whose job is over.
#include "cli/commands.h"
#include "wire/list_page.h"

#include <poll.h>

#include <charconv>
#include <chrono>
#include <cstdio>

namespace manta::cli {
namespace {

constexpr int kLookMs = 50;

/// "0123456789abcdef-7": as lists show it.
wire::ActorKey parse_actor(const std::string& text) {
  wire::ActorKey key;
  const size_t dash = text.find('-');
  const char* const end = text.data() + text.size();
  const bool is_one = dash != std::string::npos &&
                      std::from_chars(text.data(), text.data() + dash, key.owner, 16).ptr == text.data() + dash &&
                      std::from_chars(text.data() + dash + 1, end, key.sequence).ptr == end && key.sequence != 0;
  if (!is_one) throw Failed("'" + text + "' is no actor's id; manta list actors shows them");
  return key;
}

/// "alive", "dead"; empty: there is none.
std::string state_of(Session& session, const std::string& actor) {
  std::string cursor;
  do {
    wire::Listed page = must(session.ask<wire::Listed>(wire::ListRequest{
        .what = static_cast<uint8_t>(wire::ListOf::kActors), .filters = {"actor=" + actor}, .cursor = cursor}));
    if (!page.rows.empty()) return page.rows.front().at("state");
    cursor = page.cursor;
  } while (!cursor.empty());
  return "";
}

void kill(Session& session, const std::string& actor, bool may_restart, double timeout_s) {
  const wire::KillActor order{
      .actor = parse_actor(actor), .no_restart = !may_restart, .reason = "somebody asked, with manta kill"};
  must(session.tell(order));
  // Whoever may not say this hears so now.
  std::string state = state_of(session, actor);
  if (state.empty()) throw Failed("there is no actor " + actor);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout_s);
  for (; !may_restart && !state.empty() && state != "dead"; state = state_of(session, actor)) {
    if (std::chrono::steady_clock::now() > deadline) throw Failed(actor + " is still " + state);
    ::poll(nullptr, 0, kLookMs);
  }
  std::printf("killed %s%s\n", actor.c_str(), may_restart ? "; it restarts if it has restarts left" : "");
}

}  // namespace

void add_kill_command(CLI::App& app, const std::shared_ptr<const Where>& where) {
  CLI::App* const command = app.add_subcommand("kill", "end an actor, such as a detached one");
  auto actor = std::make_shared<std::string>();
  auto may_restart = std::make_shared<bool>(false);
  command->add_option("actor", *actor, "its id, as manta list actors shows it")->required();
  command->add_flag("--restart", *may_restart, "let it restart, if it has restarts left");
  command->callback([=] {
    Session session(*where);
    kill(session, *actor, *may_restart, where->timeout_s);
  });
}

}  // namespace manta::cli
