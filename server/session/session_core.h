// What a device's frames mean: checks them, opens slots, feeds the engine's inbox. No gRPC, no clock, no thread.
#ifndef GOAD_SERVER_SESSION_SESSION_CORE_H_
#define GOAD_SERVER_SESSION_SESSION_CORE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "goad/v1/offload.pb.h"
#include "server/config/config_store.h"
#include "server/engine/inbox.h"
#include "server/session/identity.h"
#include "server/session/link_home.h"
#include "server/session/session_registry.h"
#include "server/session/tenant_limiter.h"

namespace goad::server {

struct SessionPorts {  // not owned, outlive every session
  const ConfigStore* config = nullptr;
  Inbox* inbox = nullptr;
  SessionRegistry* registry = nullptr;
  QueryMemory* memory = nullptr;
  Metrics* metrics = nullptr;
  std::atomic<uint64_t>* next_query_id = nullptr;
  std::atomic<int64_t>* inline_prompt_bytes = nullptr;  // held by queries that came with their prompt
  TenantLimiter* limiter = nullptr;
  OutboxBudget* outboxes = nullptr;
  std::function<double(const LocalModelPtr& model)> tau;  // Engine::TauOf, of the configuration in force
};

// States: before Hello -> open -> ended. Thread-compatible: frames come one at a time; OnEnd may come at any moment
// from another thread and is idempotent. The caller pumps the stream after each call.
class SessionCore {
 public:
  // Query ids are scoped to the caller's identity and the device name; without either to the session.
  SessionCore(std::shared_ptr<Session> session, Caller caller, const SessionPorts& ports);

  // False when the session is at an end by it (too many frames a second): read no further.
  bool OnFrame(const v1::DeviceFrame& frame, MonotonicTime now);
  // A session made for one Ask: no Hello, no Welcome. Returns what is wrong with the request, if anything.
  std::optional<ErrorInfo> OnAsk(const v1::AskRequest& request, MonotonicTime now);
  void OnHalfClose();
  bool greeted() const { return greeted_; }  // its Hello was taken
  // The last frame was a query that went to the engine, whose prompt is still to come, and no other one is live.
  bool asks_alone() const { return asks_alone_; }
  // The stream is over, for whatever reason: its queries are cancelled and may be asked again.
  void OnEnd(MonotonicTime now);

 private:
  void OnHello(const v1::Hello& hello);
  std::optional<ErrorInfo> OnLinks(const google::protobuf::RepeatedPtrField<v1::SiteLink>& links, MonotonicTime now);
  void SendHome(MonotonicTime now);
  std::optional<ErrorInfo> OnQuery(const v1::Query& query, MonotonicTime now);
  std::optional<ErrorInfo> OnPrompt(const v1::Prompt& prompt);
  absl::Duration TenantWait(const Config& config, int prompt_tokens, MonotonicTime now);
  bool HoldInlinePrompt(int64_t most, std::shared_ptr<const PromptBody>* prompt);
  std::optional<ErrorInfo> OnOutcome(const v1::Outcome& outcome, MonotonicTime now);
  void OnCancel(const v1::Cancel& cancel);
  struct TurnedAway {  // a query, with a decision that says so
    Refusal why;
    sched::Reason reason = sched::Reason::kOverload;
    absl::Duration at_least;  // before it may be asked again
  };
  void Refuse(const ErrorInfo& error, const std::string& query_id);
  std::optional<ErrorInfo> Recall(const v1::Query& query, const std::string& memory_key, MonotonicTime now,
                                  bool* asked_before);
  bool Forced(const PolicyConfig& policy, const QueryMeta& meta) const;
  std::optional<TurnedAway> TurnAway(const Config& config, SubmitQuery* submit, MonotonicTime now);
  void Forget();

  const std::shared_ptr<Session> session_;
  const SessionPorts ports_;
  const Caller caller_;
  std::string identity_;  // scope of query ids
  TokenBucket frame_bucket_;
  double tx_power_w_ = 0.2;
  LocalModelPtr model_;  // of its Hello
  LinkHome home_;
  bool greeted_ = false;
  uint64_t frames_ = 0;
  bool asks_alone_ = false;
  std::atomic<bool> ended_{false};
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_SESSION_CORE_H_
