// How long a site takes for a query, learned from those that it completed. The configured numbers are where it starts.
// Without answers it returns to them, or to what the site usually took where that is faster: one that was slow is tried
// again though nobody has configured how fast it can be.
#ifndef GOAD_SERVER_ENGINE_SERVICE_TIMES_H_
#define GOAD_SERVER_ENGINE_SERVICE_TIMES_H_

#include <array>
#include <cstddef>

#include "scheduler/estimate/linear_estimate.h"
#include "server/base/monotonic_time.h"
#include "server/config/config.h"
#include "server/engine/events.h"
#include "server/engine/status.h"

namespace goad::server {

// Of one site. Owned by the engine thread; thread-compatible.
class ServiceEstimate {
 public:
  // A query that was run; `declared`: prompt tokens, as the device counted them; `queries`: on its backend, itself
  // included, the mean over its life. Not for sites whose compute model is not batching, nor for those that may not
  // learn.
  void Add(const ComputeConfig& compute, const ServedSample& sample, int declared, double queries, MonotonicTime now);

  // What the model reads now; the configured numbers, to the last bit, until there was an answer. `samples` counts all
  // answers of a usual that it has returned to.
  ServiceTimes At(const ComputeConfig& compute, MonotonicTime now) const;

 private:
  static constexpr double kKeep = 0.93;  // some 14 answers count: right again after 40 when its speed has changed

  // Of the latest answers' prompts, in tokens: what devices declare, and what servers had to compute. They differ by
  // how each counts and by what servers had cached; the next prompt is declared, too.
  double ComputedPerDeclared() const;

  // What it returns to. In the order of the features: 1, prompt tokens, output tokens, output tokens x queries.
  estimate::Vector Start(const ComputeConfig& compute) const;
  void Remember(const estimate::Vector& features, const estimate::Vector& learned);

  // What was learned after every kEvery-th answer, the latest kRemembered of them. The usual is the one of them that a
  // quarter are faster than, for the mean of all questions: what a minute of few and slow answers leaves alone, and
  // what is no more once most are slow.
  static constexpr size_t kEvery = 8, kRemembered = 15;
  std::array<estimate::Vector, kRemembered> remembered_ = {};
  uint64_t answers_ = 0;
  estimate::Vector mean_question_ = {}, usual_ = {};

  estimate::LinearEstimate estimate_{kKeep};
  double declared_ = 0, computed_ = 0;  // fading sums
};

// Whether what was learned under one configuration is of no use under the other: other servers, other models, another
// start.
bool BeginsAnew(const SiteConfig& before, const SiteConfig& now);

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_SERVICE_TIMES_H_
