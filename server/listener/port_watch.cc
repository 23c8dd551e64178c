#include "server/listener/port_watch.h"

#include <pthread.h>

#include "spdlog/spdlog.h"

namespace goad::server {

PortWatch::PortWatch(Acceptor* acceptor, bool tls, const ListenerMetrics& metrics, std::function<void()> on_deaf,
                     absl::Duration every, absl::Duration patience)
    : acceptor_(acceptor),
      tls_(tls),
      metrics_(metrics),
      on_deaf_(std::move(on_deaf)),
      every_(every),
      patience_(patience),
      thread_([this] { Run(); }) {}

PortWatch::~PortWatch() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_one();
  thread_.join();
}

void PortWatch::Run() {
  pthread_setname_np(pthread_self(), "goad-knock");
  for (int failures = 0;;) {
    const uint64_t before = acceptor_->table().welcomed();
    const absl::Status heard = acceptor_->KnockFromOutside(tls_, patience_);
    metrics_.Heard(heard.ok());
    // While others are let in it is not deaf but busy.
    failures = heard.ok() || acceptor_->table().welcomed() != before ? 0 : failures + 1;
    if (!heard.ok()) {
      spdlog::warn("the device port does not answer from outside ({} of {}): {}", failures, kDeaf,
                   std::string(heard.message()));
    }
    if (failures == kDeaf && !deaf_.exchange(true)) {
      spdlog::error("the device port is deaf; stopping, to be started again");
      on_deaf_();
    }
    const MonotonicTime next = MonotonicTime::Now() + every_;
    MutexLock lock(mutex_);
    while (!stop_ && MonotonicTime::Now() < next) mutex_.WaitUntil(stopped_, next);
    if (stop_) return;
  }
}

}  // namespace goad::server
