// The small model of a device and how unsure it says to be: as its Hello had it, once per session, shared by all of its
// queries. Immutable once shared.
#ifndef GOAD_SERVER_BASE_LOCAL_MODEL_H_
#define GOAD_SERVER_BASE_LOCAL_MODEL_H_

#include <memory>
#include <string>

#include "goad/uncertainty_source.h"

namespace goad::server {

struct LocalModel {
  std::string name;  // empty = not said
  UncertaintySource uncertainty;
};

// Null: nothing was said, and the metric is the margin.
using LocalModelPtr = std::shared_ptr<const LocalModel>;

inline UncertaintyMetric MetricOf(const LocalModelPtr& model) {
  return model == nullptr ? UncertaintyMetric::kMargin : model->uncertainty.metric;
}

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_LOCAL_MODEL_H_
