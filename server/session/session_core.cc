#include "server/session/session_core.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/base/jitter.h"
#include "server/calibration/value.h"
#include "server/session/hello_codec.h"
#include "server/session/prompt_codec.h"
#include "server/session/wire_codec.h"
#include "server/telemetry/promise_watch.h"

namespace goad::server {
namespace {

ErrorInfo Precondition(const char* reason, std::string field, const std::string& message) {
  return MakeError(ErrorCode::kFailedPrecondition, reason, std::move(field), message);
}

std::string QueryIdOf(const v1::DeviceFrame& frame) {
  switch (frame.frame_case()) {
    case v1::DeviceFrame::kQuery: return frame.query().query_id();
    case v1::DeviceFrame::kPrompt: return frame.prompt().query_id();
    case v1::DeviceFrame::kOutcome: return frame.outcome().query_id();
    case v1::DeviceFrame::kCancel: return frame.cancel().query_id();
    default: return "";
  }
}

}  // namespace

SessionCore::SessionCore(std::shared_ptr<Session> session, Caller caller, const SessionPorts& ports)
    : session_(std::move(session)), ports_(ports), caller_(std::move(caller)) {}

void SessionCore::Refuse(const ErrorInfo& error, const std::string& query_id) {
  ports_.metrics->Refused(Refusal::kBadFrame);
  session_->outbox.PutIfRoom(std::make_shared<const v1::ServerFrame>(
      EncodeProtocolError(error, frames_, CheckQueryId(query_id, "") ? "" : query_id)));
}

bool SessionCore::OnFrame(const v1::DeviceFrame& frame, MonotonicTime now) {
  ++frames_;
  asks_alone_ = false;
  const double rate = ports_.config->Current()->limits.frames_per_second;
  if (const absl::Duration wait = frame_bucket_.Take(1, rate, rate, now); wait > absl::ZeroDuration()) {
    ports_.metrics->Refused(Refusal::kFramesPerSecond);
    const ErrorInfo error =
        MakeError(ErrorCode::kResourceExhausted, Refusal::kFramesPerSecond, "",
                  absl::StrCat("limits.frames_per_second: this session sent more than ", rate, " a second"),
                  RetryHint(ports_.config->Current()->limits.retry_after, static_cast<uint64_t>(session_->id)));
    session_->outbox.Close(error, now);
    OnEnd(now);
    return false;
  }
  std::optional<ErrorInfo> error;
  if (!greeted_ && frame.frame_case() != v1::DeviceFrame::kHello) {
    error = Precondition("HELLO_FIRST", "hello", "must be the first frame");
  } else {
    switch (frame.frame_case()) {
      case v1::DeviceFrame::kHello:
        if (greeted_) {
          error = Precondition("HELLO_TWICE", "hello", "was sent before");
        } else if (!(error = DecodeHello(frame.hello(), &tx_power_w_, &model_))) {
          OnHello(frame.hello());
        }
        break;
      case v1::DeviceFrame::kLinkReport:
        error = OnLinks(frame.link_report().links(), now);
        SendHome(now);
        break;
      case v1::DeviceFrame::kQuery:
        SendHome(now);  // what it heard of this goad may have got old meanwhile
        error = OnQuery(frame.query(), now);
        break;
      case v1::DeviceFrame::kPrompt: error = OnPrompt(frame.prompt()); break;
      case v1::DeviceFrame::kOutcome: error = OnOutcome(frame.outcome(), now); break;
      case v1::DeviceFrame::kCancel: OnCancel(frame.cancel()); break;
      case v1::DeviceFrame::FRAME_NOT_SET:
        error = Precondition("EMPTY_FRAME", "frame",
                             "is not set; want hello, link_report, query, prompt, outcome or cancel");
        break;
    }
  }
  if (error) Refuse(*error, QueryIdOf(frame));
  if (ended_) Forget();  // it ended while we were at it: nothing of this frame may outlive that
  return true;
}

void SessionCore::OnHello(const v1::Hello& hello) {
  greeted_ = true;
  identity_ = absl::StrCat(caller_.identity.empty() ? caller_.address : caller_.identity, "/",
                           !hello.device_name().empty() ? absl::StrCat("device ", hello.device_name())
                           : caller_.identity.empty()   ? session_->Name()
                                                        : "");
  ports_.registry->Describe(session_->id, identity_, hello.device_name(), model_, /*hears_of_sites=*/true);
  ports_.registry->Greet(*session_, [this](const SiteAbilities& can) {
    const auto config = ports_.config->Current();
    return EncodeWelcome(session_->Name(), *config, can,
                         ToldTau(config->policy.curves.get(), model_, ports_.tau(model_)));
  });
}

std::optional<ErrorInfo> SessionCore::OnLinks(const google::protobuf::RepeatedPtrField<v1::SiteLink>& links,
                                              MonotonicTime now) {
  const auto config = ports_.config->Current();
  LinkUpdate update;
  update.session = session_->id;
  std::vector<HeardSite> heard;
  auto error = DecodeLinks(links, *config, tx_power_w_, now, &update.links, &heard);
  if (!config->neighbours.empty()) {
    for (const auto& [site, neighbour, measured_at] : heard) {
      home_.Report(site, neighbour != nullptr ? neighbour->address : "", measured_at + config->limits.link_max_age);
    }
    ports_.registry->Hears(session_->id, home_.Neighbour(config->neighbours, now));
  }
  if (!update.links.empty()) ports_.inbox->Push(std::move(update));
  return error;
}

// To the goad that has the sites of all its links.
void SessionCore::SendHome(MonotonicTime now) {
  const auto config = ports_.config->Current();
  if (config->neighbours.empty() || session_->outbox.leaving()) return;
  if (const std::string neighbour = home_.Moved(config->neighbours, now); !neighbour.empty()) {
    ports_.registry->SendAway(session_->id, neighbour, config->limits.link_max_age, now);
  }
}

std::optional<ErrorInfo> SessionCore::OnQuery(const v1::Query& query, MonotonicTime now) {
  const auto config = ports_.config->Current();
  if (auto error = CheckQueryId(query.query_id(), "query.query_id")) return error;
  SubmitQuery submit;
  submit.meta.model = model_;
  if (auto error = DecodeQuery(query, *config, &submit.meta, &submit.inline_prompt)) return error;
  submit.meta.tx_power_w = tx_power_w_;
  submit.meta.tenant = caller_.tenant;
  submit.meta.traceparent = caller_.traceparent;

  bool asked_before = false;
  const std::string memory_key = QueryMemory::Key(identity_, query.query_id());
  if (auto error = Recall(query, memory_key, now, &asked_before)) return error;
  if (asked_before) return std::nullopt;

  Outbox::Slot slot;
  slot.id = submit.id = QueryId{ports_.next_query_id->fetch_add(1, std::memory_order_relaxed)};
  slot.query_id = submit.query_id = query.query_id();
  slot.memory_key = memory_key;
  slot.chat = submit.meta.needs.chat;
  slot.prompt_bytes = static_cast<int64_t>(std::ceil(submit.meta.prompt_bits / 8));
  slot.received = submit.received = now;
  if (!config->neighbours.empty()) slot.neighbour = home_.Moved(config->neighbours, now);
  submit.device = identity_;
  submit.session = session_->id;
  std::optional<TurnedAway> away = TurnAway(*config, &submit, now);
  const QueryId id = submit.id;
  const double local_delay_s = submit.meta.local_delay_s;
  const bool forced = Forced(config->policy, submit.meta);
  switch (session_->outbox.OpenSlot(std::move(slot))) {
    case Outbox::Opened::kOpen: break;
    case Outbox::Opened::kClosed: return std::nullopt;  // the stream is gone
    case Outbox::Opened::kNoRoom:
      ports_.memory->Forget(memory_key);
      ports_.metrics->Refused(Refusal::kOutboxFull);
      return MakeError(ErrorCode::kResourceExhausted, Refusal::kOutboxFull, "query",
                       "there is no room for its answer; read what was sent before",
                       RetryHint(config->limits.retry_after, static_cast<uint64_t>(id)));
  }
  if (!away) {
    const bool has_prompt = submit.inline_prompt != nullptr;
    if (ports_.inbox->Push(std::move(submit))) {
      asks_alone_ = !has_prompt && session_->outbox.live() == 1;
      return std::nullopt;
    }
    away = TurnedAway{Refusal::kWaitingQueries};
  }
  ports_.metrics->Refused(away->why);
  ports_.metrics->promise().Decided(forced, /*offloaded=*/false);
  DecisionEvent local;
  local.id = id;
  local.reason = away->reason;
  local.predicted_local_s = local_delay_s;
  local.retry_after_s = RetryHint(std::max(config->limits.retry_after, away->at_least), static_cast<uint64_t>(id));
  ports_.registry->Deliver(session_->id, local);
  return std::nullopt;
}

// As the engine would have it.
bool SessionCore::Forced(const PolicyConfig& policy, const QueryMeta& meta) const {
  return meta.must_offload ||
         ValueOf(policy.curves.get(), meta.model, meta.kind, meta.uncertainty) > ports_.tau(meta.model);
}

// Whether this id was asked before, and what the device hears then.
std::optional<ErrorInfo> SessionCore::Recall(const v1::Query& query, const std::string& memory_key, MonotonicTime now,
                                             bool* asked_before) {
  const uint64_t fingerprint = QueryFingerprint(query);
  const QueryMemory::Answer memory = ports_.memory->Begin(memory_key, fingerprint, session_->id, now);
  switch (memory.recall) {
    case QueryMemory::Recall::kNew: break;
    case QueryMemory::Recall::kConflict:
      return MakeError(ErrorCode::kInvalidArgument, "ID_REUSED", "query.query_id",
                       absl::StrCat("\"", query.query_id(), "\" was used for another query"));
    case QueryMemory::Recall::kElsewhere:
      return MakeError(ErrorCode::kFailedPrecondition, "LIVE_ELSEWHERE", "query.query_id",
                       absl::StrCat("\"", query.query_id(), "\" is live on another stream"),
                       RetryHint(absl::Seconds(1), fingerprint));
    case QueryMemory::Recall::kLive:
    case QueryMemory::Recall::kFinished:
      *asked_before = true;
      if (memory.frame) session_->outbox.PutIfRoom(memory.frame);
  }
  return std::nullopt;
}

// What keeps a query from the engine, if anything; else its inline prompt is counted from now on.
std::optional<SessionCore::TurnedAway> SessionCore::TurnAway(const Config& config, SubmitQuery* submit,
                                                             MonotonicTime now) {
  if (session_->outbox.leaving()) {
    const bool moved = !config.neighbours.empty() && !home_.Moved(config.neighbours, now).empty();
    if (moved) return TurnedAway{Refusal::kMoved, sched::Reason::kNoLink};
    return TurnedAway{Refusal::kDraining, sched::Reason::kDraining};
  }
  if (const absl::Duration wait = TenantWait(config, submit->meta.prompt_tokens, now); wait > absl::ZeroDuration()) {
    return TurnedAway{Refusal::kTenantRate, sched::Reason::kQuota, wait};
  }
  if (session_->outbox.live() >= static_cast<size_t>(config.limits.queries_per_session)) {
    return TurnedAway{Refusal::kQueriesPerSession};
  }
  if (!HoldInlinePrompt(config.limits.inline_prompt_bytes, &submit->inline_prompt)) {
    return TurnedAway{Refusal::kInlinePrompts};
  }
  return std::nullopt;
}

absl::Duration SessionCore::TenantWait(const Config& config, int prompt_tokens, MonotonicTime now) {
  const TenantConfig* tenant = config.FindTenant(caller_.tenant);
  if (tenant == nullptr) return absl::ZeroDuration();
  TenantLimit limit{};
  const absl::Duration wait = ports_.limiter->Admit(*tenant, prompt_tokens, now, &limit);
  if (wait > absl::ZeroDuration()) ports_.metrics->TenantRefused(tenant->name, limit);
  return wait;
}

// Counts the prompt's bytes for as long as anybody holds it; false when that is too much.
bool SessionCore::HoldInlinePrompt(int64_t most, std::shared_ptr<const PromptBody>* prompt) {
  if (*prompt == nullptr) return true;
  const auto bytes = static_cast<int64_t>((*prompt)->bytes());
  std::atomic<int64_t>* const held = ports_.inline_prompt_bytes;
  if (held->fetch_add(bytes) + bytes > most) {
    held->fetch_sub(bytes);
    return false;
  }
  const PromptBody* body = prompt->get();
  *prompt = std::shared_ptr<const PromptBody>(
      body, [held, bytes, owner = std::move(*prompt)](const PromptBody*) { held->fetch_sub(bytes); });
  return true;
}

std::optional<ErrorInfo> SessionCore::OnPrompt(const v1::Prompt& prompt) {
  if (auto error = CheckQueryId(prompt.query_id(), "prompt.query_id")) return error;
  const std::optional<Outbox::Slot> slot = session_->outbox.FindSlot(prompt.query_id());
  if (!slot) {
    ports_.metrics->Refused(Refusal::kLatePrompt);
    return MakeError(ErrorCode::kNotFound, "NO_SUCH_QUERY", "prompt.query_id",
                     absl::StrCat("\"", prompt.query_id(), "\" is not a live query of this session"));
  }
  if (slot->state == Outbox::SlotState::kPending) {
    return Precondition("NOT_GRANTED", "prompt.query_id",
                        absl::StrCat("\"", prompt.query_id(), "\" has no OFFLOAD decision yet"));
  }
  const auto twice = [&] {
    return Precondition("PROMPT_TWICE", "prompt.query_id",
                        absl::StrCat("\"", prompt.query_id(), "\" already has its prompt"));
  };
  if (slot->state == Outbox::SlotState::kPrompted) return twice();  // whatever is in it: the answer that runs goes on
  std::shared_ptr<const PromptBody> body;
  if (const auto error =
          DecodePrompt(prompt, "prompt", slot->chat, slot->prompt_bytes, ports_.config->Current()->limits, &body)) {
    ports_.metrics->Refused(Refusal::kBadPrompt);
    FailedEvent failed;
    failed.id = slot->id;
    failed.error = *error;
    ports_.registry->Deliver(session_->id, std::move(failed));
    ports_.inbox->Push(CancelQuery{slot->id, /*answered=*/true});
    return std::nullopt;
  }
  if (!session_->outbox.TakePrompt(slot->id)) return twice();
  ports_.inbox->Push(PromptReady{slot->id, std::move(body)});
  return std::nullopt;
}

std::optional<ErrorInfo> SessionCore::OnOutcome(const v1::Outcome& outcome, MonotonicTime now) {
  if (auto error = DecodeOutcome(outcome)) return error;
  if (!outcome.has_quality() || outcome.local_delay_s() > 0) ports_.metrics->LocalOutcome(outcome.local_delay_s());
  if (!outcome.has_quality()) return std::nullopt;
  PromiseWatch& promise = ports_.metrics->promise();
  if (const auto by = ports_.memory->Rate(QueryMemory::Key(identity_, outcome.query_id()), now)) {
    promise.Rated(*by, outcome.quality());
  } else {
    promise.NotCounted();
  }
  return std::nullopt;
}

void SessionCore::OnCancel(const v1::Cancel& cancel) {
  // An unknown id is no error: the cancel crossed the query's terminal event.
  if (const auto slot = session_->outbox.FindSlot(cancel.query_id())) {
    ports_.registry->Deliver(session_->id, CancelledEvent{slot->id});  // its place is free for the next query at once
    ports_.inbox->Push(CancelQuery{slot->id, /*answered=*/true});
  }
}

std::optional<ErrorInfo> SessionCore::OnAsk(const v1::AskRequest& request, MonotonicTime now) {
  greeted_ = true;
  identity_ = caller_.identity.empty() ? session_->Name() : absl::StrCat(caller_.identity, "/");
  ports_.registry->Describe(session_->id, identity_, "Ask", /*model=*/nullptr, /*hears_of_sites=*/false);
  if (!request.query().has_inline_prompt()) {
    return MakeError(ErrorCode::kInvalidArgument, "NO_PROMPT", "query.inline_prompt", "is required by Ask");
  }
  if (auto error = OnLinks(request.links(), now)) Refuse(*error, "");  // the others of the report count
  v1::Query query = request.query();
  if (query.query_id().empty()) query.set_query_id(session_->Name());
  if (query.confidence_case() == v1::Query::CONFIDENCE_NOT_SET) query.set_must_offload(true);
  auto error = OnQuery(query, now);
  OnHalfClose();
  return error;
}

void SessionCore::OnHalfClose() { session_->outbox.HalfClose(); }

void SessionCore::OnEnd(MonotonicTime now) {
  if (ended_.exchange(true)) return;
  session_->outbox.Close(std::nullopt, now);
  Forget();
}

void SessionCore::Forget() {
  ports_.memory->ForgetLive(session_->id);
  ports_.inbox->Push(SessionClosed{session_->id});
}

}  // namespace goad::server
