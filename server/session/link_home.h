// Which goad a device's links say that it belongs to. Pure.
#ifndef GOAD_SERVER_SESSION_LINK_HOME_H_
#define GOAD_SERVER_SESSION_LINK_HOME_H_

#include <map>
#include <string>

#include "server/base/monotonic_time.h"
#include "server/config/config.h"

namespace goad::server {

// Thread-compatible. Whose a site is, is looked up in the configuration each time, and what that does not have is
// forgotten: so at most as many sites are known as it has, neighbours' included, and those that were reported since.
class LinkHome {
 public:
  // A link to the site, this goad's or a neighbour's, was reported; it counts until `until`.
  void Report(const std::string& site, MonotonicTime until) { links_[site] = until; }
  // Address of the neighbour that has the most of the sites whose links count, the first by address of several; empty
  // when they are all this goad's, or there are none.
  std::string Neighbour(const Config& config, MonotonicTime now) { return Look(config, now).best; }
  // That, when none of them is this goad's.
  std::string Moved(const Config& config, MonotonicTime now) {
    const Found found = Look(config, now);
    return found.own ? "" : found.best;
  }

 private:
  struct Found {
    bool own = false;
    std::string best;
  };
  Found Look(const Config& config, MonotonicTime now) {
    Found found;
    std::map<std::string, int> sites;  // of each neighbour
    for (auto link = links_.begin(); link != links_.end();) {
      const bool own = config.FindSite(link->first) != nullptr;
      const NeighbourConfig* const neighbour = own ? nullptr : config.FindNeighbour(link->first);
      if (link->second < now || (!own && neighbour == nullptr)) {
        link = links_.erase(link);
        continue;
      }
      found.own |= own;
      if (neighbour != nullptr) ++sites[neighbour->address];
      ++link;
    }
    int most = 0;
    for (const auto& [neighbour, count] : sites) {
      if (count > most) most = count, found.best = neighbour;
    }
    return found;
  }

  std::map<std::string, MonotonicTime> links_;  // by site
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_LINK_HOME_H_
