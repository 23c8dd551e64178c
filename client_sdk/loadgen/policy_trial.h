// A policy on a live goad for a while, by its admin listener.
#ifndef GOAD_CLIENT_SDK_LOADGEN_POLICY_TRIAL_H_
#define GOAD_CLIENT_SDK_LOADGEN_POLICY_TRIAL_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "goad/v1/admin.grpc.pb.h"

namespace goad::loadgen {

// goad ends a trial by itself kTrial_s after the last word of its caller, so that what was in force before is so again
// whatever becomes of this process. Thread-safe.
class PolicyTrial {
 public:
  static constexpr double kTrial_s = 10, kRenewal_s = 2;

  // Puts `policy` on trial and keeps it there. INVALID_ARGUMENT: goad does not know it, and lists those it does;
  // FAILED_PRECONDITION: another trial runs, or goad knows no trials; UNAVAILABLE: nobody answers there.
  static absl::StatusOr<std::unique_ptr<PolicyTrial>> Begin(const std::string& admin_address,
                                                            const std::string& policy);
  ~PolicyTrial();  // ends it
  PolicyTrial(const PolicyTrial&) = delete;
  PolicyTrial& operator=(const PolicyTrial&) = delete;

  void End();  // what was in force before is so again
  // ABORTED when somebody else has changed the policy meanwhile, UNAVAILABLE when goad did not answer.
  absl::Status status();

 private:
  PolicyTrial(std::unique_ptr<v1::Admin::Stub> admin, std::string policy)
      : admin_(std::move(admin)), policy_(std::move(policy)) {}
  void Renew();  // its own thread

  const std::unique_ptr<v1::Admin::Stub> admin_;
  const std::string policy_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable wake_;
  bool ended_ = true;  // or has not begun
  absl::Status status_;
  std::thread renewal_;
};

// Ends whatever trial runs there, for a process that is about to end.
void EndTrialAt(const std::string& admin_address);

}  // namespace goad::loadgen

#endif  // GOAD_CLIENT_SDK_LOADGEN_POLICY_TRIAL_H_
