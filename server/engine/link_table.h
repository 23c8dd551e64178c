// What is known of every session's radio links. Owned by the engine thread; thread-compatible.
#ifndef GOAD_SERVER_ENGINE_LINK_TABLE_H_
#define GOAD_SERVER_ENGINE_LINK_TABLE_H_

#include <unordered_map>
#include <vector>

#include "server/engine/events.h"

namespace goad::server {

class LinkTable {
 public:
  explicit LinkTable(size_t sites) : sites_(sites) {}

  void Update(const LinkUpdate& update) {
    std::vector<LinkMeasurement>& row = rows_[update.session];
    row.resize(sites_);
    for (const LinkMeasurement& link : update.links) row[sched::ToIndex(link.site)] = link;
  }
  void Erase(SessionId session) { rows_.erase(session); }

  // One entry per site, or null when the session never reported. A site never reported has site == kNone.
  const std::vector<LinkMeasurement>* Find(SessionId session) const {
    const auto row = rows_.find(session);
    return row == rows_.end() ? nullptr : &row->second;
  }

 private:
  const size_t sites_;
  std::unordered_map<SessionId, std::vector<LinkMeasurement>> rows_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_LINK_TABLE_H_
