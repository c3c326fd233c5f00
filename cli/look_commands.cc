// What there is: status, and lists page by page.
#include "cli/commands.h"
#include "cli/output.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>

namespace manta::cli {
namespace {

using wire::ListOf;
using wire::Row;

struct Settings {
  std::string what;
  std::vector<std::string> filters;
  uint64_t limit = 0;
  std::string cursor;
  std::string output = "text";
  [[nodiscard]] bool as_json() const { return output == "json"; }
};

struct List {
  const char* name;
  ListOf what;
  std::vector<std::string> columns;
};
const std::vector<List>& lists() {
  static const std::vector<List> all{
      {"nodes", ListOf::kNodes, {"node", "state", "cpus", "cpus_free", "devices", "waiting", "driver", "draining", "name"}},
      {"workers", ListOf::kWorkers, {"node", "pid", "state", "seconds", "job", "worker", "actor"}},
      {"actors", ListOf::kActors, {"actor", "class", "name", "state", "node", "pid", "restarts", "cause"}},
      {"tasks", ListOf::kTasks, {"node", "state", "pid", "seconds", "resources", "job", "owner", "why"}},
      {"objects", ListOf::kObjects, {"node", "object", "size_bytes", "state", "owner"}},
      {"jobs", ListOf::kJobs, {"job", "state", "name", "node", "attempt", "exit_code", "quota", "quota_held", "cause"}},
      {"placement-groups",
       ListOf::kPlacementGroups,
       {"group", "state", "strategy", "bundles", "nodes", "name", "job", "why"}},
  };
  return all;
}
const List& list_of(const std::string& name) {
  for (const List& list : lists())
    if (list.name == name) return list;
  throw Failed("there is no list of " + name);
}

/// Calls `take(rows)` for each page, until `limit` rows (0: all) were taken. Returns the cursor behind them.
template <typename Take>
std::string for_pages(Session& session, const List& list, const Settings& settings, Take take) {
  std::string cursor = settings.cursor;
  uint64_t left = settings.limit == 0 ? std::numeric_limits<uint64_t>::max() : settings.limit;
  do {
    const auto limit = static_cast<uint32_t>(std::min<uint64_t>(left, wire::ListPage::kMaxRows));
    const wire::Listed page = must(session.ask<wire::Listed>(wire::ListRequest{
        .what = static_cast<uint8_t>(list.what), .filters = settings.filters, .cursor = cursor, .limit = limit}));
    must(wire::from_wire(page.status));
    if (!page.note.empty()) std::fprintf(stderr, "manta: %s\n", page.note.c_str());
    take(page.rows);
    left -= std::min<uint64_t>(left, page.rows.size());
    cursor = page.cursor;
  } while (!cursor.empty() && left > 0);
  return cursor;
}

void print_list(Session& session, const Settings& settings) {
  const List& list = list_of(settings.what);
  RowPrinter printer(settings.as_json(), list.columns);
  if (settings.as_json()) std::printf("{\n  \"rows\": [");
  const std::string cursor = for_pages(session, list, settings, [&](const auto& rows) { printer.print(rows); });
  if (settings.as_json())
    std::printf("%s],\n  \"cursor\": %s\n}\n", printer.printed() == 0 ? "" : "\n  ", json_text(cursor).c_str());
  if (settings.as_json() || cursor.empty()) return;
  std::fflush(stdout);
  std::fprintf(stderr, "manta: there are more; go on with --cursor %s\n", cursor.c_str());
}

// ---------------------------------------------------------------------------------------------------- jobs

/// "2026-11-28 11:46", here.
std::string minute_of(const std::string& us_since_1970) {
  const std::time_t seconds = std::strtoll(us_since_1970.c_str(), nullptr, 10) / 1'000'000;
  std::tm parts{};
  char text[32] = "";
  if (seconds == 0 || ::localtime_r(&seconds, &parts) == nullptr) return "";
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
  return text;
}

/// What fits on a line: of a cause, what comes before the job's last words.
Row brief(const Row& job, const std::vector<std::string>& columns) {
  Row row;
  for (const std::string& column : columns)
    if (const auto it = job.find(column); it != job.end()) row.insert(*it);
  if (const auto at = job.find("submitted_us"); at != job.end()) row["submitted"] = minute_of(at->second);
  if (const auto ended = job.find("ended_us"); ended != job.end() && ended->second == "0") row.erase("exit_code");
  row["cause"] = row["cause"].substr(0, row["cause"].find("; its last lines"));
  return row;
}

// The drivers that ran a submitted job's attempts are part of it.
void print_jobs(Session& session, const Settings& settings) {
  const std::vector<std::string> columns{"job", "state", "name", "node", "attempt", "submitted", "exit_code", "cause"};
  RowPrinter printer(settings.as_json(), columns);
  if (settings.as_json()) std::printf("{\n  \"rows\": [");
  for_pages(session, list_of("jobs"), settings, [&](std::vector<Row> rows) {
    std::erase_if(rows, [](const Row& row) { return row.at("kind") == "attempt"; });
    if (!settings.as_json())
      for (Row& row : rows) row = brief(row, columns);
    printer.print(rows);
  });
  if (settings.as_json()) std::printf("%s]\n}\n", printer.printed() == 0 ? "" : "\n  ");
}

// ---------------------------------------------------------------------------------------------------- status

double number_in(const Row& row, const char* column) {
  const auto it = row.find(column);
  return it == row.end() ? 0 : std::strtod(it->second.c_str(), nullptr);
}

/// "3 alive, 1 suspect" of the counts "nodes.alive" and so on.
std::string counts_of(const wire::ClusterStatus& status, const std::string& what) {
  std::string text;
  for (const auto& [key, count] : status.counts) {
    if (!key.starts_with(what + ".")) continue;
    std::string state = key.substr(what.size() + 1);
    std::ranges::replace(state, '_', ' ');
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + state;
  }
  return text.empty() ? "none" : text;
}

void print_text(const wire::ClusterStatus& status, const std::vector<Row>& nodes) {
  double cpus = 0;
  double free = 0;
  double waiting = 0;
  for (const Row& node : nodes) {
    cpus += number_in(node, "cpus");
    free += number_in(node, "cpus_free");
    waiting += number_in(node, "waiting");
  }
  std::printf("cluster  %s, its head started %llu times\n", status.cluster.c_str(),
              static_cast<unsigned long long>(status.life));
  std::printf("nodes    %s\n", counts_of(status, "nodes").c_str());
  std::printf("cpus     %g of %g free\n", free, cpus);
  std::printf("waiting  %g requests in the queues of nodes\n", waiting);
  for (const char* what : {"actors", "jobs", "groups"}) std::printf("%-8s %s\n", what, counts_of(status, what).c_str());
  std::printf("\n");
  RowPrinter(false, list_of("nodes").columns).print(nodes);
}

void print_json(const wire::ClusterStatus& status, const std::vector<Row>& nodes) {
  std::printf("{\n  \"cluster\": %s,\n  \"life\": %llu,\n  \"counts\": {", json_text(status.cluster).c_str(),
              static_cast<unsigned long long>(status.life));
  const char* comma = "";
  for (const auto& [key, count] : status.counts) {
    std::printf("%s%s: %llu", comma, json_text(key).c_str(), static_cast<unsigned long long>(count));
    comma = ", ";
  }
  std::printf("},\n  \"nodes\": [");
  RowPrinter(true, {}).print(nodes);
  std::printf("]\n}\n");
}

/// The one node of a program's own session, as a row.
Row own_node(Session& session) {
  const wire::NodeState state = must(session.ask<wire::NodeState>(wire::GetNodeState{}));
  return {{"node", "1"},
          {"state", "alive"},
          {"name", "a program's own node"},
          {"cpus", wire::amount_text(state.capacity.cpus)},
          {"cpus_free", wire::amount_text(state.available.cpus)},
          {"memory_bytes", std::to_string(state.capacity.memory_bytes)},
          {"waiting", std::to_string(state.waiting_leases)}};
}

void print_status(Session& session, const Settings& settings) {
  wire::ClusterStatus status = must(session.ask<wire::ClusterStatus>(wire::GetClusterStatus{}));
  std::vector<Row> nodes;
  for_pages(session, list_of("nodes"), Settings{},
            [&](const auto& rows) { nodes.insert(nodes.end(), rows.begin(), rows.end()); });
  if (nodes.empty()) {
    nodes.push_back(own_node(session));
    status.counts["nodes.alive"] = 1;
    status.cluster = "of one program";
    status.life = 1;
  }
  settings.as_json() ? print_json(status, nodes) : print_text(status, nodes);
}

}  // namespace

void add_look_commands(CLI::App& app, const std::shared_ptr<const Where>& where) {
  auto settings = std::make_shared<Settings>();
  const auto add = [&](const char* name, const char* help, void (*run)(Session&, const Settings&)) {
    CLI::App* const command = app.add_subcommand(name, help);
    command->add_option("-o,--output", settings->output, "text or json")->check(CLI::IsMember({"text", "json"}));
    command->callback([=] {
      Session session(*where);
      run(session, *settings);
    });
    return command;
  };
  add("status", "the cluster in short: nodes, what is free, what waits", print_status);
  add("jobs", "submitted jobs, and the programs that joined by themselves", print_jobs);
  CLI::App* const list = add("list", "rows of one kind, filtered where they are", print_list);
  std::vector<std::string> names;
  for (const List& one : lists()) names.emplace_back(one.name);
  list->add_option("what", settings->what, "nodes, workers, actors, tasks, objects, jobs or placement-groups")
      ->required()
      ->check(CLI::IsMember(names));
  list->add_option("--filter", settings->filters, "KEY=VALUE, a column and what it must be; all that are given must hold");
  list->add_option("--limit", settings->limit, "at most so many rows; 0 is all")->capture_default_str();
  list->add_option("--cursor", settings->cursor, "go on behind what an earlier call printed");
}

}  // namespace manta::cli
