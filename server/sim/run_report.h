// What `goad-sim run` prints.
#ifndef GOAD_SERVER_SIM_RUN_REPORT_H_
#define GOAD_SERVER_SIM_RUN_REPORT_H_

#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "server/sim/run.h"

namespace goad::server {

std::string FormatRun(const RunReport& report, const RunOptions& options);

// {"policy","tau","lambda_s","seed","seconds","sites","asked","epochs",
//  "emulated":[a sentence each],
//  "local":{REASON:count},"offloaded":{...},"failed":{...},"offloaded_share",
//  "accuracy":{"goad","all_local","all_edge"} (shares of right answers),
//  "delay_s":{"all","local","offloaded"}, each {"mean","p50","p99","count"}}
// and with arrivals
//  {"learn","configured_error","time_scale",
//   "prediction_error":{"compute","compute_assumed_length","upload"}, each {"median_relative_error","bias","answers"}
//   or null without answers, the errors being (predicted - taken) / taken: their absolute values' median, their mean.
//   What a site takes is predicted when it is decided: "compute" is what that would have been for the answer's true
//   length, "compute_assumed_length" what it was, "by_site":[{"site","slots","busy" (share of the slots
//   held),"compute_before","compute_after" (of half of the time)}]}.
nlohmann::json RunJson(const RunReport& report, const RunOptions& options);

// One row for each policy, in the order of the reports; delays beside the first one's, question by question.
std::string FormatComparison(const std::vector<RunReport>& reports, const std::vector<std::string>& policies,
                             const RunOptions& options);
// {"runs":[as RunJson, with "delay_beside_first_s":{"mean","low","high"}]}: the mean over questions and its 95 %
// interval from the means of 20 stretches of time.
nlohmann::json ComparisonJson(const std::vector<RunReport>& reports, const std::vector<std::string>& policies,
                              const RunOptions& options);

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_RUN_REPORT_H_
