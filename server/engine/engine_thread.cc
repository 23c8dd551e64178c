#include "server/engine/engine_thread.h"

#include <pthread.h>

#include <algorithm>

namespace goad::server {
namespace {
// Shorter than whoever looks at `turns` waits between two looks: with a second for both a watchdog went hungry.
constexpr absl::Duration kLongestSleep = absl::Milliseconds(200);
}  // namespace

EngineThread::EngineThread(Engine* engine, Inbox* inbox, Metrics* metrics)
    : engine_(engine), inbox_(inbox), metrics_(metrics), thread_([this] { Run(); }) {}

EngineThread::~EngineThread() {
  stop_ = true;
  inbox_->Push(Inspect{[](const EngineStatus&) {}});  // wakes the loop
  thread_.join();
}

void EngineThread::SetConfig(std::shared_ptr<const Config> config, bool keep_overrides) {
  inbox_->set_max_submits(config->limits.waiting_queries);
  inbox_->Push(ApplyConfig{std::move(config), keep_overrides});
}

void EngineThread::Run() {
  pthread_setname_np(pthread_self(), "goad-engine");
  while (!stop_) {
    const MonotonicTime until = std::min(engine_->NextWake(), MonotonicTime::Now() + kLongestSleep);
    std::vector<Event> events = inbox_->Drain(until, engine_->min_period());
    const MonotonicTime now = MonotonicTime::Now();
    for (Event& event : events) engine_->Handle(std::move(event), now);
    engine_->Tick(now);
    metrics_->EngineTurned(engine_->pending());
    int active_queries = 0;
    for (size_t j = 0; j < engine_->sites().size(); ++j) {
      active_queries += engine_->sites()[j].active_queries;
      metrics_->Slots(sched::ToSite(j), engine_->sites()[j].active_queries, engine_->SlotsOf(j));
    }
    active_queries_.store(active_queries, std::memory_order_relaxed);
    turns_.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace goad::server
