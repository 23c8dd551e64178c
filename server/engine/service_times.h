// How long a site takes for a query, learned from those that it completed. The configured numbers are where it starts
// and where it returns to.
#ifndef GOAD_SERVER_ENGINE_SERVICE_TIMES_H_
#define GOAD_SERVER_ENGINE_SERVICE_TIMES_H_

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

  // What the model reads now. The configured numbers when nothing is known.
  ServiceTimes At(const ComputeConfig& compute, MonotonicTime now) const;

 private:
  static constexpr double kKeep = 0.93;  // some 14 answers count: right again after 40 when its speed has changed

  // Of the latest answers' prompts, in tokens: what devices declare, and what servers had to compute. They differ by
  // how each counts and by what servers had cached; the next prompt is declared, too.
  double ComputedPerDeclared() const;

  estimate::LinearEstimate estimate_{kKeep};
  double declared_ = 0, computed_ = 0;  // fading sums
};

// Whether what was learned under one configuration is of no use under the other: other servers, other models, another
// start.
bool BeginsAnew(const SiteConfig& before, const SiteConfig& now);

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_SERVICE_TIMES_H_
