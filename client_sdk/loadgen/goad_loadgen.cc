// goad-loadgen: plays a fleet of devices against a live goad. Exit status: 0 every question answered exactly once, 1
// some lost or answered twice, 2 bad flags or input, 3 goad cannot be reached.
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <iostream>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "client_sdk/loadgen/device_fleet.h"
#include "client_sdk/loadgen/report.h"

ABSL_FLAG(std::string, address, "127.0.0.1:7443", "goad's device listener, HOST:PORT");
ABSL_FLAG(std::string, workload, "deploy/llm/workload.jsonl", "recorded questions, one JSON object per line");
ABSL_FLAG(int, devices, 50, "devices, each with a connection of its own; 1..10000");
ABSL_FLAG(int, questions, 1500, "questions to ask in all; 1..10000000");
ABSL_FLAG(double, rate, 25, "questions a second over the whole fleet (Poisson); above 0");
ABSL_FLAG(double, device_factor, 8, "devices take this many times the recorded local time; above 0");
ABSL_FLAG(uint64_t, seed, 1, "of the questions' order, their arrival times and the radio");
ABSL_FLAG(std::string, token_file, "", "file with the bearer token of the fleet's tenant");
ABSL_FLAG(std::string, ca, "", "PEM file of the certificate authority; set = TLS");

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  absl::FlagsUsageConfig usage;  // --help lists this program's own flags only
  usage.contains_help_flags = usage.contains_helpshort_flags = [](absl::string_view file) {
    return absl::EndsWith(file, "loadgen/goad_loadgen.cc");
  };
  usage.version_string = [] { return std::string("goad-loadgen ") + GOAD_VERSION + "\n"; };
  absl::SetFlagsUsageConfig(usage);
  absl::SetProgramUsageMessage(
      "plays a fleet of devices against a live goad and scores the answers.\n\n"
      "  goad-loadgen --address HOST:PORT --workload FILE [--devices N] [--questions N] [--rate R] [--device_factor "
      "F]\n\n"
      "Exit status 1 when a question is lost or answered twice.");
  const auto fail = [](int code, const std::string& message) {
    std::cerr << "goad-loadgen: " << message << "\n";
    return code;
  };
  if (absl::ParseCommandLine(argc, argv).size() > 1) return fail(2, "takes flags only (see goad-loadgen --help)");
  goad::loadgen::FleetOptions options;
  options.client.address = absl::GetFlag(FLAGS_address);
  options.client.device_name = "loadgen";
  options.client.root_ca_file = absl::GetFlag(FLAGS_ca);
  if (const std::string path = absl::GetFlag(FLAGS_token_file); !path.empty()) {
    std::ifstream in(path, std::ios::binary);
    std::string token(4097, '\0');  // one more than the longest; what is wrong with it the SDK says
    in.read(token.data(), static_cast<std::streamsize>(token.size()));
    token.resize(static_cast<size_t>(in.gcount()));
    while (!token.empty() && (token.back() == '\n' || token.back() == '\r'))
      token.pop_back();  // the file's last line ends
    if (token.empty()) return fail(2, absl::StrFormat("--token_file: %s: holds no token", path));
    options.client.token = token;
  }
  options.devices = absl::GetFlag(FLAGS_devices);
  options.questions = absl::GetFlag(FLAGS_questions);
  options.rate_per_s = absl::GetFlag(FLAGS_rate);
  options.device_factor = absl::GetFlag(FLAGS_device_factor);
  options.seed = absl::GetFlag(FLAGS_seed);
  if (options.devices < 1 || options.devices > 10000) {
    return fail(2, absl::StrFormat("--devices: %d is not in 1..10000", options.devices));
  }
  if (options.questions < 1 || options.questions > 10000000) {
    return fail(2, absl::StrFormat("--questions: %d is not in 1..10000000", options.questions));
  }
  if (!(options.rate_per_s > 0 && std::isfinite(options.rate_per_s))) {
    return fail(2, absl::StrFormat("--rate: %g is not above 0", options.rate_per_s));
  }
  if (!(options.device_factor > 0 && std::isfinite(options.device_factor))) {
    return fail(2, absl::StrFormat("--device_factor: %g is not above 0", options.device_factor));
  }
  const std::string file = absl::GetFlag(FLAGS_workload);
  std::ifstream in(file);
  if (!in) return fail(2, file + ": cannot be read");
  const auto workload = goad::sched::ReadWorkload(in, file);
  if (!workload.ok()) return fail(2, std::string(workload.status().message()));

  const bool terminal = isatty(STDERR_FILENO) == 1;
  int calls = 0;
  const auto progress = [&](const goad::loadgen::Progress& p) {
    if (!terminal && ++calls % 10 != 1) return;  // a log gets a line every ten seconds
    std::cerr << absl::StrFormat("%s%6d of %d asked, %d local, %d offloaded, %d waiting   %s", terminal ? "\r" : "",
                                 p.asked, options.questions, p.local, p.edge, p.waiting, terminal ? "" : "\n")
              << std::flush;
  };
  const auto outcomes = goad::loadgen::PlayFleet(options, *workload, progress);
  if (terminal) std::cerr << "\n";
  if (!outcomes.ok()) return fail(3, std::string(outcomes.status().message()));
  const goad::loadgen::Report report = goad::loadgen::MakeReport(*outcomes);
  std::cout << FormatReport(report, options);
  return report.lost + report.twice > 0 ? 1 : 0;
}
