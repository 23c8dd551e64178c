#include "server/sim/replay.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/load_state.h"
#include "scheduler/policy.h"
#include "server/sim/log_lines.h"
#include "server/telemetry/snapshot_json.h"

namespace goad::server {
namespace {

void Add(const sched::EpochSnapshot& snapshot, const sched::EpochResult& result, ReplaySide* side) {
  side->offloaded += result.order.size();
  side->delay_s += result.TotalDelaySeconds();
  for (size_t i = 0; i < result.decisions.size(); ++i) {
    if (result.decisions[i].verdict == sched::Verdict::kLocal)
      side->local_uncertainty += snapshot.candidates[i].uncertainty;
  }
}

// The logged order may be of a damaged file: every index is checked before it is followed.
absl::Status CheckOrder(const LoggedEpoch& epoch) {
  std::vector<bool> seen(epoch.snapshot.candidates.size());
  for (const auto& [i, site] : epoch.order) {
    if (i >= seen.size() || seen[i] || static_cast<int>(site) < 0 ||
        sched::ToIndex(site) >= epoch.snapshot.sites.size()) {
      return absl::InvalidArgumentError(absl::StrCat("order: [", i, ", ", static_cast<int>(site),
                                                     "] is no pair of a candidate and a site, or stands twice"));
    }
    seen[i] = true;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Replay(std::istream& in, const std::string& source, const ReplayOptions& options, ReplayReport* report) {
  return ReadLogLines(in, source, [&](const nlohmann::json& line, const std::string& place) -> absl::Status {
    ++report->lines;
    if (line.value("kind", nlohmann::json()) != "snapshot") return absl::OkStatus();
    auto epoch = LoggedEpochFromJson(line);
    if (!epoch.ok()) return epoch.status();
    const auto policy = sched::MakePolicy(options.policy.empty() ? epoch->policy : options.policy,
                                          {.lambda_s = options.lambda_s.value_or(epoch->lambda_s)});
    if (!policy.ok()) return policy.status();
    if (absl::Status status = sched::CheckFor(**policy, epoch->snapshot); !status.ok()) return status;
    if (absl::Status status = CheckOrder(*epoch); !status.ok()) return status;
    ++report->epochs;
    report->candidates += epoch->snapshot.candidates.size();
    const sched::LoadState then = sched::ReplayOrder(epoch->snapshot, epoch->order);
    Add(epoch->snapshot,
        sched::MakeResult(epoch->snapshot, epoch->order, then, sched::Reason::kDelayGain, sched::Reason::kNoGain, 0),
        &report->logged);
    if (options.tau) {
      epoch->snapshot.tau = *options.tau;
      for (sched::Candidate& candidate : epoch->snapshot.candidates) candidate.tau = sched::kUnknown;
    }
    const sched::EpochResult result = (*policy)->Decide(epoch->snapshot);
    Add(epoch->snapshot, result, &report->replayed);
    if (options.as_logged() && result.order != epoch->order) {
      size_t k = 0;
      while (k < std::min(result.order.size(), epoch->order.size()) && result.order[k] == epoch->order[k]) ++k;
      report->differing.push_back(
          absl::StrCat(place, ": epoch ", epoch->snapshot.epoch, " (", epoch->policy, "): assignment ", k, " differs"));
    }
    return absl::OkStatus();
  });
}

std::string FormatReplay(const ReplayReport& report, const ReplayOptions& options) {
  std::string text = absl::StrFormat("%d epochs with %d candidates (snapshots among %d lines)\n", report.epochs,
                                     report.candidates, report.lines);
  if (report.epochs == 0) return text + "no snapshots: decision_log.snapshots says which epochs are logged whole\n";
  if (options.as_logged()) {
    if (report.differing.empty()) return text + "decided again: every assignment and its order as logged\n";
    for (const std::string& line : report.differing) absl::StrAppend(&text, line, "\n");
    return text + absl::StrFormat("%d of %d epochs differ from the log\n", report.differing.size(), report.epochs);
  }
  const double n = static_cast<double>(report.candidates);
  const auto row = [&](const std::string& name, const ReplaySide& side) {
    const double local = n - static_cast<double>(side.offloaded);
    absl::StrAppendFormat(&text, "%-14s %9.1f%% %12.3f ms %20.3f\n", name,
                          100 * static_cast<double>(side.offloaded) / n, 1e3 * side.delay_s / n,
                          local > 0 ? side.local_uncertainty / local : 0);
  };
  absl::StrAppendFormat(&text, "%-14s %10s %15s %20s\n", "", "offloaded", "predicted delay", "uncertainty, local");
  row("as logged", report.logged);
  row(options.policy.empty() ? "replayed" : options.policy, report.replayed);
  return text;
}

}  // namespace goad::server
