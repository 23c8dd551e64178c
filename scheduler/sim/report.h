// `goad-sim plot` and `goad-sim report`: what a sweep shows, as pictures and as one page.
#ifndef GOAD_SCHEDULER_SIM_REPORT_H_
#define GOAD_SCHEDULER_SIM_REPORT_H_

#include <string>
#include <utility>
#include <vector>

#include "scheduler/sim/sweep.h"

namespace goad::sched {

// (file name, SVG): accuracy and delay against the users, the plane of the two, computation time.
std::vector<std::pair<std::string, std::string>> SweepCharts(const Sweep& sweep);

// One sentence that the paper (or this project) says of the policies, held against the numbers of a sweep.
struct Trend {
  std::string claim;
  bool of_paper = true;
  enum {
    kHolds,
    kWithinNoise,
    kDoesNotHold
  } verdict = kHolds;  // within noise: broken, but nowhere by more than the intervals
  std::string detail;  // the numbers, and where it does not hold
};
const char* VerdictText(const Trend& trend);         // for people
std::vector<Trend> CheckTrends(const Sweep& sweep);  // those whose policies and points the sweep has

// A self-contained HTML page: settings, trends, charts, tables.
std::string SweepReport(const Sweep& sweep);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SIM_REPORT_H_
