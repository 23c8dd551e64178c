// Every room of the daemon, in the order in which they are made, and the phases of a start; Stop goes the other way.
#ifndef GOAD_SERVER_DAEMON_ROOMS_H_
#define GOAD_SERVER_DAEMON_ROOMS_H_

#include <atomic>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "prometheus/exposer.h"
#include "server/admin/admin_service.h"
#include "server/base/pump.h"
#include "server/config/config_store.h"
#include "server/daemon/lock_file.h"
#include "server/daemon/tls_files.h"
#include "server/dispatch/dispatch_thread.h"
#include "server/engine/engine.h"
#include "server/engine/engine_thread.h"
#include "server/listener/grpc_listener.h"
#include "server/listener/port_watch.h"
#include "server/session/offload_service.h"
#include "server/session/session_registry.h"
#include "server/telemetry/decision_log.h"
#include "server/telemetry/epoch_feed.h"
#include "server/telemetry/process_metrics.h"
#include "server/telemetry/recent_epochs.h"

namespace goad::server {

ListenerLimits DeviceLimits(const Config& config);

struct Rooms {
  explicit Rooms(Config config);
  ~Rooms();

  // The phases, in this order, each once. What is in the way, if anything is.
  absl::Status Lock();
  absl::Status Certificates();
  absl::Status Work();  // dispatch, decision log, engine
  absl::Status Page();  // metrics, for whoever scrapes
  absl::Status ListenToDevices(std::function<void()> on_deaf);
  absl::Status ListenToOperators(AdminPorts orders);  // with what operators may have done; the rest is filled in here

  void Stop();  // once; also after a start that did not come to its end

  EngineStatus InspectEngine();         // waits for the engine
  std::function<bool()> MemoryShort();  // for one listener to ask

  const MonotonicTime started = MonotonicTime::Now();
  LockFile lock_file;
  ConfigStore config_store;
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
  std::unique_ptr<DecisionLog> decision_log;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<EngineThread> engine_thread;
  const std::shared_ptr<ProcessMetrics> process_metrics = std::make_shared<ProcessMetrics>();
  std::unique_ptr<prometheus::Exposer> exposer;
  int metrics_port = 0;
  std::unique_ptr<TlsFiles> tls_files;  // null = plaintext
  std::unique_ptr<grpc::Service> offload_service, admin_service, planner_service;
  std::unique_ptr<GrpcListener> admin, devices;
  std::unique_ptr<PortWatch> port_watch;
  bool stopped = false;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_ROOMS_H_
