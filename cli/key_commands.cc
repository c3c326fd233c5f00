// Keys and join tokens: files on the head's machine, so whoever may write there decides who comes in.
#include "cli/commands.h"
#include "wire/net/key_records.h"
#include "wire/net/own_keys.h"

#include <cstdio>
#include <ctime>
#include <memory>

namespace manta::cli {
namespace {

namespace fs = std::filesystem;

struct Settings {
  std::string keys = "manta-keys";
  std::string head;
  std::string role = "node";
  std::string out;
  std::string id;
  int64_t hours = 24;
};

struct RotateSettings {
  bool is_head = false;
  double overlap_hours = 24;
};

void create_keys(const Settings& settings) {
  std::error_code error;
  fs::create_directories(settings.keys, error);
  fs::permissions(settings.keys, fs::perms::owner_all, error);
  if (error) throw Failed("cannot make the folder " + settings.keys + ": " + error.message());
  must(wire::save_keys((fs::path(settings.keys) / "node.keys").string(), must(wire::make_keys())));
  std::printf("made %s/node.keys; start the head with --keys %s\n", settings.keys.c_str(), settings.keys.c_str());
}

// The head's own: it takes them when it is started again, since all who are connected know it by the present ones.
void rotate_head(const std::string& keys) {
  must(wire::load_keys((fs::path(keys) / wire::kOwnKeys).string()));
  must(wire::next_keys(keys));
  std::printf(
      "made %s/%s: the head takes it when it is started again.\n"
      "Before that run `manta keys rotate` for each node, driver and viewer: that also tells them the head's next key.\n",
      keys.c_str(), wire::kNextKeys);
}

void rotate(const Where& where, const RotateSettings& settings) {
  if (where.keys.empty()) throw Failed("say whose keys: --keys DIR (MANTA_KEYS)");
  if (settings.is_head) return rotate_head(where.keys);
  if (where.address.empty()) throw Failed("say where the head is: --address tcp://HOST:PORT (MANTA_ADDRESS)");
  must(wire::load_keys((fs::path(where.keys) / wire::kOwnKeys).string()));
  const wire::LinkKeys next = must(wire::next_keys(where.keys));
  Session session(where);
  const wire::KeyRotated answer = must(session.ask<wire::KeyRotated>(
      wire::RotateKey{.public_key = next.public_key, .overlap_s = static_cast<int64_t>(settings.overlap_hours * 3600)}));
  must(wire::from_wire(answer.status));
  must(wire::remember_next_head(where.keys, answer.next_head_key));
  must(wire::take_next_keys(where.keys));
  std::printf(
      "key %s takes the place of the old one, which is let in for %g h more.\n"
      "Start a mantad that runs with these keys again before then.\n",
      wire::key_id(next.public_key).c_str(), settings.overlap_hours);
}

void create_token(const Settings& settings) {
  const wire::LinkRole role = must(wire::role_of(settings.role));
  const wire::LinkKeys head = must(wire::load_keys((fs::path(settings.keys) / "node.keys").string()));
  const wire::JoinToken token{
      .role = role, .head_endpoint = settings.head, .head_public_key = head.public_key, .keys = must(wire::make_keys())};
  must(wire::parse_token(wire::token_text(token)).status());  // an endpoint that is none shows here
  must(wire::save_token(settings.out, token));
  const int64_t expires_s = static_cast<int64_t>(std::time(nullptr)) + settings.hours * 3600;
  const wire::KeyRecord record{.role = role, .public_key = token.keys.public_key, .name = {}, .expires_s = expires_s};
  must(wire::write_record(fs::path(settings.keys) / "tokens", record));
  std::printf("token %s for one %s is in %s; it can be used once, within %lld h\n", wire::key_id(record.public_key).c_str(),
              settings.role.c_str(), settings.out.c_str(), static_cast<long long>(settings.hours));
}

void print(const wire::KeyRecords& records, const char* what) {
  for (const auto& [key, record] : records) {
    char until[32] = "";
    const std::time_t expires = record.expires_s;
    if (expires != 0) std::strftime(until, sizeof until, "  until %F %R", std::localtime(&expires));
    std::printf("%s  %-8s %-7s %s%s\n", wire::key_id(key).c_str(), what, std::string(wire::role_name(record.role)).c_str(),
                record.name.c_str(), until);
  }
}

void list(const Settings& settings) {
  const auto warn = [](const Status& why) { std::fprintf(stderr, "manta: %s\n", why.message().c_str()); };
  print(must(wire::read_records(fs::path(settings.keys) / "tokens", warn)), "token");
  print(must(wire::read_records(fs::path(settings.keys) / "allowed", warn)), "key");
}

void revoke(const Settings& settings) {
  const Status token = wire::remove_record(fs::path(settings.keys) / "tokens", settings.id);
  if (token.code() == Code::kNotFound) {
    must(wire::remove_record(fs::path(settings.keys) / "allowed", settings.id));
  } else {
    must(token);
  }
  std::printf("revoked %s\n", settings.id.c_str());
}

}  // namespace

void add_key_commands(CLI::App& app, const std::shared_ptr<const Where>& where) {
  auto settings = std::make_shared<Settings>();
  const auto add = [&](CLI::App& to, const char* name, const char* help, void (*run)(const Settings&)) {
    CLI::App* const command = to.add_subcommand(name, help);
    command->add_option("--keys", settings->keys, "the keys folder of the head")->capture_default_str();
    command->callback([settings, run] { run(*settings); });
    return command;
  };
  CLI::App* const keys = app.add_subcommand("keys", "the key pair of a node")->require_subcommand(1);
  add(*keys, "create", "make the head's key pair", create_keys);
  auto rotate_settings = std::make_shared<RotateSettings>();
  CLI::App* const rotated = keys->add_subcommand("rotate", "take another key pair, with the old one let in for a while");
  rotated->add_flag("--head", rotate_settings->is_head, "the head's own, in its keys folder");
  rotated->add_option("--overlap-hours", rotate_settings->overlap_hours, "how long the old one is let in")
      ->capture_default_str();
  rotated->callback([=] { rotate(*where, *rotate_settings); });
  CLI::App* const token = app.add_subcommand("token", "who may join")->require_subcommand(1);
  CLI::App* const create = add(*token, "create", "make a token that lets one node, driver or viewer in", create_token);
  create->add_option("--head", settings->head, "where the head listens: tcp://HOST:PORT")->required();
  create->add_option("--role", settings->role, "node, driver or viewer")->capture_default_str();
  create->add_option("--out", settings->out, "the file to write it to")->required();
  create->add_option("--hours", settings->hours, "how long it can be used")->capture_default_str();
  add(*token, "list", "the tokens that are not used, and the keys that are let in", list);
  add(*token, "revoke", "let a token or a key in no more", revoke)
      ->add_option("id", settings->id, "as `token list` shows it")
      ->required();
}

}  // namespace manta::cli
