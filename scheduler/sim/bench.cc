#include "scheduler/sim/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "scheduler/policy.h"
#include "scheduler/sim/scenario.h"

namespace goad::sched {
namespace {

constexpr size_t kMaxReferenceUsers = 200;

size_t DrawsFor(size_t users) { return users <= 1000 ? 101 : users <= 20000 ? 15 : users <= 200000 ? 5 : 3; }

size_t ResultBytes(const EpochResult& result) {
  return result.decisions.capacity() * sizeof(Decision) + result.order.capacity() * sizeof(result.order[0]);
}

BenchRow Measure(const std::string& name, const OffloadPolicy& policy, const std::vector<EpochSnapshot>& draws,
                 const std::function<size_t()>& peak_bytes) {
  BenchRow row;
  row.policy = name;
  row.users = draws[0].candidates.size();
  row.sites = draws[0].sites.size();
  std::vector<double> seconds, bytes;
  double evaluations = 0, assignments = 0, forced = 0;
  for (const EpochSnapshot& snapshot : draws) {
    if (peak_bytes) peak_bytes();
    const auto start = std::chrono::steady_clock::now();
    const EpochResult result = policy.Decide(snapshot);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    if (peak_bytes) bytes.push_back(static_cast<double>(peak_bytes()) - static_cast<double>(ResultBytes(result)));
    evaluations += static_cast<double>(result.evaluations);
    assignments += static_cast<double>(result.order.size());
    for (size_t i = 0; i < row.users; ++i) forced += snapshot.Forced(i) ? 1 : 0;
  }
  const auto median = [](std::vector<double>& v) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    return v[v.size() / 2];
  };
  const double all = static_cast<double>(row.users * draws.size());
  row.seconds = median(seconds);
  row.evaluations_per_assignment = assignments > 0 ? evaluations / assignments : 0;
  row.forced_share = forced / all;
  row.offloaded_share = assignments / all;
  row.bytes_per_user = bytes.empty() ? std::nan("") : median(bytes) / static_cast<double>(row.users);
  return row;
}

}  // namespace

absl::StatusOr<std::vector<BenchRow>> RunBench(const BenchOptions& options) {
  if (options.users.empty() || std::count(options.users.begin(), options.users.end(), size_t{0}) > 0) {
    return absl::InvalidArgumentError("users: want numbers of at least 1");
  }
  if (options.sites < 1 || options.sites > 1000) {
    return absl::InvalidArgumentError(absl::StrCat("sites: ", options.sites, " is not in 1..1000"));
  }
  if (!(options.zero_share >= 0 && options.zero_share <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("zeros: ", options.zero_share, " is not in 0..1"));
  }
  for (const std::string& name : options.policies) {
    if (auto policy = MakePolicy(name, {.lambda_s = options.lambda_s}); !policy.ok()) return policy.status();
  }
  std::vector<BenchRow> rows;
  for (const size_t users : options.users) {
    std::mt19937_64 random(options.seed);
    std::vector<EpochSnapshot> draws;
    for (size_t d = 0; d < DrawsFor(users); ++d) {
      draws.push_back(DrawEpoch(random, users, options.sites, options.tau, Scaling::kWithUsers));
      if (options.zero_share == 0) continue;
      for (Candidate& candidate : draws.back().candidates) {
        if (std::bernoulli_distribution(options.zero_share)(random)) candidate.uncertainty = 0;
      }
    }
    std::vector<std::string> names = options.policies;
    if (users <= kMaxReferenceUsers && std::count(names.begin(), names.end(), "reference") == 0) {
      names.push_back("reference");
    }
    for (const std::string& name : names) {
      const auto policy = MakePolicy(name, {.lambda_s = options.lambda_s});
      if (users > (*policy)->max_candidates()) continue;
      if (options.progress) options.progress(absl::StrCat(name, ", ", users, " users"));
      rows.push_back(Measure(name, **policy, draws, options.peak_bytes));
    }
  }
  return rows;
}

std::string BenchTable(const std::vector<BenchRow>& rows) {
  std::string text = absl::StrFormat("%-12s %9s %6s %12s %9s %12s %8s %8s %11s\n", "policy", "users", "sites", "median",
                                     "growth", "evals/assign", "forced", "offload", "bytes/user");
  for (const BenchRow& row : rows) {
    const BenchRow* smaller = nullptr;  // the same policy at the next smaller size
    for (const BenchRow& other : rows) {
      if (other.policy == row.policy && other.users < row.users &&
          (smaller == nullptr || other.users > smaller->users)) {
        smaller = &other;
      }
    }
    const std::string growth =
        smaller == nullptr ? ""
                           : absl::StrFormat("N^%.2f", std::log(row.seconds / smaller->seconds) /
                                                           std::log(static_cast<double>(row.users) / smaller->users));
    const std::string time = row.seconds < 1e-3 ? absl::StrFormat("%.1f us", 1e6 * row.seconds)
                             : row.seconds < 1  ? absl::StrFormat("%.2f ms", 1e3 * row.seconds)
                                                : absl::StrFormat("%.3f s", row.seconds);
    const std::string bytes = std::isnan(row.bytes_per_user) ? "" : absl::StrFormat("%.0f", row.bytes_per_user);
    absl::StrAppendFormat(&text, "%-12s %9d %6d %12s %9s %12.1f %7.0f%% %7.0f%% %11s\n", row.policy, row.users,
                          row.sites, time, growth, row.evaluations_per_assignment, 100 * row.forced_share,
                          100 * row.offloaded_share, bytes);
  }
  return text;
}

std::string BenchCsv(const std::vector<BenchRow>& rows) {
  std::string text =
      "policy,users,sites,seconds,evaluations_per_assignment,forced_share,offloaded_share,bytes_per_user\n";
  for (const BenchRow& row : rows) {
    absl::StrAppendFormat(&text, "%s,%d,%d,%.9g,%.6g,%.6g,%.6g,%.6g\n", row.policy, row.users, row.sites, row.seconds,
                          row.evaluations_per_assignment, row.forced_share, row.offloaded_share, row.bytes_per_user);
  }
  return text;
}

std::string BenchJson(const std::vector<BenchRow>& rows) {
  nlohmann::json list = nlohmann::json::array();
  for (const BenchRow& row : rows) {
    list.push_back({{"policy", row.policy},
                    {"users", row.users},
                    {"sites", row.sites},
                    {"seconds", row.seconds},
                    {"evaluations_per_assignment", row.evaluations_per_assignment},
                    {"forced_share", row.forced_share},
                    {"offloaded_share", row.offloaded_share}});
    if (!std::isnan(row.bytes_per_user)) list.back()["bytes_per_user"] = row.bytes_per_user;
  }
  return list.dump(1) + "\n";
}

}  // namespace goad::sched
