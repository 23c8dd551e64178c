// Runs admitted queries on the backends of their site and streams the answers to the sessions. Pure: no thread, no
// clock, no socket; HTTP is behind HttpTransport.
#ifndef GOAD_SERVER_DISPATCH_DISPATCHER_H_
#define GOAD_SERVER_DISPATCH_DISPATCHER_H_

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/dispatch/answer_reader.h"
#include "server/dispatch/backend_pool.h"
#include "server/dispatch/http_transport.h"
#include "server/dispatch/last_backends.h"
#include "server/engine/ports.h"
#include "server/telemetry/metrics.h"

namespace goad::server {

// Thread-compatible; lives on the dispatch thread. Every Start is answered by exactly one QueryDone or QueryReturned
// through `to_engine`.
//
// A query has attempts, one after the other, each on another backend of its site. Before the first token a failed one
// is followed by the next, and when no backend is left the query goes back to the engine, which may know another site;
// after it the query is Failed with what was sent. A backend that answers 429 or 503 is left alone for its Retry-After,
// at most 30 s. A query waits here when every backend of its site is full, because what a server queues cannot be
// aborted.
class Dispatcher final {
 public:
  Dispatcher(std::shared_ptr<const Config> config, HttpTransport* transport, SessionSink* sink, Metrics* metrics,
             std::function<void(Event)> to_engine);

  void Start(DispatchRequest request, MonotonicTime now);
  void Abort(QueryId id, MonotonicTime now);
  void Resume(SessionId session, MonotonicTime now);
  void SetConfig(std::shared_ptr<const Config> config, MonotonicTime now);  // see BackendPool

  // Time limits, and the pool's probes. NextWake: when Tick must be called at the latest.
  void Tick(MonotonicTime now);
  MonotonicTime NextWake() const;

  BackendRows Backends() const { return pool_.Rows(); }
  uint64_t backend_changes() const { return pool_.changes(); }

 private:
  struct Query;
  struct Attempt final : HttpListener {  // one request on one backend; it ends with this
    Attempt(Dispatcher* by, Query* of_query, int on_backend, const openai::RequestDialect& in_dialect,
            MonotonicTime now);
    void OnHead(const HttpHead& head, MonotonicTime now) override;
    void OnBody(std::string_view bytes, MonotonicTime now) override;
    void OnEnd(TransportEnd end, const std::string& detail, MonotonicTime now) override;

    Dispatcher* const dispatcher;
    Query* const query;
    const int backend;
    const openai::RequestDialect dialect;
    const MonotonicTime sent;
    AnswerReader reader;
    CallId call{};
    bool ended = false;     // the server sends nothing more
    MonotonicTime head_at;  // when its head came
    absl::Duration retry_after;
    std::optional<MonotonicTime> last_alive;  // when something of the answer came
    MonotonicTime paused_since = MonotonicTime::Infinite();
  };
  struct Query {
    DispatchRequest request;
    uint64_t tried = 0;                // of the site's backends, a bit each
    std::unique_ptr<Attempt> attempt;  // null = waits for a slot
    MonotonicTime waits_since = MonotonicTime::Infinite();
    std::string last_error;
    int requests = 0;     // sent for it
    bool paused = false;  // ever, by its reader
    int tokens = 0;       // delivered, as are the next; by one attempt only: none follows it
    uint64_t text_bytes = 0;
    MonotonicTime first_token, last_token;
    MonotonicTime settles;  // when the backend has let go of its last attempt
  };
  struct Limit {
    enum class Kind { kDeadline, kFirstByte, kBetweenTokens, kTotal, kSlowConsumer, kErrorBody, kTerminator };
    MonotonicTime at;
    Kind kind;
  };
  // Both in order of time: the delay is constant.
  struct FreedSlot {
    MonotonicTime at;
    size_t site = 0;
    int backend = 0;
  };
  struct LateAnswer {
    MonotonicTime at;
    Event answer;
  };

  void Place(Query& query, MonotonicTime now);
  void Send(Query& query, int backend, const openai::RequestDialect& dialect, MonotonicTime now);
  bool SendInOtherDialect(Query& query, const ServerError& error, MonotonicTime now);
  // The rest ends the attempt, and all but AttemptFailed the query too; neither may be used after.
  void Take(Query& query, AnswerPart part, MonotonicTime now);
  bool Emit(Query& query, AnswerPart part, MonotonicTime now);  // false: the device has left
  void Complete(Query& query, MonotonicTime now);
  void AttemptFailed(Query& query, const ServerError& error, MonotonicTime now);
  void Fail(Query& query, ErrorCode code, const char* reason, const std::string& message, MonotonicTime now);
  void Abandon(Query& query, MonotonicTime now);
  void Over(Query& query, Event answer, MonotonicTime now);
  void LeaveAttempt(Query& query, MonotonicTime now);
  void FillFreeSlots(size_t site, MonotonicTime now);
  Limit TimeLimit(const Query& query) const;
  void PastLimit(Query& query, Limit::Kind kind, MonotonicTime now);

  // Constant after construction.
  HttpTransport* const transport_;  // not owned, nor are the next two
  SessionSink* const sink_;
  Metrics* const metrics_;
  const std::function<void(Event)> to_engine_;

  std::shared_ptr<const Config> config_;
  BackendPool pool_;
  LastBackends last_backends_;
  std::vector<std::deque<QueryId>> waiting_;  // per site, for a free slot; bounded by the site's max_queries
  std::unordered_map<QueryId, std::unique_ptr<Query>> queries_;
  std::deque<FreedSlot> freed_slots_;
  std::deque<LateAnswer> late_answers_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_DISPATCHER_H_
