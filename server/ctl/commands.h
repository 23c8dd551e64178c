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

int Status(const Context& context, const std::string& argument);   // status.cc
int Tenants(const Context& context, const std::string& argument);  // status.cc
int Promise(const Context& context, const std::string& argument);  // promise.cc
int Log(const Context& context, const std::string& file);          // log.cc
// 14:00 or 14:00:30 (of today, or of yesterday when that is still to come), 2026-11-26, with a time or without, RFC
// 3339, or a duration: so long ago. False for anything else (log.cc).
bool ParseSince(const std::string& text, absl::Time now, absl::TimeZone zone, absl::Time* since);
int Ask(const Context& context, const std::string& question);      // ask.cc
int Top(const Context& context, const std::string& argument);      // top.cc
int Explain(const Context& context, const std::string& query_id);  // explain.cc

// What is promised, and its price.
std::string CertificateText(const v1::Certificate& certificate);

// A message as it is, on lines of its own or on one (json.cc).
void PrintJson(const google::protobuf::Message& message, bool pretty = true);
std::string JsonText(const google::protobuf::Message& message, bool pretty);
std::string JsonText(const std::vector<std::string>& words);  // an array, on one line
// Green or red, on a terminal.
std::string Coloured(const Context& context, bool good, const std::string& text);
std::string Ago(double seconds);  // whole seconds
std::string Megabits(double bps);
// What a site's compute is predicted from, and where that is from.
std::string ServiceText(const v1::ServiceTimes& service);

std::string Completion(const std::string& shell);  // the script; empty for an unknown shell

}  // namespace goad::ctl

#endif  // GOAD_SERVER_CTL_COMMANDS_H_
