// Every live query, in all the ways in which the engine asks for one: by its id, by its session, in order of arrival,
// by time. Pure. Owned by the engine thread; thread-compatible.
#ifndef GOAD_SERVER_ENGINE_QUERY_TABLE_H_
#define GOAD_SERVER_ENGINE_QUERY_TABLE_H_

#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "server/engine/query.h"

namespace goad::server {

class QueryTable {
 public:
  // References stay good until Erase. A new query is kPending and the last in order of arrival.
  Query& Insert(Query query);
  Query* Find(QueryId id);
  void Erase(Query& query);

  bool empty() const { return queries_.empty(); }
  template <typename Visit>
  void ForEach(const Visit& visit) const {  // in no order
    for (const auto& [id, query] : queries_) visit(query);
  }
  template <typename Visit>
  void ForEach(const Visit& visit) {
    for (auto& [id, query] : queries_) visit(query);
  }

  bool HasSession(SessionId session) const { return by_session_.count(session) != 0; }
  std::vector<QueryId> OfSession(SessionId session) const;

  // Those that no epoch has answered, in order of arrival. Some may have left meanwhile.
  size_t pending() const { return pending_.size(); }
  std::vector<QueryId> TakePending() { return std::exchange(pending_, {}); }
  void KeepPending(std::vector<QueryId> ids);  // they wait on

  // Something is due for the query at `when`; Infinite() = nothing. At most one thing at a time.
  void SetExpiry(Query& query, MonotonicTime when);
  MonotonicTime next_expiry() const { return expiries_.empty() ? MonotonicTime::Infinite() : expiries_.begin()->first; }
  Query* TakeExpired(
      MonotonicTime now);  // the first whose time is over, with none set any more; null when there is none

  // How many of a session's prompts are on their way.
  int Uploads(SessionId session) const {
    const auto found = uploading_.find(session);
    return found == uploading_.end() ? 0 : found->second;
  }
  void BeginUpload(SessionId session) { ++uploading_[session]; }
  void EndUpload(SessionId session);

  // The first of its invariants that does not hold; empty = all do.
  std::string Broken() const;

 private:
  std::unordered_map<QueryId, Query> queries_;
  std::unordered_map<SessionId, std::unordered_set<QueryId>> by_session_;
  std::vector<QueryId> pending_;
  std::unordered_map<SessionId, int> uploading_;
  std::set<std::pair<MonotonicTime, QueryId>> expiries_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_QUERY_TABLE_H_
