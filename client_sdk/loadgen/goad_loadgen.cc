// goad-loadgen: plays a fleet of devices against a live goad. Exit status: 0 every question answered exactly once, 1
// some lost or answered twice, 2 bad flags or input, 3 goad cannot be reached or serves another policy than asked for.
#include <pthread.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <iostream>
#include <set>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "client_sdk/loadgen/comparison.h"
#include "client_sdk/loadgen/device_fleet.h"
#include "client_sdk/loadgen/labels.h"
#include "client_sdk/loadgen/policy_trial.h"
#include "client_sdk/loadgen/report.h"

ABSL_FLAG(
    std::vector<std::string>, address, {"127.0.0.1:7443"},
    "goad's device listener, HOST:PORT; or several, HOST:PORT,HOST:PORT,..., in each device's order of preference");
ABSL_FLAG(std::string, workload, "",
          "recorded questions, one JSON object per line; empty = deploy/llm/workload.jsonl, where there is none "
          "/usr/share/goad/workload.jsonl");
ABSL_FLAG(int, devices, 50, "devices, each with a connection of its own; 1..10000");
ABSL_FLAG(int, questions, 1500, "questions to ask in all; 1..10000000");
ABSL_FLAG(double, rate, 25, "questions a second over the whole fleet (Poisson); above 0");
ABSL_FLAG(double, device_factor, 8, "devices take this many times the recorded local time; above 0");
ABSL_FLAG(uint64_t, seed, 1, "of the questions' order, their arrival times and the radio");
ABSL_FLAG(bool, kinds, false, "say the kind of each question; goad's `kinds` must have them all");
ABSL_FLAG(std::string, local, "",
          "http://HOST:PORT of a server with the device model: local answers are live while it has a free core of this "
          "machine, else recorded; empty = all recorded");
ABSL_FLAG(std::string, labels, "",
          "ask nothing; write there what is recorded of each question as labels for `goad-sim calibrate`");
ABSL_FLAG(std::string, token_file, "", "file with the bearer token of the fleet's tenant");
ABSL_FLAG(std::string, ca, "", "PEM file of the certificate authority; set = TLS");
ABSL_FLAG(std::string, certificate, "", "PEM file of the fleet's client certificate, for --ca (mTLS)");
ABSL_FLAG(std::string, key, "", "PEM file of its key");

ABSL_FLAG(std::vector<std::string>, compare, {},
          "policies, POLICY,POLICY,...: the same questions under each of them, as one table");
ABSL_FLAG(int, rounds, 4, "with --compare: in so many parts, each under every policy before the next; 1..1000");
ABSL_FLAG(std::string, admin, "unix:/run/goad/admin.sock", "with --compare: goad's admin listener (admin.address)");

namespace {

using goad::loadgen::FleetOptions;
using goad::loadgen::Progress;

int Fail(int code, const std::string& message) {
  std::cerr << "goad-loadgen: " << message << "\n";
  return code;
}

// What --help lists, checked.
absl::StatusOr<FleetOptions> OptionsFromFlags() {
  const auto bad = [](const std::string& message) { return absl::InvalidArgumentError(message); };
  FleetOptions options;
  const std::vector<std::string> goads = absl::GetFlag(FLAGS_address);
  options.client.address = goads.empty() ? "" : goads[0];
  if (!goads.empty()) options.client.other_addresses.assign(goads.begin() + 1, goads.end());
  options.client.device_name = "loadgen";
  options.client.root_ca_file = absl::GetFlag(FLAGS_ca);
  options.client.certificate_file = absl::GetFlag(FLAGS_certificate);
  options.client.key_file = absl::GetFlag(FLAGS_key);
  if (const std::string path = absl::GetFlag(FLAGS_token_file); !path.empty()) {
    std::ifstream in(path, std::ios::binary);
    std::string token(4097, '\0');  // one more than the longest; what is wrong with it the SDK says
    in.read(token.data(), static_cast<std::streamsize>(token.size()));
    token.resize(static_cast<size_t>(in.gcount()));
    while (!token.empty() && (token.back() == '\n' || token.back() == '\r'))
      token.pop_back();  // the file's last line ends
    if (token.empty()) return bad(absl::StrFormat("--token_file: %s: holds no token", path));
    options.client.token = token;
  }
  options.devices = absl::GetFlag(FLAGS_devices);
  options.questions = absl::GetFlag(FLAGS_questions);
  options.rate_per_s = absl::GetFlag(FLAGS_rate);
  options.device_factor = absl::GetFlag(FLAGS_device_factor);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.kinds = absl::GetFlag(FLAGS_kinds);
  if (options.devices < 1 || options.devices > 10000) {
    return bad(absl::StrFormat("--devices: %d is not in 1..10000", options.devices));
  }
  if (options.questions < 1 || options.questions > 10000000) {
    return bad(absl::StrFormat("--questions: %d is not in 1..10000000", options.questions));
  }
  if (!(options.rate_per_s > 0 && std::isfinite(options.rate_per_s))) {
    return bad(absl::StrFormat("--rate: %g is not above 0", options.rate_per_s));
  }
  if (!(options.device_factor > 0 && std::isfinite(options.device_factor))) {
    return bad(absl::StrFormat("--device_factor: %g is not above 0", options.device_factor));
  }
  return options;
}

// A terminal gets a line that changes, a log one every ten seconds.
class ProgressLine {
 public:
  void Show(const std::string& what, const Progress& p, int questions) {
    if (!terminal_ && ++calls_ % 10 != 1) return;
    std::cerr << absl::StrFormat("%s%s%6d of %d asked, %d local, %d offloaded, %d waiting   %s", terminal_ ? "\r" : "",
                                 what, p.asked, questions, p.local, p.edge, p.waiting, terminal_ ? "" : "\n")
              << std::flush;
  }
  void End() const {
    if (terminal_) std::cerr << "\n";
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  int calls_ = 0;
};

// Before any other thread runs: SIGINT and SIGTERM end the trial first, and then the process.
void EndTrialOnSignal(const std::string& admin_address) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals, admin_address] {
    int signal = 0;
    sigwait(&signals, &signal);
    goad::loadgen::EndTrialAt(admin_address);
    std::_Exit(128 + signal);
  }).detach();
}

int WriteLabels(const std::string& path, const std::vector<goad::sched::RecordedQuestion>& workload) {
  std::ofstream file(path, std::ios::binary);
  file << goad::loadgen::LabelLines(workload);
  if (!file.flush()) return Fail(2, absl::StrCat("--labels: ", path, ": cannot be written"));
  std::cout << absl::StrFormat("wrote %d labels to %s\n", workload.size(), path);
  return 0;
}

int Compare(const FleetOptions& options, const std::vector<std::string>& policies,
            const std::vector<goad::sched::RecordedQuestion>& workload) {
  const int rounds = absl::GetFlag(FLAGS_rounds);
  if (rounds < 1 || rounds > 1000) return Fail(2, absl::StrFormat("--rounds: %d is not in 1..1000", rounds));
  if (rounds > options.questions) {
    return Fail(2, absl::StrFormat("--rounds: %d is more than the %d questions", rounds, options.questions));
  }
  const std::set<std::string> names(policies.begin(), policies.end());
  if (names.size() < policies.size() || policies.size() > 16 || names.count("") > 0) {
    return Fail(2,
                absl::StrFormat("--compare: \"%s\" is not up to 16 different policies", absl::StrJoin(policies, ",")));
  }
  const std::string admin = absl::GetFlag(FLAGS_admin);
  EndTrialOnSignal(admin);
  const auto under = [&](const std::string& policy) { return goad::loadgen::PolicyTrial::Begin(admin, policy); };
  ProgressLine line;
  const auto played =
      PlayPolicies(options, policies, rounds, workload, under,
                   [&](const std::string& policy, int round, const Progress& p, int questions) {
                     line.Show(absl::StrFormat("round %d of %d, %-12s ", round + 1, rounds, policy), p, questions);
                   });
  line.End();
  if (!played.ok()) {
    return Fail(played.status().code() == absl::StatusCode::kInvalidArgument ? 2 : 3,
                std::string(played.status().message()));
  }
  std::cout << FormatComparison(*played, options, rounds);
  for (const goad::loadgen::Played& one : *played) {
    const goad::loadgen::Report report = goad::loadgen::MakeReport(one.outcomes);
    if (report.lost + report.twice > 0) return 1;
  }
  return 0;
}

}  // namespace

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
      "F]\n"
      "  goad-loadgen --workload FILE --labels FILE\n"
      "  goad-loadgen --compare POLICY,POLICY,... [--admin ADDRESS] [--rounds N] ...\n\n"
      "The second writes whether device and edge were right, as recorded, for `goad-sim calibrate`; no goad is needed. "
      "The third asks the same questions under each policy and compares them question by question. goad has each "
      "policy\n"
      "on trial only: what was in force before is so again at the end, at Ctrl-C, and 10 s after this program died.\n\n"
      "Exit status 1 when a question is lost or answered twice.");
  if (absl::ParseCommandLine(argc, argv).size() > 1) return Fail(2, "takes flags only (see goad-loadgen --help)");
  auto options = OptionsFromFlags();
  if (!options.ok()) return Fail(2, std::string(options.status().message()));
  std::unique_ptr<goad::loadgen::LiveModel> local;
  if (const std::string url = absl::GetFlag(FLAGS_local); !url.empty()) {
    auto address = goad::device::ReadLocalAddress(url);
    if (!address.ok()) return Fail(2, absl::StrCat("--local: ", std::string(address.status().message())));
    local = std::make_unique<goad::loadgen::LiveModel>(*std::move(address),
                                                       static_cast<int>(std::thread::hardware_concurrency()));
    options->local = local.get();
  }
  std::string file = absl::GetFlag(FLAGS_workload);
  if (file.empty()) {
    constexpr char kTree[] = "deploy/llm/workload.jsonl", kInstalled[] = "/usr/share/goad/workload.jsonl";
    file = std::ifstream(kTree).good() ? kTree : kInstalled;
  }
  std::ifstream in(file);
  if (!in) return Fail(2, file + ": cannot be read");
  const auto workload = goad::sched::ReadWorkload(in, file);
  if (!workload.ok()) return Fail(2, std::string(workload.status().message()));
  if (const std::string labels = absl::GetFlag(FLAGS_labels); !labels.empty()) return WriteLabels(labels, *workload);
  if (const auto policies = absl::GetFlag(FLAGS_compare); !policies.empty())
    return Compare(*options, policies, *workload);

  ProgressLine line;
  const auto outcomes =
      goad::loadgen::PlayFleet(*options, *workload, [&](const Progress& p) { line.Show("", p, options->questions); });
  line.End();
  if (!outcomes.ok()) return Fail(3, std::string(outcomes.status().message()));
  const goad::loadgen::Report report = goad::loadgen::MakeReport(*outcomes);
  std::cout << FormatReport(report, *options);
  return report.lost + report.twice > 0 ? 1 : 0;
}
