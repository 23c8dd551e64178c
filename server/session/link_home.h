// Which goad a device's links say that it belongs to. Pure.
#ifndef GOAD_SERVER_SESSION_LINK_HOME_H_
#define GOAD_SERVER_SESSION_LINK_HOME_H_

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/base/monotonic_time.h"
#include "server/config/config.h"

namespace goad::server {

// Not one that a reload has taken away.
inline bool IsNeighbour(const std::vector<NeighbourConfig>& neighbours, const std::string& address) {
  return std::any_of(neighbours.begin(), neighbours.end(),
                     [&](const NeighbourConfig& neighbour) { return neighbour.address == address; });
}

// Thread-compatible. Of neighbours it knows 64 sites at most, as many as a report may name: those that count longest.
class LinkHome {
 public:
  // A link of which `site` was reported; it counts until `until`. `neighbour`: the address of the goad that has the
  // site, empty for this one.
  void Report(const std::string& site, const std::string& neighbour, MonotonicTime until) {
    if (neighbour.empty()) {
      own_until_ = std::max(own_until_, until);
      links_.erase(site);
      return;
    }
    links_[site] = {neighbour, until};
    if (links_.size() <= kMostSites) return;
    links_.erase(std::min_element(links_.begin(), links_.end(),
                                  [](const auto& a, const auto& b) { return a.second.second < b.second.second; }));
  }
  // The one of these neighbours that has the most of the sites whose links count, the first by address of several;
  // empty when they are all this goad's, or there are none.
  std::string Neighbour(const std::vector<NeighbourConfig>& neighbours, MonotonicTime now) {
    std::string best;
    std::map<std::string, int> sites;
    for (auto link = links_.begin(); link != links_.end();) {
      const auto& [neighbour, until] = link->second;
      if (until < now) {
        link = links_.erase(link);
        continue;
      }
      ++sites[neighbour];
      ++link;
    }
    int most = 0;
    for (const auto& [neighbour, count] : sites) {
      if (count > most && IsNeighbour(neighbours, neighbour)) most = count, best = neighbour;
    }
    return best;
  }
  // That, when no link to a site of this goad counts.
  std::string Moved(const std::vector<NeighbourConfig>& neighbours, MonotonicTime now) {
    return own_until_ >= now ? "" : Neighbour(neighbours, now);
  }

 private:
  static constexpr size_t kMostSites = 64;

  MonotonicTime own_until_ =
      MonotonicTime() - absl::InfiniteDuration();                       // when the last one to a site of this goad ends
  std::map<std::string, std::pair<std::string, MonotonicTime>> links_;  // by site, those to neighbours'
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_LINK_HOME_H_
