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

  // See Daemon::Reload. The decision log goes on in the file of its name, whatever becomes of the configuration.
  absl::StatusOr<uint64_t> Reload(const std::string& by, std::vector<std::string>* warnings);

  // See AdminPorts::drain_site.
  absl::Status DrainSite(const std::string& site, const std::string& backend, bool drained, const std::string& by);

  // Reads the files. Does not wait for a change that is under way.
  AdminPorts::ConfigFile File();

 private:
  absl::StatusOr<Config> Read();  // the file, fit to follow the running configuration
  bool IsInUse(size_t site, std::optional<size_t> backend);
  std::shared_ptr<const Config> Apply(Config next, bool keep_overrides);

  const std::string path_;
  Rooms* const rooms_;
  Mutex mutex_;  // held throughout a change
  Mutex last_mutex_;
  std::string last_error_ GOAD_GUARDED_BY(last_mutex_);  // of the last reload; empty = it came into force
  std::optional<MonotonicTime> last_reload_ GOAD_GUARDED_BY(last_mutex_);
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_RELOADER_H_
