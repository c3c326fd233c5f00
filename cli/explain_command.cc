// Why something waits: what the head and the nodes say of it, wherever its id is found.
#include "cli/commands.h"
#include "cli/output.h"

#include <cstdio>

namespace manta::cli {
namespace {

using wire::ListOf;
using wire::Row;

struct Kind {
  ListOf list;
  const char* what;
  const char* id;   // the column with the id
  const char* why;  // the column that says why it waits, or how it ended
};
constexpr Kind kKinds[] = {{ListOf::kActors, "actor", "actor", "cause"},
                           {ListOf::kPlacementGroups, "placement group", "group", "why"},
                           {ListOf::kJobs, "job", "job", "cause"},
                           {ListOf::kTasks, "task", "task", "why"}};

std::vector<Row> rows_of(Session& session, const Kind& kind, const std::string& id) {
  std::vector<Row> rows;
  std::string cursor;
  do {
    wire::Listed page = must(session.ask<wire::Listed>(wire::ListRequest{
        .what = static_cast<uint8_t>(kind.list), .filters = {std::string(kind.id) + "=" + id}, .cursor = cursor}));
    must(wire::from_wire(page.status));
    std::ranges::move(page.rows, std::back_inserter(rows));
    cursor = page.cursor;
  } while (!cursor.empty());
  return rows;
}

std::string cell(const Row& row, const std::string& column) {
  const auto it = row.find(column);
  return it == row.end() ? "" : it->second;
}

void print_text(const Kind& kind, const Row& row) {
  const std::string name = cell(row, "name").empty() ? cell(row, "class") : cell(row, "name");
  std::printf("%s %s%s is %s", kind.what, cell(row, kind.id).c_str(), name.empty() ? "" : (" (" + name + ")").c_str(),
              cell(row, "state").c_str());
  if (const std::string node = cell(row, "node"); !node.empty() && node != "0") std::printf(" on node %s", node.c_str());
  if (const std::string why = cell(row, kind.why); !why.empty()) std::printf(": %s", why.c_str());
  std::printf("\n");
}

void explain(Session& session, const std::string& id, bool as_json) {
  RowPrinter printer(as_json, {});
  size_t found = 0;
  if (as_json) std::printf("{\n  \"rows\": [");
  for (const Kind& kind : kKinds) {
    std::vector<Row> rows = rows_of(session, kind, id);
    found += rows.size();
    if (!as_json) {
      for (const Row& row : rows) print_text(kind, row);
      continue;
    }
    for (Row& row : rows) row["kind"] = kind.what;
    printer.print(rows);
  }
  if (as_json) std::printf("]\n}\n");
  if (found == 0) throw Failed("nothing in the cluster has the id " + id + "; manta list shows the ids there are");
}

}  // namespace

void add_explain_command(CLI::App& app, const std::shared_ptr<const Where>& where) {
  CLI::App* const command =
      app.add_subcommand("explain", "why an actor, task, job or placement group waits, or how it ended");
  auto id = std::make_shared<std::string>();
  auto output = std::make_shared<std::string>("text");
  command->add_option("id", *id, "as manta list shows it")->required();
  command->add_option("-o,--output", *output, "text or json")->check(CLI::IsMember({"text", "json"}));
  command->callback([=] {
    Session session(*where);
    explain(session, *id, *output == "json");
  });
}

}  // namespace manta::cli
