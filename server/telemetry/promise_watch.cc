#include "server/telemetry/promise_watch.h"

#include <tuple>

#include "prometheus/counter.h"
#include "prometheus/gauge.h"

namespace goad::server {
namespace {

bool Same(const std::optional<calibration::Certificate>& a, const std::optional<calibration::Certificate>& b) {
  const auto key = [](const calibration::Certificate& c) {
    return std::tie(c.accuracy, c.confidence, c.value_tau, c.bound, c.labels, c.share);
  };
  return a.has_value() == b.has_value() && (!a || key(*a) == key(*b));
}

prometheus::Gauge* OneGauge(prometheus::Registry& registry, const char* name, const char* help) {
  return &prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

}  // namespace

PromiseWatch::PromiseWatch(prometheus::Registry& registry) {
  auto& forced = prometheus::BuildCounter()
                     .Name("goad_forced_queries_total")
                     .Help(
                         "Queries that had to be offloaded, by result: offloaded, local (for whatever reason), failed "
                         "(offloaded, but not answered by the edge; counted as offloaded, too).")
                     .Register(registry);
  forced_offloaded_ = &forced.Add({{"result", "offloaded"}});
  forced_local_ = &forced.Add({{"result", "local"}});
  forced_failed_ = &forced.Add({{"result", "failed"}});
  auto& ratings =
      prometheus::BuildCounter()
          .Name("goad_rated_answers_total")
          .Help(
              "Answers that apps rated (Outcome.quality), by who answered; unknown: not counted, because goad "
              "does not know the query, it is not over, or it was rated before.")
          .Register(registry);
  auto& errors = prometheus::BuildCounter()
                     .Name("goad_rated_error_total")
                     .Help("Sum of 1 - quality over the rated answers, by who answered.")
                     .Register(registry);
  for (size_t k = 0; k < kAnsweredBy.size(); ++k) {
    ratings_[k] = &ratings.Add({{"by", kAnsweredBy[k]}});
    errors_[k] = &errors.Add({{"by", kAnsweredBy[k]}});
  }
  not_counted_ = &ratings.Add({{"by", "unknown"}});
  accuracy_ = OneGauge(registry, "goad_promised_accuracy", "policy.accuracy; 0 = no accuracy is promised.");
  evidence_ = OneGauge(registry, "goad_promise_evidence",
                       "Evidence of the rated answers that the promised accuracy is not kept; 1 at the start.");
  broken_ =
      OneGauge(registry, "goad_promise_broken",
               "1 when that evidence has reached 1 / (1 - policy.confidence): the promised accuracy is not kept.");
}

void PromiseWatch::SetConfig(const PolicyConfig& policy) {
  MutexLock lock(mutex_);
  if (Same(policy.certificate, state_.certificate)) return;
  state_ = PromiseState();
  state_.certificate = policy.certificate;
  watch_.reset();
  if (policy.certificate) watch_.emplace(1 - policy.certificate->accuracy, policy.certificate->confidence);
  Show();
}

void PromiseWatch::Decided(bool forced, bool offloaded) {
  if (forced) (offloaded ? forced_offloaded_ : forced_local_)->Increment();
  MutexLock lock(mutex_);
  if (!state_.certificate) return;
  ++state_.decisions;
  state_.offloaded += offloaded ? 1 : 0;
  state_.forced += forced ? 1 : 0;
  state_.forced_local += forced && !offloaded ? 1 : 0;
}

void PromiseWatch::Failed() {
  forced_failed_->Increment();
  MutexLock lock(mutex_);
  if (state_.certificate) ++state_.forced_failed;
}

void PromiseWatch::Rated(AnsweredBy by, double quality) {
  const auto k = static_cast<size_t>(by);
  ratings_[k]->Increment();
  errors_[k]->Increment(1 - quality);
  MutexLock lock(mutex_);
  if (!watch_) return;
  ++state_.rated[k].answers;
  state_.rated[k].error += 1 - quality;
  watch_->Add(1 - quality);
  Show();
}

void PromiseWatch::NotCounted() { not_counted_->Increment(); }

PromiseState PromiseWatch::State() const {
  MutexLock lock(mutex_);
  return state_;
}

void PromiseWatch::Show() {
  if (watch_) {
    state_.evidence = watch_->Evidence();
    state_.alarm_at = watch_->AlarmAt();
    state_.broken = watch_->broken();
  }
  accuracy_->Set(state_.certificate ? state_.certificate->accuracy : 0);
  evidence_->Set(state_.evidence);
  broken_->Set(state_.broken ? 1 : 0);
}

}  // namespace goad::server
