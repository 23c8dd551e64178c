// What `goad-sim calibrate` prints and draws.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/sim/chart.h"
#include "server/sim/calibrate.h"

namespace goad::server {
namespace {

using calibration::BoundOf;
using calibration::Curve;
using calibration::Evidence;
using calibration::ReliabilityBin;
using calibration::Step;
using nlohmann::json;

constexpr char kAssumption[] =
    "these labels are drawn at random from the questions to come, each on its own; links are independent of "
    "correctness: "
    "what is offloaded for delay below tau is so whoever would be right";

double ShareOf(const Evidence& evidence, size_t count) {
  return static_cast<double>(count) / static_cast<double>(evidence.labels);
}
double Percent(double share) { return 100 * share; }

// Nothing where the labels say nothing of the edge.
std::optional<double> Best(const CalibrateReport& report) {
  const Evidence& evidence = report.calibration.evidence;
  if (evidence.steps.empty()) return std::nullopt;
  return BoundOf(evidence, evidence.steps[0], report.options.confidence);
}

std::string ReliabilityText(const CalibrateReport& report) {
  const auto row = [](const char* name, const Prediction& prediction) {
    return absl::StrFormat("  %-18s  %.3f   %s\n", name, calibration::CalibrationError(prediction.bins),
                           prediction.auroc ? absl::StrFormat("%.3f", *prediction.auroc) : "-");
  };
  std::string text = absl::StrFormat(
      "As P(the device is wrong), on the %d labels that the curves have not seen\n"
      "  %-18s  ECE     AUROC     (10 bins of equal count; by chance alone a perfect curve shows %.3f)\n%s%s\n"
      "      uncertainty           curves\n    said     wrong      said     wrong\n",
      report.certify, "", calibration::ErrorByChance(report.after.bins), row("the uncertainty", report.before),
      row("the curves", report.after));
  for (size_t k = 0; k < std::min(report.before.bins.size(), report.after.bins.size()); ++k) {
    const ReliabilityBin &before = report.before.bins[k], &after = report.after.bins[k];
    absl::StrAppendFormat(&text, "  %5.1f %%   %5.1f %%   %5.1f %%   %5.1f %%\n", Percent(before.predicted),
                          Percent(before.wrong), Percent(after.predicted), Percent(after.wrong));
  }
  return text;
}

std::string SharesText(const CalibrateReport& report) {
  std::string text = "\nAccuracy when a share is offloaded, the rest local\n  share    by value   by uncertainty\n";
  for (const ShareRow& row : report.shares) {
    absl::StrAppendFormat(&text, "  %3.0f %%     %5.1f %%          %5.1f %%\n", Percent(row.share),
                          Percent(row.by_value), Percent(row.by_uncertainty));
  }
  return text;
}

std::string StepsText(const CalibrateReport& report) {
  const Evidence& evidence = report.calibration.evidence;
  std::string text = absl::StrFormat(
      "\nAccuracy by tau; below it a question may go either way, and each stratum counts with the worse\n"
      "  value tau  offloaded      seen  certified   all local below: seen  certified\n");
  const auto& certificate = report.calibration.certificate;
  for (size_t k = 0; k < evidence.steps.size(); ++k) {
    const Step& step = evidence.steps[k];
    const bool chosen = certificate && certificate->value_tau == step.value_tau;
    if (k % 10 != 0 && k + 1 != evidence.steps.size() && !chosen) continue;
    absl::StrAppendFormat(
        &text, "  %9.4f    %5.1f %%   %5.1f %%    %5.1f %%                %5.1f %%    %5.1f %%%s\n", step.value_tau,
        Percent(ShareOf(evidence, step.offloaded)), Percent(ShareOf(evidence, step.right)),
        Percent(BoundOf(evidence, step, report.options.confidence)), Percent(ShareOf(evidence, step.local_right)),
        Percent(BoundOf(evidence, step, report.options.confidence, calibration::Below::kLocal)),
        chosen ? "  <- tau" : "");
  }
  return text;
}

std::string VerdictText(const CalibrateReport& report) {
  const auto& [accuracy, confidence] = report.options;
  if (report.with_edge == 0) return "\nNo certificate: no label has edge_correct.\n";
  std::string text = "\n";
  if (const auto& certificate = report.calibration.certificate) {
    absl::StrAppendFormat(
        &text, "Certified: value tau %.4f holds %.1f %% accuracy or more, with %.4g %% confidence, on %d labels.\n",
        certificate->value_tau, Percent(accuracy), Percent(confidence), certificate->labels);
    absl::StrAppendFormat(&text, "Price: %.1f %% of the questions are offloaded whatever the delay.\n",
                          Percent(certificate->share));
    for (const MoreRow& row : report.more) {
      absl::StrAppendFormat(&text, "  %-36s %5.1f %%\n",
                            row.times > 100 ? "with any number of labels that agree:"
                                            : absl::StrFormat("with %d labels more that agree:",
                                                              (row.times - 1) * (report.fit + report.certify)),
                            Percent(row.certificate.share));
    }
  } else {
    absl::StrAppendFormat(
        &text, "Not certified: no tau holds %.1f %% accuracy with %.4g %% confidence; the best is %.1f %%.\n",
        Percent(accuracy), Percent(confidence), Percent(*Best(report)));
    absl::StrAppend(&text,
                    report.more_labels
                        ? absl::StrFormat("  %d labels more that agree would do.\n", *report.more_labels)
                        : std::string("  No number of labels would do: what was seen at tau 0 is not above it.\n"));
  }
  if (report.local_alone) {
    absl::StrAppendFormat(&text, "Were all below tau answered locally: value tau %.4f, %.1f %% offloaded.\n",
                          report.local_alone->value_tau, Percent(report.local_alone->share));
  }
  if (report.tau) {
    absl::StrAppendFormat(&text, "By the uncertainty alone: tau %.4f, %.1f %% offloaded%s.\n", *report.tau,
                          Percent(report.plain->share),
                          report.kinds ? "; certified by itself: settle on one of the two before you look" : "");
  }
  return absl::StrCat(text, "Assumed: ", kAssumption, ".\n");
}

json BinsJson(const Prediction& prediction) {
  json bins = json::array();
  for (const ReliabilityBin& bin : prediction.bins) {
    bins.push_back({{"labels", bin.labels}, {"predicted", bin.predicted}, {"wrong", bin.wrong}});
  }
  return bins;
}

template <typename T>
json OrNull(const std::optional<T>& value) {
  return value ? json(*value) : json();
}

}  // namespace

std::string FormatCalibration(const CalibrateReport& report) {
  std::string text = absl::StrFormat("%d labels: %d for the curves, %d to certify (by a shuffle of seed %d)\n\n",
                                     report.fit + report.certify, report.fit, report.certify, calibration::kSplitSeed);
  absl::StrAppend(&text, ReliabilityText(report));
  if (report.with_edge > 0) absl::StrAppend(&text, SharesText(report), StepsText(report));
  return absl::StrCat(text, VerdictText(report));
}

json CalibrationJson(const CalibrateReport& report) {
  const auto& certificate = report.calibration.certificate;
  const Evidence& evidence = report.calibration.evidence;
  json object = {{"tau", OrNull(report.tau)},
                 {"value_tau", certificate ? json(certificate->value_tau) : json()},
                 {"certified", certificate ? json(certificate->bound) : json()},
                 {"labels", report.fit + report.certify},
                 {"share", certificate ? json(certificate->share) : json()},
                 {"accuracy", report.options.accuracy},
                 {"confidence", report.options.confidence},
                 {"seed", calibration::kSplitSeed},
                 {"fit_labels", report.fit},
                 {"certify_labels", report.with_edge},
                 {"best", OrNull(Best(report))},
                 {"more_labels", OrNull(report.more_labels)},
                 {"assumption", kAssumption},
                 {"ece_before", calibration::CalibrationError(report.before.bins)},
                 {"ece_after", calibration::CalibrationError(report.after.bins)},
                 {"ece_bins", "10 of equal count"},
                 {"ece_by_chance", calibration::ErrorByChance(report.after.bins)},
                 {"auroc_before", OrNull(report.before.auroc)},
                 {"auroc_after", OrNull(report.after.auroc)},
                 {"reliability", {{"before", BinsJson(report.before)}, {"after", BinsJson(report.after)}}},
                 {"local_alone", json()},
                 {"accuracy_by_share", json::array()},
                 {"steps", json::array()},
                 {"curves", json::array()}};
  if (const auto& local = report.local_alone) {
    object["local_alone"] = {{"value_tau", local->value_tau}, {"certified", local->bound}, {"share", local->share}};
  }
  for (const ShareRow& row : report.shares) {
    object["accuracy_by_share"].push_back(
        {{"share", row.share}, {"by_value", row.by_value}, {"by_uncertainty", row.by_uncertainty}});
  }
  for (const Step& step : evidence.steps) {
    object["steps"].push_back({{"value_tau", step.value_tau},
                               {"share", ShareOf(evidence, step.offloaded)},
                               {"accuracy", ShareOf(evidence, step.right)},
                               {"certified", BoundOf(evidence, step, report.options.confidence)},
                               {"local_accuracy", ShareOf(evidence, step.local_right)}});
  }
  for (const Curve& curve : report.calibration.curves) {
    json row = {{"metric", curve.metric},
                {"model", curve.model},
                {"kind", curve.kind.empty() ? json() : json(curve.kind)},
                {"labels", curve.labels},
                {"edge_wrong", OrNull(curve.edge_wrong)},
                {"tau", certificate ? json(curve.TauFor(certificate->value_tau)) : json()},
                {"points", json::array()}};
    for (const calibration::Point& point : curve.points) row["points"].push_back({point.x, point.y});
    object["curves"].push_back(std::move(row));
  }
  return object;
}

std::string CalibrationSvg(const CalibrateReport& report) {
  using sched::Chart;
  using sched::Series;
  const std::vector<std::string> colours = {"curves", "uncertainty",    "by value", "perfect",
                                            "",       "by uncertainty", "",         "target"};
  const auto series = [](const char* name, const Prediction& prediction) {
    Series line{.name = name};
    for (const ReliabilityBin& bin : prediction.bins)
      line.points.emplace_back(Percent(bin.predicted), Percent(bin.wrong));
    return line;
  };
  Chart reliability{.title = "Reliability: said and seen, 10 bins of equal count",
                    .x_label = "P(device wrong) as said, %",
                    .y_label = "device wrong, %",
                    .series = {series("curves", report.after),
                               series("uncertainty", report.before),
                               {.name = "perfect", .points = {{0, 0}, {100, 100}}}}};
  const std::string first = ChartSvg(reliability, colours);
  if (report.shares.empty()) return first;
  Chart accuracy{.title = "Accuracy against share, the rest answered locally",
                 .x_label = "offloaded, %",
                 .y_label = "right, %",
                 .series = {{.name = "by value"}, {.name = "by uncertainty"}}};
  for (const ShareRow& row : report.shares) {
    accuracy.series[0].points.emplace_back(Percent(row.share), Percent(row.by_value));
    accuracy.series[1].points.emplace_back(Percent(row.share), Percent(row.by_uncertainty));
  }
  const double target = Percent(report.options.accuracy);
  accuracy.series.push_back({.name = "target", .points = {{0, target}, {100, target}}});
  if (const auto& certificate = report.calibration.certificate) {
    const double at = Percent(certificate->share), bottom = accuracy.series[1].points[0].second;
    accuracy.series.push_back({.name = "certified tau", .points = {{at, bottom}, {at, target}}});
  }
  const auto placed = [](const std::string& svg, const char* y) {
    return "<svg y=\"" + std::string(y) + "\" width=\"760\" height=\"420\"" + svg.substr(4);
  };
  return absl::StrCat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 850\" width=\"760\" height=\"850\">\n",
      "<rect width=\"760\" height=\"850\" fill=\"#fff\"/>\n", placed(first, "0"),
      placed(ChartSvg(accuracy, colours), "430"), "</svg>\n");
}

}  // namespace goad::server
