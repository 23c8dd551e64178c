// goadctl: the operator's hand on a running goad. Exit status: 0 done, 1 refused, 2 wrong usage, 3 goad does not
// answer.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/base/read_file.h"
#include "server/ctl/commands.h"

ABSL_FLAG(std::string, address, "unix:/run/goad/admin.sock", "the admin listener of goad (admin.address)");
ABSL_FLAG(bool, json, false, "print JSON: the messages of admin.proto, numbers as numbers; with --watch one a line");
ABSL_FLAG(bool, watch, false, "epochs: go on, as they are decided");
ABSL_FLAG(
    uint32_t, limit, 0,
    "sessions, epochs: at most so many, up to 1000; 0 = 100 sessions, 20 epochs, no end with --watch. log: the last "
    "so many lines; 0 = all. ask: tokens of the answer; 0 = the daemon's limit");
ABSL_FLAG(std::string, since, "", "log: from then on: 14:00, \"2026-11-26 14:00\", 2026-11-26T14:00:00Z, 30m (ago)");
ABSL_FLAG(std::string, tenant, "", "log: of this tenant alone");
ABSL_FLAG(std::string, device, "", "ask: where devices call goad, HOST:PORT; empty = as goad says");
ABSL_FLAG(std::string, token_file, "", "ask: file with the bearer token of a device");
ABSL_FLAG(absl::Duration, for, absl::ZeroDuration(), "policy NAME: try it for so long, 10m or 45s; then what it was before");
ABSL_FLAG(absl::Duration, timeout, absl::Seconds(5),
          "longest wait for an answer of goad; ask: for the whole answer, and at least 2m");
ABSL_FLAG(std::string, ca, "",
          "PEM file; set = speak TLS: with the device listener (ask), with an admin listener behind a TLS proxy");
ABSL_FLAG(std::string, certificate, "", "PEM file with a client certificate, for --ca");
ABSL_FLAG(std::string, key, "", "PEM file with its key");

namespace {

using goad::ctl::Command;
using goad::ctl::Commands;
using goad::ctl::kUsage;

std::string Usage() {
  std::string text = "looks at a running goad and turns its knobs.\n\n  goadctl [flags] COMMAND [ARGUMENT]\n\n";
  for (const Command& command : Commands()) {
    absl::StrAppendFormat(&text, "  %-32s %s\n", absl::StrCat(command.name, " ", command.argument), command.help);
  }
  return absl::StrCat(text, "\nExit status: 0 done, 1 refused by goad, 2 wrong usage, 3 goad does not answer.");
}

// Who goad's log is told that this is for: behind sudo all are root to the kernel.
std::string User() {
  for (const char* name : {"SUDO_USER", "USER"}) {
    const char* const user = std::getenv(name);
    if (user == nullptr || *user == '\0') continue;
    const std::string text(user);
    const bool printable = std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 127; });
    return printable && text.size() <= 64 ? text : "";
  }
  return "";
}

// True, and `text` filled, when the flag's file could be read or is not asked for.
bool ReadPem(const char* flag, const std::string& path, std::string* text) {
  if (path.empty()) return true;
  absl::StatusOr<std::string> read = goad::server::ReadFile(path);
  if (!read.ok()) {
    std::cerr << "goadctl: --" << flag << ": " << std::string(read.status().message()) << "\n";
    return false;
  }
  *text = *std::move(read);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  absl::FlagsUsageConfig usage;
  usage.contains_help_flags =
      usage.contains_helpshort_flags = [](absl::string_view file) { return absl::EndsWith(file, "ctl/goadctl.cc"); };
  usage.version_string = [] { return std::string("goadctl ") + GOAD_VERSION + "\n"; };
  absl::SetFlagsUsageConfig(usage);
  absl::SetProgramUsageMessage(Usage());
  const std::vector<char*> words = absl::ParseCommandLine(argc, argv);
  if (words.size() < 2) {
    std::cerr << "goadctl: " << Usage() << "\n";
    return kUsage;
  }
  const std::string name = words[1];
  const auto command =
      std::find_if(Commands().begin(), Commands().end(), [&](const Command& c) { return name == c.name; });
  if (command == Commands().end()) {
    std::cerr << "goadctl: \"" << name << "\" is not a command (goadctl --help lists them)\n";
    return kUsage;
  }
  const std::vector<std::string> wanted = absl::StrSplit(command->argument, ' ', absl::SkipEmpty());
  const auto optional =
      std::count_if(wanted.begin(), wanted.end(), [](const std::string& word) { return word[0] == '['; });
  const size_t most = 2 + wanted.size(), least = most - static_cast<size_t>(optional);
  if (words.size() > most || words.size() < least) {
    std::cerr << "goadctl: usage: goadctl " << name << " " << command->argument << "\n";
    return kUsage;
  }
  goad::ctl::Context context;
  context.address = absl::GetFlag(FLAGS_address);
  context.timeout = absl::GetFlag(FLAGS_timeout);
  context.json = absl::GetFlag(FLAGS_json);
  context.watch = absl::GetFlag(FLAGS_watch);
  context.limit = absl::GetFlag(FLAGS_limit);
  context.trial = absl::GetFlag(FLAGS_for);
  context.since = absl::GetFlag(FLAGS_since);
  context.tenant = absl::GetFlag(FLAGS_tenant);
  context.device = absl::GetFlag(FLAGS_device);
  context.token_file = absl::GetFlag(FLAGS_token_file);
  context.user = User();
  context.colours = isatty(STDOUT_FILENO) != 0;
  context.arguments.assign(words.begin() + 2, words.end());
  if (command->remote) {
    std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
    if (!absl::GetFlag(FLAGS_ca).empty()) {
      grpc::SslCredentialsOptions tls;
      if (!ReadPem("ca", absl::GetFlag(FLAGS_ca), &tls.pem_root_certs) ||
          !ReadPem("certificate", absl::GetFlag(FLAGS_certificate), &tls.pem_cert_chain) ||
          !ReadPem("key", absl::GetFlag(FLAGS_key), &tls.pem_private_key)) {
        return kUsage;
      }
      credentials = grpc::SslCredentials(tls);
      context.tls = true;
    }
    context.credentials = credentials;
    const bool local = absl::StartsWith(context.address, "unix:");  // speaks no TLS, whatever devices' listener does
    context.channel = grpc::CreateChannel(context.address, local ? grpc::InsecureChannelCredentials() : credentials);
    context.admin = goad::v1::Admin::NewStub(context.channel);
  }
  return command->run(context, words.size() > 2 ? words[2] : "");
}
