// How another configuration comes into force: checked against the running one, published, handed to everybody.
#ifndef GOAD_SERVER_DAEMON_RELOADER_H_
#define GOAD_SERVER_DAEMON_RELOADER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/daemon/rooms.h"

namespace goad::server {

// Thread-safe: one change at a time. `rooms` is not owned and outlives this; REQUIRES for every call: they have
// started.
class Reloader {
 public:
  // `path`: of the configuration; empty = Reload is refused.
  Reloader(std::string path, Rooms* rooms) : path_(std::move(path)), rooms_(rooms) {}

  // See Daemon::Reload.
  absl::StatusOr<uint64_t> Reload(std::vector<std::string>* warnings);

  // See AdminPorts::drain_site.
  absl::Status DrainSite(const std::string& site, const std::string& backend, bool drained);

 private:
  absl::StatusOr<Config> Read();  // the file, fit to follow the running configuration
  bool IsInUse(size_t site, std::optional<size_t> backend);
  std::shared_ptr<const Config> Apply(Config next, bool keep_overrides);

  const std::string path_;
  Rooms* const rooms_;
  Mutex mutex_;  // held throughout a change
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_RELOADER_H_
