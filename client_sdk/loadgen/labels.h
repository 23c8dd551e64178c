// Recorded questions as labels for `goad-sim calibrate`.
#ifndef GOAD_CLIENT_SDK_LOADGEN_LABELS_H_
#define GOAD_CLIENT_SDK_LOADGEN_LABELS_H_

#include <string>
#include <vector>

#include "scheduler/workload/workload.h"

namespace goad::loadgen {

// {"uncertainty","metric","model","kind"?,"device_correct","edge_correct"}, a line for each question, in their order;
// metric and model as the fleet's Hello has them: MARGIN, and none said.
std::string LabelLines(const std::vector<sched::RecordedQuestion>& questions);

}  // namespace goad::loadgen

#endif  // GOAD_CLIENT_SDK_LOADGEN_LABELS_H_
