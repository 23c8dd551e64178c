// What is known of every session's radio links. Owned by the engine thread; thread-compatible.
#ifndef GOAD_SERVER_ENGINE_LINK_TABLE_H_
#define GOAD_SERVER_ENGINE_LINK_TABLE_H_

#include <unordered_map>
#include <vector>

#include "server/engine/events.h"

namespace goad::server {

class LinkTable {
 public:
  void Update(const LinkUpdate& update) {
    std::vector<LinkMeasurement>& row = rows_[update.session];
    for (const LinkMeasurement& link : update.links) {
      const size_t site = sched::ToIndex(link.site);
      if (site >= row.size()) row.resize(site + 1);
      row[site] = link;
    }
  }
  void Erase(SessionId session) { rows_.erase(session); }
  // The place is another site's from now on.
  void EraseSite(size_t site) {
    for (auto& [session, row] : rows_) {
      if (site < row.size()) row[site] = {};
    }
  }

  // A session's links, of which any site's can be asked for. One never reported has site == kNone.
  class Row {
   public:
    explicit Row(const std::vector<LinkMeasurement>* known) : known_(known) {}
    const LinkMeasurement& operator[](size_t site) const {
      static const LinkMeasurement kNever;
      return known_ == nullptr || site >= known_->size() ? kNever : (*known_)[site];
    }

   private:
    const std::vector<LinkMeasurement>* known_;
  };
  Row Of(SessionId session) const {
    const auto row = rows_.find(session);
    return Row(row == rows_.end() ? nullptr : &row->second);
  }

 private:
  std::unordered_map<SessionId, std::vector<LinkMeasurement>> rows_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_LINK_TABLE_H_
