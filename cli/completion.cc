// Shell completion, written from the parser itself: a command that is added completes by itself.
#include "cli/commands.h"

#include <cstdio>
#include <set>
#include <string>

namespace manta::cli {
namespace {

/// The members of "{a,b}" in what the parser says of an option's value, with spaces between them.
std::string members_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{');
  const size_t close = type.find('}', open == std::string::npos ? 0 : open);
  if (open == std::string::npos || close == std::string::npos) return "";
  std::string members = type.substr(open + 1, close - open - 1);
  std::ranges::replace(members, ',', ' ');
  return members;
}

struct Script {
  std::string commands;  // patterns: a path of commands that goes on
  std::string values;    // cases: what an option takes
  std::string words;     // cases: what may come behind a path

  void add(CLI::App& app, const std::string& path, const std::string& inherited) {
    std::string here;
    std::string options = inherited;
    for (CLI::App* command : app.get_subcommands({})) here += " " + command->get_name();
    for (const CLI::Option* option : app.get_options({})) {
      const std::string members = members_of(*option);
      std::string patterns;
      for (const std::string& name : option->get_lnames()) {
        options += " --" + name;
        patterns += (patterns.empty() ? "" : "|") + std::string("\"") + path + " --" + name + "\"";
      }
      for (const std::string& name : option->get_snames())
        patterns += (patterns.empty() ? "" : "|") + std::string("\"") + path + " -" + name + "\"";
      if (option->get_positional()) here += " " + members;
      if (!patterns.empty() && !members.empty()) values += "    " + patterns + ") words=\"" + members + "\" ;;\n";
    }
    words += "    \"" + path + "\") words=\"" + here + options + "\" ;;\n";
    for (CLI::App* command : app.get_subcommands({})) {
      const std::string longer = path + " " + command->get_name();
      commands += (commands.empty() ? "" : "|") + std::string("\"") + longer + "\"";
      add(*command, longer, path.empty() ? options : inherited);
    }
  }
};

std::string script_of(CLI::App& app) {
  Script script;
  script.add(app, "", "");
  return "_manta() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} path= word words=\n"
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "    case \"$path $word\" in " +
         script.commands +
         ") path=\"$path $word\" ;; esac\n"
         "  done\n"
         "  case \"$path $previous\" in\n" +
         script.values +
         "  esac\n"
         "  [[ -n $words ]] || case \"$path\" in\n" +
         script.words +
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "}\n"
         "complete -o default -F _manta manta\n";
}

}  // namespace

void add_completion_command(CLI::App& app) {
  CLI::App* const command =
      app.add_subcommand("completion", "print a script that completes the words of manta: source <(manta completion bash)");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}));
  command->callback([&app, shell] {
    if (*shell == "zsh") std::printf("autoload -U +X bashcompinit && bashcompinit\n");
    std::printf("%s", script_of(app).c_str());
  });
}

}  // namespace manta::cli
