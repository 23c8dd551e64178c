// The composition root: owns every room, starts and stops them in order. No business logic.
//
// Start, bottom up: metrics -> registry, session writer and admin pump -> dispatch thread -> engine thread -> decision
// log -> metrics endpoint -> device listener -> admin listener. Stop: both listeners, with every call on them over,
// while all that finishes calls still runs; then metrics endpoint, engine, admin pump, dispatch, decision log. A drain
// comes before it.
#ifndef GOAD_SERVER_DAEMON_DAEMON_H_
#define GOAD_SERVER_DAEMON_DAEMON_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace goad::server {

struct AdminPorts;
class Reloader;
struct Rooms;

class Daemon {
 public:
  struct Options {
    std::string config_path;                   // read again by Reload; empty = Reload is refused
    std::function<void()> on_drain_requested;  // Admin.Drain: the owner is to call DrainAndStop
    std::function<void()> on_deaf;             // the device port answers nobody: the owner is to stop and fail
  };
  // Everything is up and listening, or the Status says what is in the way. `config` has read its files (LoadConfig).
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(Config config, Options options);
  ~Daemon();  // stops without a drain when DrainAndStop was not called

  int listen_port() const;  // 0 for a unix socket
  int admin_port() const;
  int metrics_port() const;  // 0 = off

  // Validates the file and publishes it at once, or keeps the running configuration and says why. Thread-safe.
  // The new version. `by`: who wants it, for the log; `warnings`, if given: what it took away, and what else should be
  // known.
  absl::StatusOr<uint64_t> Reload(const std::string& by = "", std::vector<std::string>* warnings = nullptr);

  // Not ready, Goodbye, no new admissions, running queries finish within drain_timeout, then everything stops.
  void DrainAndStop();

  bool deaf() const;  // on_deaf was called

  // Grows while the engine thread turns (at least five times a second).
  uint64_t engine_turns() const;

  // For the service manager's status line. Thread-safe; they do not wait for the engine.
  size_t sessions() const;
  int running_queries() const;  // granted or on a backend
  uint64_t config_version() const;
  absl::Duration longest_stop() const;  // that DrainAndStop takes, at the present configuration

 private:
  Daemon(Config config, Options options);
  absl::Status StartRooms();
  AdminPorts Orders();

  const Options options_;
  const std::unique_ptr<Rooms> rooms_;
  const std::unique_ptr<Reloader> reloader_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_DAEMON_H_
