#include "server/sim/run_report.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/sim/cell.h"
#include "server/sim/roofline_sites.h"

namespace goad::server {
namespace {

using nlohmann::json;

double Mean(const std::vector<double>& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto rank = static_cast<size_t>(std::max(0.0, std::ceil(share * static_cast<double>(values.size())) - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank), values.end());
  return values[rank];
}

size_t Sum(const std::map<std::string, size_t>& counts) {
  size_t sum = 0;
  for (const auto& [name, count] : counts) sum += count;
  return sum;
}

std::vector<double> All(const RunReport& report) {
  std::vector<double> all = report.local_s;
  all.insert(all.end(), report.edge_s.begin(), report.edge_s.end());
  return all;
}

std::vector<double> Compute(const RunReport& report) {
  std::vector<double> errors;
  for (const RunReport::Site& site : report.sites) {
    for (const auto& half : site.compute) errors.insert(errors.end(), half.begin(), half.end());
  }
  return errors;
}

// Of relative errors.
struct Summary {
  explicit Summary(std::vector<double> errors) : bias(Mean(errors)), answers(errors.size()) {
    for (double& error : errors) error = std::abs(error);
    median = Quantile(std::move(errors), 0.5);
  }
  json Json() const {
    return answers == 0 ? json() : json{{"median_relative_error", median}, {"bias", bias}, {"answers", answers}};
  }
  std::string Text() const { return absl::StrFormat("%7.1f %% %+7.1f %%   %6d", 100 * median, 100 * bias, answers); }
  double median = 0, bias;
  size_t answers;
};

const char* ToString(Learn learn) { return learn == Learn::kOn ? "on" : learn == Learn::kOff ? "off" : "true"; }

double Busy(const RunReport& report, const RunReport::Site& site) {
  return site.busy_s / (site.slots * report.seconds);
}

// What is not measured, a sentence each.
std::vector<std::string> Emulated(const RunOptions& options) {
  std::vector<std::string> words = {absl::StrCat(
      "accuracy: ", options.workload.empty() ? "modelled from the uncertainty, which is drawn (Beta(1.4, 0.82))"
                                             : "as recorded in the workload, as is the uncertainty")};
  if (options.arrivals.empty()) {
    words.push_back("radio and sites: the paper's model");
    return words;
  }
  words.push_back(absl::StrFormat(
      "sites: a roofline, not the model's form: %d backends of %d slots; a decode step takes max(%g ms, %g ms x "
      "batch), "
      "%g x that while a prompt is prefilled; prompts one by one, %g tokens/s; lognormal noise, sigma %g",
      kBackendsPerSite, kBatchLimit, 1e3 * kStepFloor_s, 1e3 * kStepPerQuery_s, kPrefillDrag, kPrefillTokens_s,
      kNoise));
  words.push_back(
      absl::StrFormat("one backend of site-%d takes %g x as long; all of site-0 %g x from half of the time on",
                      options.sites - 1, kSlowBackend, kSlowdown));
  words.push_back(
      absl::StrFormat("devices: %g ms a prompt token and %g ms an output token at speed 1, speeds U(0.5, 1.5); they "
                      "expect an answer of "
                      "mean length; goad is told the most that it may be",
                      1e3 * kDevicePrefill_s, 1e3 * kDeviceToken_s));
  if (options.uplinks.empty()) {
    words.push_back(
        absl::StrFormat("radio: the paper's, a new device for each question; %g bits a prompt token", kBitsPerToken));
  } else {
    words.push_back(
        absl::StrFormat("uplinks: %d devices, each with a shifted piece of the trace to itself, and %g ms of round "
                        "trip; %g bits a prompt "
                        "token",
                        options.devices, 1e3 * kRoundTrip_s, kBitsPerToken));
  }
  return words;
}

std::string Knows(const RunOptions& options) {
  const std::string wrong =
      options.configured_error == 1
          ? "the numbers that fit the sites in peace"
          : absl::StrFormat("numbers that say %g x as fast as the sites are in peace", options.configured_error);
  switch (options.learn) {
    case Learn::kOn: return absl::StrCat("learn on: begins with ", wrong, "; no device reports a rate");
    case Learn::kOff:
      return absl::StrFormat(
          "learn off: stays with %s; devices report %g x the mean of their uplink; round trips are learned", wrong,
          options.configured_error);
    case Learn::kTrue: break;
  }
  return "learn true: the numbers of the model's form that fit best what a first run of the same questions took, by "
         "site "
         "and half; devices report the mean of their uplink; round trips are learned";
}

std::string Reasons(const std::map<std::string, size_t>& counts) {
  return absl::StrJoin(counts, ", ", absl::PairFormatter(" "));
}

std::string Head(const RunReport& report, const RunOptions& options) {
  if (options.arrivals.empty()) {
    return absl::StrFormat("simulated: %g s of virtual time, %g questions a second (Poisson), %d sites", report.seconds,
                           options.rate.value_or(2000), options.sites);
  }
  return absl::StrFormat("simulated: %g s of virtual time, %d questions of a trace (time scale %g), %d sites",
                         report.seconds, report.asked, options.time_scale, options.sites);
}

std::string Notes(const RunOptions& options) {
  std::string text = "\n  emulated:\n";
  for (const std::string& words : Emulated(options)) absl::StrAppend(&text, "  - ", words, "\n");
  return text;
}

std::string TracedRows(const RunReport& report, const RunOptions& options) {
  std::string text = absl::StrCat("\n  ", Knows(options), "\n\n");
  absl::StrAppendFormat(&text, "  %-36s %9s %9s   %6s\n", "predicted when decided", "median |e|", "bias", "count");
  absl::StrAppendFormat(&text, "  %-36s %s\n", "compute, of the answer's length", Summary(Compute(report)).Text());
  absl::StrAppendFormat(&text, "  %-36s %s\n", "compute, of the assumed length",
                        Summary(report.compute_assumed).Text());
  absl::StrAppendFormat(&text, "  %-36s %s\n", "upload", Summary(report.upload).Text());
  for (size_t j = 0; j < report.sites.size(); ++j) {
    const RunReport::Site& site = report.sites[j];
    const std::string name =
        absl::StrFormat("site-%d, %3.0f %% of %d slots held", j, 100 * Busy(report, site), site.slots);
    absl::StrAppendFormat(&text, "  %-36s %s   first half\n  %-36s %s   second half\n", name,
                          Summary(site.compute[0]).Text(), "", Summary(site.compute[1]).Text());
  }
  return absl::StrCat(text, Notes(options));
}

struct Beside {
  double mean, low, high;
};
Beside BesideFirst(const RunReport& first, const RunReport& report) {
  constexpr size_t kStretches = 20;
  constexpr double kStudent = 2.093;  // 95 %, 19 degrees of freedom
  const size_t n = report.delay_s.size(), stretches = std::min(kStretches, n);
  if (n == 0) return {0, 0, 0};
  std::vector<double> means;
  double all = 0;
  for (size_t k = 0; k < stretches; ++k) {
    const size_t from = n * k / stretches, to = n * (k + 1) / stretches;
    double sum = 0;
    for (size_t i = from; i < to; ++i) sum += report.delay_s[i] - first.delay_s[i];
    all += sum;
    means.push_back(sum / static_cast<double>(to - from));
  }
  const double mean = all / static_cast<double>(n), middle = Mean(means);
  double squares = 0;
  for (const double value : means) squares += (value - middle) * (value - middle);
  const double count = static_cast<double>(stretches);
  const double half = stretches < kStretches ? std::nan("") : kStudent * std::sqrt(squares / (count - 1) / count);
  return {mean, mean - half, mean + half};
}

}  // namespace

std::string FormatRun(const RunReport& report, const RunOptions& options) {
  std::string text = absl::StrFormat("%s, policy %s, tau %g\n\n", Head(report, options), options.policy, options.tau);
  absl::StrAppendFormat(&text, "  %-20s %8d\n", "asked", report.asked);
  absl::StrAppendFormat(&text, "  %-20s %8d   %s\n", "answered locally", Sum(report.local), Reasons(report.local));
  absl::StrAppendFormat(&text, "  %-20s %8d   %s\n", "offloaded", Sum(report.offloaded), Reasons(report.offloaded));
  if (!report.failed.empty())
    absl::StrAppendFormat(&text, "  %-20s %8d   %s\n", "  of them failed", Sum(report.failed), Reasons(report.failed));
  if (report.asked == 0) return text;
  const double n = static_cast<double>(report.asked);
  absl::StrAppendFormat(&text, "\n  accuracy %s\n  %-20s %7.1f %%\n  %-20s %7.1f %%\n  %-20s %7.1f %%\n",
                        options.workload.empty() ? "(modelled)" : "(recorded)", "goad", 100 * report.right / n,
                        "all-local", 100 * report.right_local / n, "all-edge", 100 * report.right_edge / n);
  const std::vector<double> all = All(report);
  absl::StrAppendFormat(&text, "\n  %-20s %8s %8s %8s   %6s\n", "milliseconds", "mean", "p50", "p99", "count");
  for (const auto& [name, values] : {std::pair<const char*, const std::vector<double>&>{"delay, all", all},
                                     {"delay, local", report.local_s},
                                     {"delay, offloaded", report.edge_s}}) {
    absl::StrAppendFormat(&text, "  %-20s %8.1f %8.1f %8.1f   %6d\n", name, 1e3 * Mean(values),
                          1e3 * Quantile(values, 0.5), 1e3 * Quantile(values, 0.99), values.size());
  }
  if (options.arrivals.empty()) {
    const double edge = std::max<double>(1, static_cast<double>(report.edge_s.size()));
    absl::StrAppendFormat(&text, "  %-20s %8.2f\n  %-20s %8.2f   (8 predicted, 6.4 taken: the paper's)\n",
                          "|error| of upload", 1e3 * report.upload_error_s / edge, "|error| of compute",
                          1e3 * report.compute_error_s / edge);
  } else {
    absl::StrAppend(&text, TracedRows(report, options));
  }
  absl::StrAppendFormat(
      &text, "\n  %d epochs of %.1f candidates; %.1f queries at the sites on average\n", report.epochs,
      static_cast<double>(report.candidates) / std::max<double>(1, static_cast<double>(report.epochs)),
      report.busy_queries_s / report.seconds);
  return text;
}

json RunJson(const RunReport& report, const RunOptions& options) {
  const double n = std::max<double>(1, static_cast<double>(report.asked));
  const auto delay = [](const std::vector<double>& values) {
    if (values.empty()) return json();
    return json{{"mean", Mean(values)},
                {"p50", Quantile(values, 0.5)},
                {"p99", Quantile(values, 0.99)},
                {"count", values.size()}};
  };
  json run = {
      {"policy", options.policy},
      {"tau", options.tau},
      {"lambda_s", options.lambda_s},
      {"seed", options.seed},
      {"seconds", report.seconds},
      {"sites", options.sites},
      {"asked", report.asked},
      {"epochs", report.epochs},
      {"emulated", Emulated(options)},
      {"local", report.local},
      {"offloaded", report.offloaded},
      {"failed", report.failed},
      {"offloaded_share", static_cast<double>(Sum(report.offloaded)) / n},
      {"accuracy",
       {{"goad", report.right / n}, {"all_local", report.right_local / n}, {"all_edge", report.right_edge / n}}},
      {"delay_s",
       {{"all", delay(All(report))}, {"local", delay(report.local_s)}, {"offloaded", delay(report.edge_s)}}}};
  if (options.arrivals.empty()) return run;
  run["learn"] = ToString(options.learn);
  run["configured_error"] = options.configured_error;
  run["time_scale"] = options.time_scale;
  run["prediction_error"] = {{"compute", Summary(Compute(report)).Json()},
                             {"compute_assumed_length", Summary(report.compute_assumed).Json()},
                             {"upload", Summary(report.upload).Json()}};
  run["by_site"] = json::array();
  for (size_t j = 0; j < report.sites.size(); ++j) {
    const RunReport::Site& site = report.sites[j];
    run["by_site"].push_back({{"site", absl::StrCat("site-", j)},
                              {"slots", site.slots},
                              {"busy", Busy(report, site)},
                              {"compute_before", Summary(site.compute[0]).Json()},
                              {"compute_after", Summary(site.compute[1]).Json()}});
  }
  return run;
}

std::string FormatComparison(const std::vector<RunReport>& reports, const std::vector<std::string>& policies,
                             const RunOptions& options) {
  std::string text =
      absl::StrFormat("%s, tau %g; the same questions for each policy\n", Head(reports[0], options), options.tau);
  if (!options.arrivals.empty()) absl::StrAppend(&text, Knows(options), "\n");
  absl::StrAppendFormat(&text, "\n%-14s %9s %9s %9s  %-26s %9s %8s %7s", "policy", "mean ms", "p50", "p99",
                        absl::StrCat("beside ", policies[0], " (95 %)"), "offloaded", "right", "failed");
  if (!options.arrivals.empty()) absl::StrAppendFormat(&text, " %9s %9s", "|e| comp.", "|e| upl.");
  text += "\n";
  for (size_t k = 0; k < reports.size(); ++k) {
    const RunReport& report = reports[k];
    const double n = std::max<double>(1, static_cast<double>(report.asked));
    const Beside beside = BesideFirst(reports[0], report);
    const std::vector<double> all = All(report);
    absl::StrAppendFormat(
        &text, "%-14s %9.1f %9.1f %9.1f  %-26s %7.1f %% %6.1f %% %7d", policies[k], 1e3 * Mean(all),
        1e3 * Quantile(all, 0.5), 1e3 * Quantile(all, 0.99),
        k == 0 ? ""
        : std::isnan(beside.low)
            ? absl::StrFormat("%+.1f (-)", 1e3 * beside.mean)
            : absl::StrFormat("%+.1f (%+.1f .. %+.1f)", 1e3 * beside.mean, 1e3 * beside.low, 1e3 * beside.high),
        100 * static_cast<double>(Sum(report.offloaded)) / n, 100 * report.right / n, Sum(report.failed));
    if (!options.arrivals.empty()) {
      for (const Summary& errors : {Summary(Compute(report)), Summary(report.upload)}) {
        absl::StrAppendFormat(&text, " %9s",
                              errors.answers == 0 ? "-" : absl::StrFormat("%.1f %%", 100 * errors.median));
      }
    }
    text += "\n";
  }
  return absl::StrCat(text, Notes(options));
}

json ComparisonJson(const std::vector<RunReport>& reports, const std::vector<std::string>& policies,
                    const RunOptions& options) {
  json runs = json::array();
  for (size_t k = 0; k < reports.size(); ++k) {
    RunOptions one = options;
    one.policy = policies[k];
    runs.push_back(RunJson(reports[k], one));
    const Beside beside = BesideFirst(reports[0], reports[k]);
    runs.back()["delay_beside_first_s"] = {{"mean", beside.mean}, {"low", beside.low}, {"high", beside.high}};
  }
  return {{"runs", std::move(runs)}};
}

}  // namespace goad::server
