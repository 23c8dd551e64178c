#include "server/dispatch/dispatcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/clip.h"
#include "server/dispatch/backend_request.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

constexpr absl::Duration kTerminator = absl::Seconds(2);  // for [DONE] or the body's end, after a finish_reason
constexpr absl::Duration kErrorBody = absl::Seconds(1);   // for the body of an error, after its head

// llama-server frees the slot of a closed stream 5 to 15 ms later (observed); until then a new request would be queued
// there, where it cannot be aborted.
constexpr absl::Duration kAbortSettle = absl::Milliseconds(20);

}  // namespace

Dispatcher::Dispatcher(std::shared_ptr<const Config> config, HttpTransport* transport, SessionSink* sink,
                       Metrics* metrics, std::function<void(Event)> to_engine)
    : transport_(transport),
      sink_(sink),
      metrics_(metrics),
      to_engine_(std::move(to_engine)),
      config_(config),
      pool_(
          config, transport, metrics, to_engine_, [this](size_t site, MonotonicTime now) { FillFreeSlots(site, now); },
          [sink](SiteAbilities abilities) { sink->SitesCan(std::move(abilities)); }),
      waiting_(config->sites.size()) {}

void Dispatcher::SetConfig(std::shared_ptr<const Config> config, MonotonicTime now) {
  waiting_.resize(config->sites.size());
  config_ = config;
  pool_.SetConfig(std::move(config), now);
}

// --- queries -------------------------------------------------------------------------------------------------

void Dispatcher::Start(DispatchRequest request, MonotonicTime now) {
  auto query = std::make_unique<Query>();
  query->request = std::move(request);
  Query& started = *query;
  queries_[started.request.id] = std::move(query);
  Place(started, now);
}

void Dispatcher::Abort(QueryId id, MonotonicTime now) {
  if (const auto query = queries_.find(id); query != queries_.end()) Abandon(*query->second, now);
}

void Dispatcher::Resume(SessionId session, MonotonicTime now) {
  for (auto& [id, query] : queries_) {
    if (query->request.session != session || !query->attempt) continue;
    Attempt& attempt = *query->attempt;
    if (attempt.paused_since == MonotonicTime::Infinite()) continue;
    attempt.paused_since = MonotonicTime::Infinite();
    attempt.last_alive = now;
    transport_->SetPaused(attempt.call, false);
  }
}

void Dispatcher::Place(Query& query, MonotonicTime now) {
  const size_t site = sched::ToIndex(query.request.site);
  bool all_tried = false;
  const std::optional<int> last =
      query.request.prompt->chat ? last_backends_.Of(query.request.session, site) : std::nullopt;
  const std::optional<int> backend = pool_.Pick(site, query.request.needs, query.tried, last, now, &all_tried);
  if (!backend && !all_tried) {
    waiting_[site].push_back(query.request.id);
    query.waits_since = std::min(query.waits_since, now);
    return;
  }
  if (!backend) {
    const char* none = "no backend of the site that can take it is up";
    ErrorInfo error =
        MakeError(ErrorCode::kUnavailable, "NO_BACKEND", "", query.last_error.empty() ? none : query.last_error);
    if (query.last_error.empty() && !pool_.AnyCan(site, query.request.needs)) {
      error = MakeError(ErrorCode::kFailedPrecondition, "NOT_ABLE", "",
                        absl::StrCat("no backend of the site can all of: ", ToString(query.request.needs)));
    }
    return Over(query, QueryReturned{query.request, std::move(error)}, now);
  }
  query.waits_since = MonotonicTime::Infinite();
  query.tried |= uint64_t{1} << *backend;
  pool_.Take(site, *backend);
  Send(query, *backend, pool_.dialect(site, *backend), now);
}

void Dispatcher::Send(Query& query, int backend, const openai::RequestDialect& dialect, MonotonicTime now) {
  const DispatchRequest& request = query.request;
  ++query.requests;
  query.attempt = std::make_unique<Attempt>(this, &query, backend, dialect, now);
  const BackendConfig& config = pool_.config(sched::ToIndex(request.site), backend);
  query.attempt->call = transport_->Start({&config, openai::RequestPath(config.api == BackendApi::kChat),
                                           MakeRequestBody(config, *request.prompt, request.max_output_tokens, dialect),
                                           config_->dispatch.connect, request.traceparent},
                                          query.attempt.get());
}

// A strict server refuses fields that others take: once more without the one it names, on the same slot. What it takes
// is remembered when an answer is whole, so that words in a prompt which the server repeats teach nothing.
bool Dispatcher::SendInOtherDialect(Query& query, const ServerError& error, MonotonicTime now) {
  const Attempt& attempt = *query.attempt;
  if (query.tokens > 0) return false;
  const std::optional<openai::RequestDialect> other = OtherDialect(attempt.dialect, *query.request.prompt, error);
  if (!other) return false;
  spdlog::info("backend={} refused a field of a request, asking without it: {}",
               pool_.name(sched::ToIndex(query.request.site), attempt.backend),
               WithoutPrompt(error.words, *query.request.prompt));
  transport_->Abort(attempt.call);  // where it said so within a stream, and that goes on
  Send(query, attempt.backend, *other, now);
  return true;
}

Dispatcher::Attempt::Attempt(Dispatcher* by, Query* of_query, int on_backend, const openai::RequestDialect& in_dialect,
                             MonotonicTime now)
    : dispatcher(by),
      query(of_query),
      backend(on_backend),
      dialect(in_dialect),
      sent(now),
      reader(of_query->request.prompt, of_query->request.max_output_tokens) {}

void Dispatcher::Attempt::OnHead(const HttpHead& head, MonotonicTime now) {
  head_at = now;
  retry_after = head.retry_after;
  reader.OnHead(head);
}
void Dispatcher::Attempt::OnBody(std::string_view bytes, MonotonicTime now) {
  dispatcher->Take(*query, reader.OnBody(bytes), now);
}
void Dispatcher::Attempt::OnEnd(TransportEnd end, const std::string& detail, MonotonicTime now) {
  ended = true;
  dispatcher->Take(*query, reader.OnEnd(end, detail), now);
}

void Dispatcher::Take(Query& query, AnswerPart part, MonotonicTime now) {
  Attempt& attempt = *query.attempt;
  const bool failed = attempt.reader.state() == AnswerReader::State::kFailed;
  if (part.alive) {
    attempt.last_alive = now;
    pool_.Heard(sched::ToIndex(query.request.site), attempt.backend, now);
  }
  if (!part.empty() && !Emit(query, std::move(part), now)) return Abandon(query, now);
  if (failed) return AttemptFailed(query, ServerError(attempt.reader.error()), now);
  if (attempt.reader.state() == AnswerReader::State::kWhole) Complete(query, now);
}

bool Dispatcher::Emit(Query& query, AnswerPart part, MonotonicTime now) {
  if (query.tokens == 0) {
    query.first_token = now;
    metrics_->FirstToken(query.request.site, SecondsBetween(query.request.prompt_ready, now));
  }
  query.last_token = now;
  query.tokens += part.tokens;
  metrics_->Tokens(query.request.site, part.tokens);
  TokensEvent event{
      query.request.id,         query.text_bytes,          std::move(part.text),       part.tokens,
      std::move(part.logprobs), std::move(part.reasoning), std::move(part.tool_calls), part.refusal_bytes};
  query.text_bytes += event.text.size();
  const Delivery delivery = sink_->Deliver(query.request.session, std::move(event));
  Attempt& attempt = *query.attempt;
  if (delivery == Delivery::kPause && attempt.paused_since == MonotonicTime::Infinite()) {
    attempt.paused_since = now;
    query.paused = true;
    transport_->SetPaused(attempt.call, true);
  }
  return delivery != Delivery::kDropped;
}

void Dispatcher::Complete(Query& query, MonotonicTime now) {
  const DispatchRequest& request = query.request;
  const Attempt& attempt = *query.attempt;
  // More output than was asked for, with some room for how servers count, is not believed.
  std::optional<openai::Usage> usage = attempt.reader.usage();
  if (usage && usage->output_tokens > 2 * static_cast<int64_t>(request.max_output_tokens) + 16) usage.reset();
  const size_t site = sched::ToIndex(request.site);
  pool_.Succeeded(site, attempt.backend, now);
  if (request.prompt->chat) last_backends_.Remember(request.session, site, attempt.backend);
  pool_.Learn(site, attempt.backend, attempt.dialect, *request.prompt);
  metrics_->BackendRequest(request.site, attempt.backend, "200");
  CompletedEvent event;
  event.id = request.id;
  event.finish_reason = attempt.reader.finish_reason();
  event.usage_estimated = !usage.has_value();
  event.prompt_tokens = usage ? usage->prompt_tokens : 0;
  event.output_tokens = usage ? usage->output_tokens : query.tokens;
  event.site = request.site;
  event.backend = pool_.name(site, attempt.backend);
  event.queue_s = SecondsBetween(request.prompt_ready, attempt.sent);
  event.ttft_s = query.tokens > 0 ? SecondsBetween(request.prompt_ready, query.first_token) : 0;
  event.total_s = SecondsBetween(request.received, now);
  event.compute_s = SecondsBetween(request.prompt_ready, now);
  event.upload_s = request.upload_s;
  event.predicted_upload_s = request.predicted_upload_s;
  event.predicted_compute_s = request.predicted_compute_s;
  event.text_bytes = query.text_bytes;
  metrics_->Compute(request.site, event.compute_s, request.predicted_compute_s);
  if (query.tokens >= 2) {
    metrics_->TimePerOutputToken(request.site,
                                 SecondsBetween(query.first_token, query.last_token) / (query.tokens - 1));
  }
  if (now > request.deadline) metrics_->DeadlineMissed();
  QueryDone done{
      request.id,  DispatchOutcome::kCompleted, event.output_tokens, std::nullopt, attempt.backend, event.compute_s,
      event.ttft_s};
  if (usage && usage->prompt_tokens > 0 && query.requests == 1 && !query.paused) {
    done.served = {event.compute_s, usage->prompt_tokens - usage->cached_tokens, usage->output_tokens};
  }
  sink_->Deliver(request.session, std::move(event));
  query.attempt->ended = true;
  LeaveAttempt(query, now);
  Over(query, done, now);
}

// Elsewhere before the first token, else Failed.
void Dispatcher::AttemptFailed(Query& query, const ServerError& error, MonotonicTime now) {
  const size_t site = sched::ToIndex(query.request.site);
  const Attempt& attempt = *query.attempt;
  const int backend = attempt.backend;
  const int status = attempt.reader.http_status();
  metrics_->BackendRequest(query.request.site, backend, error.code);
  if (SendInOtherDialect(query, error, now)) return;
  if ((status == 429 || status == 503) && attempt.retry_after > absl::ZeroDuration()) {
    pool_.Rest(site, backend, attempt.retry_after, now);
  }
  const std::string detail = error.detail.empty() ? "" : absl::StrCat(": ", Clip(error.detail, 200));
  pool_.Failed(site, backend, error, WithoutPrompt(error.words, *query.request.prompt) + detail, now);
  LeaveAttempt(query, now);
  // What a server says of the prompt is for the device; what it says of keys, models and itself ("HTTP 401: Incorrect
  // API key ...") is not.
  const BackendConfig& config = pool_.config(site, backend);
  std::string words = WithoutAddresses(error.words, config.url);
  if (!config.api_key.empty()) words = absl::StrReplaceAll(words, {{config.api_key, "(key)"}});
  if (error.blame != Blame::kPrompt && absl::StartsWith(words, "HTTP ")) words = words.substr(0, words.find(':'));
  if (error.blame == Blame::kPrompt) return Fail(query, ErrorCode::kInvalidArgument, "BACKEND_REFUSED", words, now);
  query.last_error = absl::StrCat(pool_.name(site, backend), ": ", words);
  if (query.tokens > 0) return Fail(query, ErrorCode::kUnavailable, "BACKEND_FAILED", query.last_error, now);
  bool all_tried = false;
  pool_.Pick(site, query.request.needs, query.tried, std::nullopt, now, &all_tried);
  if (!all_tried) metrics_->BackendFailover();
  Place(query, now);
}

void Dispatcher::Fail(Query& query, ErrorCode code, const char* reason, const std::string& message, MonotonicTime now) {
  FailedEvent event;
  event.id = query.request.id;
  event.error = MakeError(code, reason, "", message);
  event.text_bytes = query.text_bytes;
  sink_->Deliver(query.request.session, std::move(event));
  Over(query, QueryDone{query.request.id, DispatchOutcome::kFailed}, now);
}

// The device does not want it any more.
void Dispatcher::Abandon(Query& query, MonotonicTime now) {
  if (query.attempt) metrics_->BackendRequest(query.request.site, query.attempt->backend, "aborted");
  LeaveAttempt(query, now);
  Over(query, QueryDone{query.request.id, DispatchOutcome::kAborted}, now);
}

// The query is through here. The engine frees its site slot no earlier than the backend does.
void Dispatcher::Over(Query& query, Event answer, MonotonicTime now) {
  const QueryId id = query.request.id;
  std::deque<QueryId>& waiting = waiting_[sched::ToIndex(query.request.site)];
  waiting.erase(std::remove(waiting.begin(), waiting.end(), id), waiting.end());
  const MonotonicTime settles = query.settles;
  queries_.erase(id);
  if (settles > now) {
    late_answers_.push_back({settles, std::move(answer)});
  } else {
    to_engine_(std::move(answer));
  }
}

// Frees the backend's slot: at once when the request is through, a little later when it had to be aborted.
void Dispatcher::LeaveAttempt(Query& query, MonotonicTime now) {
  if (!query.attempt) return;
  const std::unique_ptr<Attempt> attempt = std::move(query.attempt);
  const size_t site = sched::ToIndex(query.request.site);
  transport_->Abort(attempt->call);
  if (!attempt->ended) {
    query.settles = now + kAbortSettle;
    freed_slots_.push_back({query.settles, site, attempt->backend});
  } else {
    pool_.Release(site, attempt->backend);
    FillFreeSlots(site, now);
  }
}

void Dispatcher::FillFreeSlots(size_t site, MonotonicTime now) {
  for (const QueryId id : std::exchange(waiting_[site], {})) {
    const auto query = queries_.find(id);
    if (query != queries_.end()) Place(*query->second, now);  // queues again when still full
  }
}

// --- time ----------------------------------------------------------------------------------------------------

Dispatcher::Limit Dispatcher::TimeLimit(const Query& query) const {
  const DispatchConfig& limits = config_->dispatch;
  Limit limit{query.request.deadline, Limit::Kind::kDeadline};
  const auto consider = [&](MonotonicTime at, Limit::Kind kind) {
    if (at < limit.at) limit = {at, kind};
  };
  const size_t site = sched::ToIndex(query.request.site);
  if (!query.attempt) {  // whichever it will be
    absl::Duration longest;
    for (size_t b = 0; b < pool_.backends(site); ++b)
      longest = std::max(longest, pool_.first_byte(site, static_cast<int>(b)));
    consider(query.waits_since + longest, Limit::Kind::kFirstByte);
    return limit;
  }
  const Attempt& attempt = *query.attempt;
  consider(attempt.sent + limits.total, Limit::Kind::kTotal);
  if (attempt.paused_since != MonotonicTime::Infinite()) {
    consider(attempt.paused_since + config_->limits.slow_consumer, Limit::Kind::kSlowConsumer);
  } else if (attempt.reader.is_error_body()) {
    consider(attempt.head_at + kErrorBody, Limit::Kind::kErrorBody);
  } else if (attempt.reader.is_at_its_end()) {
    consider(attempt.last_alive.value_or(attempt.sent) + std::min(limits.between_tokens, kTerminator),
             Limit::Kind::kTerminator);
  } else if (!attempt.last_alive) {
    consider(attempt.sent + pool_.first_byte(sched::ToIndex(query.request.site), attempt.backend),
             Limit::Kind::kFirstByte);
  } else {
    consider(*attempt.last_alive + limits.between_tokens, Limit::Kind::kBetweenTokens);
  }
  return limit;
}

void Dispatcher::PastLimit(Query& query, Limit::Kind kind, MonotonicTime now) {
  const bool was_sent = query.attempt != nullptr;
  switch (kind) {
    case Limit::Kind::kDeadline:
      metrics_->DeadlineMissed();
      if (was_sent) metrics_->BackendRequest(query.request.site, query.attempt->backend, "deadline");
      LeaveAttempt(query, now);
      return Fail(query, ErrorCode::kDeadlineExceeded, "DEADLINE", "the query's deadline passed", now);
    case Limit::Kind::kSlowConsumer:
      metrics_->SlowConsumer();
      LeaveAttempt(query, now);
      return Fail(query, ErrorCode::kSlowConsumer, "SLOW_CONSUMER", "the device did not read its answer", now);
    case Limit::Kind::kTotal:
      metrics_->BackendRequest(query.request.site, query.attempt->backend, "timeout");
      LeaveAttempt(query, now);
      return Fail(query, ErrorCode::kDeadlineExceeded, "TIMEOUT", "dispatch.total passed", now);
    case Limit::Kind::kFirstByte:
      if (!was_sent) return Fail(query, ErrorCode::kDeadlineExceeded, "TIMEOUT", "first_byte passed", now);
      return AttemptFailed(query, {Blame::kBackend, false, "timeout", "first_byte passed"}, now);
    case Limit::Kind::kErrorBody:
    case Limit::Kind::kTerminator: {
      const bool is_answer = kind == Limit::Kind::kTerminator;
      AnswerPart last = query.attempt->reader.OnEnd(is_answer ? TransportEnd::kComplete : TransportEnd::kBroken, "");
      return Take(query, std::move(last), now);
    }
    case Limit::Kind::kBetweenTokens:
      return AttemptFailed(query, {Blame::kBackend, false, "timeout", "dispatch.between_tokens passed"}, now);
  }
}

void Dispatcher::Tick(MonotonicTime now) {
  while (!freed_slots_.empty() && freed_slots_.front().at <= now) {
    const FreedSlot freed = freed_slots_.front();
    freed_slots_.pop_front();
    pool_.Release(freed.site, freed.backend);
    FillFreeSlots(freed.site, now);
  }
  while (!late_answers_.empty() && late_answers_.front().at <= now) {
    Event answer = std::move(late_answers_.front().answer);
    late_answers_.pop_front();
    to_engine_(std::move(answer));
  }
  std::vector<QueryId> late;  // first: acting on one changes the table
  for (const auto& [id, query] : queries_) {
    if (TimeLimit(*query).at <= now) late.push_back(id);
  }
  std::sort(late.begin(), late.end());
  for (const QueryId id : late) {
    const auto query = queries_.find(id);
    if (query == queries_.end()) continue;
    const Limit limit = TimeLimit(*query->second);
    if (limit.at <= now) PastLimit(*query->second, limit.kind, now);
  }
  pool_.Tick(now);
}

MonotonicTime Dispatcher::NextWake() const {
  MonotonicTime wake = pool_.NextWake();
  if (!freed_slots_.empty()) wake = std::min(wake, freed_slots_.front().at);
  if (!late_answers_.empty()) wake = std::min(wake, late_answers_.front().at);
  for (const auto& [id, query] : queries_) wake = std::min(wake, TimeLimit(*query).at);
  return wake;
}

}  // namespace goad::server
