#include "server/sim/labels.h"

#include <map>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/calibration/reliability.h"
#include "server/base/clip.h"
#include "server/calibration/calibration_file.h"
#include "server/calibration/fields.h"
#include "server/sim/log_lines.h"

namespace goad::server {
namespace {

using calibration::Label;

absl::StatusOr<Label> ReadLabel(const std::string& text) {
  const absl::StatusOr<nlohmann::json> object = ParseObject(text, kMostLabelBytes, /*most_depth=*/2);
  if (!object.ok()) return object.status();
  Fields fields(*object, "");
  Label label;
  label.uncertainty = fields.Number("uncertainty", 0, 1);
  label.metric = fields.Text("metric", kMostModelBytes);
  if (fields.ok() && !IsMetric(label.metric)) {
    fields.Wrong("metric", absl::StrCat("\"", Clip(label.metric), "\" is not one of ", MetricNames()));
  }
  label.model = fields.Text("model", kMostModelBytes);
  if (fields.Has("kind")) label.kind = fields.Text("kind", kMostKindBytes);
  label.device_correct = fields.Bool("device_correct");
  if (fields.Has("edge_correct")) label.edge_correct = fields.Bool("edge_correct");
  if (absl::Status status = fields.Done(); !status.ok()) return status;
  return label;
}

}  // namespace

absl::Status ReadLabels(std::istream& in, const std::string& source, std::vector<Label>* labels) {
  return ReadLines(in, source, kMostLabelBytes, [labels](const std::string& text, const std::string&) {
    absl::StatusOr<Label> label = ReadLabel(text);
    if (!label.ok()) return label.status();
    if (labels->size() == kMostLabels) {
      return absl::InvalidArgumentError(absl::StrCat("is one more than ", kMostLabels, " labels"));
    }
    labels->push_back(*std::move(label));
    return absl::OkStatus();
  });
}

absl::Status CheckLabels(const std::vector<Label>& labels) {
  struct Group {
    std::vector<calibration::Predicted> predicted;
    size_t edge = 0;
  };
  std::map<std::pair<std::string, std::string>, Group> groups;
  size_t edge = 0;
  std::set<std::tuple<std::string, std::string, std::string>> kinds;
  for (const Label& label : labels) {
    const std::pair key(label.metric, label.model);
    groups[key].predicted.push_back({label.uncertainty, !label.device_correct});
    groups[key].edge += label.edge_correct ? 1 : 0;
    edge += label.edge_correct ? 1 : 0;
    kinds.emplace(label.metric, label.model, label.kind);
  }
  const auto wrong = [](const std::string& what) { return absl::InvalidArgumentError(what); };
  if (labels.empty()) return wrong(absl::StrCat("no labels, want at least ", kLeastLabels));
  if (kinds.size() + groups.size() > kMostCurves) {
    return wrong(absl::StrCat(kinds.size(), " kinds of ", groups.size(), " metrics and models, want at most ",
                              kMostCurves, " together"));
  }
  for (const auto& [key, group] : groups) {
    const std::string of = absl::StrCat(" of metric ", key.first, " and model \"", Clip(key.second), "\"");
    if (group.predicted.size() < kLeastLabels) {
      return wrong(absl::StrCat(group.predicted.size(), " labels", of, ", want at least ", kLeastLabels));
    }
    const std::optional<double> auroc = calibration::Auroc(group.predicted);
    if (!auroc) {
      return wrong(absl::StrCat("the device is ", group.predicted[0].wrong ? "never" : "always", " right in all ",
                                group.predicted.size(), " labels", of, ": nothing to tell apart"));
    }
    if (*auroc < 0.5 - 3 * calibration::AurocDeviationByChance(group.predicted)) {
      return wrong(absl::StrFormat(
          "the unsure answers%s are the right ones (AUROC %.2f): an uncertainty of 0 means sure", of, *auroc));
    }
    if (edge > 0 && group.edge < kLeastLabels) {
      return wrong(absl::StrCat("edge_correct is in ", group.edge, " labels", of, " and in ", edge - group.edge,
                                " of others; want at least ", kLeastLabels, " of each, or none at all"));
    }
  }
  return absl::OkStatus();
}

}  // namespace goad::server
