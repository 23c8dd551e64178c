// The thread that starts the first write of sessions whose outbox became non-empty, so that the engine and the dispatcher
// only fill outboxes. What follows a write goes on from the reactor's OnWriteDone.
#ifndef GOAD_SERVER_SESSION_SESSION_WRITER_H_
#define GOAD_SERVER_SESSION_SESSION_WRITER_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "server/base/mutex.h"
#include "server/session/session_registry.h"

namespace goad::server {

// Thread-safe. `beat` is called on the thread a few times a second. The queue holds each stream at most once, so it is bounded by the number of streams.
class SessionWriter {
 public:
  explicit SessionWriter(std::function<void()> beat);
  ~SessionWriter();

  void Wake(std::shared_ptr<SessionStream> stream);

 private:
  void Run();

  const std::function<void()> beat_;

  Mutex mutex_;
  std::condition_variable nonempty_;
  std::vector<std::shared_ptr<SessionStream>> queue_ GOAD_GUARDED_BY(mutex_);
  bool stop_ GOAD_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_SESSION_WRITER_H_
