#include "client_sdk/loadgen/labels.h"

#include "nlohmann/json.hpp"

namespace goad::loadgen {

std::string LabelLines(const std::vector<sched::RecordedQuestion>& questions) {
  std::string lines;
  for (const sched::RecordedQuestion& question : questions) {
    nlohmann::ordered_json label = {{"uncertainty", question.uncertainty}, {"metric", "MARGIN"}, {"model", ""}};
    if (!question.kind.empty()) label["kind"] = question.kind;
    label["device_correct"] = question.device.correct;
    label["edge_correct"] = question.edge.correct;
    lines += label.dump() + "\n";
  }
  return lines;
}

}  // namespace goad::loadgen
