#include "server/sim/run.h"

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "scheduler/policy.h"
#include "server/config/config.h"
#include "server/sim/cell.h"

namespace goad::server {
namespace {

constexpr size_t kMostUplinks = 64;

template <typename... What>
absl::Status Bad(const What&... what) {
  return absl::InvalidArgumentError(absl::StrCat(what...));
}

absl::Status Check(const RunOptions& options, const std::vector<std::string>& policies) {
  const std::vector<std::string>& serving = sched::ServingPolicyNames();
  for (const std::string& name : policies) {
    if (std::find(serving.begin(), serving.end(), name) == serving.end()) {
      return Bad("policy: \"", name, "\" is not one that a daemon serves with; see goad-sim --help");
    }
    if (auto policy = sched::MakePolicy(name, {.lambda_s = options.lambda_s}); !policy.ok()) return policy.status();
  }
  if (!(options.tau >= 0 && options.tau <= 1)) return Bad("tau: ", options.tau, " is not in 0..1");
  if (options.rate && !(*options.rate > 0 && *options.rate <= 1e6))
    return Bad("rate: ", *options.rate, " is not above 0 and up to 1e6 (a second)");
  if (options.seconds && !(*options.seconds > 0 && *options.seconds <= 86400))
    return Bad("seconds: ", *options.seconds, " is not above 0 and up to 86400");
  if (options.sites < 1 || options.sites > 64) return Bad("sites: ", options.sites, " is not in 1..64");
  if (options.max_queries < 1 || options.max_queries > 4096)
    return Bad("max_queries: ", options.max_queries, " is not in 1..4096");
  if (!(options.time_scale >= 0.001 && options.time_scale <= 1000))
    return Bad("time_scale: ", options.time_scale, " is not in 0.001..1000");
  if (options.devices < 1 || options.devices > 10000) return Bad("devices: ", options.devices, " is not in 1..10000");
  if (!(options.configured_error >= 0.1 && options.configured_error <= 10))
    return Bad("configured_error: ", options.configured_error, " is not in 0.1..10");
  if (options.uplinks.size() > kMostUplinks)
    return Bad("uplink: ", options.uplinks.size(), " files are more than ", kMostUplinks);
  if (!options.contexts.empty() && options.contexts.size() != options.sites)
    return Bad("context: ", options.contexts.size(), " numbers for ", options.sites, " sites");
  for (const int context : options.contexts) {
    if (context < 1 || context > kMostContext) return Bad("context: ", context, " is not in 1..", kMostContext);
  }
  if (!options.arrivals.empty()) {
    return options.rate ? Bad("rate: not with arrivals, which come when they came; see time_scale") : absl::OkStatus();
  }
  if (!options.uplinks.empty()) return Bad("uplink: only with arrivals");
  if (options.time_scale != 1) return Bad("time_scale: only with arrivals");
  if (!options.contexts.empty()) return Bad("context: only with arrivals, whose prompts have a length");
  if (options.learn != Learn::kOn || options.configured_error != 1)
    return Bad(options.learn != Learn::kOn ? "learn" : "configured_error",
               ": only with arrivals; nothing is learned of the paper's sites");
  return absl::OkStatus();
}

template <typename Trace>
absl::StatusOr<Trace> ReadTrace(const char* option, const std::string& path,
                                absl::StatusOr<Trace> (*read)(std::istream&, const std::string&)) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Bad(option, ": ", path, ": cannot be read");
  return read(in, path);
}

absl::StatusOr<RunInputs> ReadInputs(const RunOptions& options) {
  auto questions = sched::QuestionSource::Open(options.workload);
  if (!questions.ok()) return questions.status();
  RunInputs inputs{*std::move(questions)};
  if (options.arrivals.empty()) {
    inputs.rate = options.rate.value_or(2000);
    inputs.seconds = options.seconds.value_or(10);
    return inputs;
  }
  auto arrivals = ReadTrace("arrivals", options.arrivals, sched::ReadArrivals);
  if (!arrivals.ok()) return arrivals.status();
  constexpr double kLeast_s = 1;  // of a trace of one moment
  constexpr int kLeastMaximum = 1024;
  inputs.seconds = options.seconds.value_or(std::max(kLeast_s, arrivals->back().time_s / options.time_scale));
  inputs.max_output_tokens = kLeastMaximum;
  for (sched::Arrival arrival : *arrivals) {
    arrival.time_s /= options.time_scale;
    if (arrival.time_s > inputs.seconds) break;
    inputs.arrivals.push_back(arrival);
    inputs.mean_output_tokens += arrival.output_tokens;
    inputs.max_output_tokens = std::max(inputs.max_output_tokens, arrival.output_tokens);
  }
  inputs.mean_output_tokens /= static_cast<double>(inputs.arrivals.size());
  for (const std::string& path : options.uplinks) {
    auto uplink = ReadTrace("uplink", path, sched::UplinkTrace::Read);
    if (!uplink.ok()) return uplink.status();
    inputs.uplinks.push_back(*std::move(uplink));
  }
  return inputs;
}

RunReport Play(const RunOptions& options, const RunInputs& inputs, std::ofstream* log) {
  SiteNumbers numbers;
  if (!inputs.arrivals.empty()) numbers = NumbersInPeace(options.sites);
  if (!inputs.arrivals.empty() && options.learn == Learn::kTrue) {
    ServiceSamples samples(options.sites);
    Cell(options, inputs, numbers, nullptr, &samples).Run();
    numbers = NumbersOf(samples, numbers);
  } else {
    numbers = Faster(std::move(numbers), options.configured_error);
  }
  return Cell(options, inputs, numbers, log, nullptr).Run();
}

}  // namespace

absl::StatusOr<RunReport> SimulateRun(const RunOptions& options) {
  auto reports = SimulateRuns(options, {options.policy});
  if (!reports.ok()) return reports.status();
  return std::move(reports->front());
}

absl::StatusOr<std::vector<RunReport>> SimulateRuns(const RunOptions& options,
                                                    const std::vector<std::string>& policies) {
  if (absl::Status status = Check(options, policies); !status.ok()) return status;
  const auto inputs = ReadInputs(options);
  if (!inputs.ok()) return inputs.status();
  std::ofstream log;
  if (!options.log.empty()) {
    if (policies.size() != 1) return Bad("log: is of one policy, and here are ", policies.size());
    log.open(options.log);
    if (!log) return Bad("log: ", options.log, ": cannot be written");
  }
  std::vector<RunReport> reports;
  for (const std::string& policy : policies) {
    RunOptions one = options;
    one.policy = policy;
    const double done = static_cast<double>(reports.size()), all = static_cast<double>(policies.size());
    if (options.progress) one.progress = [&](double share) { options.progress((done + share) / all); };
    reports.push_back(Play(one, *inputs, options.log.empty() ? nullptr : &log));
  }
  if (!options.log.empty() && !log.flush())
    return absl::UnavailableError(absl::StrCat("log: ", options.log, ": cannot be written"));
  return reports;
}

}  // namespace goad::server
