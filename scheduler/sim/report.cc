#include "scheduler/sim/report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "scheduler/sim/chart.h"
#include "scheduler/sim/scenario.h"

namespace goad::sched {
namespace {

using Verdict = decltype(Trend::verdict);

constexpr double kTau = 0.8;    // of the charts against N, where the sweep has it
constexpr size_t kUsers = 100;  // of the accuracy-delay plane

// Null when the sweep has no such row.
const SweepRow* Find(const Sweep& sweep, size_t users, double tau, const std::string& policy) {
  for (const SweepRow& row : sweep.rows) {
    if (row.users == users && row.tau == tau && row.policy == policy) return &row;
  }
  return nullptr;
}

template <typename T>
T Nearest(const std::vector<T>& values, double wanted) {
  return *std::min_element(values.begin(), values.end(), [&](T a, T b) {
    return std::abs(static_cast<double>(a) - wanted) < std::abs(static_cast<double>(b) - wanted);
  });
}

std::vector<Series> AgainstUsers(const Sweep& sweep, double tau, double SweepRow::*y, double SweepRow::*half,
                                 double factor) {
  std::vector<Series> lines;
  for (const std::string& policy : sweep.options.policies) {
    Series line{policy};
    for (const size_t users : sweep.options.users) {
      const SweepRow* row = Find(sweep, users, tau, policy);
      line.points.emplace_back(users, row->*y * factor);
      if (half != nullptr) line.half_width.push_back(row->*half * factor);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

// How far a < b holds: broken by less than the two intervals is noise.
Verdict Less(double a, double a_ci, double b, double b_ci) {
  return a < b ? Trend::kHolds : a < b + a_ci + b_ci ? Trend::kWithinNoise : Trend::kDoesNotHold;
}
Verdict Faster(const SweepRow* a, const SweepRow* b) {
  return Less(a->delay_ms, a->delay_ci_ms, b->delay_ms, b->delay_ci_ms);
}
Verdict LessAccurate(const SweepRow* a, const SweepRow* b) {
  return Less(a->accuracy, a->accuracy_ci, b->accuracy, b->accuracy_ci);
}

// What holds at every point, judged from the rows of `policies` there.
template <typename Judge>
Trend EveryPoint(const Sweep& sweep, const std::string& claim, const std::vector<std::string>& policies,
                 const Judge& judge) {
  Trend trend{claim};
  std::vector<std::string> not_at;
  size_t points = 0;
  for (const size_t users : sweep.options.users) {
    for (const double tau : sweep.options.taus) {
      std::vector<const SweepRow*> rows;
      for (const std::string& policy : policies) rows.push_back(Find(sweep, users, tau, policy));
      ++points;
      const Verdict verdict = judge(rows);
      trend.verdict = std::max(trend.verdict, verdict);
      if (verdict != Trend::kHolds) {
        not_at.push_back(absl::StrFormat("N=%d, tau=%.2g%s", users, tau,
                                         verdict == Trend::kWithinNoise ? " (within the intervals)" : ""));
      }
    }
  }
  trend.detail = not_at.empty()
                     ? absl::StrCat("at all ", points, " points")
                     : absl::StrCat("not at ", not_at.size(), " of ", points, " points: ", absl::StrJoin(not_at, "; "));
  return trend;
}

bool Has(const Sweep& sweep, const std::vector<std::string>& policies) {
  return std::all_of(policies.begin(), policies.end(), [&](const std::string& policy) {
    return std::count(sweep.options.policies.begin(), sweep.options.policies.end(), policy) > 0;
  });
}

Trend Crossing(const Sweep& sweep) {
  Trend trend{"all-edge becomes slower than all-local between 90 and 100 users"};
  const double tau = sweep.options.taus.front();  // neither policy looks at it
  std::vector<size_t> users = sweep.options.users;
  std::sort(users.begin(), users.end());
  size_t faster = 0, slower = 0;
  for (const size_t n : users) {
    if (Find(sweep, n, tau, "all-edge")->delay_ms <= Find(sweep, n, tau, "all-local")->delay_ms) {
      faster = n;
    } else if (slower == 0) {
      slower = n;
    }
  }
  trend.verdict = slower > faster && faster >= 90 && slower <= 100 ? Trend::kHolds : Trend::kDoesNotHold;
  trend.detail = slower == 0   ? absl::StrCat("all-edge is faster up to ", faster, " users, the most that were run")
                 : faster == 0 ? absl::StrCat("all-edge is slower from ", slower, " users on, the fewest that were run")
                               : absl::StrFormat("between %d and %d users", faster, slower);
  return trend;
}

Trend HigherTau(const Sweep& sweep) {
  Trend trend{"with GOA a higher tau offloads fewer and lowers the accuracy"};
  std::vector<double> taus = sweep.options.taus;
  std::sort(taus.begin(), taus.end());
  std::vector<std::string> not_at;
  for (const size_t users : sweep.options.users) {
    for (size_t k = 1; k < taus.size(); ++k) {
      const SweepRow &low = *Find(sweep, users, taus[k - 1], "goa"), &high = *Find(sweep, users, taus[k], "goa");
      const Verdict verdict = high.offloaded > low.offloaded ? Trend::kDoesNotHold : LessAccurate(&high, &low);
      trend.verdict = std::max(trend.verdict, verdict);
      if (verdict != Trend::kHolds) {
        not_at.push_back(absl::StrFormat("N=%d, tau %.2g to %.2g", users, taus[k - 1], taus[k]));
      }
    }
  }
  const size_t users = Nearest(sweep.options.users, kUsers);
  std::vector<std::string> shares;
  for (const double tau : taus) {
    const SweepRow& row = *Find(sweep, users, tau, "goa");
    shares.push_back(
        absl::StrFormat("tau %.2g: %.0f %% offloaded, accuracy %.1f %%", tau, 100 * row.offloaded, 100 * row.accuracy));
  }
  trend.detail = absl::StrCat("N=", users, ": ", absl::StrJoin(shares, "; "));
  if (!not_at.empty()) absl::StrAppend(&trend.detail, "; not at ", absl::StrJoin(not_at, "; "));
  return trend;
}

std::string Table(const Sweep& sweep, double tau) {
  std::string html = absl::StrFormat("<h3>tau = %.2g</h3>\n<div class=wide><table><tr><th>users", tau);
  for (const std::string& policy : sweep.options.policies) absl::StrAppend(&html, "<th>", XmlText(policy));
  html += "</tr>\n";
  for (const size_t users : sweep.options.users) {
    absl::StrAppend(&html, "<tr><td>", users);
    for (const std::string& policy : sweep.options.policies) {
      const SweepRow& row = *Find(sweep, users, tau, policy);
      absl::StrAppendFormat(
          &html, "<td>%.2f ms <small>&plusmn;%.2f</small><br>%.1f %% right<br><small>%.0f %% offloaded</small>",
          row.delay_ms, row.delay_ci_ms, 100 * row.accuracy, 100 * row.offloaded);
    }
    html += "</tr>\n";
  }
  return html + "</table></div>\n";
}

}  // namespace

std::vector<std::pair<std::string, std::string>> SweepCharts(const Sweep& sweep) {
  const double tau = Nearest(sweep.options.taus, kTau);
  const size_t users = Nearest(sweep.options.users, kUsers);
  const std::string at_tau = absl::StrFormat(" (tau = %.2g)", tau);
  const std::vector<std::string>& colours = sweep.options.policies;
  const Chart accuracy{"Accuracy" + at_tau, "users in the epoch, N", "right answers, %",
                       AgainstUsers(sweep, tau, &SweepRow::accuracy, &SweepRow::accuracy_ci, 100)};
  const Chart delay{"Mean delay per user" + at_tau, "users in the epoch, N", "delay, ms",
                    AgainstUsers(sweep, tau, &SweepRow::delay_ms, &SweepRow::delay_ci_ms, 1)};
  Chart plane{absl::StrFormat("Accuracy against delay (N = %d; up and left is better; small figures: tau)", users),
              "mean delay, ms", "right answers, %"};
  for (const std::string& policy : sweep.options.policies) {
    Series line{policy};
    for (const double t : sweep.options.taus) {
      const SweepRow& row = *Find(sweep, users, t, policy);
      const std::pair<double, double> point{row.delay_ms, 100 * row.accuracy};
      if (!line.points.empty() && point == line.points.back()) continue;  // does not look at tau
      line.points.push_back(point);
      line.marks.push_back(absl::StrFormat("%.2g", t));
    }
    if (line.points.size() == 1) line.marks.clear();
    plane.series.push_back(std::move(line));
  }
  Chart time{"Computation time of one decision, median, all cores busy" + at_tau, "users in the epoch, N",
             "microseconds", AgainstUsers(sweep, tau, &SweepRow::solver_us, nullptr, 1)};
  time.log_y = true;
  return {{"accuracy.svg", ChartSvg(accuracy, colours)},
          {"delay.svg", ChartSvg(delay, colours)},
          {"accuracy-delay.svg", ChartSvg(plane, colours)},
          {"computation-time.svg", ChartSvg(time, colours)}};
}

std::vector<Trend> CheckTrends(const Sweep& sweep) {
  using Rows = std::vector<const SweepRow*>;
  std::vector<Trend> trends;
  if (Has(sweep, {"goa", "all-local"})) {
    trends.push_back(EveryPoint(sweep, "GOA is faster than all-local everywhere", {"goa", "all-local"},
                                [](const Rows& r) { return Faster(r[0], r[1]); }));
  }
  if (Has(sweep, {"all-edge", "goa", "min-delay"})) {
    trends.push_back(
        EveryPoint(sweep, "accuracy: all-edge above GOA above min-delay", {"min-delay", "goa", "all-edge"},
                   [](const Rows& r) { return std::max(LessAccurate(r[0], r[1]), LessAccurate(r[1], r[2])); }));
  }
  if (Has(sweep, {"min-delay", "goa", "random", "all-edge"})) {
    trends.push_back(EveryPoint(sweep, "delay above 60 users: min-delay below GOA below random below all-edge",
                                {"min-delay", "goa", "random", "all-edge"}, [](const Rows& r) {
                                  if (r[0]->users <= 60) return Trend::kHolds;
                                  return std::max({Faster(r[0], r[1]), Faster(r[1], r[2]), Faster(r[2], r[3])});
                                }));
  }
  if (Has(sweep, {"all-edge", "all-local"})) trends.push_back(Crossing(sweep));
  if (Has(sweep, {"goa"})) trends.push_back(HigherTau(sweep));
  if (Has(sweep, {"goa-relocate", "goa"})) {
    trends.push_back(EveryPoint(
        sweep, "goa-relocate is faster than GOA and not less accurate", {"goa-relocate", "goa"}, [](const Rows& r) {
          return r[0]->accuracy == r[1]->accuracy ? Faster(r[0], r[1])
                                                  : std::max(Faster(r[0], r[1]), LessAccurate(r[1], r[0]));
        }));
    trends.back().of_paper = false;
    const SweepRow &better = *Find(sweep, Nearest(sweep.options.users, kUsers), Nearest(sweep.options.taus, kTau),
                                   "goa-relocate"),
                   &goa = *Find(sweep, better.users, better.tau, "goa");
    absl::StrAppendFormat(&trends.back().detail,
                          "; N=%d, tau=%.2g: %.2f ms instead of %.2f, accuracy %.2f %% instead of %.2f", better.users,
                          better.tau, better.delay_ms, goa.delay_ms, 100 * better.accuracy, 100 * goa.accuracy);
  }
  return trends;
}

const char* VerdictText(const Trend& trend) {
  return trend.verdict == Trend::kHolds         ? "Holds"
         : trend.verdict == Trend::kWithinNoise ? "Holds within the intervals"
                                                : "Does not hold";
}

std::string SweepReport(const Sweep& sweep) {
  const SweepOptions& o = sweep.options;
  std::string html = R"(<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>goad-sim: the paper's experiment</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;color:#222;max-width:1000px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem} h2{margin-top:2.2rem} small,.quiet{color:#666}
figure{margin:1rem 0} svg{width:100%;height:auto;max-width:860px;border:1px solid #eee;border-radius:6px}
table{border-collapse:collapse;font-size:.85rem;white-space:nowrap}
td,th{padding:.35rem .7rem;border-bottom:1px solid #e4e4e4;text-align:right}
.wide{overflow-x:auto}
ul.trends{list-style:none;padding:0}
.trends li{padding:.5rem .8rem;margin:.4rem 0;border-left:5px solid;background:#f8f8f8}
.yes{border-color:#009e73!important} .near{border-color:#e69f00!important} .no{border-color:#d55e00!important}
</style>
<h1>Offloading policies in the paper's experiment</h1>
)";
  absl::StrAppendFormat(&html,
                        "<p class=quiet>arXiv 2602.07958; goad %s. N users on a 500 m square ask at once, %d sites; %d "
                        "random epochs a point, the same ones for "
                        "every policy and every tau (seed %d); lambda %.3g ms. Every number is simulated. An interval "
                        "is 95 %% of the mean over epochs.</p>\n",
                        GOAD_VERSION, o.sites, o.draws, o.seed, 1e3 * o.lambda_s);
  html += o.workload.empty() ? absl::StrFormat(
                                   "<p><b>Accuracy is a model, not a measurement:</b> an answer of uncertainty &alpha; "
                                   "is right with chance "
                                   "%.2f &minus; %.3f &alpha; on the device and %.2f &minus; %.3f &alpha; at the edge, "
                                   "fitted to the paper's all-local "
                                   "45.2 %% and all-edge 56.2 %% at the mean of &alpha; ~ Beta(1.4, 0.82).</p>\n",
                                   kSureAccuracy, LocalAccuracy(0) - LocalAccuracy(1), kSureAccuracy,
                                   EdgeAccuracy(0) - EdgeAccuracy(1))
                             : absl::StrCat(
                                   "<p>Uncertainty, prompt size, local times (scaled to a mean of 35.9 ms) and right "
                                   "or wrong answers are those "
                                   "recorded in <code>",
                                   XmlText(o.workload), "</code>.</p>\n");
  html += "<h2>What it shows</h2>\n<ul class=trends>\n";
  for (const Trend& trend : CheckTrends(sweep)) {
    absl::StrAppend(&html, "<li class=",
                    trend.verdict == Trend::kHolds         ? "yes"
                    : trend.verdict == Trend::kWithinNoise ? "near"
                                                           : "no",
                    "><b>", VerdictText(trend), "</b> ",
                    trend.of_paper ? "(the paper's trend)" : "(this project's claim)", ": ", XmlText(trend.claim),
                    ".<br><small>", XmlText(trend.detail), "</small></li>\n");
  }
  html += "</ul>\n<h2>Pictures</h2>\n";
  for (const auto& [name, svg] : SweepCharts(sweep)) absl::StrAppend(&html, "<figure>", svg, "</figure>\n");
  html += "<h2>Tables</h2>\n";
  for (const double tau : o.taus) html += Table(sweep, tau);
  return html + "</html>\n";
}

}  // namespace goad::sched
