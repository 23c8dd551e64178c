#include "server/calibration/value.h"

namespace goad::server {
namespace {

const calibration::Curve* CurveOf(const calibration::Curves& curves, const LocalModelPtr& model,
                                  const std::string& kind) {
  static const std::string kNotSaid;
  return calibration::FindCurve(curves, ToString(MetricOf(model)), model == nullptr ? kNotSaid : model->name, kind);
}

}  // namespace

double ValueOf(const calibration::Curves* curves, const LocalModelPtr& model, const std::string& kind,
               double uncertainty) {
  if (curves == nullptr) return uncertainty;
  const calibration::Curve* curve = CurveOf(*curves, model, kind);
  return curve == nullptr ? 1 : curve->Value(uncertainty);
}

double ToldTau(const calibration::Curves* curves, const LocalModelPtr& model, double tau) {
  if (curves == nullptr) return tau;
  const calibration::Curve* curve = CurveOf(*curves, model, "");
  if (curve != nullptr) return curve->TauFor(tau);
  return tau < 1 ? 0 : 1;
}

}  // namespace goad::server
