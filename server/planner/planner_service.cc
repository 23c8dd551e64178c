#include "server/planner/planner_service.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "goad/v1/planner.grpc.pb.h"
#include "scheduler/policy.h"
#include "server/base/mutex.h"
#include "server/wire/enums.h"

namespace goad::server {
namespace {

grpc::Status Invalid(const std::string& message) { return {grpc::StatusCode::INVALID_ARGUMENT, message}; }

grpc::Status ToSnapshot(const v1::PlanRequest& request, sched::EpochSnapshot* snapshot) {
  snapshot->tau = request.tau();
  snapshot->seed = request.seed();
  for (const v1::PlanSite& wire : request.sites()) {
    sched::SiteState site;
    site.bandwidth_hz = wire.bandwidth_hz();
    site.noise_w = wire.noise_w();
    site.compute_flops = wire.compute_flops();
    if (wire.has_max_share_flops()) site.max_share_flops = wire.max_share_flops();
    site.active_uplinks = wire.active_uplinks();
    site.active_queries = wire.active_queries();
    site.resident_interference_w = wire.resident_interference_w();
    if (wire.has_max_queries()) site.max_queries = wire.max_queries();
    snapshot->sites.push_back(site);
  }
  for (int i = 0; i < request.candidates_size(); ++i) {
    const v1::PlanCandidate& wire = request.candidates(i);
    if (wire.gain_size() != request.sites_size()) {
      return Invalid(absl::StrCat("candidates[", i, "].gain: ", wire.gain_size(),
                                  " values, want one per site = ", request.sites_size()));
    }
    sched::Candidate candidate;
    candidate.id = sched::QueryId{static_cast<uint64_t>(i)};
    candidate.uncertainty = wire.uncertainty();
    candidate.prompt_bits = wire.prompt_bits();
    candidate.tx_power_w = wire.tx_power_w();
    candidate.local_delay_s = wire.local_delay_s();
    candidate.edge_work_flop = wire.edge_work_flop();
    if (wire.has_deadline_s()) candidate.deadline_s = wire.deadline_s();
    snapshot->candidates.push_back(candidate);
    for (const double gain : wire.gain()) snapshot->gain.push_back(gain < 0 ? sched::kUnknown : gain);
  }
  return grpc::Status::OK;
}

class PlannerService final : public v1::Planner::CallbackService {
 public:
  PlannerService() : thread_([this] { Run(); }) {}
  ~PlannerService() override {
    {
      MutexLock lock(mutex_);
      stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  grpc::ServerUnaryReactor* Plan(grpc::CallbackServerContext* context, const v1::PlanRequest* request,
                                 v1::PlanResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const std::string name = request->policy().empty() ? "goa" : request->policy();
    const size_t pairs = static_cast<size_t>(request->candidates_size()) * static_cast<size_t>(request->sites_size());
    auto policy = sched::MakePolicy(
        name, {.lambda_s = request->has_lambda_s() ? request->lambda_s() : sched::PolicyParameters().lambda_s});
    if (!policy.ok()) {
      reactor->Finish(Invalid(std::string(policy.status().message())));
      return reactor;
    }
    const size_t most = sched::MostPairs(name);
    if (pairs > most) {
      reactor->Finish({grpc::StatusCode::RESOURCE_EXHAUSTED,
                       absl::StrCat("candidates x sites: ", pairs, " is above ", most, " for policy ", name)});
      return reactor;
    }
    std::function<grpc::Status()> job = [request, response,
                                         policy = std::shared_ptr<const sched::OffloadPolicy>(std::move(*policy))] {
      sched::EpochSnapshot snapshot;
      if (const grpc::Status status = ToSnapshot(*request, &snapshot); !status.ok()) return status;
      if (const absl::Status status = sched::CheckFor(*policy, snapshot); !status.ok()) {
        return Invalid(std::string(status.message()));
      }
      const auto start = std::chrono::steady_clock::now();
      const sched::EpochResult result = policy->Decide(snapshot);
      response->set_solver_s(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      for (const sched::Decision& decision : result.decisions) {
        v1::PlanDecision& wire = *response->add_decisions();
        wire.set_verdict(ToWire(decision.verdict));
        wire.set_reason(ToWire(decision.reason));
        wire.set_site(static_cast<int>(decision.site));
        wire.set_predicted_upload_s(decision.predicted_upload_s);
        wire.set_predicted_compute_s(decision.predicted_compute_s);
      }
      for (const auto& [i, site] : result.order) response->add_order(i);
      response->set_total_s(result.TotalDelaySeconds());
      return grpc::Status::OK;
    };
    if (Take(std::move(job), reactor)) {
      wake_.notify_one();
    } else {
      reactor->Finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "another plan is running; try again"});
    }
    return reactor;
  }

 private:
  // False when there is one already.
  bool Take(std::function<grpc::Status()> job, grpc::ServerUnaryReactor* reactor) {
    MutexLock lock(mutex_);
    if (job_ || running_) return false;
    job_ = std::move(job);
    reactor_ = reactor;
    return true;
  }

  // Waits for one; empty at the end.
  std::function<grpc::Status()> Next() {
    MutexLock lock(mutex_);
    while (!stop_ && !job_) mutex_.WaitUntil(wake_, MonotonicTime::Infinite());
    running_ = job_ != nullptr;
    return std::exchange(job_, nullptr);
  }
  // Before the caller hears of it: its next plan must not be refused.
  grpc::ServerUnaryReactor* Done() {
    MutexLock lock(mutex_);
    running_ = false;
    return reactor_;
  }
  void Run() {
    while (const std::function<grpc::Status()> job = Next()) {
      const grpc::Status status = job();
      Done()->Finish(status);
    }
  }

  Mutex mutex_;
  std::condition_variable wake_;
  std::function<grpc::Status()> job_ GOAD_GUARDED_BY(mutex_);
  grpc::ServerUnaryReactor* reactor_ GOAD_GUARDED_BY(mutex_) = nullptr;  // whom it is for
  bool running_ GOAD_GUARDED_BY(mutex_) = false;
  bool stop_ GOAD_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakePlannerService() { return std::make_unique<PlannerService>(); }

}  // namespace goad::server
