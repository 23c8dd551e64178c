// goad-sim: the simulator's command line. Exit status 0 done, 2 bad input (one line on stderr says what).
#include <cstdio>
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
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "scheduler/policy.h"
#include "scheduler/sim/solve.h"

ABSL_FLAG(std::string, policy, "goa", "policy that decides");

namespace {

constexpr char kUsage[] =
    "decisions without a daemon.\n"
    "\n"
    "  goad-sim solve --policy NAME [FILE...]   decide goa-vectors/1 instances (standard input without FILE) and print\n"
    "                                           {\"answers\":[{\"id\",\"policy\",\"assign\",\"order\",\"total_ms\"}]}\n"
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
  if (rest.size() < 2) return Fail("which command? want: solve (see goad-sim --help)");
  const std::string command = rest[1];
  const std::vector<std::string> arguments(rest.begin() + 2, rest.end());
  if (command == "solve") return Solve(arguments);
  return Fail(absl::StrCat("unknown command \"", command, "\"; want: solve"));
}
