// The way into the engine: a queue of events from every thread, drained by one.
#ifndef GOAD_SERVER_ENGINE_INBOX_H_
#define GOAD_SERVER_ENGINE_INBOX_H_

#include <condition_variable>
#include <unordered_map>
#include <vector>

#include "server/base/mutex.h"
#include "server/engine/events.h"

namespace goad::server {

// Thread-safe. Bounds: SubmitQuery is refused beyond `max_submits`; a LinkUpdate merges into the session's unread one;
// the rest is always accepted, being bounded by live queries and sessions (a lost QueryDone would leak a site slot).
class Inbox {
 public:
  explicit Inbox(int max_submits) : max_submits_(max_submits) {}

  // False only for a SubmitQuery that was not taken: the caller answers it LOCAL/OVERLOAD.
  bool Push(Event event);

  // Moves out everything that is waiting, in order of arrival. Waits for an event, or until `until`; queries and link
  // reports that come while that is less than `patience` away wait for it, because nobody is decided sooner and a
  // thread that wakes for each of them costs more than they do.
  std::vector<Event> Drain(MonotonicTime until, absl::Duration patience = absl::ZeroDuration());

  void set_max_submits(int max_submits);

 private:
  Mutex mutex_;
  std::condition_variable nonempty_;
  int max_submits_ GOAD_GUARDED_BY(mutex_);
  int submits_ GOAD_GUARDED_BY(mutex_) = 0;
  MonotonicTime until_ GOAD_GUARDED_BY(mutex_);  // of the Drain under way, less its patience
  std::vector<Event> events_ GOAD_GUARDED_BY(mutex_);
  std::unordered_map<SessionId, size_t> unread_links_ GOAD_GUARDED_BY(mutex_);  // index into events_
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_INBOX_H_
