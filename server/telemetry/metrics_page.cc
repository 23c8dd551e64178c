#include "server/telemetry/metrics_page.h"

#include <utility>

namespace goad::server {

std::vector<prometheus::MetricFamily> MetricsPage::Collect() const {
  std::vector<prometheus::MetricFamily> families = registry.Collect();
  MutexLock lock(mutex_);
  for (prometheus::MetricFamily& family : families) {
    std::vector<prometheus::ClientMetric> shown;
    shown.reserve(family.metric.size());
    for (prometheus::ClientMetric& metric : family.metric) {
      if (!Hides(metric)) shown.push_back(std::move(metric));
    }
    family.metric.swap(shown);
  }
  return families;
}

void MetricsPage::Show(std::set<std::string> sites, std::set<std::string> backends) {
  MutexLock lock(mutex_);
  sites_ = std::move(sites);
  backends_ = std::move(backends);
}

bool MetricsPage::Hides(const prometheus::ClientMetric& metric) const {
  const std::string *site = nullptr, *backend = nullptr;
  for (const auto& label : metric.label) {
    if (label.name == "site") site = &label.value;
    if (label.name == "backend") backend = &label.value;
  }
  if (site == nullptr || site->empty()) return false;
  return sites_.count(*site) == 0 || (backend != nullptr && backends_.count(*site + " " + *backend) == 0);
}

}  // namespace goad::server
