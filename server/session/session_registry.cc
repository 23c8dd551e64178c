#include "server/session/session_registry.h"

#include "absl/strings/str_cat.h"
#include "server/session/wire_codec.h"

namespace goad::server {

SessionRegistry::SessionRegistry(std::vector<SiteConfig> sites, Metrics* metrics, QueryMemory* memory,
                                 std::function<MonotonicTime()> clock, Wake wake)
    : sites_(std::move(sites)), metrics_(metrics), memory_(memory), clock_(std::move(clock)), wake_(std::move(wake)) {}

std::optional<ErrorInfo> SessionRegistry::Add(std::shared_ptr<Session> session, std::shared_ptr<SessionStream> stream,
                                              const std::string& holder, const LimitsConfig& limits) {
  const auto refuse = [&](ErrorCode code, const char* reason, std::string message) {
    return ErrorInfo{code, reason, "", std::move(message), absl::ToDoubleSeconds(limits.retry_after)};
  };
  size_t open = 0;
  {
    MutexLock lock(mutex_);
    if (draining_) return refuse(ErrorCode::kUnavailable, "DRAINING", "draining: reconnect later");
    if (entries_.size() >= static_cast<size_t>(limits.sessions)) {
      return refuse(ErrorCode::kResourceExhausted, "SESSIONS",
                    absl::StrCat("limits.sessions: ", limits.sessions, " sessions are open"));
    }
    int& held = held_[holder];
    if (limits.sessions_per_identity > 0 && held >= limits.sessions_per_identity) {
      return refuse(ErrorCode::kResourceExhausted, "SESSIONS_PER_IDENTITY",
                    absl::StrCat("limits.sessions_per_identity: ", limits.sessions_per_identity, " sessions of yours are open"));
    }
    ++held;
    const SessionId id = session->id;
    entries_[id] = {std::move(session), std::move(stream), "", "", holder};
    open = entries_.size();
  }
  metrics_->Sessions(open);
  return std::nullopt;
}

void SessionRegistry::Describe(SessionId id, std::string identity, std::string device_name) {
  MutexLock lock(mutex_);
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return;
  entry->second.identity = std::move(identity);
  entry->second.device_name = std::move(device_name);
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
    if (const auto held = held_.find(removed.holder); --held->second == 0) held_.erase(held);
    open = entries_.size();
  }
  metrics_->Sessions(open);
}

Delivery SessionRegistry::Deliver(SessionId id, SessionEvent event) {
  Entry entry;
  {
    MutexLock lock(mutex_);
    const auto found = entries_.find(id);
    if (found == entries_.end()) return Delivery::kDropped;
    entry = found->second;
  }
  Outbox::PutResult put = entry.session->outbox.Put(event, sites_);
  if (put.frame) {
    const MonotonicTime now = clock_();
    bool refused = false;  // for now: asking again later is what we want
    if (const auto* decision = std::get_if<DecisionEvent>(&event)) {
      refused = decision->reason == sched::Reason::kOverload || decision->reason == sched::Reason::kDraining;
      metrics_->Decision(decision->verdict, decision->reason, decision->site);
      memory_->Decided(entry.identity, put.slot.query_id, *put.frame);
    }
    if (put.terminal) metrics_->TerminalEvent(*put.terminal, SecondsBetween(put.slot.received, now));
    if (refused) {
      memory_->Forget(entry.identity, put.slot.query_id);
    } else if (put.terminal) {
      memory_->Finish(entry.identity, put.slot.query_id, std::move(*put.frame), now);
    }
  }
  if (put.delivery != Delivery::kDropped || put.terminal) wake_(std::move(entry.stream));
  return put.delivery;
}

void SessionRegistry::StartDrain(absl::Duration reconnect_after) {
  v1::ServerFrame goodbye;
  goodbye.mutable_goodbye()->set_reconnect_after_s(absl::ToDoubleSeconds(reconnect_after));
  goodbye.mutable_goodbye()->set_message("goad is shutting down; running queries are finished");
  std::vector<Entry> entries;
  {
    MutexLock lock(mutex_);
    draining_ = true;
    for (const auto& [id, entry] : entries_) entries.push_back(entry);
  }
  for (Entry& entry : entries) {
    entry.session->outbox.PutUrgent(goodbye);
    entry.session->outbox.HalfClose();
    wake_(std::move(entry.stream));
  }
}

std::vector<SessionRegistry::Row> SessionRegistry::List(size_t limit) const {
  std::vector<Entry> entries;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, entry] : entries_) {
      if (entries.size() >= limit) break;
      entries.push_back(entry);
    }
  }
  std::vector<Row> rows;
  for (const Entry& entry : entries) {
    rows.push_back({entry.session->Name(), entry.device_name, entry.session->peer, clock_() - entry.session->opened,
                    entry.session->outbox.live(), entry.session->outbox.bytes()});
  }
  return rows;
}

size_t SessionRegistry::size() const {
  MutexLock lock(mutex_);
  return entries_.size();
}

}  // namespace goad::server
