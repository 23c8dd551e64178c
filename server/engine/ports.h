// The two interfaces between the engine and the outside: where answers go, and where admitted queries run.
#ifndef GOAD_SERVER_ENGINE_PORTS_H_
#define GOAD_SERVER_ENGINE_PORTS_H_

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "server/engine/events.h"

namespace goad::server {

struct DecisionEvent {
  QueryId id{};
  uint64_t epoch = 0;
  sched::Verdict verdict = sched::Verdict::kLocal;
  sched::Reason reason = sched::Reason::kNoGain;
  sched::SiteIndex site = sched::SiteIndex::kNone;
  double predicted_upload_s = 0, predicted_compute_s = 0, predicted_local_s = 0;
  double upload_within_s = 0;
  double retry_after_s = 0;
  double queue_s = 0;  // since the query was received
};
struct TokenAlternative {
  std::string token;   // valid UTF-8
  double logprob = 0;  // finite
};
struct TokenLogprob {
  std::string token;
  double logprob = 0;
  std::vector<TokenAlternative> top;  // at most 20
};
struct TokensEvent {
  QueryId id{};
  uint64_t text_offset = 0;
  std::string text;  // valid UTF-8, whole code points
  int tokens = 0;
  std::vector<TokenLogprob> logprobs;
  std::string reasoning;  // as text is, the next too
  std::vector<openai::ToolCallPiece> tool_calls;
  size_t refusal_bytes = 0;  // of `text`, the last so many
};
struct CompletedEvent {
  QueryId id{};
  std::string finish_reason;
  int prompt_tokens = 0, output_tokens = 0;
  bool usage_estimated = false;
  sched::SiteIndex site = sched::SiteIndex::kNone;
  std::string backend;
  double queue_s = 0, ttft_s = 0, total_s = 0, compute_s = 0, upload_s = 0;
  double predicted_upload_s = 0, predicted_compute_s = 0;
  uint64_t text_bytes = 0;
};
struct FailedEvent {
  QueryId id{};
  ErrorInfo error;
  bool answer_locally = true;
  uint64_t text_bytes = 0;
};
struct CancelledEvent {
  QueryId id{};
};
using SessionEvent = std::variant<DecisionEvent, TokensEvent, CompletedEvent, FailedEvent, CancelledEvent>;

enum class Delivery {
  kAccepted,
  kPause,    // accepted, but the device reads too slowly: stop feeding this session until DispatchPort::Resume
  kDropped,  // the query already has its terminal event, or its session is gone
};

// Where decisions, tokens and terminals go. Thread-safe; never blocks.
class SessionSink {
 public:
  virtual ~SessionSink() = default;
  virtual Delivery Deliver(SessionId session, SessionEvent event) = 0;
  // An epoch has looked at a query of the session and holds it: its decision may be long in coming.
  virtual void StillWaits(SessionId) {}
  // What the sites can has changed.
  virtual void SitesCan(SiteAbilities) {}
};

// Runs admitted queries. Thread-safe; never blocks. Every Start is answered by exactly one QueryDone or QueryReturned
// event.
class DispatchPort {
 public:
  virtual ~DispatchPort() = default;
  virtual void Start(DispatchRequest request) = 0;
  virtual void Abort(QueryId id) = 0;          // no effect when it is already through
  virtual void Resume(SessionId session) = 0;  // the session's outbox has drained
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_PORTS_H_
