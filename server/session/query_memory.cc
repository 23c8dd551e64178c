#include "server/session/query_memory.h"

#include <algorithm>

namespace goad::server {
namespace {
constexpr absl::Duration kRemember = absl::Seconds(60);
}

QueryMemory::Answer QueryMemory::Begin(const std::string& key, uint64_t fingerprint, SessionId session,
                                       MonotonicTime now) {
  MutexLock lock(mutex_);
  Trim(now);
  const auto [at, fresh] = entries_.try_emplace(key);
  Entry& entry = at->second;
  if (fresh || entry.again <= now) {
    entry = Entry();
    entry.fingerprint = fingerprint;
    entry.session = session;
    live_[session].push_back(key);
    return {Recall::kNew, nullptr};
  }
  if (entry.fingerprint != fingerprint) return {Recall::kConflict, nullptr};
  if (entry.finished) return {Recall::kFinished, entry.frame};
  if (entry.session != session) return {Recall::kElsewhere, nullptr};
  return {Recall::kLive, entry.frame};
}

void QueryMemory::Decided(const std::string& key, FramePtr decision) {
  MutexLock lock(mutex_);
  if (Entry* entry = FindLive(key)) entry->frame = std::move(decision);
}

QueryMemory::Entry* QueryMemory::FindLive(const std::string& key) {
  const auto entry = entries_.find(key);
  return entry == entries_.end() || entry->second.finished ? nullptr : &entry->second;
}

void QueryMemory::Finish(const std::string& key, FramePtr terminal, MonotonicTime now) {
  MutexLock lock(mutex_);
  Entry* entry = FindLive(key);
  if (entry == nullptr) return;
  entry->finished = true;
  entry->frame = std::move(terminal);
  LeaveLive(entry->session, key);
  finished_.emplace_back(now, key);
  Trim(now);
}

void QueryMemory::Refused(const std::string& key, FramePtr decision, MonotonicTime again) {
  MutexLock lock(mutex_);
  Entry* entry = FindLive(key);
  if (entry == nullptr) return;
  entry->finished = true;
  entry->again = again;
  entry->frame = std::move(decision);
  LeaveLive(entry->session, key);
  refused_.emplace_back(again, key);
  if (refused_.size() > capacity_ / 4 + 1) ForgetRefused();
}

std::optional<AnsweredBy> QueryMemory::Rate(const std::string& key, MonotonicTime now) {
  MutexLock lock(mutex_);
  Trim(now);
  const auto found = entries_.find(key);
  if (found == entries_.end() || !found->second.finished || found->second.rated) return std::nullopt;
  const FramePtr& frame = found->second.frame;
  if (frame == nullptr || frame->has_cancelled()) return std::nullopt;
  found->second.rated = true;
  return frame->has_completed() ? AnsweredBy::kEdge : AnsweredBy::kDevice;
}

void QueryMemory::Forget(const std::string& key) {
  MutexLock lock(mutex_);
  if (const Entry* entry = FindLive(key)) {
    LeaveLive(entry->session, key);
    entries_.erase(key);
  }
}

void QueryMemory::LeaveLive(SessionId session, const std::string& key) {
  const auto live = live_.find(session);
  if (live == live_.end()) return;
  live->second.erase(std::remove(live->second.begin(), live->second.end(), key), live->second.end());
  if (live->second.empty()) live_.erase(live);
}

void QueryMemory::ForgetLive(SessionId session) {
  MutexLock lock(mutex_);
  const auto live = live_.find(session);
  if (live == live_.end()) return;
  for (const std::string& key : live->second) entries_.erase(key);
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
