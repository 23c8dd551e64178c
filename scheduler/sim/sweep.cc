#include "scheduler/sim/sweep.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "scheduler/policy.h"
#include "scheduler/sim/scenario.h"

namespace goad::sched {

// One list of fields for both directions; threads make no difference to a sweep.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SweepOptions, policies, users, taus, sites, draws, seed, lambda_s, workload)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SweepRow, users, tau, policy, delay_ms, delay_ci_ms, accuracy, accuracy_ci,
                                   offloaded, solver_us)

namespace {

using nlohmann::json;

// What one policy made of one draw.
struct Outcome {
  double delay_ms = 0, accuracy = 0, offloaded = 0, solver_us = 0;
};

Outcome Try(const OffloadPolicy& policy, const Draw& draw) {
  const auto start = std::chrono::steady_clock::now();
  const EpochResult result = policy.Decide(draw.snapshot);
  Outcome outcome;
  outcome.solver_us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  double delay_s = result.local_s;
  for (const SiteTotal& site : result.site_totals) delay_s += site.upload_s + kMeasuredWork * site.compute_s;
  const double n = static_cast<double>(result.decisions.size());
  for (size_t i = 0; i < result.decisions.size(); ++i) {
    const bool offloaded = result.decisions[i].verdict == Verdict::kOffload;
    outcome.accuracy += (offloaded ? draw.edge_accuracy : draw.local_accuracy)[i] / n;
  }
  outcome.delay_ms = 1e3 * delay_s / n;
  outcome.offloaded = static_cast<double>(result.order.size()) / n;
  return outcome;
}

// Mean, and half the width of its 95 % interval.
std::pair<double, double> Mean(const std::vector<Outcome>& outcomes, double Outcome::*field) {
  const double n = static_cast<double>(outcomes.size());
  double sum = 0, squares = 0;
  for (const Outcome& outcome : outcomes) sum += outcome.*field;
  for (const Outcome& outcome : outcomes) squares += std::pow(outcome.*field - sum / n, 2);
  return {sum / n, n > 1 ? 1.96 * std::sqrt(squares / (n - 1) / n) : 0};
}

std::vector<SweepRow> RunPoint(const SweepOptions& options, const QuestionSource& questions, size_t users, double tau) {
  std::vector<std::unique_ptr<const OffloadPolicy>> policies;
  for (const std::string& name : options.policies) {
    policies.push_back(*MakePolicy(name, {.lambda_s = options.lambda_s}));
  }
  std::vector<std::vector<Outcome>> outcomes(policies.size(), std::vector<Outcome>(options.draws));
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t d = next++; d < options.draws; d = next++) {
      // The same for every tau.
      std::seed_seq seed{options.seed, static_cast<uint64_t>(users), static_cast<uint64_t>(d)};
      std::mt19937_64 random(seed);
      const Draw draw = questions.Make(random, users, options.sites, tau);
      for (size_t p = 0; p < policies.size(); ++p) outcomes[p][d] = Try(*policies[p], draw);
    }
  };
  const int threads =
      options.threads > 0 ? options.threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();

  std::vector<SweepRow> rows;
  for (size_t p = 0; p < policies.size(); ++p) {
    SweepRow row;
    row.users = users;
    row.tau = tau;
    row.policy = options.policies[p];
    std::tie(row.delay_ms, row.delay_ci_ms) = Mean(outcomes[p], &Outcome::delay_ms);
    std::tie(row.accuracy, row.accuracy_ci) = Mean(outcomes[p], &Outcome::accuracy);
    row.offloaded = Mean(outcomes[p], &Outcome::offloaded).first;
    std::sort(outcomes[p].begin(), outcomes[p].end(),
              [](const Outcome& a, const Outcome& b) { return a.solver_us < b.solver_us; });
    row.solver_us = outcomes[p][outcomes[p].size() / 2].solver_us;
    rows.push_back(row);
  }
  return rows;
}

json HeaderJson(const SweepOptions& options) {
  json header = options;
  header["format"] = "goad-sweep/1";
  return header;
}

// Whatever a file holds: its options, and its points in the order in which they were run. A last line without its end
// is what an interruption leaves; it is not a point.
absl::StatusOr<Sweep> ReadFile(const std::string& path, std::streamoff* end) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat(path, ": cannot be read; `goad-sim sweep` makes it"));
  Sweep sweep;
  std::string line;
  *end = 0;
  for (int number = 1; std::getline(in, line) && !in.eof(); ++number) {
    *end = in.tellg();
    try {
      const json row = json::parse(line);
      if (number > 1) {
        for (const json& each : row) sweep.rows.push_back(each.get<SweepRow>());
        continue;
      }
      if (row.value("format", "") != "goad-sweep/1") {
        return absl::InvalidArgumentError(absl::StrCat(path, ":1: format: want \"goad-sweep/1\""));
      }
      row.get_to(sweep.options);
    } catch (const json::exception& error) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": ", error.what()));
    }
  }
  if (*end == 0) return absl::NotFoundError(absl::StrCat(path, ": is empty"));
  return sweep;
}

// In the order of the options; false when a point is missing.
bool Arrange(Sweep& sweep) {
  std::vector<SweepRow> rows;
  for (const size_t users : sweep.options.users) {
    for (const double tau : sweep.options.taus) {
      for (const std::string& policy : sweep.options.policies) {
        const auto found = std::find_if(sweep.rows.begin(), sweep.rows.end(), [&](const SweepRow& row) {
          return row.users == users && row.tau == tau && row.policy == policy;
        });
        if (found == sweep.rows.end()) return false;
        rows.push_back(*found);
      }
    }
  }
  sweep.rows = std::move(rows);
  return true;
}

}  // namespace

absl::Status CheckSweepOptions(const SweepOptions& options) {
  const auto bad = [](const auto&... what) { return absl::InvalidArgumentError(absl::StrCat(what...)); };
  if (options.policies.empty()) return bad("policy: want at least one");
  if (options.users.empty()) return bad("users: want numbers of 1..10000");
  for (const size_t users : options.users) {
    if (users < 1 || users > 10000) return bad("users: ", users, " is not in 1..10000");
  }
  if (options.taus.empty()) return bad("taus: want numbers of 0..1");
  for (const double tau : options.taus) {
    if (!(tau >= 0 && tau <= 1)) return bad("taus: ", tau, " is not in 0..1");
  }
  if (options.sites < 1 || options.sites > 64) return bad("sites: ", options.sites, " is not in 1..64");
  if (options.draws < 1 || options.draws > 1000000) return bad("draws: ", options.draws, " is not in 1..1000000");
  if (options.threads < 0 || options.threads > 1024) return bad("threads: ", options.threads, " is not in 0..1024");
  const size_t most = *std::max_element(options.users.begin(), options.users.end());
  for (const std::string& name : options.policies) {
    const auto policy = MakePolicy(name, {.lambda_s = options.lambda_s});
    if (!policy.ok()) return policy.status();
    if (most > (*policy)->max_candidates()) {
      return bad("users: ", most, " are more than the ", (*policy)->max_candidates(), " that ", name, " can decide on");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Sweep> RunSweep(const SweepOptions& options, const std::string& path,
                               const std::function<void(size_t done, size_t all)>& progress) {
  if (absl::Status status = CheckSweepOptions(options); !status.ok()) return status;
  const auto questions = QuestionSource::Open(options.workload);
  if (!questions.ok()) return questions.status();
  Sweep sweep;
  std::streamoff end = 0;
  auto before = ReadFile(path, &end);
  if (before.ok()) {
    if (HeaderJson(before->options) != HeaderJson(options)) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, ": holds a sweep with other options; remove it or name another file with --sweep"));
    }
    sweep = *std::move(before);
  } else if (!absl::IsNotFound(before.status())) {
    return before.status();
  }
  sweep.options = options;
  std::error_code ignored;
  if (end > 0) std::filesystem::resize_file(path, static_cast<uintmax_t>(end), ignored);  // drops half a line
  std::ofstream out(path, end > 0 ? std::ios::app | std::ios::binary : std::ios::trunc | std::ios::binary);
  if (end == 0) out << HeaderJson(options).dump() << std::endl;
  size_t done = 0;
  for (const size_t users : options.users) {
    for (const double tau : options.taus) {
      if (progress) progress(done, options.users.size() * options.taus.size());
      ++done;
      const bool known = std::any_of(sweep.rows.begin(), sweep.rows.end(),
                                     [&](const SweepRow& row) { return row.users == users && row.tau == tau; });
      if (known) continue;
      const std::vector<SweepRow> rows = RunPoint(options, *questions, users, tau);
      out << json(rows).dump() << std::endl;
      if (!out) return absl::UnavailableError(absl::StrCat(path, ": cannot be written"));
      sweep.rows.insert(sweep.rows.end(), rows.begin(), rows.end());
    }
  }
  if (progress) progress(done, done);
  Arrange(sweep);
  return sweep;
}

absl::StatusOr<Sweep> ReadSweep(const std::string& path) {
  std::streamoff end = 0;
  auto sweep = ReadFile(path, &end);
  if (!sweep.ok()) return sweep.status();
  if (absl::Status status = CheckSweepOptions(sweep->options); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ":1: ", status.message()));
  }
  if (!Arrange(*sweep)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the sweep is not finished; run `goad-sim sweep` again to go on"));
  }
  return sweep;
}

std::string SweepTable(const Sweep& sweep) {
  std::string text;
  for (const double tau : sweep.options.taus) {
    absl::StrAppendFormat(&text, "tau %.2g%*s", tau, 8, "users");
    for (const std::string& policy : sweep.options.policies) absl::StrAppendFormat(&text, " %20s", policy);
    text += "\n";
    for (const size_t users : sweep.options.users) {
      absl::StrAppendFormat(&text, "%*d", 15, users);
      for (const SweepRow& row : sweep.rows) {
        if (row.users != users || row.tau != tau) continue;
        absl::StrAppendFormat(&text, " %7.2f ms %4.1f%% %3.0f%%", row.delay_ms, 100 * row.accuracy,
                              100 * row.offloaded);
      }
      text += "\n";
    }
  }
  return text + "(mean delay per user, accuracy, offloaded)\n";
}

}  // namespace goad::sched
