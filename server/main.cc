// goad: flags and signals. Exit status: 0 stopped after a drain, 1 could not start, went deaf or stood still, 2 bad
// flags or configuration.
#include <malloc.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/base/monotonic_time.h"
#include "server/config/config_loader.h"
#include "server/daemon/daemon.h"
#include "server/daemon/journal.h"
#include "spdlog/spdlog.h"

ABSL_FLAG(std::string, config, "/etc/goad/goad.yaml", "configuration file (YAML; deploy/goad.yaml explains every key)");
ABSL_FLAG(bool, check, false, "check the configuration and the files that it names, list every problem, and exit");

namespace {

constexpr char kUsage[] =
    "the scheduler beside an edge LLM.\n"
    "\n"
    "  goad --config FILE           run; SIGTERM drains and stops, SIGHUP reloads the configuration\n"
    "  goad --config FILE --check   list what is wrong with it and the files that it names, and exit\n"
    "\n"
    "Logs go to standard error, one key=value line per event; into the journal with priorities. Under systemd "
    "(Type=notify) it reports READY, RELOADING, "
    "STOPPING and\n"
    "its state, and feeds the watchdog as long as its engine turns.";

// What systemd is told (sd_notify(3)); nothing where there is no NOTIFY_SOCKET.
class Systemd {
 public:
  explicit Systemd(const goad::server::Daemon* daemon) : daemon_(daemon) {
    uint64_t watchdog_us = 0;
    watched_ = sd_watchdog_enabled(/*unset_environment=*/0, &watchdog_us) > 0;
    if (watched_) interval_ = absl::Microseconds(watchdog_us) / 4;
  }
  void Ready() { sd_notifyf(0, "READY=1\n%s", State().c_str()); }
  void Reloading() {
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=reloading",
               static_cast<long long>(
                   absl::ToInt64Microseconds(goad::server::MonotonicTime::Now() - goad::server::MonotonicTime())));
  }
  void Stopping(absl::Duration most) {
    sd_notifyf(0, "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=%lld",
               static_cast<long long>(absl::ToInt64Microseconds(most)));
  }
  // Feeds the watchdog if the engine has turned since the last call and the device port answers, and refreshes the
  // state. `waited`: a whole interval went by since.
  void Beat(bool waited) {
    const uint64_t turns = daemon_->engine_turns();
    const bool turned = std::exchange(turns_, turns) != turns;
    still_ = turned ? 0 : still_ + waited;
    const bool well = turned && !daemon_->deaf();
    sd_notifyf(0, "%s%s", well ? "WATCHDOG=1\n" : "", State().c_str());
  }
  // No watchdog is there to end us, as in a container, and the engine stands still.
  bool forsaken() const { return !watched_ && still_ >= kStill; }
  absl::Duration interval() const { return interval_; }

 private:
  static constexpr int kStill = 3;  // looks in a row, 5 s apart
  std::string State() const {
    return absl::StrCat("STATUS=", daemon_->sessions(), " sessions, ", daemon_->running_queries(),
                        " queries running, configuration ", daemon_->config_version());
  }
  const goad::server::Daemon* const daemon_;
  bool watched_ = false;
  absl::Duration interval_ = absl::Seconds(5);
  uint64_t turns_ = 0;
  int still_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // Debian's gRPC has it on: 2.5x per connection
  // An arena a core: with glibc's eight what a flood took is kept three times over.
  mallopt(M_ARENA_MAX, std::max(2, static_cast<int>(std::thread::hardware_concurrency())));
  absl::FlagsUsageConfig usage;  // --help lists this program's own flags only
  usage.contains_help_flags =
      usage.contains_helpshort_flags = [](absl::string_view file) { return absl::EndsWith(file, "server/main.cc"); };
  usage.version_string = [] { return std::string("goad ") + GOAD_VERSION + "\n"; };
  absl::SetFlagsUsageConfig(usage);
  absl::SetProgramUsageMessage(kUsage);
  if (absl::ParseCommandLine(argc, argv).size() > 1) {
    std::cerr << "goad: takes flags only (see goad --help)\n";
    return 2;
  }
  goad::server::LogToStandardError();
  const std::string path = absl::GetFlag(FLAGS_config);
  auto config = goad::server::LoadConfig(path);
  if (!config.ok()) {
    goad::server::Complain(absl::StrCat("configuration refused:\n", config.status().message()));
    return 2;
  }
  if (absl::GetFlag(FLAGS_check)) {
    for (const std::string& warning : config->warnings) std::cout << path << ": warning: " << warning << "\n";
    std::cout << path << ": good\n";
    return 0;
  }
  for (const std::string& warning : config->warnings) spdlog::warn("{}: {}", path, warning);
  spdlog::set_level(spdlog::level::from_str(config->log.level));

  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread, so that all inherit it
  signal(SIGPIPE, SIG_IGN);

  const std::string listen = config->listen.address, policy = config->policy.name;
  const double tau = config->policy.Tau();
  const auto stop = [] { kill(getpid(), SIGTERM); };
  auto daemon = goad::server::Daemon::Start(std::move(*config), {path, stop, stop});
  if (!daemon.ok()) {
    goad::server::Complain(absl::StrCat("cannot start: ", daemon.status().message()));
    return 1;
  }
  spdlog::info("ready listen={} port={} metrics_port={} policy={} tau={}", listen, (*daemon)->listen_port(),
               (*daemon)->metrics_port(), policy, tau);
  Systemd systemd(daemon->get());
  systemd.Ready();
  const timespec interval = absl::ToTimespec(systemd.interval());
  for (;;) {
    siginfo_t info{};
    const int signal = sigtimedwait(&signals, &info, &interval);
    if (signal == SIGHUP) {
      systemd.Reloading();
      (void)(*daemon)->Reload(absl::StrCat("SIGHUP uid=", info.si_uid, " pid=", info.si_pid));  // logged there
      systemd.Ready();  // also after a refusal: what ran goes on
    } else if (signal > 0) {
      break;
    }
    systemd.Beat(/*waited=*/signal < 0);  // in time even when signals come often
    if (systemd.forsaken()) {
      spdlog::error("the engine stands still; stopping, to be started again");
      break;
    }
  }
  systemd.Stopping((*daemon)->longest_stop());
  const bool stuck = (*daemon)->deaf() || systemd.forsaken();
  if (stuck) {  // whatever is stuck may not let us stop
    std::thread([most = (*daemon)->longest_stop()] {
      std::this_thread::sleep_for(absl::ToChronoMilliseconds(most));
      std::_Exit(1);
    }).detach();
  }
  (*daemon)->DrainAndStop();
  return stuck ? 1 : 0;
}
