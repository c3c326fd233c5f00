// A node is drained: it takes nothing new, finishes what it can, and goes.
#include "cli/commands.h"

#include <chrono>
#include <cstdio>

namespace manta::cli {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kLook(1'000);
constexpr double kSlackS = 30;  // from what is cut off to the node's end

/// "120", "120s", "2m", "1h" as seconds.
double parse_duration(const std::string& text) {
  size_t end = 0;
  double value = -1;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  const std::string unit = text.substr(end);
  const double factor = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : -1;
  if (end == 0 || value < 0 || value > 1e6 || factor < 0) throw Failed("'" + text + "' is no time; write 120s, 5m or 1h");
  return value * factor;
}

/// What the head says of the drain; the same request again is the same drain.
wire::DrainProgress ask(Session& session, const wire::DrainNode& order) {
  return must(session.ask<wire::DrainProgress>(order));
}

void wait_for_end(Session& session, const wire::DrainNode& order, double deadline_s) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(deadline_s + kSlackS);
  while (Clock::now() < deadline) {
    Result<wire::DrainProgress> progress = session.next<wire::DrainProgress>(kLook);
    if (progress.status().code() == Code::kTimeout) continue;
    if (!progress.ok()) {
      progress = ask(session, order);  // the line broke, and a word may have been lost with it
      if (wire::from_wire(progress->status).code() == Code::kNotFound)
        return void(std::printf("node %u is gone\n", order.node));
      must(wire::from_wire(progress->status));
    }
    if (progress->is_gone) return void(std::printf("node %u is gone: %s\n", order.node, progress->how.c_str()));
  }
  throw Failed("node " + std::to_string(order.node) + " is still there; manta list nodes shows what it does");
}

}  // namespace

void add_drain_command(CLI::App& app, const std::shared_ptr<const Where>& where) {
  CLI::App* const command = app.add_subcommand("drain", "let a node finish what it runs, and go");
  auto order = std::make_shared<wire::DrainNode>();
  auto time = std::make_shared<std::string>("120s");
  auto waits = std::make_shared<bool>(false);
  order->reason = "manta drain";
  command->add_option("node", order->node, "its number, as manta list nodes shows it")->required();
  command->add_option("--deadline", *time, "what runs then is cut off: 120s, 5m")->capture_default_str();
  command->add_option("--reason", order->reason, "for people: why")->capture_default_str();
  command->add_flag("--wait", *waits, "until it is gone");
  command->callback([=] {
    const double deadline_s = parse_duration(*time);
    order->deadline_us = static_cast<int64_t>(deadline_s * 1e6);
    Session session(*where);
    must(wire::from_wire(ask(session, *order).status));
    std::printf("node %u takes nothing new; it goes when it is done, within %g s\n", order->node, deadline_s);
    std::fflush(stdout);
    if (*waits) wait_for_end(session, *order, deadline_s);
  });
}

}  // namespace manta::cli
