// Remembers queries by the caller's own ids, so that asking again never runs a query again.
#ifndef GOAD_SERVER_SESSION_QUERY_MEMORY_H_
#define GOAD_SERVER_SESSION_QUERY_MEMORY_H_

#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "goad/v1/offload.pb.h"
#include "server/base/mutex.h"
#include "server/engine/events.h"

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
    std::optional<v1::ServerFrame> frame;
  };
  Answer Begin(const std::string& identity, const std::string& query_id, uint64_t fingerprint, SessionId session,
               MonotonicTime now);
  void Decided(const std::string& identity, const std::string& query_id, const v1::ServerFrame& decision);
  void Finish(const std::string& identity, const std::string& query_id, v1::ServerFrame terminal, MonotonicTime now);
  // There was no room to answer it: as if it had not been asked.
  void Forget(const std::string& identity, const std::string& query_id);
  // It was refused for now: until `again` the same id gets this answer again, from then on it is a question like any
  // other.
  void Refused(const std::string& identity, const std::string& query_id, v1::ServerFrame decision, MonotonicTime again);
  // The stream was lost: every live query of the session may be asked again.
  void ForgetLive(SessionId session);

 private:
  struct Entry {
    uint64_t fingerprint = 0;
    SessionId session{};
    bool finished = false;
    MonotonicTime again = MonotonicTime::Infinite();  // of one refused for now
    std::optional<v1::ServerFrame> frame;
  };
  using Key = std::string;  // identity, zero byte, query_id
  static Key MakeKey(const std::string& identity, const std::string& query_id) { return identity + '\0' + query_id; }
  Entry* FindLive(const Key& key) GOAD_REQUIRES(mutex_);
  void LeaveLive(SessionId session, const Key& key) GOAD_REQUIRES(mutex_);
  void ForgetRefused() GOAD_REQUIRES(mutex_);
  void Trim(MonotonicTime now) GOAD_REQUIRES(mutex_);

  const size_t capacity_;
  Mutex mutex_;
  std::unordered_map<Key, Entry> entries_ GOAD_GUARDED_BY(mutex_);
  std::deque<std::pair<MonotonicTime, Key>> finished_ GOAD_GUARDED_BY(mutex_);  // oldest first
  std::deque<std::pair<MonotonicTime, Key>> refused_ GOAD_GUARDED_BY(mutex_);   // by `again`, nearly in order
  std::unordered_map<SessionId, std::vector<Key>> live_ GOAD_GUARDED_BY(mutex_);
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_QUERY_MEMORY_H_
