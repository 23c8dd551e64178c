// What goadctl can do. One table makes dispatch, --help, the man page and the shell completions.
#ifndef GOAD_SERVER_CTL_COMMANDS_H_
#define GOAD_SERVER_CTL_COMMANDS_H_

#include <string>
#include <vector>

#include "server/ctl/connection.h"

namespace goad::ctl {

struct Command {
  const char* name;
  const char* argument;  // words; "" = none; "[X]" = may be left out
  const char* help;
  bool remote;                                                      // needs goad
  int (*run)(const Context& context, const std::string& argument);  // the first; an exit status
};
const std::vector<Command>& Commands();

// "up", "draining", "removed", or what its backends wait for: "loading", "half-open"; else "DOWN".
std::string StateOf(const v1::SiteStatus& site);

int Top(const Context& context, const std::string& argument);  // top.cc

std::string Completion(const std::string& shell);  // the script; empty for an unknown shell

}  // namespace goad::ctl

#endif  // GOAD_SERVER_CTL_COMMANDS_H_
