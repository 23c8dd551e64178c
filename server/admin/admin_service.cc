#include "server/admin/admin_service.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "goad/v1/admin.grpc.pb.h"
#include "server/admin/epoch_watchers.h"
#include "server/admin/explanation.h"
#include "server/admin/rows.h"
#include "server/base/clip.h"
#include "server/base/reaction.h"
#include "server/wire/abilities.h"
#include "server/wire/enums.h"

namespace goad::server {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

constexpr double kShortestTrial_s = 0.001, kLongestTrial_s = 86400;

grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

// One WatchEpochs call. The watchers hold it until OnDone; Begin is called before gRPC has the reactor, so that nothing
// is written ahead of the initial metadata, which tells the caller that from now on it misses nothing.
class WatchReactor final : public grpc::ServerWriteReactor<v1::EpochSummary>,
                           public EpochWatch,
                           public std::enable_shared_from_this<WatchReactor> {
 public:
  explicit WatchReactor(std::shared_ptr<EpochWatchers> watchers) : watchers_(std::move(watchers)) {}
  void Begin() {
    StartSendInitialMetadata();
    watchers_->Add(shared_from_this());
  }
  void OnWriteDone(bool ok) override { WriteDone(ok); }
  void OnCancel() override { Cancel(); }
  void OnDone() override {
    const Reaction done(static_cast<EpochWatch*>(this));
    const auto watchers = watchers_;
    watchers->Remove(this);  // may be the last use of this
  }

 private:
  void StartWriting(const v1::EpochSummary& summary) override { StartWrite(&summary); }
  void Finish() override { ServerWriteReactor::Finish(grpc::Status::CANCELLED); }

  const std::shared_ptr<EpochWatchers> watchers_;
};

// An answer of the engine on its way to the pump thread.
class EngineAnswer final : public Pumped {
 public:
  EngineAnswer(EngineStatus status, std::function<void(const EngineStatus&)> fill, ServerUnaryReactor* reactor)
      : status_(std::move(status)), fill_(std::move(fill)), reactor_(reactor) {}
  void Pump() override {  // once: nobody wakes it again
    fill_(status_);
    reactor_->Finish(grpc::Status::OK);
  }

 private:
  const EngineStatus status_;
  const std::function<void(const EngineStatus&)> fill_;
  ServerUnaryReactor* const reactor_;
};

class AdminService final : public v1::Admin::CallbackService {
 public:
  explicit AdminService(AdminPorts ports)
      : ports_(std::move(ports)), watchers_(EpochWatchers::Make(ports_.epochs, ports_.pump)) {}

  ServerUnaryReactor* Status(CallbackServerContext* context, const v1::StatusRequest*,
                             v1::StatusResponse* response) override {
    return AskEngine(context, [this, response](const EngineStatus& engine) {
      response->set_version(GOAD_VERSION);
      response->set_uptime_s(SecondsBetween(ports_.started, MonotonicTime::Now()));
      FillStatus(engine, response);
      response->set_config_version(ports_.config->Current()->version);
      response->set_sessions(ports_.session_count());
      const auto config = ports_.config->Current();
      response->set_configured_policy(config->policy.name);
      response->set_configured_tau(config->policy.Tau());
      response->set_tau_of_values(config->policy.curves != nullptr);
      if (config->policy.certificate) FillCertificate(*config->policy.certificate, response->mutable_certificate());
      const AdminPorts::ConfigFile file = ports_.config_file();
      response->set_config_file(file.path);
      response->set_config_difference(file.difference);
      response->set_last_reload_error(file.last_error);
      response->set_last_reload_s(SecondsBetween(file.last_reload, MonotonicTime::Now()));
      response->set_listen_address(ports_.listen_address);
      response->set_listen_tls(!config->listen.tls.certificate.empty());
      response->set_decision_log(config->decision_log.path);
    });
  }

  ServerUnaryReactor* Sessions(CallbackServerContext* context, const v1::SessionsRequest* request,
                               v1::SessionsResponse* response) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    if (request->limit() > 1000) {
      reactor->Finish(
          {grpc::StatusCode::INVALID_ARGUMENT, absl::StrCat("limit: ", request->limit(), " is not in 0..1000")});
      return reactor;
    }
    for (const auto& row : ports_.sessions(request->limit() == 0 ? 100 : request->limit())) {
      v1::SessionInfo& info = *response->add_sessions();
      info.set_session_id(row.name);
      info.set_device_name(row.device_name);
      info.set_peer(row.peer);
      info.set_tenant(row.tenant);
      info.set_age_s(absl::ToDoubleSeconds(row.age));
      info.set_live_queries(static_cast<uint32_t>(row.live_queries));
      info.set_outbox_bytes(static_cast<uint64_t>(row.outbox_bytes));
      info.set_uncertainty_metric(ToWire(MetricOf(row.model)));
      if (row.model == nullptr) continue;
      const UncertaintySource& source = row.model->uncertainty;
      info.set_local_model(row.model->name);
      info.set_prompt_form(source.prompt_form);
      info.set_uncertainty_tokens(static_cast<uint32_t>(source.tokens));
      info.set_uncertainty_candidates(static_cast<uint32_t>(source.candidates));
      info.set_uncertainty_method(source.method);
    }
    response->set_total(ports_.session_count());
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  ServerUnaryReactor* Kick(CallbackServerContext* context, const v1::KickRequest* request, v1::KickResponse*) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(
        ports_.kick(request->session_id(), By(*context))
            ? grpc::Status::OK
            : grpc::Status(grpc::StatusCode::NOT_FOUND,
                           absl::StrCat("session_id: \"", Clip(request->session_id()), "\" is no open session")));
    return reactor;
  }

  ServerUnaryReactor* Sites(CallbackServerContext* context, const v1::SitesRequest*,
                            v1::SitesResponse* response) override {
    return AskEngine(context, [this, response](const EngineStatus& engine) {
      response->mutable_uplink()->set_devices(engine.uplink.samples);
      response->mutable_uplink()->set_round_trip_s(engine.uplink.round_trip_s);
      response->mutable_uplink()->set_uplink_bps(engine.uplink.uplink_bps);
      const auto config = ports_.config->Current();
      const BackendRows backends = ports_.backends();
      const MonotonicTime now = MonotonicTime::Now();
      for (size_t j = 0; j < engine.sites.size(); ++j) {
        const bool removed = config->sites[j].presence.removed();
        if (removed && engine.sites[j].active_queries == 0) continue;
        v1::SiteStatus& site = *response->add_sites();
        site.set_name(config->sites[j].name);
        site.set_draining(config->sites[j].presence.drained);
        site.set_removed(removed);
        site.set_accepting(engine.sites[j].accepting);
        site.set_active_queries(static_cast<uint32_t>(engine.sites[j].active_queries));
        site.set_active_uplinks(static_cast<uint32_t>(engine.sites[j].active_uplinks));
        site.set_max_queries(static_cast<uint32_t>(engine.sites[j].max_queries));
        if (config->sites[j].compute.model == sched::ComputeModel::kBatching) {
          FillService(engine.sites[j].service, engine.sites[j].service.samples, site.mutable_service());
        }
        if (j >= backends.size()) continue;
        for (const auto& row : backends[j]) {
          if (row.removed && row.in_flight == 0) continue;
          v1::BackendStatus& backend = *site.add_backends();
          backend.set_url(row.url);
          backend.set_removed(row.removed);
          backend.set_draining(row.drained);
          backend.set_up(row.state == BackendState::kUp);
          backend.set_state(ToString(row.state));
          backend.set_state_s(SecondsBetween(row.state_since, now));
          backend.set_last_error(row.last_error);
          backend.set_last_error_s(SecondsBetween(row.last_error_since, now));
          backend.set_slots_from(row.slots_from);
          backend.set_configured_slots(static_cast<uint32_t>(row.configured_slots));
          backend.set_reported_slots(static_cast<uint32_t>(row.reported_slots));
          backend.set_slots(static_cast<uint32_t>(row.slots));
          backend.set_in_flight(static_cast<uint32_t>(row.in_flight));
          backend.set_foreign(row.foreign);
          *backend.mutable_abilities() = ToWire(row.abilities);
        }
      }
    });
  }

  ServerUnaryReactor* Epochs(CallbackServerContext* context, const v1::EpochsRequest* request,
                             v1::EpochsResponse* response) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    if (request->limit() > 1000) {
      reactor->Finish(
          {grpc::StatusCode::INVALID_ARGUMENT, absl::StrCat("limit: ", request->limit(), " is not in 0..1000")});
      return reactor;
    }
    for (const auto& record : ports_.recent->Last(request->limit() == 0 ? 20 : request->limit())) {
      *response->add_epochs() = Summarise(*record);
    }
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  ServerUnaryReactor* Explain(CallbackServerContext* context, const v1::ExplainRequest* request,
                              v1::ExplainResponse* response) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    const RecentEpochs::Found found = ports_.recent->Find(request->query_id());
    if (found.record == nullptr) {
      reactor->Finish(
          {grpc::StatusCode::NOT_FOUND,
           absl::StrCat("query_id: \"", request->query_id(), "\" is not among the last ", RecentEpochs::kMostDecisions,
                        " decisions (what is refused at the door has none)")});
      return reactor;
    }
    response->set_query_id(request->query_id());
    response->set_epoch(found.record->snapshot.epoch);
    response->set_policy(found.record->policy);
    if (found.candidate) {
      FillExplanation(*found.record, *found.candidate, response);
    } else {
      for (const EarlyDecline& early : found.record->early) {
        if (early.query_id == request->query_id()) FillExplanation(*found.record, early, response);
      }
    }
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerWriteReactor<v1::EpochSummary>* WatchEpochs(CallbackServerContext*,
                                                          const v1::WatchEpochsRequest*) override {
    const auto watch = std::make_shared<WatchReactor>(watchers_);
    watch->Begin();
    return watch.get();
  }

  ServerUnaryReactor* SetTau(CallbackServerContext* context, const v1::SetTauRequest* request,
                             v1::SetTauResponse*) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    if (!(request->tau() >= 0 && request->tau() <= 1)) {
      reactor->Finish({grpc::StatusCode::INVALID_ARGUMENT, absl::StrCat("tau: ", request->tau(), " is not in 0..1")});
    } else {
      ports_.inbox->Push(goad::server::SetTau{request->tau(), By(*context)});
      reactor->Finish(grpc::Status::OK);
    }
    return reactor;
  }

  ServerUnaryReactor* SetPolicy(CallbackServerContext* context, const v1::SetPolicyRequest* request,
                                v1::SetPolicyResponse*) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    const double trial_s = request->trial_s();
    const bool ends_trial = request->policy().empty() && trial_s >= kShortestTrial_s;
    absl::Status status = ends_trial ? absl::OkStatus() : ports_.check_policy(request->policy());
    if (status.ok() && trial_s != 0 && !(trial_s >= kShortestTrial_s && trial_s <= kLongestTrial_s)) {
      status = absl::InvalidArgumentError(
          absl::StrCat("trial_s: ", trial_s, " is not 0 or in ", kShortestTrial_s, "..", kLongestTrial_s));
    }
    if (status.ok()) {
      ports_.inbox->Push(goad::server::SetPolicy{request->policy(), absl::Seconds(trial_s), By(*context)});
    }
    reactor->Finish(ToGrpc(status));
    return reactor;
  }

  ServerUnaryReactor* DrainSite(CallbackServerContext* context, const v1::DrainSiteRequest* request,
                                v1::DrainSiteResponse*) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpc(ports_.drain_site(request->site(), request->backend(), !request->resume(), By(*context))));
    return reactor;
  }

  ServerUnaryReactor* Drain(CallbackServerContext* context, const v1::DrainRequest*, v1::DrainResponse*) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    ports_.drain(By(*context));
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  ServerUnaryReactor* Reload(CallbackServerContext* context, const v1::ReloadRequest*,
                             v1::ReloadResponse* response) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    const absl::StatusOr<AdminPorts::Reloaded> reloaded = ports_.reload(By(*context));
    if (reloaded.ok()) {
      response->set_config_version(reloaded->version);
      response->mutable_warnings()->Add(reloaded->warnings.begin(), reloaded->warnings.end());
    }
    reactor->Finish(ToGrpc(reloaded.status()));
    return reactor;
  }

  ServerUnaryReactor* Tenants(CallbackServerContext* context, const v1::TenantsRequest*,
                              v1::TenantsResponse* response) override {
    return AskEngine(context, [this, response](const EngineStatus& engine) {
      for (const TenantRow& row : engine.tenants)
        FillTenant(row, ports_.tenant_refusals(row.config.name), response->add_tenants());
    });
  }

  ServerUnaryReactor* Promise(CallbackServerContext* context, const v1::PromiseRequest*,
                              v1::PromiseResponse* response) override {
    return AskEngine(context, [this, response](const EngineStatus& engine) {
      FillPromise(ports_.promise(), ports_.config->Current()->policy, engine, response);
    });
  }

 private:
  // Who calls, for the log: what the kernel knows of a unix socket's peers (two where two are connected: the library
  // does not tell them apart), else the address; and who goadctl says it runs for, which anybody may claim.
  std::string By(const CallbackServerContext& context) const {
    std::string by = absl::StrJoin(ports_.processes(), " or ");
    if (by.empty()) by = Clip(context.peer());
    const auto user = context.client_metadata().find("goad-user");
    if (user == context.client_metadata().end()) return by;
    std::string says(user->second.data(), std::min<size_t>(user->second.size(), 32));
    for (char& c : says) c = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' ? c : '_';
    return absl::StrCat(by, " says=", says);
  }

  // Has `fill` called with the engine's tables, on the pump thread, and finishes the call.
  ServerUnaryReactor* AskEngine(CallbackServerContext* context, std::function<void(const EngineStatus&)> fill) {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    ports_.inbox->Push(Inspect{[this, reactor, fill = std::move(fill)](const EngineStatus& status) {
      ports_.pump->Wake(std::make_shared<EngineAnswer>(status, fill, reactor));
    }});
    return reactor;
  }

  const AdminPorts ports_;
  const std::shared_ptr<EpochWatchers> watchers_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(AdminPorts ports) {
  return std::make_unique<AdminService>(std::move(ports));
}

}  // namespace goad::server
