#include "server/session/query_memory.h"

#include <algorithm>

namespace goad::server {
namespace {
constexpr absl::Duration kRemember = absl::Seconds(60);
}

QueryMemory::Answer QueryMemory::Begin(const std::string& identity, const std::string& query_id, uint64_t fingerprint,
                                       SessionId session, MonotonicTime now) {
  MutexLock lock(mutex_);
  Trim(now);
  const Key key = MakeKey(identity, query_id);
  const auto [at, fresh] = entries_.try_emplace(key);
  Entry& entry = at->second;
  if (fresh || entry.again <= now) {
    entry = Entry();
    entry.fingerprint = fingerprint;
    entry.session = session;
    live_[session].push_back(key);
    return {Recall::kNew, std::nullopt};
  }
  if (entry.fingerprint != fingerprint) return {Recall::kConflict, std::nullopt};
  if (entry.finished) return {Recall::kFinished, entry.frame};
  if (entry.session != session) return {Recall::kElsewhere, std::nullopt};
  return {Recall::kLive, entry.frame};
}

void QueryMemory::Decided(const std::string& identity, const std::string& query_id, const v1::ServerFrame& decision) {
  MutexLock lock(mutex_);
  const auto entry = entries_.find(MakeKey(identity, query_id));
  if (entry != entries_.end() && !entry->second.finished) entry->second.frame = decision;
}

QueryMemory::Entry* QueryMemory::FindLive(const Key& key) {
  const auto entry = entries_.find(key);
  return entry == entries_.end() || entry->second.finished ? nullptr : &entry->second;
}

void QueryMemory::Finish(const std::string& identity, const std::string& query_id, v1::ServerFrame terminal,
                         MonotonicTime now) {
  MutexLock lock(mutex_);
  const Key key = MakeKey(identity, query_id);
  Entry* entry = FindLive(key);
  if (entry == nullptr) return;
  entry->finished = true;
  entry->frame = std::move(terminal);
  LeaveLive(entry->session, key);
  finished_.emplace_back(now, key);
  Trim(now);
}

void QueryMemory::Refused(const std::string& identity, const std::string& query_id, v1::ServerFrame decision,
                          MonotonicTime again) {
  MutexLock lock(mutex_);
  const Key key = MakeKey(identity, query_id);
  Entry* entry = FindLive(key);
  if (entry == nullptr) return;
  entry->finished = true;
  entry->again = again;
  entry->frame = std::move(decision);
  LeaveLive(entry->session, key);
  refused_.emplace_back(again, key);
  if (refused_.size() > capacity_ / 4 + 1) ForgetRefused();
}

void QueryMemory::Forget(const std::string& identity, const std::string& query_id) {
  MutexLock lock(mutex_);
  const Key key = MakeKey(identity, query_id);
  if (const Entry* entry = FindLive(key)) {
    LeaveLive(entry->session, key);
    entries_.erase(key);
  }
}

void QueryMemory::LeaveLive(SessionId session, const Key& key) {
  const auto live = live_.find(session);
  if (live == live_.end()) return;
  live->second.erase(std::remove(live->second.begin(), live->second.end(), key), live->second.end());
  if (live->second.empty()) live_.erase(live);
}

void QueryMemory::ForgetLive(SessionId session) {
  MutexLock lock(mutex_);
  const auto live = live_.find(session);
  if (live == live_.end()) return;
  for (const Key& key : live->second) entries_.erase(key);
  live_.erase(live);
}

// The oldest one. Its key may meanwhile be another question's, live or finished: that one stays.
void QueryMemory::ForgetRefused() {
  const auto entry = entries_.find(refused_.front().second);
  if (entry != entries_.end() && entry->second.again == refused_.front().first) entries_.erase(entry);
  refused_.pop_front();
}

void QueryMemory::Trim(MonotonicTime now) {
  while (!refused_.empty() && refused_.front().first <= now) ForgetRefused();
  while (!finished_.empty() && (finished_.size() > capacity_ || finished_.front().first + kRemember <= now)) {
    entries_.erase(finished_.front().second);
    finished_.pop_front();
  }
}

}  // namespace goad::server
