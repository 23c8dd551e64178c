// The latest measurement of each radio link, and when it is to be told. Pure.
#ifndef GOAD_CLIENT_SDK_SRC_LINK_REPORTS_H_
#define GOAD_CLIENT_SDK_SRC_LINK_REPORTS_H_

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "client_sdk/src/instant.h"
#include "goad/query.h"
#include "goad/v1/offload.pb.h"

namespace goad::internal {

// Thread-compatible. At most ten reports a second, and the latest of every site in the end.
class LinkReports {
 public:
  // What is wrong with it, if anything; then it is not taken.
  absl::Status Take(Link link, Instant now);
  // goad has named its sites: what is known of their links is to be told once more, and nothing of others, which it
  // would refuse. Those are told again when they come back.
  void Again(const std::vector<Site>& sites);
  // When Report is next to be called; infinite when there is nothing to tell.
  Instant due() const { return changed_.empty() ? absl::InfiniteDuration() : next_; }
  v1::DeviceFrame Report(Instant now);  // REQUIRES: due() <= now. May have no links (all too old)

 private:
  std::map<std::string, std::pair<Link, Instant>> links_;  // by site, with the time of the measurement; the last 64
  std::set<std::string> changed_;                          // since the last report
  Instant next_ = -absl::InfiniteDuration();
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_LINK_REPORTS_H_
