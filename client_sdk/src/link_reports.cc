#include "client_sdk/src/link_reports.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client_sdk/src/checks.h"

namespace goad::internal {
namespace {

constexpr size_t kMostSites = 64;  // goad.v1.LinkReport
constexpr absl::Duration kBetween = absl::Milliseconds(100);
constexpr absl::Duration kHeardLately = absl::Minutes(1);

}  // namespace

absl::Status LinkReports::Take(Link link, Instant now) {
  if (absl::Status checked = CheckLink(link); !checked.ok()) return checked;
  if (links_.size() >= kMostSites && links_.count(link.site) == 0) {  // a device that travels
    const auto oldest = std::min_element(links_.begin(), links_.end(), [](const auto& a, const auto& b) {
      return a.second.second < b.second.second;  // when they were measured
    });
    if (now - oldest->second.second < kHeardLately) {
      return absl::ResourceExhaustedError(
          absl::StrCat("link to ", link.site, ": ", kMostSites,
                       " other sites were measured within the last minute, want at most that"));
    }
    changed_.erase(oldest->first);
    links_.erase(oldest);
  }
  const std::string site = link.site;
  const Instant measured = now - link.age;
  links_[site] = {std::move(link), measured};
  changed_.insert(site);
  return absl::OkStatus();
}

void LinkReports::Again(const std::vector<Site>& sites) {
  changed_.clear();
  for (const Site& site : sites) {
    if (links_.count(site.name) > 0) changed_.insert(site.name);
  }
  next_ = -absl::InfiniteDuration();
}

v1::DeviceFrame LinkReports::Report(Instant now) {
  v1::DeviceFrame frame;
  v1::LinkReport* report = frame.mutable_link_report();
  for (const std::string& site : changed_) {
    const auto& [link, measured] = links_.at(site);
    const double age_s = absl::ToDoubleSeconds(now - measured);
    if (age_s > 3600) continue;  // of no use to anybody
    v1::SiteLink& wire = *report->add_links();
    wire.set_site(site);
    wire.set_age_s(age_s);
    if (link.gain_db) wire.set_gain_db(*link.gain_db);
    if (link.rsrp_dbm) wire.set_rsrp_dbm(*link.rsrp_dbm);
    if (link.uplink_snr_db) wire.set_uplink_snr_db(*link.uplink_snr_db);
    if (link.uplink_bps) wire.set_uplink_bps(*link.uplink_bps);
  }
  changed_.clear();
  next_ = now + kBetween;
  return frame;
}

}  // namespace goad::internal
