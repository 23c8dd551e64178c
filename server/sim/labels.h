// Labels as JSON lines: questions whose truth is known, for `goad-sim calibrate`.
#ifndef GOAD_SERVER_SIM_LABELS_H_
#define GOAD_SERVER_SIM_LABELS_H_

#include <istream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "scheduler/calibration/curves.h"

namespace goad::server {

inline constexpr size_t kMostLabelBytes = 4096;
// Of each metric and model; half of them make the curve.
inline constexpr size_t kLeastLabels = 40;

// Appends the labels of `in`: {"uncertainty", "metric", "model", "kind"?, "device_correct", "edge_correct"?}, one a
// line, no other field. INVALID_ARGUMENT, as ReadLines words it, names the first line and field that is wrong.
absl::Status ReadLabels(std::istream& in, const std::string& source, std::vector<calibration::Label>* labels);

// Whether they are enough, and do not contradict themselves: kLeastLabels of each metric and model, some right and some
// wrong; where any say something of the edge, kLeastLabels do of each; the unsure answers are not the right ones.
absl::Status CheckLabels(const std::vector<calibration::Label>& labels);

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_LABELS_H_
