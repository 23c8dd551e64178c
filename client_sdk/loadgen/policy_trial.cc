#include "client_sdk/loadgen/policy_trial.h"

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "absl/strings/str_cat.h"

namespace goad::loadgen {
namespace {

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

void SetDeadline(grpc::ClientContext* call) {
  call->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
}

std::unique_ptr<v1::Admin::Stub> AdminAt(const std::string& address) {
  return v1::Admin::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
}

absl::Status Set(v1::Admin::Stub& admin, const std::string& policy, double trial_s) {
  grpc::ClientContext call;
  SetDeadline(&call);
  v1::SetPolicyRequest request;
  request.set_policy(policy);
  request.set_trial_s(trial_s);
  v1::SetPolicyResponse response;
  return FromGrpc(admin.SetPolicy(&call, request, &response));
}

absl::StatusOr<v1::StatusResponse> Look(v1::Admin::Stub& admin) {
  grpc::ClientContext call;
  SetDeadline(&call);
  v1::StatusResponse response;
  if (absl::Status status = FromGrpc(admin.Status(&call, {}, &response)); !status.ok()) return status;
  return response;
}

}  // namespace

void EndTrialAt(const std::string& admin_address) {
  Set(*AdminAt(admin_address), "", PolicyTrial::kTrial_s).IgnoreError();  // where goad is away, it ends by itself
}

absl::StatusOr<std::unique_ptr<PolicyTrial>> PolicyTrial::Begin(const std::string& admin_address,
                                                                const std::string& policy) {
  std::unique_ptr<PolicyTrial> trial(new PolicyTrial(AdminAt(admin_address), policy));
  v1::Admin::Stub& admin = *trial->admin_;
  const auto before = Look(admin);
  if (!before.ok()) {
    return absl::Status(before.status().code(),
                        absl::StrCat("goad's admin listener at ", admin_address, ": ", before.status().message()));
  }
  if (before->policy_trial_left_s() > 0) {
    return absl::FailedPreconditionError(absl::StrCat("another trial runs, of ", before->policy()));
  }
  if (absl::Status status = Set(admin, policy, kTrial_s); !status.ok()) return status;
  trial->ended_ = false;
  const auto after = Look(admin);
  if (!after.ok()) return after.status();
  if (!(after->policy_trial_left_s() > 0)) {  // an older goad has set it for good
    trial->ended_ = true;
    if (absl::Status status = Set(admin, before->policy(), 0); !status.ok()) return status;
    return absl::FailedPreconditionError(
        absl::StrCat("goad ", after->version(), " knows no trials of a policy; it is ", before->policy(), " again"));
  }
  trial->renewal_ = std::thread([self = trial.get()] { self->Renew(); });
  return trial;
}

PolicyTrial::~PolicyTrial() {
  End();
  if (renewal_.joinable()) renewal_.join();
}

void PolicyTrial::End() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (std::exchange(ended_, true)) return;
  wake_.notify_all();
  Set(*admin_, "", kTrial_s).IgnoreError();
}

absl::Status PolicyTrial::status() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

void PolicyTrial::Renew() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!wake_.wait_for(lock, std::chrono::duration<double>(kRenewal_s), [this] { return ended_; })) {
    const auto now = Look(*admin_);
    if (now.ok() && (now->policy() != policy_ || !(now->policy_trial_left_s() > 0))) {
      status_ = absl::AbortedError(
          absl::StrCat("somebody else has ended the trial of ", policy_, "; the policy is ", now->policy()));
      ended_ = true;
      return;
    }
    status_ = now.ok() ? Set(*admin_, policy_, kTrial_s) : now.status();
  }
}

}  // namespace goad::loadgen
