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

// Thread-safe. Knocks every kEvery; after kDeaf knocks in a row without an answer within kPatience each, the port is deaf for good.
class PortWatch {
 public:
  // `on_deaf` is called once, on the watch's thread. `acceptor` is not owned and outlives this.
  PortWatch(Acceptor* acceptor, bool tls, const ListenerMetrics& metrics, std::function<void()> on_deaf);
  ~PortWatch();

  bool deaf() const { return deaf_.load(std::memory_order_relaxed); }

 private:
  static constexpr absl::Duration kEvery = absl::Seconds(5);
  static constexpr absl::Duration kPatience = absl::Seconds(5);
  static constexpr int kDeaf = 3;
  void Run();

  Acceptor* const acceptor_;
  const bool tls_;
  const ListenerMetrics metrics_;
  const std::function<void()> on_deaf_;
  std::atomic<bool> deaf_{false};

  Mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ GOAD_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_LISTENER_PORT_WATCH_H_
