#include "server/session/session_registry.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/jitter.h"
#include "server/session/wire_codec.h"

namespace goad::server {
namespace {
constexpr absl::Duration kHello = absl::Seconds(5);
constexpr absl::Duration kLastQueries = absl::Milliseconds(200);  // queries that crossed the Goodbye are still answered
}  // namespace

SessionRegistry::SessionRegistry(std::shared_ptr<const Config> config, Metrics* metrics, QueryMemory* memory,
                                 std::function<MonotonicTime()> clock, Wake wake)
    : metrics_(metrics),
      memory_(memory),
      clock_(std::move(clock)),
      wake_(std::move(wake)),
      config_(std::move(config)) {}

void SessionRegistry::SetConfig(std::shared_ptr<const Config> config) { TellSites(std::move(config), nullptr); }

void SessionRegistry::SitesCan(SiteAbilities abilities) { TellSites(nullptr, &abilities); }

SiteAbilities SessionRegistry::abilities() const {
  MutexLock lock(mutex_);
  return abilities_;
}

void SessionRegistry::Greet(Session& session, const std::function<v1::ServerFrame(const SiteAbilities&)>& welcome) {
  MutexLock telling(telling_);
  session.outbox.PutUrgent(welcome(abilities()));
}

// Null: as it was. What a place could that is now another site's is not known of that.
void SessionRegistry::TellSites(std::shared_ptr<const Config> config, const SiteAbilities* abilities) {
  v1::ServerFrame sites;
  std::vector<Entry> hear;
  MutexLock telling(telling_);
  {
    MutexLock lock(mutex_);
    const std::string before = EncodeSites(*config_, abilities_).SerializeAsString();
    const std::shared_ptr<const Config> last = config_;
    if (config != nullptr) config_ = std::move(config);
    if (abilities != nullptr) abilities_ = *abilities;
    for (size_t j = 0; j < std::min(last->sites.size(), abilities_.size()); ++j) {
      if (last->sites[j].name != config_->sites[j].name) abilities_[j].clear();
    }
    sites = EncodeSites(*config_, abilities_);
    if (before == sites.SerializeAsString()) return;
    for (const auto& [id, entry] : entries_) {
      if (entry.hears_of_sites) hear.push_back(entry);
    }
  }
  for (const Entry& entry : hear) {
    entry.session->outbox.PutUrgent(sites);
    wake_(entry.stream);
  }
}

std::optional<ErrorInfo> SessionRegistry::Add(std::shared_ptr<Session> session, std::shared_ptr<SessionStream> stream,
                                              Holder holder, const LimitsConfig& limits) {
  const SessionId id = session->id;
  const auto refuse = [&](ErrorCode code, Refusal why, const std::string& message) {
    metrics_->Refused(why);
    return MakeError(code, why, "", message, RetryHint(limits.retry_after, static_cast<uint64_t>(id)));
  };
  size_t open = 0;
  {
    MutexLock lock(mutex_);
    if (draining_) return refuse(ErrorCode::kUnavailable, Refusal::kDraining, "draining: reconnect later");
    if (entries_.size() >= static_cast<size_t>(limits.sessions)) {
      return refuse(ErrorCode::kResourceExhausted, Refusal::kSessions,
                    absl::StrCat("limits.sessions: ", limits.sessions, " sessions are open"));
    }
    const auto held = held_.find(holder.holder);
    if (held != held_.end() && held->second >= limits.SessionsPerIdentity()) {
      return refuse(ErrorCode::kResourceExhausted, Refusal::kSessionsPerIdentity,
                    absl::StrCat("limits.sessions_per_identity: ", held->second, " sessions of yours are open"));
    }
    ++held_[holder.holder];
    Entry& entry = entries_[id];
    entry.session = std::move(session);
    entry.stream = std::move(stream);
    entry.holder = std::move(holder);
    entry.stuck_since = entry.session->opened;
    open = entries_.size();
  }
  metrics_->Sessions(open);
  return std::nullopt;
}

void SessionRegistry::Describe(SessionId id, std::string identity, std::string device_name, LocalModelPtr model,
                               bool hears_of_sites) {
  MutexLock lock(mutex_);
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return;
  entry->second.identity = std::move(identity);
  entry->second.device_name = std::move(device_name);
  entry->second.model = std::move(model);
  entry->second.greeted = true;
  entry->second.hears_of_sites = hears_of_sites;
}

void SessionRegistry::Remove(SessionId id) {
  Entry removed;  // destroyed after unlocking
  size_t open = 0;
  {
    MutexLock lock(mutex_);
    const auto entry = entries_.find(id);
    if (entry == entries_.end()) return;
    removed = std::move(entry->second);
    entries_.erase(entry);
    if (const auto held = held_.find(removed.holder.holder); --held->second == 0) held_.erase(held);
    open = entries_.size();
  }
  metrics_->Sessions(open);
}

Delivery SessionRegistry::Deliver(SessionId id, SessionEvent event) {
  std::shared_ptr<Session> session;
  std::shared_ptr<SessionStream> stream;
  std::shared_ptr<const Config> config;
  {
    MutexLock lock(mutex_);
    const auto found = entries_.find(id);
    if (found == entries_.end()) return Delivery::kDropped;
    session = found->second.session;
    stream = found->second.stream;
    config = config_;
  }
  std::optional<DecisionEvent> decision;
  if (const auto* decided = std::get_if<DecisionEvent>(&event)) decision = *decided;
  Outbox::PutResult put = session->outbox.Put(std::move(event), config->sites);
  if (put.frame != nullptr) {
    const MonotonicTime now = clock_();
    if (decision) metrics_->Decision(decision->verdict, decision->reason, decision->site);
    if (put.terminal) metrics_->TerminalEvent(*put.terminal, put.site, SecondsBetween(put.received, now));
    if (decision && decision->retry_after_s > 0) {  // refused for now, asking again later is what we want
      memory_->Refused(put.memory_key, std::move(put.frame), now + absl::Seconds(decision->retry_after_s));
    } else if (put.terminal) {
      memory_->Finish(put.memory_key, std::move(put.frame), now);
    } else {
      memory_->Decided(put.memory_key, std::move(put.frame));
    }
  }
  if (put.delivery != Delivery::kDropped || put.terminal) wake_(std::move(stream));
  return put.delivery;
}

void SessionRegistry::StillWaits(SessionId id) {
  std::shared_ptr<SessionStream> stream;
  {
    MutexLock lock(mutex_);
    if (const auto found = entries_.find(id); found != entries_.end()) stream = found->second.stream;
  }
  if (stream != nullptr) wake_(std::move(stream));
}

void SessionRegistry::Hears(SessionId id, std::string neighbour) {
  MutexLock lock(mutex_);
  if (const auto entry = entries_.find(id); entry != entries_.end()) entry->second.neighbour = std::move(neighbour);
}

void SessionRegistry::SendAway(SessionId id, const std::string& neighbour, absl::Duration reconnect_after,
                               MonotonicTime now) {
  Entry away;
  {
    MutexLock lock(mutex_);
    const auto entry = entries_.find(id);
    if (entry == entries_.end() || entry->second.goodbye != MonotonicTime::Infinite()) return;
    entry->second.goodbye = now;
    away = entry->second;
  }
  metrics_->SentAway();
  SayGoodbye(away, reconnect_after, "all sites that the device hears are another goad's", neighbour, /*moved=*/true);
}

void SessionRegistry::SayGoodbye(const Entry& entry, absl::Duration reconnect_after, const char* message,
                                 const std::string& neighbour, bool moved) {
  const double after_s = RetryHint(reconnect_after, static_cast<uint64_t>(entry.session->id));
  v1::ServerFrame goodbye;
  goodbye.mutable_goodbye()->set_reconnect_after_s(after_s);
  goodbye.mutable_goodbye()->set_message(message);
  goodbye.mutable_goodbye()->set_neighbour(neighbour);
  goodbye.mutable_goodbye()->set_moved(moved);
  entry.session->outbox.SayGoodbye(std::move(goodbye),
                                   MakeError(ErrorCode::kUnavailable, Refusal::kDraining, "", message, after_s));
  wake_(entry.stream);
}

void SessionRegistry::StartDrain(absl::Duration reconnect_after, MonotonicTime now) {
  std::vector<Entry> entries;
  std::shared_ptr<const Config> config;
  {
    MutexLock lock(mutex_);
    config = config_;
    draining_ = true;
    for (auto& [id, entry] : entries_) {
      entry.goodbye = std::min(entry.goodbye, now);
      entries.push_back(entry);
    }
  }
  const std::vector<NeighbourConfig>& neighbours = config->neighbours;
  for (const Entry& entry : entries) {
    const bool heard = std::any_of(neighbours.begin(), neighbours.end(), [&](const NeighbourConfig& neighbour) {
      return neighbour.address == entry.neighbour;
    });
    std::string neighbour;
    if (heard) {
      neighbour = entry.neighbour;
    } else if (!neighbours.empty()) {  // any of them, not all the same
      neighbour = neighbours[static_cast<uint64_t>(entry.session->id) % neighbours.size()].address;
    }
    SayGoodbye(entry, reconnect_after, "goad is shutting down; running queries are finished", neighbour);
  }
}

void SessionRegistry::Watch(const Config& config, MonotonicTime now) {
  const LimitsConfig& limits = config.limits;
  std::vector<std::pair<std::shared_ptr<Session>, Outbox::Flow>> flows;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, entry] : entries_) flows.emplace_back(entry.session, Outbox::Flow());
  }
  for (auto& [session, flow] : flows) flow = session->outbox.flow();
  std::vector<Entry> aged, over;
  struct Ended {
    std::shared_ptr<SessionStream> stream;
    Refusal why;
    ErrorInfo error;
  };
  std::vector<Ended> ended;
  {
    MutexLock lock(mutex_);
    for (const auto& [session, flow] : flows) {
      const auto found = entries_.find(session->id);
      if (found == entries_.end()) continue;
      Entry& entry = found->second;
      if (!flow.waiting || flow.writes_done != entry.writes_done) entry.stuck_since = now;
      entry.writes_done = flow.writes_done;
      const absl::Duration age = now - session->opened;
      const auto end = [&](ErrorCode code, Refusal why, const char* field, const std::string& message) {
        if (std::exchange(entry.ended, true)) return;
        ended.push_back({entry.stream, why, MakeError(code, why, field, message)});
      };
      if (now - entry.stuck_since > limits.slow_consumer) {
        entry.ended &= entry.cut;  // also one that was ended before, and does not read that either
        entry.cut = true;
        end(ErrorCode::kSlowConsumer, Refusal::kSlowConsumer, "",
            absl::StrCat("limits.slow_consumer: nothing of what waits for it was read for ",
                         absl::FormatDuration(limits.slow_consumer)));
      } else if (!entry.greeted && age > kHello) {
        end(ErrorCode::kDeadlineExceeded, Refusal::kHelloFirst, "hello",
            absl::StrCat("did not come within ", absl::FormatDuration(kHello)));
      } else if (entry.goodbye != MonotonicTime::Infinite()) {
        if (now - entry.goodbye > kLastQueries) over.push_back(entry);
      } else if (limits.session_max_age > absl::ZeroDuration() &&
                 age * 1.5 > Jittered(limits.session_max_age, static_cast<uint64_t>(session->id))) {
        entry.goodbye = now;
        aged.push_back(entry);
      }
    }
  }
  for (const Entry& entry : aged)
    SayGoodbye(entry, absl::ZeroDuration(), "the session has reached its greatest age; open another");
  for (const Entry& entry : over) {
    entry.session->outbox.EndGoodbye();
    wake_(entry.stream);
  }
  for (const auto& [stream, why, error] : ended) {
    metrics_->Refused(why);
    stream->End(error);
  }
}

size_t SessionRegistry::Recheck(const Config& config) {
  std::vector<Entry> strangers;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, entry] : entries_) {
      const absl::StatusOr<Caller> caller = IdentifyCaller(config, entry.holder.credentials);
      if (!caller.ok() || caller->tenant != entry.holder.tenant) strangers.push_back(entry);
    }
  }
  for (const Entry& entry : strangers) {
    entry.stream->End(MakeError(ErrorCode::kUnauthenticated, Refusal::kUnauthenticated, "authorization",
                                "what it showed is not known here any more, or is somebody else's"));
  }
  return strangers.size();
}

bool SessionRegistry::Kick(const std::string& name) {
  std::shared_ptr<SessionStream> stream;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, entry] : entries_) {
      if (entry.session->Name() == name) stream = entry.stream;
    }
  }
  if (stream == nullptr) return false;
  stream->End(MakeError(ErrorCode::kUnavailable, "KICKED", "", "an operator ended this session"));
  return true;
}

std::vector<SessionRow> SessionRegistry::List(size_t limit) const {
  std::vector<Entry> entries;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, entry] : entries_) {
      if (entries.size() >= limit) break;
      entries.push_back(entry);
    }
  }
  std::vector<SessionRow> rows;
  for (const Entry& entry : entries) {
    rows.push_back({entry.session->Name(), entry.device_name, entry.session->peer, entry.holder.tenant,
                    clock_() - entry.session->opened, entry.session->outbox.live(), entry.session->outbox.bytes(),
                    entry.model});
  }
  return rows;
}

size_t SessionRegistry::size() const {
  MutexLock lock(mutex_);
  return entries_.size();
}

}  // namespace goad::server
