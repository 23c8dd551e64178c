// Every open session by number, and the way from the engine and the dispatcher to a device's outbox.
#ifndef GOAD_SERVER_SESSION_SESSION_REGISTRY_H_
#define GOAD_SERVER_SESSION_SESSION_REGISTRY_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/engine/ports.h"
#include "server/session/outbox.h"
#include "server/session/query_memory.h"

namespace goad::server {

// One device's stream, apart from its transport. `identity` scopes query ids; it is set by Hello, before any query.
struct Session {
  Session(SessionId session_id, std::string peer_name, int64_t outbox_bytes, Metrics* metrics, MonotonicTime now)
      : id(session_id), peer(std::move(peer_name)), opened(now), outbox(outbox_bytes, metrics) {}
  std::string Name() const { return "s-" + std::to_string(static_cast<uint64_t>(id)); }

  const SessionId id;
  const std::string peer;
  const MonotonicTime opened;
  Outbox outbox;
};

// The transport of a session: starts whatever the outbox says is next. Thread-safe. The one user beside gRPC's reactors
// is the simulation.
class SessionStream {
 public:
  virtual ~SessionStream() = default;
  virtual void Pump() = 0;
  std::atomic<bool> wake_queued{false};  // the session writer's
};

// Thread-safe.
class SessionRegistry final : public SessionSink {
 public:
  using Wake = std::function<void(std::shared_ptr<SessionStream>)>;  // has Pump called soon, on another thread

  SessionRegistry(std::vector<SiteConfig> sites, Metrics* metrics, QueryMemory* memory,
                  std::function<MonotonicTime()> clock, Wake wake);

  // Refused with SESSIONS at limits.sessions, with SESSIONS_PER_IDENTITY at that many of `holder` (an identity or an address), and
  // with DRAINING.
  std::optional<ErrorInfo> Add(std::shared_ptr<Session> session, std::shared_ptr<SessionStream> stream, const std::string& holder,
                               const LimitsConfig& limits);
  void Describe(SessionId id, std::string identity, std::string device_name);  // at Hello
  void Remove(SessionId id);

  // Puts the event into the session's outbox, counts it and remembers it for those who ask again.
  Delivery Deliver(SessionId id, SessionEvent event) override;

  // Goodbye to everybody, now and later; each stream ends when its last query is answered.
  void StartDrain(absl::Duration reconnect_after);

  struct Row {
    std::string name, device_name, peer;
    absl::Duration age;
    size_t live_queries;
    int64_t outbox_bytes;
  };
  std::vector<Row> List(size_t limit) const;
  size_t size() const;

 private:
  struct Entry {
    std::shared_ptr<Session> session;
    std::shared_ptr<SessionStream> stream;
    std::string identity, device_name, holder;
  };

  // Constant after construction.
  const std::vector<SiteConfig> sites_;
  Metrics* const metrics_;      // not owned
  QueryMemory* const memory_;   // not owned
  const std::function<MonotonicTime()> clock_;
  const Wake wake_;

  mutable Mutex mutex_;
  std::unordered_map<SessionId, Entry> entries_ GOAD_GUARDED_BY(mutex_);
  std::unordered_map<std::string, int> held_ GOAD_GUARDED_BY(mutex_);  // sessions per holder
  bool draining_ GOAD_GUARDED_BY(mutex_) = false;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_SESSION_REGISTRY_H_
