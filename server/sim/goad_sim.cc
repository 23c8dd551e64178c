// goad-sim: the simulator's command line. Exit status 0 done, 2 bad input (one line on stderr says what).
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "scheduler/policy.h"
#include "scheduler/sim/bench.h"
#include "scheduler/sim/solve.h"
#include "server/sim/allocation_meter.h"

ABSL_FLAG(std::string, policy, "goa", "policy that decides; bench takes a list: goa,min-delay");
ABSL_FLAG(std::vector<std::string>, users, std::vector<std::string>({"100", "1000", "10000", "100000"}),
          "bench: how many users ask in an epoch, a list");
ABSL_FLAG(int, sites, 4, "bench: edge sites, 1..1000");
ABSL_FLAG(double, tau, 0.8, "bench: uncertainty above this is offloaded, 0..1");
ABSL_FLAG(uint64_t, seed, 1, "bench: of the draws");
ABSL_FLAG(bool, json, false, "bench: print a JSON array of rows");
ABSL_FLAG(bool, csv, false, "bench: print comma-separated values");

namespace {

constexpr char kUsage[] =
    "decisions without a daemon.\n"
    "\n"
    "  goad-sim solve --policy NAME [FILE...]   decide goa-vectors/1 instances (standard input without FILE) and print\n"
    "                                           {\"answers\":[{\"id\",\"policy\",\"assign\",\"order\",\"total_ms\"}]}\n"
    "  goad-sim bench [--policy NAME,...] [--users N,...] [--sites M] [--json|--csv]\n"
    "                                           median time of an epoch on one core, on draws of the paper's experiment\n"
    "                                           with capacities and bandwidth scaled to the users\n"
    "\n"
    "Policies: ";

int Fail(const std::string& message) {
  std::cerr << "goad-sim: " << message << "\n";
  return 2;
}

int Solve(const std::vector<std::string>& files) {
  nlohmann::json answers = nlohmann::json::array();
  const std::string policy = absl::GetFlag(FLAGS_policy);
  const auto solve = [&](const std::string& source, std::istream& in) {
    const std::string text(std::istreambuf_iterator<char>(in), {});
    return goad::sched::SolveDocument(source, text, policy, answers);
  };
  if (files.empty()) {
    if (absl::Status status = solve("standard input", std::cin); !status.ok()) return Fail(std::string(status.message()));
  }
  for (const std::string& file : files) {
    std::ifstream in(file, std::ios::binary);
    if (!in) return Fail(absl::StrCat(file, ": cannot be read"));
    if (absl::Status status = solve(file, in); !status.ok()) return Fail(std::string(status.message()));
  }
  std::cout << nlohmann::json{{"answers", std::move(answers)}}.dump() << "\n";
  return std::cout.flush() ? 0 : Fail("standard output cannot be written");
}

int Bench() {
  goad::sched::BenchOptions options;
  options.policies = absl::StrSplit(absl::GetFlag(FLAGS_policy), ',');
  options.users.clear();
  for (const std::string& text : absl::GetFlag(FLAGS_users)) {
    uint32_t users = 0;
    if (!absl::SimpleAtoi(text, &users) || users < 1 || users > 10000000) {
      return Fail(absl::StrCat("--users: \"", text, "\" is not in 1..10000000"));
    }
    options.users.push_back(users);
  }
  options.sites = static_cast<size_t>(std::max(0, absl::GetFlag(FLAGS_sites)));
  options.tau = absl::GetFlag(FLAGS_tau);
  if (!(options.tau >= 0 && options.tau <= 1)) return Fail(absl::StrCat("--tau: ", options.tau, " is not in 0..1"));
  options.seed = absl::GetFlag(FLAGS_seed);
  options.peak_bytes = &goad::PeakBytesSinceLastCall;
  if (isatty(STDERR_FILENO) == 1) {
    options.progress = [](const std::string& what) { std::cerr << "\r" << what << "          " << std::flush; };
  }
  const auto rows = goad::sched::RunBench(options);
  if (options.progress) std::cerr << "\r                                \r";
  if (!rows.ok()) return Fail(std::string(rows.status().message()));
  std::cout << (absl::GetFlag(FLAGS_json)  ? goad::sched::BenchJson(*rows)
                : absl::GetFlag(FLAGS_csv) ? goad::sched::BenchCsv(*rows)
                                           : goad::sched::BenchTable(*rows));
  return std::cout.flush() ? 0 : Fail("standard output cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  absl::FlagsUsageConfig usage;  // --help lists this program's own flags only
  usage.contains_help_flags = usage.contains_helpshort_flags = [](absl::string_view file) {
    return absl::EndsWith(file, "server/sim/goad_sim.cc");
  };
  usage.version_string = [] { return std::string("goad-sim ") + GOAD_VERSION + "\n"; };
  absl::SetFlagsUsageConfig(usage);
  absl::SetProgramUsageMessage(absl::StrCat(kUsage, absl::StrJoin(goad::sched::PolicyNames(), ", "), "."));
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() < 2) return Fail("which command? want: solve or bench (see goad-sim --help)");
  const std::string command = rest[1];
  const std::vector<std::string> arguments(rest.begin() + 2, rest.end());
  if (command == "solve") return Solve(arguments);
  if (command == "bench" && arguments.empty()) return Bench();
  if (command == "bench") return Fail(absl::StrCat("bench takes flags only, not \"", arguments[0], "\""));
  return Fail(absl::StrCat("unknown command \"", command, "\"; want: solve or bench"));
}
