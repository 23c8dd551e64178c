// Remembers queries by the caller's own ids, so that asking again never runs a query again.
#ifndef GOAD_SERVER_SESSION_QUERY_MEMORY_H_
#define GOAD_SERVER_SESSION_QUERY_MEMORY_H_

#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/engine/events.h"
#include "server/session/outbox.h"
#include "server/telemetry/promise_watch.h"

namespace goad::server {

// Thread-safe. Finished queries are kept for 60 s, the newest `capacity` of them; those that were refused for now until
// they may be asked again, the newest quarter of `capacity`; live ones are bounded by sessions.
class QueryMemory {
 public:
  explicit QueryMemory(size_t capacity = 65536) : capacity_(capacity) {}

  enum class Recall {
    kNew,        // unknown: now live in `session`
    kLive,       // asked before on this session; `frame` is its decision when there is one
    kElsewhere,  // live on another session of this identity
    kFinished,   // `frame` is its terminal event
    kConflict,   // the same id with another body
  };
  struct Answer {
    Recall recall = Recall::kNew;
    FramePtr frame;  // may be null
  };
  // What the other calls know the query by.
  static std::string Key(const std::string& identity, const std::string& query_id) {
    return absl::StrCat(identity, absl::string_view("\0", 1), query_id);
  }
  Answer Begin(const std::string& key, uint64_t fingerprint, SessionId session, MonotonicTime now);
  void Decided(const std::string& key, FramePtr decision);
  void Finish(const std::string& key, FramePtr terminal, MonotonicTime now);
  // There was no room to answer it: as if it had not been asked.
  void Forget(const std::string& key);
  // It was refused for now: until `again` the same id gets this answer again, from then on it is a question like any
  // other.
  void Refused(const std::string& key, FramePtr decision, MonotonicTime again);
  // A rating of its answer: who gave that; once. Nothing while it is live, when it was rated or cancelled, and for what
  // is not known.
  std::optional<AnsweredBy> Rate(const std::string& key, MonotonicTime now);
  // The stream was lost: every live query of the session may be asked again.
  void ForgetLive(SessionId session);

 private:
  struct Entry {
    uint64_t fingerprint = 0;
    SessionId session{};
    bool finished = false, rated = false;
    MonotonicTime again = MonotonicTime::Infinite();  // of one refused for now
    FramePtr frame;                                   // null: not yet decided
  };
  Entry* FindLive(const std::string& key) GOAD_REQUIRES(mutex_);
  void LeaveLive(SessionId session, const std::string& key) GOAD_REQUIRES(mutex_);
  void ForgetRefused() GOAD_REQUIRES(mutex_);
  void Trim(MonotonicTime now) GOAD_REQUIRES(mutex_);

  const size_t capacity_;
  Mutex mutex_;
  std::unordered_map<std::string, Entry> entries_ GOAD_GUARDED_BY(mutex_);
  std::deque<std::pair<MonotonicTime, std::string>> finished_ GOAD_GUARDED_BY(mutex_);  // oldest first
  std::deque<std::pair<MonotonicTime, std::string>> refused_ GOAD_GUARDED_BY(mutex_);   // by `again`, nearly in order
  std::unordered_map<SessionId, std::vector<std::string>> live_ GOAD_GUARDED_BY(mutex_);
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_QUERY_MEMORY_H_
