// Which goad a device's links say that it belongs to. Pure.
#ifndef GOAD_SERVER_SESSION_LINK_HOME_H_
#define GOAD_SERVER_SESSION_LINK_HOME_H_

#include <map>
#include <string>

#include "server/base/monotonic_time.h"

namespace goad::server {

// Thread-compatible. Knows at most as many sites as the configuration has, neighbours' included.
class LinkHome {
 public:
  // A link of which `site` was reported; it counts until `until`. `neighbour`: the address of the goad that has the
  // site, empty for this one.
  void Report(const std::string& site, const std::string& neighbour, MonotonicTime until) {
    links_[site] = {neighbour, until};
  }
  // The neighbour that has the most of the sites whose links count, the first by address of several; empty when they
  // are all this goad's, or there are none.
  std::string Neighbour(MonotonicTime now) { return Look(now).best; }
  // That, when none of them is this goad's.
  std::string Moved(MonotonicTime now) {
    const Found found = Look(now);
    return found.own ? "" : found.best;
  }

 private:
  struct Found {
    bool own = false;
    std::string best;
  };
  Found Look(MonotonicTime now) {
    Found found;
    std::map<std::string, int> sites;
    for (auto link = links_.begin(); link != links_.end();) {
      const auto& [neighbour, until] = link->second;
      if (until < now) {
        link = links_.erase(link);
        continue;
      }
      found.own |= neighbour.empty();
      if (!neighbour.empty()) ++sites[neighbour];
      ++link;
    }
    int most = 0;
    for (const auto& [neighbour, count] : sites) {
      if (count > most) most = count, found.best = neighbour;
    }
    return found;
  }

  std::map<std::string, std::pair<std::string, MonotonicTime>> links_;  // by site
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_LINK_HOME_H_
