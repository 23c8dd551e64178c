// The numbers of a fleet run and their table. Pure.
#ifndef GOAD_CLIENT_SDK_LOADGEN_REPORT_H_
#define GOAD_CLIENT_SDK_LOADGEN_REPORT_H_

#include <map>
#include <string>
#include <vector>

#include "client_sdk/loadgen/device_fleet.h"

namespace goad::loadgen {

// A share of right answers with its 95 % Wilson score interval.
struct Proportion {
  int right = 0, total = 0;
  double value() const { return total == 0 ? 0 : static_cast<double>(right) / total; }
  double low() const;
  double high() const;
};

// Mean difference of paired outcomes with its 95 % normal interval.
struct PairedDifference {
  double mean = 0, half_width = 0;
};
PairedDifference DifferenceOf(const std::vector<double>& differences);

struct Quantiles {
  int count = 0;
  double mean_s = 0, p50_s = 0, p99_s = 0;
};
Quantiles QuantilesOf(std::vector<double> seconds);

struct Report {
  int asked = 0, local = 0, edge = 0, lost = 0, twice = 0, as_recorded = 0;  // as_recorded: of the edge answers
  // Live device answers: shown ones, those of them that are word for word the recorded ones; and of all questions that
  // ran live, the largest difference of uncertainty to the recorded one.
  int live = 0, live_local = 0, live_as_recorded = 0;
  double live_uncertainty_off = 0;
  std::map<std::string, int> local_by_reason, edge_by_reason;
  Proportion accuracy, all_local, all_edge;  // of the same questions
  PairedDifference over_local, under_edge;   // goad - all-local, goad - all-edge
  Quantiles delay, local_delay, edge_delay, ttft, tpot;
};

Report MakeReport(const std::vector<Outcome>& outcomes);
std::string WhatIsEmulated(const FleetOptions& options);  // for the head of every report
std::string FormatReport(const Report& report, const FleetOptions& options);

}  // namespace goad::loadgen

#endif  // GOAD_CLIENT_SDK_LOADGEN_REPORT_H_
