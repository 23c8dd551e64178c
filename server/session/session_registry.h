// Every open session by number, and the way from the engine and the dispatcher to a device's outbox.
#ifndef GOAD_SERVER_SESSION_SESSION_REGISTRY_H_
#define GOAD_SERVER_SESSION_SESSION_REGISTRY_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/base/pump.h"
#include "server/engine/ports.h"
#include "server/session/identity.h"
#include "server/session/outbox.h"
#include "server/session/query_memory.h"

namespace goad::server {

// One device's stream, apart from its transport.
struct Session {
  Session(SessionId session_id, std::string peer_name, int64_t outbox_bytes, Metrics* metrics, OutboxBudget* budget,
          MonotonicTime now)
      : id(session_id), peer(std::move(peer_name)), opened(now), outbox(outbox_bytes, metrics, budget) {}
  std::string Name() const { return "s-" + std::to_string(static_cast<uint64_t>(id)); }

  const SessionId id;
  const std::string peer;
  const MonotonicTime opened;
  Outbox outbox;
};

// The transport of a session: Pump starts whatever the outbox says is next, for the first write of a session on the
// writer thread, then from its own reactions. Thread-safe. The one user beside gRPC's reactors is the simulation.
class SessionStream : public Pumped {
 public:
  // The session is over for a reason of ours: its queries are given up, and it ends with `why`.
  virtual void End(const ErrorInfo& why) = 0;
};

// Thread-safe.
class SessionRegistry final : public SessionSink {
 public:
  using Wake = std::function<void(std::shared_ptr<SessionStream>)>;  // has Pump called soon, on another thread

  SessionRegistry(std::shared_ptr<const Config> config, Metrics* metrics, QueryMemory* memory,
                  std::function<MonotonicTime()> clock, Wake wake);

  // Before anybody delivers for what is new in it. When the list of sites is another one, every session hears of
  // it; an Ask does not, for it has nothing more to report.
  void SetConfig(std::shared_ptr<const Config> config);

  // Whose session it is. `holder`: an identity, or without one an address; `credentials`: to see at a reload whether it
  // may stay.
  struct Holder {
    std::string holder, tenant = kDefaultTenant;
    Credentials credentials;
  };
  // Refused with SESSIONS at limits.sessions, with SESSIONS_PER_IDENTITY at that many of a holder, and with DRAINING.
  std::optional<ErrorInfo> Add(std::shared_ptr<Session> session, std::shared_ptr<SessionStream> stream, Holder holder,
                               const LimitsConfig& limits);
  // At Hello or Ask, before any query.
  void Describe(SessionId id, std::string identity, std::string device_name, LocalModelPtr model, bool hears_of_sites);

  // Looks at every session by the clock, ten times a second: no Hello within 5 s, nothing read for
  // limits.slow_consumer, older than limits.session_max_age (spread over the last third of it). Those are ended, the
  // last one after a Goodbye and its live queries.
  void Watch(const Config& config, MonotonicTime now);
  // After a reload: ends the sessions whose callers the configuration does not know any more, or knows as somebody
  // else. Returns how many.
  size_t Recheck(const Config& config);
  // Ends one session; false when there is none of this name.
  bool Kick(const std::string& name);
  void Remove(SessionId id);

  // Puts the event into the session's outbox, counts it and remembers it for those who ask again.
  Delivery Deliver(SessionId id, SessionEvent event) override;
  void StillWaits(SessionId id) override;
  // As of the sites in force. Heard of as a new list of sites is.
  void SitesCan(SiteAbilities abilities) override;
  // Puts what `welcome` makes of what the sites can, after Describe: no older list of sites follows a newer one.
  void Greet(Session& session, const std::function<v1::ServerFrame(const SiteAbilities&)>& welcome);

  // The neighbour whose sites the session hears, to be named when goad drains; empty = of none.
  void Hears(SessionId id, std::string neighbour);
  // All that it hears are the sites of `neighbour`: Goodbye, and what runs is finished.
  void SendAway(SessionId id, const std::string& neighbour, absl::Duration reconnect_after, MonotonicTime now);

  // Goodbye to everybody, now and later; each stream ends when its last query is answered.
  void StartDrain(absl::Duration reconnect_after, MonotonicTime now);

  std::vector<SessionRow> List(size_t limit) const;
  size_t size() const;

 private:
  struct Entry {
    std::shared_ptr<Session> session;
    std::shared_ptr<SessionStream> stream;
    Holder holder;
    std::string identity, device_name;
    LocalModelPtr model;
    std::string neighbour;  // that it heard last
    bool greeted = false;   // described
    bool hears_of_sites = false;
    bool ended = false, cut = false;                        // End was called, and called because it reads nothing
    uint64_t writes_done = 0;                               // at the last look
    MonotonicTime stuck_since = MonotonicTime::Infinite();  // something waits, and nothing was written since
    MonotonicTime goodbye = MonotonicTime::Infinite();      // when it was said
  };
  void TellSites(std::shared_ptr<const Config> config, const SiteAbilities* abilities);
  SiteAbilities abilities() const;
  // `neighbour`: to be named; empty = none.
  void SayGoodbye(const Entry& entry, absl::Duration reconnect_after, const char* message,
                  const std::string& neighbour = "", bool moved = false);

  // Constant after construction.
  Metrics* const metrics_;     // not owned
  QueryMemory* const memory_;  // not owned
  const std::function<MonotonicTime()> clock_;
  const Wake wake_;

  Mutex telling_;  // taken before mutex_: from where a list of sites is made until everybody has it
  mutable Mutex mutex_;
  std::shared_ptr<const Config> config_ GOAD_GUARDED_BY(mutex_);
  SiteAbilities abilities_ GOAD_GUARDED_BY(mutex_);
  std::unordered_map<SessionId, Entry> entries_ GOAD_GUARDED_BY(mutex_);
  std::unordered_map<std::string, int> held_ GOAD_GUARDED_BY(mutex_);  // sessions per holder
  bool draining_ GOAD_GUARDED_BY(mutex_) = false;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_SESSION_REGISTRY_H_
