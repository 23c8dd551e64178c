// The decision library's enums on the wire. By name, not by number: a value that is added to one side and not to the
// other does not compile (-Wswitch), or fails tests/server/wire/enums_test.
#ifndef GOAD_SERVER_WIRE_ENUMS_H_
#define GOAD_SERVER_WIRE_ENUMS_H_

#include "goad/uncertainty_source.h"
#include "goad/v1/offload.pb.h"
#include "scheduler/types.h"

namespace goad::server {

inline v1::UncertaintyMetric ToWire(UncertaintyMetric metric) {
  switch (metric) {
    case UncertaintyMetric::kMargin: return v1::UNCERTAINTY_METRIC_MARGIN;
    case UncertaintyMetric::kMaxProbability: return v1::UNCERTAINTY_METRIC_MAX_PROBABILITY;
    case UncertaintyMetric::kMeanLogprob: return v1::UNCERTAINTY_METRIC_MEAN_LOGPROB;
    case UncertaintyMetric::kLowQuantile: return v1::UNCERTAINTY_METRIC_LOW_QUANTILE;
    case UncertaintyMetric::kDeclared: return v1::UNCERTAINTY_METRIC_DECLARED;
  }
  return v1::UNCERTAINTY_METRIC_UNSPECIFIED;
}

inline v1::Verdict ToWire(sched::Verdict verdict) {
  switch (verdict) {
    case sched::Verdict::kLocal: return v1::VERDICT_LOCAL;
    case sched::Verdict::kOffload: return v1::VERDICT_OFFLOAD;
  }
  return v1::VERDICT_UNSPECIFIED;
}

inline v1::Reason ToWire(sched::Reason reason) {
  switch (reason) {
    case sched::Reason::kUncertain: return v1::REASON_UNCERTAIN;
    case sched::Reason::kDelayGain: return v1::REASON_DELAY_GAIN;
    case sched::Reason::kNoGain: return v1::REASON_NO_GAIN;
    case sched::Reason::kNoLink: return v1::REASON_NO_LINK;
    case sched::Reason::kLinkStale: return v1::REASON_LINK_STALE;
    case sched::Reason::kNoSite: return v1::REASON_NO_SITE;
    case sched::Reason::kSiteFull: return v1::REASON_SITE_FULL;
    case sched::Reason::kTauInfeasible: return v1::REASON_TAU_INFEASIBLE;
    case sched::Reason::kDeadline: return v1::REASON_DEADLINE;
    case sched::Reason::kOverload: return v1::REASON_OVERLOAD;
    case sched::Reason::kQuota: return v1::REASON_QUOTA;
    case sched::Reason::kDraining: return v1::REASON_DRAINING;
    case sched::Reason::kPolicy: return v1::REASON_POLICY;
    case sched::Reason::kUplinkBusy: return v1::REASON_UPLINK_BUSY;
    case sched::Reason::kSiteDraining: return v1::REASON_SITE_DRAINING;
    case sched::Reason::kNotAble: return v1::REASON_NOT_ABLE;
  }
  return v1::REASON_UNSPECIFIED;
}

}  // namespace goad::server

#endif  // GOAD_SERVER_WIRE_ENUMS_H_
