#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/ctl/commands.h"

namespace goad::ctl {

std::string Completion(const std::string& shell) {
  std::vector<std::string> names, described;
  for (const Command& command : Commands()) {
    names.push_back(command.name);
    described.push_back(absl::StrCat("'", command.name, ":", command.help, "'"));
  }
  const std::string flags =
      "--address= --json --watch --limit= --for= --since= --tenant= --device= --token_file= --timeout= --ca= "
      "--certificate= --key= --help "
      "--version";
  if (shell == "bash") {
    return absl::StrCat(
        "_goadctl() {\n"
        "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
        "  case $prev in\n"
        "    check|log) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
        "    completion) COMPREPLY=($(compgen -W 'bash zsh' -- \"$cur\")); return ;;\n"
        "  esac\n"
        "  if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W '",
        flags,
        "' -- \"$cur\"))\n"
        "  else COMPREPLY=($(compgen -W '",
        absl::StrJoin(names, " "),
        "' -- \"$cur\")); fi\n"
        "}\n"
        "complete -F _goadctl goadctl\n");
  }
  if (shell == "zsh") {
    return absl::StrCat("#compdef goadctl\n_goadctl() {\n  local -a commands=(", absl::StrJoin(described, " "),
                        ")\n  if [[ ${words[CURRENT-1]} == (check|log) ]]; then _files\n"
                        "  elif [[ ${words[CURRENT]} == -* ]]; then compadd -- ",
                        flags, "\n  else _describe command commands; fi\n}\ncompdef _goadctl goadctl\n");
  }
  return "";
}

}  // namespace goad::ctl
