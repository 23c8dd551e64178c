// The thread of every backend call: runs the dispatcher on the transport's events, and is the engine's DispatchPort.
#ifndef GOAD_SERVER_DISPATCH_DISPATCH_THREAD_H_
#define GOAD_SERVER_DISPATCH_DISPATCH_THREAD_H_

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "server/base/mutex.h"
#include "server/dispatch/curl_transport.h"
#include "server/dispatch/dispatcher.h"
#include "server/engine/inbox.h"

namespace goad::server {

// Thread-safe. The command queue is bounded by the sum of the sites' max_queries (Start, Abort) and sessions (Resume).
class DispatchThread final : public DispatchPort {
 public:
  // RESOURCE_EXHAUSTED without descriptors or memory.
  static absl::StatusOr<std::unique_ptr<DispatchThread>> Open(std::shared_ptr<const Config> config, SessionSink* sink,
                                                              Metrics* metrics, Inbox* inbox);
  ~DispatchThread() override;  // aborts what runs and joins

  void Start(DispatchRequest request) override;
  void Abort(QueryId id) override;
  void Resume(SessionId session) override;
  void SetConfig(std::shared_ptr<const Config> config);

  BackendRows Backends() const;  // at most 1 s old

 private:
  DispatchThread(std::unique_ptr<CurlTransport> transport, std::shared_ptr<const Config> config, SessionSink* sink,
                 Metrics* metrics, Inbox* inbox);
  using Command = std::function<void(Dispatcher&, MonotonicTime)>;
  void Post(Command command);
  void Run();

  const std::unique_ptr<CurlTransport> transport_;
  Dispatcher dispatcher_;  // the thread's own
  std::atomic<bool> stop_{false};

  mutable Mutex mutex_;
  std::vector<Command> commands_ GOAD_GUARDED_BY(mutex_);
  BackendRows backends_ GOAD_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_DISPATCH_THREAD_H_
