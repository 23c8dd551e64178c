// What policies read of a query. Pure, any thread.
#ifndef GOAD_SERVER_CALIBRATION_VALUE_H_
#define GOAD_SERVER_CALIBRATION_VALUE_H_

#include <string>

#include "scheduler/calibration/curves.h"
#include "server/base/local_model.h"

namespace goad::server {

// The value of offloading, 0..1; without curves the uncertainty itself, bit for bit. A metric and model that have no
// curve are worth 1, as the certificate counts them.
double ValueOf(const calibration::Curves* curves, const LocalModelPtr& model, const std::string& kind,
               double uncertainty);

// The uncertainty that is to be told a device as tau, where what policies read is compared with `tau`: the highest that
// need not be offloaded, of a question of no kind.
double ToldTau(const calibration::Curves* curves, const LocalModelPtr& model, double tau);

}  // namespace goad::server

#endif  // GOAD_SERVER_CALIBRATION_VALUE_H_
