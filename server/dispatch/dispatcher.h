// Runs admitted queries on the backends of their site and streams the answers to the sessions. Pure: no thread, no
// clock, no socket; HTTP is behind HttpTransport.
#ifndef GOAD_SERVER_DISPATCH_DISPATCHER_H_
#define GOAD_SERVER_DISPATCH_DISPATCHER_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/dispatch/backend_pool.h"
#include "server/dispatch/completion_json.h"
#include "server/dispatch/llm_backend.h"
#include "server/dispatch/sse_parser.h"
#include "server/dispatch/utf8.h"
#include "server/engine/ports.h"
#include "server/telemetry/metrics.h"

namespace goad::server {

// Thread-compatible; lives on the dispatch thread. Every Start is answered by exactly one QueryDone or QueryReturned through `to_engine`.
//
// Before the first token a failed request moves to another backend of the site that it has not tried, and when none is left back
// to the engine, which may know another site; after it the query is Failed with what was sent. A backend that answers 429 or 503
// is left alone for its Retry-After, at most 30 s. An answer is complete only with a finish_reason and, for a stream, its [DONE]. A request
// waits here when every backend of its site is full, because what a server queues cannot be aborted.
class Dispatcher final : public HttpListener {
 public:
  Dispatcher(std::shared_ptr<const Config> config, HttpTransport* transport, SessionSink* sink, Metrics* metrics,
             std::function<void(Event)> to_engine);

  void Start(DispatchRequest request, MonotonicTime now);
  void Abort(QueryId id, MonotonicTime now);
  void Resume(SessionId session);
  void SetConfig(std::shared_ptr<const Config> config) {
    pool_.SetConfig(config);
    config_ = std::move(config);
  }

  void set_now(MonotonicTime now) override { now_ = now; }
  void OnHead(CallId id, int http_status, absl::Duration retry_after = absl::ZeroDuration()) override;
  void OnBody(CallId id, std::string_view bytes) override;
  void OnEnd(CallId id, TransportEnd end, const std::string& detail) override;

  // Time limits, and the pool's probes. NextWake: when Tick must be called at the latest.
  void Tick(MonotonicTime now);
  MonotonicTime NextWake() const;

  std::vector<std::vector<BackendPool::View>> Backends() const { return pool_.Views(); }

 private:
  struct Call {                         // one query; CallId is its QueryId
    DispatchRequest request;
    int backend = -1;                   // -1 = waiting for a slot, or through
    int tried_last = -1;
    int attempt = 0;
    std::vector<bool> tried;
    int http_status = 0;
    absl::Duration retry_after;
    std::string error_body;             // of an answer that is not 200; bounded
    SseParser sse;
    Utf8Assembler utf8;
    uint64_t text_bytes = 0;
    int tokens = 0;
    bool logprobs_wanted = false;
    std::string finish_reason;
    std::optional<Usage> usage;
    bool paused = false;
    bool over = false;                  // its terminal was delivered; freed by the next Tick
    std::string last_error;
    MonotonicTime sent, first_token, last_token, paused_since, settles;
  };
  struct Settling {                     // in order of time: the delay is constant
    MonotonicTime until;
    size_t site = 0;
    int backend = -1;                   // its slot becomes free
    std::optional<Event> answer;        // the engine hears of it
  };

  void Place(Call& call);
  int PickBackend(const Call& call, bool* all_tried) const;
  void OnEvent(Call& call, const std::string& data);
  void Emit(Call& call, std::string text, int tokens, std::vector<TokenLogprob> logprobs);
  void Complete(Call& call);
  // Elsewhere before the first token, else Failed.
  void RequestFailed(Call& call, const std::string& code, bool backend_at_fault, const std::string& message);
  void Fail(Call& call, ErrorCode code, const char* reason, const std::string& message);
  void LeaveBackend(Call& call, bool abort);
  void Finish(Call& call, DispatchOutcome outcome, int output_tokens = 0);
  void Return(Call& call, ErrorInfo error);
  void Over(Call& call, Event answer);
  void FillFreeSlots(size_t site);
  MonotonicTime TimeLimit(const Call& call, const char** what) const;
  void CheckTimeLimit(Call& call);

  // Constant after construction.
  HttpTransport* const transport_;  // not owned, nor are the next two
  SessionSink* const sink_;
  Metrics* const metrics_;
  const std::function<void(Event)> to_engine_;

  std::shared_ptr<const Config> config_;
  MonotonicTime now_;
  BackendPool pool_;
  std::vector<std::deque<QueryId>> waiting_;  // per site, for a free slot; bounded by the site's max_queries
  std::unordered_map<QueryId, std::unique_ptr<Call>> calls_;
  std::deque<Settling> settling_;
  std::vector<QueryId> over_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_DISPATCHER_H_
