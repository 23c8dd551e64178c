// Which backend answered a session's last chat query: the beginning of its next one is cached there. Pure.
#ifndef GOAD_SERVER_DISPATCH_LAST_BACKENDS_H_
#define GOAD_SERVER_DISPATCH_LAST_BACKENDS_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "server/engine/query.h"

namespace goad::server {

// Thread-compatible. A hint, so bounded by forgetting: sessions that fall on one place forget each other.
class LastBackends {
 public:
  std::optional<int> Of(SessionId session, size_t site) const {
    const Entry& entry = entries_[PlaceOf(session)];
    return entry.session == session && entry.site == site ? entry.backend : std::nullopt;
  }
  void Remember(SessionId session, size_t site, int backend) { entries_[PlaceOf(session)] = {session, site, backend}; }

 private:
  struct Entry {
    SessionId session{};
    size_t site = 0;
    std::optional<int> backend;
  };
  static constexpr size_t kPlaces = 16384;
  static size_t PlaceOf(SessionId session) { return static_cast<size_t>(session) % kPlaces; }

  std::vector<Entry> entries_{kPlaces};
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_LAST_BACKENDS_H_
