// Sites and backends keep their places over reloads, so that an index names the same thing in every room for as long as
// anything of it lives. Pure; time is handed in.
#ifndef GOAD_SERVER_CONFIG_PLACE_H_
#define GOAD_SERVER_CONFIG_PLACE_H_

#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "server/config/config.h"

namespace goad::server {

inline constexpr size_t kMostSites = 64;
inline constexpr size_t kMostBackends = 64;  // of a site
// A removed place is given to another no earlier: what was on its way to it has arrived by then.
inline constexpr absl::Duration kPlaceKept = absl::Seconds(60);

// Whether anything runs at a site, or on one of its backends.
using IsInUse = std::function<bool(size_t site, std::optional<size_t> backend)>;

// Gives every site and backend of `next`, as they were read, the place that they have in `running`: a site is known by
// its name, a backend within its site by its URL. What `running` has and `next` has not stays in its place, removed
// (with a site its backends).
// What is new takes a place that was removed `kPlaceKept` ago and is not in use, else a new one at the end. What is
// drained stays drained. Lists never get shorter.
//
// RESOURCE_EXHAUSTED where there are not enough places: those of removed ones that are not free yet count.
absl::Status KeepPlaces(const Config& running, const IsInUse& in_use, MonotonicTime now, Config* next);

// Drains or resumes a site, or with `backend` (its URL, or its place in the site's list) one of its backends. NOT_FOUND
// names those there are.
absl::Status SetDrained(const std::string& site, const std::string& backend, bool drained, Config* config);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_PLACE_H_
