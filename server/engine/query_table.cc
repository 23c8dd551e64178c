#include "server/engine/query_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace goad::server {

Query& QueryTable::Insert(Query query) {
  const QueryId id = query.id;
  Query& stored = queries_.emplace(id, std::move(query)).first->second;
  by_session_[stored.session].insert(id);
  pending_.push_back(id);
  return stored;
}

Query* QueryTable::Find(QueryId id) {
  const auto found = queries_.find(id);
  return found == queries_.end() ? nullptr : &found->second;
}

void QueryTable::Erase(Query& query) {
  SetExpiry(query, MonotonicTime::Infinite());
  const auto live = by_session_.find(query.session);
  live->second.erase(query.id);
  if (live->second.empty()) by_session_.erase(live);
  queries_.erase(query.id);
}

std::vector<QueryId> QueryTable::OfSession(SessionId session) const {
  const auto live = by_session_.find(session);
  if (live == by_session_.end()) return {};
  return {live->second.begin(), live->second.end()};
}

// Ids are given out at arrival.
void QueryTable::KeepPending(std::vector<QueryId> ids) {
  pending_.insert(pending_.end(), ids.begin(), ids.end());
  std::sort(pending_.begin(), pending_.end());
}

void QueryTable::SetExpiry(Query& query, MonotonicTime when) {
  if (query.expires != MonotonicTime::Infinite()) expiries_.erase({query.expires, query.id});
  query.expires = when;
  if (when != MonotonicTime::Infinite()) expiries_.emplace(when, query.id);
}

Query* QueryTable::TakeExpired(MonotonicTime now) {
  if (expiries_.empty() || expiries_.begin()->first > now) return nullptr;
  Query& query = *Find(expiries_.begin()->second);
  SetExpiry(query, MonotonicTime::Infinite());
  return &query;
}

void QueryTable::EndUpload(SessionId session) {
  const auto found = uploading_.find(session);
  if (--found->second == 0) uploading_.erase(found);
}

std::string QueryTable::Broken() const {
  size_t of_sessions = 0, expiring = 0, waiting = 0, to_wait = 0;
  std::unordered_map<SessionId, int> uploading;
  for (const auto& [session, ids] : by_session_) {
    of_sessions += ids.size();
    for (const QueryId id : ids) {
      const auto query = queries_.find(id);
      if (query == queries_.end() || query->second.session != session)
        return "a session has a query that is not its own";
    }
  }
  for (const auto& [id, query] : queries_) {
    if (query.expires != MonotonicTime::Infinite()) {
      ++expiring;
      if (expiries_.count({query.expires, id}) == 0) return "a query's time is not among the times";
    }
    to_wait += query.state == QueryState::kPending;
    if (query.state == QueryState::kGranted && query.transmits()) ++uploading[query.session];
  }
  for (const QueryId id : pending_) {
    const auto query = queries_.find(id);
    waiting += query != queries_.end() && query->second.state == QueryState::kPending;
  }
  if (of_sessions != queries_.size()) return absl::StrCat(queries_.size(), " queries, of sessions ", of_sessions);
  if (expiring != expiries_.size()) return absl::StrCat(expiring, " queries have a time, there are ", expiries_.size());
  if (waiting != to_wait) return absl::StrCat(to_wait, " queries wait, in order of arrival are ", waiting);
  if (uploading != uploading_) return "who uploads is not who has a grant";
  return "";
}

}  // namespace goad::server
