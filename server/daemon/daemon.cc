#include "server/daemon/daemon.h"

#include <fcntl.h>
#include <google/protobuf/stubs/logging.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "prometheus/exposer.h"
#include "prometheus/registry.h"
#include "server/admin/admin_service.h"
#include "server/base/clip.h"
#include "server/base/pump.h"
#include "server/config/config_loader.h"
#include "server/config/config_store.h"
#include "server/config/config_validator.h"
#include "server/config/place.h"
#include "server/daemon/grpc_log.h"
#include "server/daemon/resources.h"
#include "server/daemon/tls_files.h"
#include "server/dispatch/dispatch_thread.h"
#include "server/engine/engine.h"
#include "server/engine/engine_thread.h"
#include "server/listener/grpc_listener.h"
#include "server/listener/port_watch.h"
#include "server/planner/planner_service.h"
#include "server/session/offload_service.h"
#include "server/session/session_registry.h"
#include "server/telemetry/decision_log.h"
#include "server/telemetry/epoch_feed.h"
#include "server/telemetry/process_metrics.h"
#include "server/telemetry/recent_epochs.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

constexpr int64_t kHeapOfOurs = 64 << 20;     // what an idle goad holds, and what it remembers of queries and epochs
constexpr int64_t kHeapOfADevice = 96 << 10;  // at most 80 kB were seen

constexpr absl::Duration kLastFrames = absl::Seconds(1);  // that a drain waits for what is on its way

ListenerLimits DeviceLimits(const Config& config) {
  ListenerLimits limits;
  limits.connections = config.limits.connections;
  limits.connections_per_address = config.limits.ConnectionsPerAddress();
  limits.streams_per_connection = config.limits.streams_per_connection;
  limits.unread = config.limits.slow_consumer;
  limits.first_message_bytes = config.limits.prompt_bytes;
  if (absl::StartsWith(config.listen.address, "unix:"))
    limits.hello = absl::InfiniteDuration();  // its peers have no names to welcome
  return limits;
}

// One daemon per lock file; the file stays locked as long as this lives.
class LockFile {
 public:
  ~LockFile() {
    if (fd_ >= 0) close(fd_);
  }
  absl::Status Lock(const std::string& path) {
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd_ < 0) return absl::FailedPreconditionError(absl::StrCat("lock_file: ", path, ": ", std::strerror(errno)));
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      return absl::FailedPreconditionError(absl::StrCat("lock_file: ", path, ": another goad holds it"));
    }
    return absl::OkStatus();
  }

 private:
  int fd_ = -1;
};

}  // namespace

struct Daemon::Rooms {
  explicit Rooms(Config config, Options options_in)
      : options(std::move(options_in)),
        config_store(std::move(config)),
        metrics(MetricsLabels::Of(*config_store.Current())),
        inbox(config_store.Current()->limits.waiting_queries),
        registry(config_store.Current(), &metrics, &memory, &MonotonicTime::Now,
                 [this](std::shared_ptr<SessionStream> stream) { writer->Wake(std::move(stream)); }),
        writer(std::make_unique<PumpThread>(
            "goad-writer", [this] { registry.Watch(*config_store.Current(), MonotonicTime::Now()); })) {
    outboxes.most = config_store.Current()->limits.outboxes_bytes;
  }

  EngineStatus InspectEngine() {
    auto answer = std::make_shared<std::promise<EngineStatus>>();
    std::future<EngineStatus> status = answer->get_future();
    inbox.Push(Inspect{[answer](const EngineStatus& s) { answer->set_value(s); }});
    return status.get();
  }
  void Stop();
  std::shared_ptr<const Config> Apply(Config next, bool keep_overrides);
  bool IsInUse(size_t site, std::optional<size_t> backend);
  std::function<bool()> MemoryShort();

  const Options options;
  const MonotonicTime started = MonotonicTime::Now();
  LockFile lock_file;
  ConfigStore config_store;
  std::mutex reload_mutex;  // one reload at a time
  Metrics metrics;
  QueryMemory memory;
  EpochFeed epochs;
  RecentEpochs recent;
  std::atomic<int64_t> inline_prompt_bytes{0};  // outlives every prompt
  TenantLimiter limiter;
  Inbox inbox;
  std::atomic<uint64_t> next_query_id{1}, next_session_id{1};
  OutboxBudget outboxes;
  SessionRegistry registry;
  std::unique_ptr<PumpThread> writer;  // stops before the registry that it watches
  std::unique_ptr<PumpThread> admin_pump = std::make_unique<PumpThread>("goad-admin");
  std::unique_ptr<DispatchThread> dispatch;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<EngineThread> engine_thread;
  std::unique_ptr<DecisionLog> decision_log;
  const std::shared_ptr<ProcessMetrics> process_metrics = std::make_shared<ProcessMetrics>();
  std::unique_ptr<prometheus::Exposer> exposer;
  int metrics_port = 0;
  std::unique_ptr<TlsFiles> tls_files;  // null = plaintext
  std::unique_ptr<grpc::Service> offload_service, admin_service, planner_service;
  std::unique_ptr<GrpcListener> admin, devices;
  std::unique_ptr<PortWatch> port_watch;
  bool stopped = false;
};

Daemon::Daemon(std::unique_ptr<Rooms> rooms) : rooms_(std::move(rooms)) {}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(Config config, Options options) {
  RaiseDescriptorLimit();
  if (absl::Status status = EnoughToStart(); !status.ok()) return status;
  try {
    return StartRooms(std::move(config), std::move(options));
  } catch (const std::exception& error) {  // of the standard library: no memory, no thread
    return absl::ResourceExhaustedError(absl::StrCat("not enough memory or threads: ", error.what()));
  }
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::StartRooms(Config config, Options options) {
  static std::once_flag logs;
  std::call_once(logs, [] {
    ForwardGrpcLog();
    google::protobuf::SetLogHandler(
        nullptr);  // it has a line for every string that is no UTF-8: a device could fill the log
  });
  auto daemon = std::unique_ptr<Daemon>(new Daemon(std::make_unique<Rooms>(std::move(config), std::move(options))));
  Rooms& r = *daemon->rooms_;
  const std::shared_ptr<const Config> c = r.config_store.Current();
  if (!c->lock_file.empty()) {
    if (absl::Status status = r.lock_file.Lock(c->lock_file); !status.ok()) return status;
  }
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (!c->listen.tls.certificate.empty()) {
    auto files = TlsFiles::Open(c->listen.tls);
    if (!files.ok()) return files.status();
    r.tls_files = std::move(*files);
    credentials = r.tls_files->Credentials();
    r.metrics.CertificateExpires(c->listen.tls.expires);
  }

  int backend_requests = 0;
  for (const SiteConfig& site : c->sites) {
    for (const BackendConfig& backend : site.backends) backend_requests += std::max(backend.slots, 4);
  }
  const int needed = DescriptorsNeeded(c->limits.connections, backend_requests);
  if (const int descriptors = RaiseDescriptorLimit(); descriptors < needed) {
    spdlog::warn(
        "descriptors={} needed={}: limits.connections cannot be reached; raise LimitNOFILE= of the unit or ulimit -n",
        descriptors, needed);
  }
  auto dispatch = DispatchThread::Open(c, &r.registry, &r.metrics, &r.inbox);
  if (!dispatch.ok()) return dispatch.status();
  r.dispatch = std::move(*dispatch);
  Engine::Ports ports;
  ports.sink = &r.registry;
  ports.dispatch = r.dispatch.get();
  ports.metrics = &r.metrics;
  ports.on_epoch = [&r](std::shared_ptr<const EpochRecord> record) {
    r.epochs.Publish(record);
    r.recent.Add(std::move(record));
  };
  ports.stopwatch = &MonotonicTime::Now;
  r.engine = std::make_unique<Engine>(c, std::move(ports));
  r.engine_thread = std::make_unique<EngineThread>(r.engine.get(), &r.inbox, &r.metrics);
  if (!c->decision_log.path.empty()) {
    auto log = DecisionLog::Open(c->decision_log, &r.epochs, &r.metrics);
    if (!log.ok()) return log.status();
    r.decision_log = std::move(*log);
  }
  if (!c->metrics_address.empty()) {
    try {
      // A connection that says nothing keeps a worker until its time is over; the others go on.
      r.exposer = std::make_unique<prometheus::Exposer>(std::vector<std::string>{
          "listening_ports", c->metrics_address, "num_threads", "16", "request_timeout_ms", "2000"});
    } catch (const std::exception&) {
      return absl::FailedPreconditionError(absl::StrCat("metrics.address: ", c->metrics_address, ": cannot be bound"));
    }
    r.exposer->RegisterCollectable(r.metrics.page());
    r.exposer->RegisterCollectable(r.process_metrics);
    r.metrics_port = r.exposer->GetListeningPorts().at(0);
  }
  r.metrics.ConfigVersion(c->version);

  const auto connection_of = [&r](const std::string& peer) { return r.devices->acceptor().table().Find(peer); };
  const OffloadPorts offload{{&r.config_store, &r.inbox, &r.registry, &r.memory, &r.metrics, &r.next_query_id,
                              &r.inline_prompt_bytes, &r.limiter, &r.outboxes, [&r] { return r.engine->tau(); }},
                             r.dispatch.get(),
                             &r.next_session_id,
                             connection_of};
  r.offload_service = MakeOffloadService(offload);
  r.planner_service = MakePlannerService();
  AdminPorts admin;
  admin.config = &r.config_store;
  admin.inbox = &r.inbox;
  admin.pump = r.admin_pump.get();
  admin.epochs = &r.epochs;
  admin.recent = &r.recent;
  admin.started = r.started;
  admin.session_count = [&r] { return r.registry.size(); };
  admin.kick = [&r](const std::string& session) { return r.registry.Kick(session); };
  admin.sessions = [&r](size_t limit) { return r.registry.List(limit); };
  admin.backends = [&r] { return r.dispatch->Backends(); };
  admin.check_policy = &CheckPolicyName;
  admin.reload = [d = daemon.get()]() -> absl::StatusOr<AdminPorts::Reloaded> {
    AdminPorts::Reloaded done;
    const absl::StatusOr<uint64_t> version = d->Reload(&done.warnings);
    if (!version.ok()) return version.status();
    done.version = *version;
    return done;
  };
  admin.drain_site = [&r](const std::string& site, const std::string& backend, bool drained) {
    std::lock_guard<std::mutex> lock(r.reload_mutex);
    Config next = *r.config_store.Current();
    absl::Status status = SetDrained(site, backend, drained, &next);
    if (!status.ok()) return status;
    spdlog::warn("{} {}{}{} by an operator", drained ? "drained" : "resumed", site, backend.empty() ? "" : " backend ",
                 Clip(backend));
    r.Apply(std::move(next), /*keep_overrides=*/true);
    return absl::OkStatus();
  };
  admin.drain = [&r] {
    if (r.options.on_drain_requested) r.options.on_drain_requested();
  };
  r.admin_service = MakeAdminService(std::move(admin));
  GrpcListenerOptions devices;
  devices.field = "listen.address";
  devices.address = c->listen.address;
  devices.limits = DeviceLimits(*c);
  const ListenerMetrics device_metrics = r.metrics.Listener("devices", ConnectionRefusals());
  devices.metrics = device_metrics;
  devices.credentials = credentials;
  devices.services = {r.offload_service.get()};
  devices.memory_bytes = c->limits.transport_bytes;
  devices.memory_short = r.MemoryShort();
  if (c->limits.session_max_age > absl::ZeroDuration())
    devices.max_age = std::min(c->limits.session_max_age, absl::Hours(24 * 24));
  auto listening = GrpcListener::Listen(std::move(devices));
  if (!listening.ok()) return listening.status();
  r.devices = std::move(*listening);
  r.devices->SetServing("goad.v1.Offload", true);
  r.devices->Begin();
  r.port_watch = std::make_unique<PortWatch>(&r.devices->acceptor(), r.tls_files != nullptr, device_metrics, [&r] {
    if (r.options.on_deaf) r.options.on_deaf();
  });
  if (!c->admin_address.empty()) {
    GrpcListenerOptions operators;
    operators.field = "admin.address";
    operators.address = c->admin_address;
    operators.limits = {
        .connections = 64, .connections_per_address = 64, .hello = absl::InfiniteDuration(), .count_bytes = false};
    operators.metrics = r.metrics.Listener("admin", ConnectionRefusals());
    operators.credentials = grpc::InsecureServerCredentials();
    operators.services = {r.admin_service.get(), r.planner_service.get()};
    operators.introspection = true;
    operators.idle = absl::Seconds(20);  // goadctl may find a place again
    operators.memory_short = r.MemoryShort();
    auto admin_listening = GrpcListener::Listen(std::move(operators));
    if (!admin_listening.ok()) return admin_listening.status();
    r.admin = std::move(*admin_listening);
    r.admin->Begin();
  }
  return daemon;
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

absl::StatusOr<uint64_t> Daemon::Reload(std::vector<std::string>* told) {
  Rooms& r = *rooms_;
  std::lock_guard<std::mutex> lock(r.reload_mutex);
  const auto refuse = [&](absl::Status status) {
    r.metrics.ConfigReload(false);
    spdlog::error("reload refused, the running configuration stays: {}", std::string(status.message()));
    return status;
  };
  if (r.options.config_path.empty())
    return refuse(absl::FailedPreconditionError("started without a configuration file"));
  absl::StatusOr<Config> next = LoadConfig(r.options.config_path, /*starting=*/false);
  if (!next.ok()) return refuse(next.status());
  if (absl::Status status = KeepPlaces(
          *r.config_store.Current(), [&r](size_t s, std::optional<size_t> b) { return r.IsInUse(s, b); },
          MonotonicTime::Now(), &*next);
      !status.ok()) {
    return refuse(std::move(status));
  }
  const std::vector<std::string> fixed = RestartOnlyChanges(*r.config_store.Current(), *next);
  if (!fixed.empty()) {
    return refuse(absl::FailedPreconditionError(absl::StrCat("needs a restart: ", absl::StrJoin(fixed, ", "))));
  }
  if (r.tls_files != nullptr) {
    if (absl::Status status = r.tls_files->Publish(next->listen.tls); !status.ok()) return refuse(std::move(status));
    r.metrics.CertificateExpires(next->listen.tls.expires);
  }
  std::vector<std::string> warnings = ReloadWarnings(*r.config_store.Current(), *next);
  warnings.insert(warnings.end(), next->warnings.begin(), next->warnings.end());
  for (const std::string& warning : warnings) spdlog::warn("{}: {}", r.options.config_path, warning);
  if (told != nullptr) *told = warnings;
  const std::shared_ptr<const Config> published = r.Apply(std::move(*next), /*keep_overrides=*/false);
  if (const size_t ended = r.registry.Recheck(*published); ended > 0) {
    spdlog::warn("reload ended {} sessions: what their callers showed is not known any more, or is somebody else's",
                 ended);
  }
  spdlog::set_level(spdlog::level::from_str(published->log.level));
  r.metrics.ConfigReload(true);
  spdlog::info("reloaded config_version={} policy={} tau={}", published->version, published->policy.name,
               published->policy.tau);
  return published->version;
}

// Those that name a site or count for it know it before those that decide for it.
std::shared_ptr<const Config> Daemon::Rooms::Apply(Config next, bool keep_overrides) {
  metrics.SetLabels(MetricsLabels::Of(next));
  std::shared_ptr<const Config> published = config_store.Publish(std::move(next));
  registry.SetConfig(published);
  inbox.set_max_submits(published->limits.waiting_queries);
  devices->acceptor().SetLimits(DeviceLimits(*published));
  inbox.Push(ApplyConfig{published, keep_overrides});
  dispatch->SetConfig(published);
  outboxes.most = published->limits.outboxes_bytes;
  metrics.ConfigVersion(published->version);
  return published;
}

// Asked by one listener: what its connections hold and the daemon accounts for nowhere else is too much.
std::function<bool()> Daemon::Rooms::MemoryShort() {
  return [this, heap = HeapWatch()]() mutable {
    const auto known = devices == nullptr ? 0 : static_cast<int64_t>(devices->acceptor().table().known());
    return heap.Over(kHeapOfOurs + kHeapOfADevice * known + config_store.Current()->limits.transport_bytes +
                         outboxes.bytes + inline_prompt_bytes,
                     MonotonicTime::Now());
  };
}

bool Daemon::Rooms::IsInUse(size_t site, std::optional<size_t> backend) {
  const auto backends = dispatch->Backends();
  const auto busy = [&](size_t b) {
    return site < backends.size() && b < backends[site].size() && backends[site][b].in_flight > 0;
  };
  if (backend) return busy(*backend);
  for (size_t b = 0; site < backends.size() && b < backends[site].size(); ++b) {
    if (busy(b)) return true;
  }
  const EngineStatus status = InspectEngine();
  return site < status.sites.size() && status.sites[site].active_queries > 0;
}

void Daemon::DrainAndStop() {
  Rooms& r = *rooms_;
  if (r.stopped) return;
  const auto config = r.config_store.Current();
  spdlog::info("draining sessions={} drain_timeout={}", r.registry.size(), absl::FormatDuration(config->drain_timeout));
  r.devices->SetNothingServing();
  r.inbox.Push(Drain{});
  r.registry.StartDrain(config->limits.retry_after, MonotonicTime::Now());
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

void Daemon::Rooms::Stop() {
  if (std::exchange(stopped, true)) return;
  port_watch.reset();
  for (GrpcListener* listener : {devices.get(), admin.get()}) {
    if (listener != nullptr) listener->Shutdown(absl::Milliseconds(200));
  }
  exposer.reset();
  engine_thread.reset();
  admin_pump.reset();  // the calls that it finishes are over, and nobody is left who wakes it
  dispatch.reset();
  decision_log.reset();
}

Daemon::~Daemon() {
  if (rooms_ != nullptr) rooms_->Stop();
}

}  // namespace goad::server
