#include "server/daemon/rooms.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>

#include <future>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "prometheus/registry.h"
#include "server/config/config_validator.h"
#include "server/daemon/resources.h"
#include "server/planner/planner_service.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

constexpr int64_t kHeapOfOurs = 64 << 20;     // what an idle goad holds, and what it remembers of queries and epochs
constexpr int64_t kHeapOfADevice = 96 << 10;  // at most 80 kB were seen

void WarnOfDescriptors(const Config& config) {
  int backend_requests = 0;
  for (const SiteConfig& site : config.sites) {
    for (const BackendConfig& backend : site.backends) backend_requests += std::max(backend.slots, 4);
  }
  const int needed = DescriptorsNeeded(config.limits.connections, backend_requests);
  if (const int descriptors = RaiseDescriptorLimit(); descriptors < needed) {
    spdlog::warn(
        "descriptors={} needed={}: limits.connections cannot be reached; raise LimitNOFILE= of the unit or ulimit -n",
        descriptors, needed);
  }
}

// As a client on this machine may call it.
std::string ListenAddress(const Config& config, int port) {
  const std::string& address = config.listen.address;
  if (absl::StartsWith(address, "unix:")) return address;
  std::string host = address.substr(0, address.rfind(':'));
  if (host.empty() || host == "0.0.0.0" || host == "*") host = "127.0.0.1";
  if (host == "[::]") host = "[::1]";
  return absl::StrCat(host, ":", port);
}

}  // namespace

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

Rooms::Rooms(Config config)
    : config_store(std::move(config)),
      metrics(MetricsLabels::Of(*config_store.Current())),
      inbox(config_store.Current()->limits.waiting_queries),
      registry(config_store.Current(), &metrics, &memory, &MonotonicTime::Now,
               [this](std::shared_ptr<SessionStream> stream) { writer->Wake(std::move(stream)); }),
      writer(std::make_unique<PumpThread>("goad-writer",
                                          [this] { registry.Watch(*config_store.Current(), MonotonicTime::Now()); })) {
  outboxes.most = config_store.Current()->limits.outboxes_bytes;
  metrics.SetConfig(*config_store.Current());
}

Rooms::~Rooms() = default;

absl::Status Rooms::Lock() {
  const std::string& path = config_store.Current()->lock_file;
  return path.empty() ? absl::OkStatus() : lock_file.Lock(path);
}

absl::Status Rooms::Certificates() {
  const auto config = config_store.Current();
  if (config->listen.tls.certificate.empty()) return absl::OkStatus();
  auto files = TlsFiles::Open(config->listen.tls);
  if (!files.ok()) return files.status();
  tls_files = std::move(*files);
  return absl::OkStatus();
}

absl::Status Rooms::Work() {
  const auto config = config_store.Current();
  WarnOfDescriptors(*config);
  auto opened = DispatchThread::Open(config, &registry, &metrics, &inbox);
  if (!opened.ok()) return opened.status();
  dispatch = std::move(*opened);
  Engine::Ports ports;
  ports.sink = &registry;
  ports.dispatch = dispatch.get();
  ports.metrics = &metrics;
  ports.on_epoch = [this](std::shared_ptr<const EpochRecord> record) {
    epochs.Publish(record);
    recent.Add(std::move(record));
  };
  ports.stopwatch = &MonotonicTime::Now;
  if (!config->decision_log.path.empty()) {
    auto log = DecisionLog::Open(config->decision_log, &epochs, &metrics);
    if (!log.ok()) return log.status();
    decision_log = std::move(*log);
    ports.on_outcome = [this](OutcomeRecord record) { decision_log->Outcome(std::move(record)); };
  }
  engine = std::make_unique<Engine>(config, std::move(ports));
  engine_thread = std::make_unique<EngineThread>(engine.get(), &inbox, &metrics);
  return absl::OkStatus();
}

absl::Status Rooms::Page() {
  const std::string& address = config_store.Current()->metrics_address;
  if (address.empty()) return absl::OkStatus();
  try {
    // A connection that says nothing keeps a worker until its time is over; the others go on.
    exposer = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", address, "num_threads", "16", "request_timeout_ms", "2000"});
  } catch (const std::exception&) {
    return absl::FailedPreconditionError(absl::StrCat("metrics.address: ", address, ": cannot be bound"));
  }
  exposer->RegisterCollectable(metrics.page());
  exposer->RegisterCollectable(process_metrics);
  metrics_port = exposer->GetListeningPorts().at(0);
  return absl::OkStatus();
}

absl::Status Rooms::ListenToDevices(std::function<void()> on_deaf) {
  const auto config = config_store.Current();
  offload_service = MakeOffloadService(
      {.session =
           {.config = &config_store,
            .inbox = &inbox,
            .registry = &registry,
            .memory = &memory,
            .metrics = &metrics,
            .next_query_id = &next_query_id,
            .inline_prompt_bytes = &inline_prompt_bytes,
            .limiter = &limiter,
            .outboxes = &outboxes,
            .tau = [this](const LocalModelPtr& model) { return engine->TauOf(config_store.Current()->policy, model); }},
       .dispatch = dispatch.get(),
       .next_session_id = &next_session_id,
       .connection = [this](const std::string& peer) { return devices->acceptor().table().Find(peer); }});
  GrpcListenerOptions options;
  options.field = "listen.address";
  options.address = config->listen.address;
  options.limits = DeviceLimits(*config);
  const ListenerMetrics device_metrics = metrics.Listener("devices", ConnectionRefusals(), true);
  options.metrics = device_metrics;
  options.credentials = tls_files != nullptr ? tls_files->Credentials() : grpc::InsecureServerCredentials();
  options.services = {offload_service.get()};
  options.memory_bytes = config->limits.transport_bytes;
  options.memory_short = MemoryShort();
  if (config->limits.session_max_age > absl::ZeroDuration())
    options.max_age = std::min(config->limits.session_max_age, absl::Hours(24 * 24));
  auto listening = GrpcListener::Listen(std::move(options));
  if (!listening.ok()) return listening.status();
  devices = std::move(*listening);
  devices->SetServing("goad.v1.Offload", true);
  devices->Begin();
  port_watch =
      std::make_unique<PortWatch>(&devices->acceptor(), tls_files != nullptr, device_metrics, std::move(on_deaf));
  return absl::OkStatus();
}

absl::Status Rooms::ListenToOperators(AdminPorts orders) {
  const auto config = config_store.Current();
  if (config->admin_address.empty()) return absl::OkStatus();
  orders.config = &config_store;
  orders.inbox = &inbox;
  orders.pump = admin_pump.get();
  orders.epochs = &epochs;
  orders.recent = &recent;
  orders.started = started;
  orders.session_count = [this] { return registry.size(); };
  orders.kick = [this](const std::string& session, const std::string& by) {
    const bool there = registry.Kick(session);
    if (there) spdlog::info("operator kicked session={} by={}", session, by);
    return there;
  };
  orders.processes = [this] { return admin->acceptor().Processes(); };
  orders.tenant_refusals = [this](const std::string& tenant) { return limiter.Refused(tenant); };
  orders.promise = [this] { return metrics.promise().State(); };
  orders.listen_address = ListenAddress(*config, devices->port());
  orders.sessions = [this](size_t limit) { return registry.List(limit); };
  orders.backends = [this] { return dispatch->Backends(); };
  orders.check_policy = &CheckPolicyName;
  admin_service = MakeAdminService(std::move(orders));
  planner_service = MakePlannerService();
  GrpcListenerOptions options;
  options.field = "admin.address";
  options.address = config->admin_address;
  options.limits = {
      .connections = 64, .connections_per_address = 64, .hello = absl::InfiniteDuration(), .count_bytes = false};
  options.metrics = metrics.Listener("admin", ConnectionRefusals(true), false);
  options.credentials = grpc::InsecureServerCredentials();
  options.services = {admin_service.get(), planner_service.get()};
  options.introspection = true;
  options.idle = absl::Seconds(20);  // goadctl may find a place again
  options.memory_short = MemoryShort();
  auto listening = GrpcListener::Listen(std::move(options));
  if (!listening.ok()) return listening.status();
  admin = std::move(*listening);
  admin->Begin();
  return absl::OkStatus();
}

EngineStatus Rooms::InspectEngine() {
  auto answer = std::make_shared<std::promise<EngineStatus>>();
  std::future<EngineStatus> status = answer->get_future();
  inbox.Push(Inspect{[answer](const EngineStatus& s) { answer->set_value(s); }});
  return status.get();
}

// What the connections hold and the daemon accounts for nowhere else is too much.
std::function<bool()> Rooms::MemoryShort() {
  return [this, heap = HeapWatch()]() mutable {
    const auto known = devices == nullptr ? 0 : static_cast<int64_t>(devices->acceptor().table().known());
    return heap.Over(kHeapOfOurs + kHeapOfADevice * known + config_store.Current()->limits.transport_bytes +
                         outboxes.bytes + inline_prompt_bytes,
                     MonotonicTime::Now());
  };
}

void Rooms::Stop() {
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

}  // namespace goad::server
