#include "server/dispatch/dispatcher.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

// llama-server frees the slot of a closed stream 5 to 15 ms later (observed); until then a new request would be queued
// there, where it cannot be aborted.
constexpr absl::Duration kAbortSettle = absl::Milliseconds(20);
constexpr size_t kMaxErrorBody = 4096;

CallId CallOf(QueryId id) { return CallId{static_cast<uint64_t>(id)}; }
QueryId QueryOf(CallId id) { return QueryId{static_cast<uint64_t>(id)}; }

}  // namespace

Dispatcher::Dispatcher(std::shared_ptr<const Config> config, HttpTransport* transport, SessionSink* sink,
                       Metrics* metrics, std::function<void(Event)> to_engine)
    : transport_(transport), sink_(sink), metrics_(metrics), to_engine_(std::move(to_engine)), config_(config),
      pool_(config, transport, metrics, to_engine_, [this](size_t site) { FillFreeSlots(site); }),
      waiting_(config->sites.size()) {}

// --- queries -------------------------------------------------------------------------------------------------------------

void Dispatcher::Start(DispatchRequest request, MonotonicTime now) {
  now_ = now;
  const QueryId id = request.id;
  auto call = std::make_unique<Call>();
  call->logprobs_wanted = request.prompt->top_logprobs > 0;
  call->tried.resize(pool_.backends(sched::ToIndex(request.site)));
  call->request = std::move(request);
  // Another site may have had it before; what is left of that call is over, and nothing of it is on the stack here.
  over_.erase(std::remove(over_.begin(), over_.end(), id), over_.end());
  Place(*(calls_[id] = std::move(call)));
}

void Dispatcher::Abort(QueryId id, MonotonicTime now) {
  now_ = now;
  const auto call = calls_.find(id);
  if (call == calls_.end() || call->second->over) return;
  if (call->second->backend >= 0) {
    metrics_->BackendRequest(call->second->request.site, call->second->backend, "aborted");
  }
  LeaveBackend(*call->second, /*abort=*/true);
  Finish(*call->second, DispatchOutcome::kAborted);
}

void Dispatcher::Resume(SessionId session) {
  for (auto& [id, call] : calls_) {
    if (call->request.session == session && call->paused && !call->over) {
      call->paused = false;
      call->last_token = now_;
      transport_->SetPaused(CallOf(id), false);
    }
  }
}

int Dispatcher::PickBackend(const Call& call, bool* all_tried) const {
  return pool_.Pick(sched::ToIndex(call.request.site), call.request.prompt->chat, call.tried, now_, all_tried);
}

void Dispatcher::Place(Call& call) {
  const size_t site = sched::ToIndex(call.request.site);
  bool all_tried = false;
  call.backend = PickBackend(call, &all_tried);
  if (call.backend < 0) {
    if (all_tried) {
      ErrorInfo error;
      error.code = ErrorCode::kUnavailable;
      error.reason = "NO_BACKEND";
      error.message = call.last_error.empty() ? "no backend of the site is up" : call.last_error;
      return Return(call, std::move(error));
    }
    waiting_[site].push_back(call.request.id);
    return;
  }
  const BackendConfig& backend = pool_.config(site, call.backend);
  call.tried[static_cast<size_t>(call.backend)] = true;
  pool_.Take(site, call.backend);
  call.sent = now_;
  call.http_status = 0;
  transport_->Start(CallOf(call.request.id),
                    {&backend, RequestPath(backend.api),
                     MakeRequestBody(backend, *call.request.prompt, call.request.max_output_tokens),
                     config_->dispatch.connect, call.request.traceparent});
}

void Dispatcher::OnHead(CallId id, int http_status, absl::Duration retry_after) {
  if (BackendPool::IsProbe(id)) {
    pool_.OnHead(id, http_status);
  } else if (const auto call = calls_.find(QueryOf(id)); call != calls_.end()) {
    Call& answering = *call->second;  // whatever an earlier attempt left unfinished is void
    answering.http_status = http_status;
    answering.retry_after = retry_after;
    answering.error_body.clear();
    answering.sse = SseParser();
    answering.utf8 = Utf8Assembler();
    answering.finish_reason.clear();
    answering.usage.reset();
  }
}

void Dispatcher::OnBody(CallId id, std::string_view bytes) {
  if (BackendPool::IsProbe(id)) return pool_.OnBody(id, bytes);
  const auto found = calls_.find(QueryOf(id));
  if (found == calls_.end() || found->second->over) return;
  Call& call = *found->second;
  if (call.http_status != 200) {
    if (call.error_body.size() < kMaxErrorBody) call.error_body += bytes.substr(0, kMaxErrorBody);
    return;
  }
  const int attempt = call.attempt;  // an event may end this attempt and begin another, to which the rest is foreign
  const auto on_event = [&](const std::string& data) {
    if (!call.over && call.attempt == attempt) OnEvent(call, data);
  };
  if (!call.sse.Push(bytes, on_event) && !call.over && call.attempt == attempt) {
    LeaveBackend(call, /*abort=*/true);
    RequestFailed(call, "garbage", true, "an event of the answer is larger than 1 MiB");
  }
}

void Dispatcher::OnEvent(Call& call, const std::string& data) {
  if (data == "[DONE]") {
    if (!call.finish_reason.empty()) return Complete(call);
    LeaveBackend(call, /*abort=*/true);
    return RequestFailed(call, "broken", true, "the answer ended without a finish_reason");
  }
  absl::StatusOr<CompletionChunk> chunk = ParseChunk(data);
  if (!chunk.ok()) {
    LeaveBackend(call, /*abort=*/true);
    return RequestFailed(call, "garbage", true, std::string(chunk.status().message()));
  }
  if (chunk->usage) call.usage = chunk->usage;
  if (chunk->finish_reason) call.finish_reason = *chunk->finish_reason;
  if (chunk->text.empty()) return;
  Emit(call, call.utf8.Push(chunk->text), chunk->tokens,
       call.logprobs_wanted ? std::move(chunk->logprobs) : std::vector<TokenLogprob>());
}

void Dispatcher::Emit(Call& call, std::string text, int tokens, std::vector<TokenLogprob> logprobs) {
  if (call.tokens == 0) {
    call.first_token = now_;
    metrics_->FirstToken(SecondsBetween(call.request.prompt_ready, now_));
  }
  call.last_token = now_;
  call.tokens += tokens;
  metrics_->Tokens(call.request.site, tokens);
  TokensEvent event;
  event.id = call.request.id;
  event.text_offset = call.text_bytes;
  event.tokens = tokens;
  event.logprobs = std::move(logprobs);
  call.text_bytes += text.size();
  event.text = std::move(text);
  switch (sink_->Deliver(call.request.session, std::move(event))) {
    case Delivery::kAccepted: break;
    case Delivery::kPause:
      if (!call.paused) {
        call.paused = true;
        call.paused_since = now_;
        transport_->SetPaused(CallOf(call.request.id), true);
      }
      break;
    case Delivery::kDropped:  // the query is over on the device's side
      metrics_->BackendRequest(call.request.site, call.backend, "aborted");
      LeaveBackend(call, /*abort=*/true);
      Finish(call, DispatchOutcome::kAborted);
      break;
  }
}

void Dispatcher::Complete(Call& call) {
  if (std::string rest = call.utf8.Finish(); !rest.empty()) {
    Emit(call, std::move(rest), 0, {});
    if (call.over) return;
  }
  const DispatchRequest& request = call.request;
  pool_.Succeeded(sched::ToIndex(request.site), call.backend);
  metrics_->BackendRequest(request.site, call.backend, "200");
  CompletedEvent event;
  event.id = request.id;
  event.finish_reason = call.finish_reason;
  event.usage_estimated = !call.usage.has_value();
  event.prompt_tokens = call.usage ? call.usage->prompt_tokens : 0;
  event.output_tokens = call.usage ? call.usage->output_tokens : call.tokens;
  event.site = request.site;
  event.backend = pool_.config(sched::ToIndex(request.site), call.backend).url;
  event.queue_s = SecondsBetween(request.prompt_ready, call.sent);
  event.ttft_s = call.tokens > 0 ? SecondsBetween(request.prompt_ready, call.first_token) : 0;
  event.total_s = SecondsBetween(request.received, now_);
  event.compute_s = SecondsBetween(request.prompt_ready, now_);
  event.upload_s = request.upload_s;
  event.predicted_upload_s = request.predicted_upload_s;
  event.predicted_compute_s = request.predicted_compute_s;
  event.text_bytes = call.text_bytes;
  metrics_->Compute(event.compute_s, request.predicted_compute_s);
  if (call.tokens >= 2) {
    metrics_->TimePerOutputToken(SecondsBetween(call.first_token, call.last_token) / (call.tokens - 1));
  }
  if (now_ > request.deadline) metrics_->DeadlineMissed();
  const int output_tokens = event.output_tokens;
  sink_->Deliver(request.session, std::move(event));
  LeaveBackend(call, /*abort=*/false);
  Finish(call, DispatchOutcome::kCompleted, output_tokens);
}

void Dispatcher::OnEnd(CallId id, TransportEnd end, const std::string& detail) {
  if (BackendPool::IsProbe(id)) return pool_.OnEnd(id, end == TransportEnd::kComplete, now_);
  const auto found = calls_.find(QueryOf(id));
  if (found == calls_.end() || found->second->over || found->second->backend < 0) return;
  Call& call = *found->second;
  const int status = call.http_status;
  if ((status == 429 || status == 503) && call.retry_after > absl::ZeroDuration()) {
    pool_.Rest(sched::ToIndex(call.request.site), call.backend, call.retry_after, now_);
  }
  LeaveBackend(call, /*abort=*/false);
  if (end == TransportEnd::kConnectFailed) return RequestFailed(call, "connect_failed", true, detail);
  if (end == TransportEnd::kBroken) return RequestFailed(call, "broken", true, absl::StrCat("connection lost: ", detail));
  if (status == 200) return RequestFailed(call, "broken", true, "the answer ended without a finish_reason and [DONE]");
  const std::string message = ErrorMessage(status, call.error_body);
  if (status == 400 || status == 413 || status == 422) {  // the query's own fault: nobody else would take it
    metrics_->BackendRequest(call.request.site, call.tried_last, absl::StrCat(status));
    return Fail(call, ErrorCode::kInvalidArgument, "BACKEND_REFUSED", message);
  }
  const bool at_fault = status != 429 && !(status == 503 && call.retry_after > absl::ZeroDuration());  // busy, and says so
  RequestFailed(call, absl::StrCat(status), at_fault, message);
}

// REQUIRES: the call has left its backend (tried_last names it).
void Dispatcher::RequestFailed(Call& call, const std::string& code, bool backend_at_fault, const std::string& message) {
  const size_t site = sched::ToIndex(call.request.site);
  metrics_->BackendRequest(call.request.site, call.tried_last, code);
  if (backend_at_fault) pool_.Failed(site, call.tried_last, now_);
  call.last_error = absl::StrCat(pool_.config(site, call.tried_last).url, ": ", message);
  spdlog::debug("request failed code={} {}", code, call.last_error);
  if (call.tokens > 0) return Fail(call, ErrorCode::kUnavailable, "BACKEND_FAILED", call.last_error);
  bool all_tried = false;
  if (PickBackend(call, &all_tried) >= 0 || !all_tried) metrics_->BackendFailover();
  Place(call);
}

void Dispatcher::Fail(Call& call, ErrorCode code, const char* reason, const std::string& message) {
  FailedEvent event;
  event.id = call.request.id;
  event.error.code = code;
  event.error.reason = reason;
  event.error.message = message;
  event.text_bytes = call.text_bytes;
  sink_->Deliver(call.request.session, std::move(event));
  Finish(call, DispatchOutcome::kFailed);
}

// Frees the backend's slot: at once when the request is through, a little later when it had to be aborted.
void Dispatcher::LeaveBackend(Call& call, bool abort) {
  if (call.backend < 0) return;
  const size_t site = sched::ToIndex(call.request.site);
  transport_->Abort(CallOf(call.request.id));
  ++call.attempt;
  call.paused = false;
  call.tried_last = call.backend;
  call.backend = -1;
  if (abort) {
    call.settles = now_ + kAbortSettle;
    settling_.push_back({call.settles, site, call.tried_last, std::nullopt});
  } else {
    pool_.Release(site, call.tried_last);
    FillFreeSlots(site);
  }
}

void Dispatcher::Finish(Call& call, DispatchOutcome outcome, int output_tokens) {
  Over(call, QueryDone{call.request.id, outcome, output_tokens});
}

void Dispatcher::Return(Call& call, ErrorInfo error) {
  Over(call, QueryReturned{call.request, std::move(error)});
}

// The query is through here. The engine frees its site slot no earlier than the backend does.
void Dispatcher::Over(Call& call, Event answer) {
  call.over = true;
  std::deque<QueryId>& waiting = waiting_[sched::ToIndex(call.request.site)];
  waiting.erase(std::remove(waiting.begin(), waiting.end(), call.request.id), waiting.end());
  if (call.settles > now_) {
    settling_.push_back({call.settles, 0, -1, std::move(answer)});
  } else {
    to_engine_(std::move(answer));
  }
  over_.push_back(call.request.id);  // freed by Tick: its parser may be on the stack
}

void Dispatcher::FillFreeSlots(size_t site) {
  std::deque<QueryId> waiting = std::exchange(waiting_[site], {});
  for (const QueryId id : waiting) {
    const auto call = calls_.find(id);
    if (call != calls_.end() && !call->second->over) Place(*call->second);  // queues again when still full
  }
}

// --- time ----------------------------------------------------------------------------------------------------------------

MonotonicTime Dispatcher::TimeLimit(const Call& call, const char** what) const {
  const DispatchConfig& limits = config_->dispatch;
  MonotonicTime limit = call.request.deadline;
  *what = "deadline";
  const auto consider = [&](MonotonicTime at, const char* name) {
    if (at < limit) {
      limit = at;
      *what = name;
    }
  };
  if (call.backend < 0) {
    consider(call.request.prompt_ready + limits.first_byte, "first_byte");
    return limit;
  }
  consider(call.sent + limits.total, "total");
  if (call.paused) {
    consider(call.paused_since + config_->limits.slow_consumer, "slow_consumer");
  } else if (call.tokens == 0) {
    consider(call.sent + limits.first_byte, "first_byte");
  } else {
    consider(call.last_token + limits.between_tokens, "between_tokens");
  }
  return limit;
}

void Dispatcher::CheckTimeLimit(Call& call) {
  const char* what = nullptr;
  if (call.over || TimeLimit(call, &what) > now_) return;
  const std::string name = what;
  const bool was_sent = call.backend >= 0;
  LeaveBackend(call, /*abort=*/true);
  if (name == "deadline") {
    metrics_->DeadlineMissed();
    return Fail(call, ErrorCode::kDeadlineExceeded, "DEADLINE", "the query's deadline passed");
  }
  if (name == "slow_consumer") {
    metrics_->SlowConsumer();
    return Fail(call, ErrorCode::kSlowConsumer, "SLOW_CONSUMER", "the device did not read its answer");
  }
  if (!was_sent || name == "total") {
    return Fail(call, ErrorCode::kDeadlineExceeded, "TIMEOUT", absl::StrCat("dispatch.", name, " passed"));
  }
  RequestFailed(call, "timeout", true, absl::StrCat("dispatch.", name, " passed"));
}

void Dispatcher::Tick(MonotonicTime now) {
  now_ = now;
  for (const QueryId id : std::exchange(over_, {})) calls_.erase(id);
  while (!settling_.empty() && settling_.front().until <= now) {
    Settling settled = std::move(settling_.front());
    settling_.pop_front();
    if (settled.backend >= 0) {
      pool_.Release(settled.site, settled.backend);
      FillFreeSlots(settled.site);
    }
    if (settled.answer) to_engine_(*std::move(settled.answer));
  }
  std::vector<QueryId> ids;  // limits first: acting on one may change the table
  for (const auto& [id, call] : calls_) {
    const char* what = nullptr;
    if (!call->over && TimeLimit(*call, &what) <= now) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  for (const QueryId id : ids) CheckTimeLimit(*calls_.at(id));

  pool_.Tick(now);
}

MonotonicTime Dispatcher::NextWake() const {
  MonotonicTime wake = over_.empty() ? MonotonicTime::Infinite() : now_;
  if (!settling_.empty()) wake = std::min(wake, settling_.front().until);
  for (const auto& [id, call] : calls_) {
    const char* what = nullptr;
    if (!call->over) wake = std::min(wake, TimeLimit(*call, &what));
  }
  return std::min(wake, pool_.NextWake());
}

}  // namespace goad::server
