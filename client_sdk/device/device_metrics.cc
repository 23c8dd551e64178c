#include "client_sdk/device/device_metrics.h"

#include <prometheus/text_serializer.h>

#include <sstream>

namespace goad::device {
namespace {

prometheus::Gauge& MakeGauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}
const prometheus::Histogram::BucketBoundaries kSeconds = {.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30};

}  // namespace

DeviceMetrics::DeviceMetrics()
    : answers_(prometheus::BuildCounter()
                   .Name("goad_device_answers_total")
                   .Help("Answers by who gave them (local, edge; none: broken off or nobody could) and why")
                   .Register(registry_)),
      refused_(prometheus::BuildCounter()
                   .Name("goad_device_refused_total")
                   .Help("Requests of apps that were refused, by what is wrong with them")
                   .Register(registry_)),
      running_(MakeGauge(registry_, "goad_device_running_requests", "Requests of apps under way")),
      connected_(MakeGauge(registry_, "goad_device_goad_connected", "1 when goad has greeted on the present stream")),
      local_(MakeGauge(registry_, "goad_device_local_found", "1 when the local server has answered a trial question")),
      uncertainty_(prometheus::BuildHistogram()
                       .Name("goad_device_uncertainty")
                       .Help("Uncertainty (1 - (p1 - p2) of the first content token) that goad was asked with")
                       .Register(registry_)
                       .Add({}, prometheus::Histogram::BucketBoundaries{.1, .2, .3, .4, .5, .6, .7, .8, .9, 1})),
      first_piece_(prometheus::BuildHistogram()
                       .Name("goad_device_first_piece_seconds")
                       .Help("From the request to the first piece shown to the app, by who answered")
                       .Register(registry_)) {}

std::string DeviceMetrics::Known(const std::string& reason) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (reasons_.count(reason) == 0 && reasons_.size() >= 64) return "OTHER";
  reasons_.insert(reason);
  return reason;
}

void DeviceMetrics::Ended(const Answering& answering, double first_piece_s) {
  running_.Decrement();
  const Answer& answer = answering.answer();
  std::string source = "none", reason = answering.ended() ? answer.why_local : "APP_GONE";
  if (answering.ended() && answer.source == Answer::Source::kEdge) source = "edge", reason = answer.decision.reason;
  if (answering.ended() && answer.source == Answer::Source::kLocal) source = "local";
  answers_.Add({{"source", source}, {"reason", Known(reason)}}).Increment();
  if (first_piece_s >= 0) {
    const bool edge = answering.source() == Answer::Source::kEdge;
    first_piece_.Add({{"source", edge ? "edge" : "local"}}, kSeconds).Observe(first_piece_s);
  }
  if (answering.uncertainty()) uncertainty_.Observe(*answering.uncertainty());
}

void DeviceMetrics::Refused(const std::string& reason) { refused_.Add({{"reason", reason}}).Increment(); }

std::string DeviceMetrics::Page(bool goad_connected, bool local_found) {
  connected_.Set(goad_connected ? 1 : 0);
  local_.Set(local_found ? 1 : 0);
  std::ostringstream page;
  prometheus::TextSerializer().Serialize(page, registry_.Collect());
  return page.str();
}

}  // namespace goad::device
