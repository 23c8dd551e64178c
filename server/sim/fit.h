// `goad-sim fit`: the outcomes of a decision log, predicted again by the configured numbers and by what the estimator
// learns from one after the other.
#ifndef GOAD_SERVER_SIM_FIT_H_
#define GOAD_SERVER_SIM_FIT_H_

#include <cstddef>
#include <istream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "server/engine/service_times.h"
#include "server/engine/uplink_table.h"
#include "server/telemetry/outcome_record.h"

namespace goad::server {

// (predicted - measured) / measured, of one way to predict.
struct FitErrors {
  std::vector<double> relative;
  void Add(double predicted, double measured) {
    if (measured > 0) relative.push_back((predicted - measured) / measured);
  }
};

// What goes into the estimator is what went in at the daemon: fair samples only, and each is predicted before it is
// learned from. Thread-compatible.
class Fit {
 public:
  // `after`: the first so many samples of a site, and uploads, are learned from but count for no error.
  explicit Fit(size_t after = 0) : after_(after) {}

  // Adds the outcomes of `in`; the files of a rotated log come oldest first. Lines of other kinds are passed over.
  // INVALID_ARGUMENT names the line of `source` that is no JSON object, or the field of an outcome that cannot be.
  absl::Status Read(std::istream& in, const std::string& source);

  size_t outcomes() const { return outcomes_; }
  // {"sites":[{"site","answers","samples","decided","configured","learned",
  //             "assumed_lengths":{"configured","learned"}}],
  //  "upload":{"answers","samples","decided","configured","learned"}}, each way to predict being
  // {"median_relative_error","bias"} (the median of its absolute, the mean of its signed relative errors), or null
  // where there is nothing to predict. By name.
  nlohmann::json Json() const;
  std::string Table() const;

 private:
  struct Part {
    size_t answers = 0, samples = 0;
    FitErrors decided;              // what the daemon predicted when it decided; of all answers
    FitErrors configured, learned;  // of the samples, by what they turned out to be
  };
  struct Site : Part {
    ServiceEstimate estimate;
    SiteConfig config;                              // what the estimate began with; only what BeginsAnew looks at
    FitErrors assumed_configured, assumed_learned;  // by the output tokens that the decision assumed
  };
  void AddUpload(const OutcomeRecord& record, MonotonicTime at);
  void AddAnswer(const OutcomeRecord& record, MonotonicTime at);
  static nlohmann::json Row(const Part& part);

  const size_t after_;
  size_t outcomes_ = 0;
  double last_s_ = 0;
  std::map<std::string, Site> sites_;
  Part upload_;
  std::unique_ptr<UplinkTable> uplinks_ = std::make_unique<UplinkTable>();
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_FIT_H_
