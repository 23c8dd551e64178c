#include "server/config/place.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/clip.h"
#include "server/config/address.h"

namespace goad::server {
namespace {

// The list that `running` becomes. `same(old, new)`: whether they are one and the same; `free(place)`; `merge(old,
// new)`: what stands in the place of one that goes on.
template <typename T, typename Same, typename Free, typename Merge>
absl::Status Settle(const char* what, size_t most, const std::vector<T>& running, std::vector<T> read,
                    MonotonicTime now, const Same& same, const Free& free, const Merge& merge,
                    std::vector<T>* settled) {
  std::vector<T> list = running;
  for (T& old : list) {
    if (!old.presence.removed()) old.presence.removed_at = now;
  }
  std::vector<T> added;
  for (T& item : read) {
    const auto at = std::find_if(running.begin(), running.end(), [&](const T& old) { return same(old, item); });
    if (at == running.end()) {
      added.push_back(std::move(item));
      continue;
    }
    item.presence.drained = at->presence.drained && !at->presence.removed();
    const auto place = static_cast<size_t>(at - running.begin());
    if (absl::Status status = merge(place, &item); !status.ok()) return status;
    list[place] = std::move(item);
  }
  size_t place = 0;
  for (T& item : added) {
    while (place < running.size() && !(running[place].presence.removed() && list[place].presence.removed() &&
                                       running[place].presence.removed_at + kPlaceKept <= now && free(place))) {
      ++place;
    }
    if (place < running.size()) {
      list[place++] = std::move(item);
    } else {
      list.push_back(std::move(item));
    }
  }
  if (list.size() > most) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": ", list.size(),
                                                     " with those that were removed and still finish, want at most ",
                                                     most, "; reload again in a minute"));
  }
  *settled = std::move(list);
  return absl::OkStatus();
}

template <typename T, typename Name>
std::string Names(const std::vector<T>& list, const Name& name) {
  std::string names;
  for (const T& item : list) {
    if (!item.presence.removed()) absl::StrAppend(&names, names.empty() ? "" : ", ", name(item));
  }
  return names;
}

}  // namespace

absl::Status KeepPlaces(const Config& running, const IsInUse& in_use, MonotonicTime now, Config* next) {
  const absl::Status settled = Settle(
      "sites", kMostSites, running.sites, std::move(next->sites), now,
      [](const SiteConfig& a, const SiteConfig& b) { return a.name == b.name; },
      [&](size_t site) { return !in_use(site, std::nullopt); },
      [&](size_t site, SiteConfig* read) {
        return Settle(
            "backends", kMostBackends, running.sites[site].backends, std::move(read->backends), now,
            [](const BackendConfig& a, const BackendConfig& b) { return SameUrl(a.url) == SameUrl(b.url); },
            [&](size_t backend) { return !in_use(site, backend); },
            [](size_t, BackendConfig*) { return absl::OkStatus(); }, &read->backends);
      },
      &next->sites);
  for (SiteConfig& site : next->sites) {
    if (!site.presence.removed()) continue;
    for (BackendConfig& backend : site.backends) {
      backend.presence.removed_at = std::min(backend.presence.removed_at, site.presence.removed_at);
    }
  }
  return settled;
}

absl::Status SetDrained(const std::string& site, const std::string& backend, bool drained, Config* config) {
  const auto at = std::find_if(config->sites.begin(), config->sites.end(), [&](const SiteConfig& candidate) {
    return candidate.name == site && !candidate.presence.removed();
  });
  if (at == config->sites.end()) {
    return absl::NotFoundError(absl::StrCat("site: \"", Clip(site), "\" is not one of ",
                                            Names(config->sites, [](const SiteConfig& other) { return other.name; })));
  }
  if (backend.empty()) {
    at->presence.drained = drained;
    return absl::OkStatus();
  }
  size_t place = at->backends.size();
  if (!absl::SimpleAtoi(backend, &place) || place >= at->backends.size() || at->backends[place].presence.removed()) {
    for (place = 0; place < at->backends.size(); ++place) {
      const BackendConfig& candidate = at->backends[place];
      if (!candidate.presence.removed() && SameUrl(candidate.url) == SameUrl(backend)) break;
    }
  }
  if (place == at->backends.size()) {
    return absl::NotFoundError(absl::StrCat("backend: \"", Clip(backend), "\" is not one of ",
                                            Names(at->backends, [](const BackendConfig& other) { return other.url; })));
  }
  at->backends[place].presence.drained = drained;
  return absl::OkStatus();
}

}  // namespace goad::server
