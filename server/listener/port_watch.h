// Looks at the own port from outside, as a device would come: a listener that has gone deaf looks healthy from within.
#ifndef GOAD_SERVER_LISTENER_PORT_WATCH_H_
#define GOAD_SERVER_LISTENER_PORT_WATCH_H_

#include <atomic>
#include <condition_variable>
#include <functional>
#include <thread>

#include "server/base/mutex.h"
#include "server/listener/acceptor.h"

namespace goad::server {

// Thread-safe. Knocks every `every`; after kDeaf knocks in a row without an answer within `patience` each, the port is
// deaf for good.
class PortWatch {
 public:
  // `on_deaf` is called once, on the watch's thread. `acceptor` is not owned and outlives this.
  PortWatch(Acceptor* acceptor, bool tls, const ListenerMetrics& metrics, std::function<void()> on_deaf,
            absl::Duration every = absl::Seconds(5), absl::Duration patience = absl::Seconds(5));
  ~PortWatch();

  bool deaf() const { return deaf_.load(std::memory_order_relaxed); }

 private:
  static constexpr int kDeaf = 3;
  void Run();

  Acceptor* const acceptor_;
  const bool tls_;
  const ListenerMetrics metrics_;
  const std::function<void()> on_deaf_;
  const absl::Duration every_, patience_;
  std::atomic<bool> deaf_{false};

  Mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ GOAD_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_LISTENER_PORT_WATCH_H_
