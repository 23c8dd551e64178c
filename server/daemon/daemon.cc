#include "server/daemon/daemon.h"

#include <google/protobuf/stubs/logging.h>

#include <mutex>
#include <thread>
#include <utility>

#include "server/daemon/grpc_log.h"
#include "server/daemon/reloader.h"
#include "server/daemon/resources.h"
#include "server/daemon/rooms.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

constexpr absl::Duration kLastFrames = absl::Seconds(1);  // that a drain waits for what is on its way

void KeepLibrariesQuiet() {
  static std::once_flag once;
  std::call_once(once, [] {
    ForwardGrpcLog();
    // It has a line for every string that is no UTF-8: a device could fill the log.
    google::protobuf::SetLogHandler(nullptr);
  });
}

}  // namespace

Daemon::Daemon(Config config, Options options)
    : options_(std::move(options)),
      rooms_(std::make_unique<Rooms>(std::move(config))),
      reloader_(std::make_unique<Reloader>(options_.config_path, rooms_.get())) {}

Daemon::~Daemon() { rooms_->Stop(); }  // while what its callers call is still there

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(Config config, Options options) {
  KeepLibrariesQuiet();
  RaiseDescriptorLimit();
  if (absl::Status status = EnoughToStart(); !status.ok()) return status;
  try {
    auto daemon = std::unique_ptr<Daemon>(new Daemon(std::move(config), std::move(options)));
    if (absl::Status status = daemon->StartRooms(); !status.ok()) return status;
    return daemon;
  } catch (const std::exception& error) {  // of the standard library: no memory, no thread
    return absl::ResourceExhaustedError(absl::StrCat("not enough memory or threads: ", error.what()));
  }
}

absl::Status Daemon::StartRooms() {
  absl::Status status = rooms_->Lock();
  if (status.ok()) status = rooms_->Certificates();
  if (status.ok()) status = rooms_->Work();
  if (status.ok()) status = rooms_->Page();
  if (status.ok())
    status = rooms_->ListenToDevices([this] {
      if (options_.on_deaf) options_.on_deaf();
    });
  if (status.ok()) status = rooms_->ListenToOperators(Orders());
  return status;
}

AdminPorts Daemon::Orders() {
  AdminPorts orders;
  orders.reload = [this](const std::string& by) -> absl::StatusOr<AdminPorts::Reloaded> {
    AdminPorts::Reloaded done;
    const absl::StatusOr<uint64_t> version = Reload(by, &done.warnings);
    if (!version.ok()) return version.status();
    done.version = *version;
    return done;
  };
  orders.config_file = [this] { return reloader_->File(); };
  orders.drain_site = [this](const std::string& site, const std::string& backend, bool drained, const std::string& by) {
    return reloader_->DrainSite(site, backend, drained, by);
  };
  orders.drain = [this](const std::string& by) {
    spdlog::info("operator drains by={}", by);
    if (options_.on_drain_requested) options_.on_drain_requested();
  };
  return orders;
}

int Daemon::listen_port() const { return rooms_->devices->port(); }
int Daemon::admin_port() const { return rooms_->admin == nullptr ? 0 : rooms_->admin->port(); }
int Daemon::metrics_port() const { return rooms_->metrics_port; }
bool Daemon::deaf() const { return rooms_->port_watch->deaf(); }
uint64_t Daemon::engine_turns() const { return rooms_->engine_thread->turns(); }
size_t Daemon::sessions() const { return rooms_->registry.size(); }
int Daemon::running_queries() const { return rooms_->engine_thread->active_queries(); }
uint64_t Daemon::config_version() const { return rooms_->config_store.Current()->version; }
absl::Duration Daemon::longest_stop() const {
  return rooms_->config_store.Current()->drain_timeout + kLastFrames * 2 + absl::Seconds(10);
}

absl::StatusOr<uint64_t> Daemon::Reload(const std::string& by, std::vector<std::string>* warnings) {
  return reloader_->Reload(by, warnings);
}

void Daemon::DrainAndStop() {
  Rooms& r = *rooms_;
  if (r.stopped) return;
  const auto config = r.config_store.Current();
  spdlog::info("draining sessions={} drain_timeout={}", r.registry.size(), absl::FormatDuration(config->drain_timeout));
  r.devices->SetNothingServing();
  // In this order: a client asks what is declined now elsewhere when it knows of the Goodbye.
  r.registry.StartDrain(config->limits.retry_after, MonotonicTime::Now());
  r.inbox.Push(Drain{});
  const auto wait = [&](absl::Duration most, const std::function<bool()>& done) {
    const MonotonicTime until = MonotonicTime::Now() + most;
    while (!done() && MonotonicTime::Now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return done();
  };
  const auto idle = [&] {
    const EngineStatus status = r.InspectEngine();
    return status.pending + status.granted + status.running == 0;
  };
  if (!wait(config->drain_timeout, idle)) {
    spdlog::warn("drain_timeout is over; what still runs is failed with answer_locally");
    r.inbox.Push(DrainExpired{});
    wait(kLastFrames, idle);
  }
  wait(kLastFrames, [&] { return r.registry.size() == 0; });  // last frames on their way
  r.Stop();
  spdlog::info("stopped");
}

}  // namespace goad::server
