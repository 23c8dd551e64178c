#include "client_sdk/loadgen/report.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace goad::loadgen {
namespace {

constexpr double kZ = 1.959964;  // 95 %

double Wilson(double share, int n, double sign) {
  if (n == 0) return sign < 0 ? 0 : 1;
  const double z2 = kZ * kZ / n;
  return (share + z2 / 2 + sign * kZ * std::sqrt(share * (1 - share) / n + z2 / (4 * n))) / (1 + z2);
}

std::string Row(const char* name, const Proportion& p) {
  return absl::StrFormat("  %-22s %5.1f %%   (95 %%: %.1f .. %.1f)\n", name, 100 * p.value(), 100 * p.low(),
                         100 * p.high());
}
std::string Row(const char* name, const Quantiles& q) {
  if (q.count == 0) return absl::StrFormat("  %-22s %6s\n", name, "-");
  return absl::StrFormat("  %-22s %8.1f %8.1f %8.1f   %6d\n", name, 1e3 * q.mean_s, 1e3 * q.p50_s, 1e3 * q.p99_s,
                         q.count);
}
std::string Reasons(const std::map<std::string, int>& reasons) {
  std::string text;
  for (const auto& [reason, count] : reasons) absl::StrAppend(&text, text.empty() ? "" : ", ", reason, " ", count);
  return text;
}

}  // namespace

double Proportion::low() const { return Wilson(value(), total, -1); }
double Proportion::high() const { return Wilson(value(), total, +1); }

PairedDifference DifferenceOf(const std::vector<double>& differences) {
  PairedDifference result;
  const double n = static_cast<double>(differences.size());
  if (n < 2) return result;
  result.mean = std::accumulate(differences.begin(), differences.end(), 0.0) / n;
  double squares = 0;
  for (const double d : differences) squares += (d - result.mean) * (d - result.mean);
  result.half_width = kZ * std::sqrt(squares / (n - 1) / n);
  return result;
}

Quantiles QuantilesOf(std::vector<double> seconds) {
  Quantiles q;
  q.count = static_cast<int>(seconds.size());
  if (seconds.empty()) return q;
  std::sort(seconds.begin(), seconds.end());
  q.mean_s = std::accumulate(seconds.begin(), seconds.end(), 0.0) / static_cast<double>(seconds.size());
  const auto at = [&](double p) {  // the nearest rank
    const auto rank = static_cast<size_t>(std::ceil(p * static_cast<double>(seconds.size())));
    return seconds[std::max<size_t>(rank, 1) - 1];
  };
  q.p50_s = at(0.5);
  q.p99_s = at(0.99);
  return q;
}

Report MakeReport(const std::vector<Outcome>& outcomes) {
  Report report;
  std::vector<double> delay, local_delay, edge_delay, ttft, tpot, over_local, under_edge;
  report.asked = static_cast<int>(outcomes.size());
  for (const Outcome& outcome : outcomes) {
    if (outcome.answers == 0) ++report.lost;
    if (outcome.answers > 1) ++report.twice;
    if (outcome.answers == 0) continue;
    if (outcome.live) {
      ++report.live;
      report.live_uncertainty_off =
          std::max(report.live_uncertainty_off, std::abs(outcome.uncertainty - outcome.question->uncertainty));
    }
    const double seconds = absl::ToDoubleSeconds(outcome.delay);
    delay.push_back(seconds);
    if (outcome.edge) {
      ++report.edge;
      ++report.edge_by_reason[outcome.reason];
      report.as_recorded += outcome.as_recorded ? 1 : 0;
      edge_delay.push_back(seconds);
      ttft.push_back(absl::ToDoubleSeconds(outcome.first_token_after));
      if (outcome.between_tokens > absl::ZeroDuration()) tpot.push_back(absl::ToDoubleSeconds(outcome.between_tokens));
    } else {
      ++report.local;
      ++report.local_by_reason[outcome.reason];
      report.live_local += outcome.live ? 1 : 0;
      report.live_as_recorded += outcome.live && outcome.as_recorded ? 1 : 0;
      local_delay.push_back(seconds);
    }
    const int right = outcome.correct ? 1 : 0;
    const int device = outcome.question->device.correct ? 1 : 0, edge = outcome.question->edge.correct ? 1 : 0;
    report.accuracy.right += right;
    report.all_local.right += device;
    report.all_edge.right += edge;
    over_local.push_back(right - device);
    under_edge.push_back(right - edge);
  }
  report.accuracy.total = report.all_local.total = report.all_edge.total = report.local + report.edge;
  report.over_local = DifferenceOf(over_local);
  report.under_edge = DifferenceOf(under_edge);
  report.delay = QuantilesOf(std::move(delay));
  report.local_delay = QuantilesOf(std::move(local_delay));
  report.edge_delay = QuantilesOf(std::move(edge_delay));
  report.ttft = QuantilesOf(std::move(ttft));
  report.tpot = QuantilesOf(std::move(tpot));
  return report;
}

std::string WhatIsEmulated(const FleetOptions& options) {
  const std::string local =
      options.local == nullptr
          ? "local answers are recorded"
          : absl::StrFormat("local answers are live while no more than %d run at once, else recorded",
                            options.local->most_at_once());
  return absl::StrFormat(
      "Emulated: %s; they take the\n"
      "recorded time times %.4g, independently of each other. The radio fades by Rayleigh and an upload\n"
      "takes the time that goad's granted share gives.\n"
      "Real: goad, its decisions, and every offloaded answer (from the live backend).\n",
      local, options.device_factor);
}

std::string FormatReport(const Report& r, const FleetOptions& o) {
  std::string text = absl::StrFormat("%d devices, %d questions, %.4g a second (open loop, Poisson)\n", o.devices,
                                     r.asked, o.rate_per_s);
  absl::StrAppend(&text, WhatIsEmulated(o), "\n");
  absl::StrAppendFormat(&text, "  %-22s %6d\n", "asked", r.asked);
  absl::StrAppendFormat(&text, "  %-22s %6d   %s\n", "answered locally", r.local, Reasons(r.local_by_reason));
  absl::StrAppendFormat(&text, "  %-22s %6d   %s\n", "offloaded", r.edge, Reasons(r.edge_by_reason));
  absl::StrAppendFormat(&text, "  %-22s %6d\n  %-22s %6d\n\n", "lost", r.lost, "answered twice", r.twice);
  absl::StrAppend(&text, "  accuracy on the same questions\n", Row("goad", r.accuracy),
                  Row("all-local (recorded)", r.all_local), Row("all-edge (recorded)", r.all_edge));
  absl::StrAppendFormat(&text, "  %-22s %+5.1f pt  (95 %%, paired: +-%.1f)\n", "goad - all-local",
                        100 * r.over_local.mean, 100 * r.over_local.half_width);
  absl::StrAppendFormat(&text, "  %-22s %+5.1f pt  (95 %%, paired: +-%.1f)\n", "goad - all-edge",
                        100 * r.under_edge.mean, 100 * r.under_edge.half_width);
  absl::StrAppendFormat(&text, "  %d of %d offloaded answers are word for word those recorded from the edge model\n%s",
                        r.as_recorded, r.edge, o.local == nullptr ? "\n" : "");
  if (o.local != nullptr) {
    absl::StrAppendFormat(
        &text,
        "  the device model ran live for %d of %d questions (uncertainty within %.1e of the recorded one);\n"
        "  %d of its %d answers that counted are word for word those recorded\n\n",
        r.live, r.asked, r.live_uncertainty_off, r.live_as_recorded, r.live_local);
  }
  absl::StrAppendFormat(&text, "  %-22s %8s %8s %8s   %6s\n", "milliseconds", "mean", "p50", "p99", "count");
  absl::StrAppend(&text, Row("delay, all", r.delay), Row("delay, local", r.local_delay),
                  Row("delay, offloaded", r.edge_delay), Row("TTFT, offloaded", r.ttft),
                  Row("TPOT, 2 tokens or more", r.tpot));
  return text;
}

}  // namespace goad::loadgen
