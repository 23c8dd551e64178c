#include "client_sdk/src/client_core.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "client_sdk/src/checks.h"
#include "client_sdk/src/random.h"
#include "client_sdk/src/wire.h"

namespace goad::internal {
namespace {

constexpr size_t kMostWaiting = 256;
constexpr size_t kMostAnswerBytes = 16 << 20;

}  // namespace

ClientCore::ClientCore(ClientOptions options, uint64_t seed)
    : options_(std::move(options)), random_(seed), attachment_(options_) {}

void ClientCore::Refuse(absl::Status why, Instant now) {
  refused_ = std::move(why);
  attachment_.Never();
  Tell("INVALID_OPTIONS", std::string(refused_.message()), now);
}

std::pair<std::string, std::string> ClientCore::Reject(const Query& query, Instant now) const {
  if (!refused_.ok()) return {"INVALID_OPTIONS", std::string(refused_.message())};
  if (absl::Status checked = CheckQuery(query, options_.uncertainty.metric, limits_); !checked.ok()) {
    return {"INVALID_QUERY", std::string(checked.message())};
  }
  return not_now_.Why(query.must_offload, now);
}

std::string ClientCore::Ask(Query query, AskCallbacks callbacks, std::function<void()> send_later, Instant now) {
  if (query.id.empty()) query.id = RandomUuid(random_);
  const std::string id = query.id;
  auto [why, detail] = Reject(query, now);
  if (queries_.count(id) != 0) {  // the caller's mistake; it still gets its one answer
    why = "ID_REUSED";
    detail = absl::StrCat("query id \"", id, "\" is live");
  } else if (why.empty() && waiting_.size() >= kMostWaiting) {
    why = "QUEUE_FULL";
    detail = absl::StrCat(kMostWaiting, " queries of this client are waiting");
  }
  Answer answer;
  answer.query_id = id;
  answer.uncertainty = UncertaintyOf(query, options_.uncertainty.metric);
  if (!why.empty()) {
    answer.why_local = why;
    answer.detail = Clip(detail, kMostDetailBytes);
    answer.retry_after = not_now_.HoldLeft(now);
    if (callbacks.on_done) {
      actions_.push_back(Notify{[f = std::move(callbacks.on_done), answer]() mutable { f(answer); }, id});
    }
    return id;
  }
  Live& live = queries_[id];
  live.query = std::move(query);
  live.answer = std::move(answer);
  live.callbacks = std::make_shared<AskCallbacks>(std::move(callbacks));
  live.send_later = std::move(send_later);
  live.number = next_number_++;
  live.asked_at = now;
  live.expires = now + std::min(options_.decision_budget, live.query.deadline);
  waiting_[live.number] = &live;
  AskWaiting(now);
  return id;
}

void ClientCore::AskWaiting(Instant now) {
  const Attachment::Stream* const stream = attachment_.ready();
  if (stream == nullptr) return;
  const size_t most =
      limits_ && limits_->queries_per_session > 0 ? static_cast<size_t>(limits_->queries_per_session) : SIZE_MAX;
  while (!waiting_.empty()) {
    if (const auto running = running_.find(stream->generation); running != running_.end() && running->second >= most) {
      break;
    }
    Live& live = *waiting_.begin()->second;
    if (live.expires <= now) return;  // Tick ends it first
    SendQuery(live, now);
  }
  for (const auto& [number, live] : waiting_) {  // behind others: not goad's silence, so another budget counts
    if (std::exchange(live->queued, true)) continue;
    const absl::Duration deadline = live->query.deadline, in_time = deadline - live->query.local_delay;
    if (live->query.must_offload) {
      live->expires = live->asked_at + (deadline < absl::InfiniteDuration() ? deadline : options_.answer_budget);
    } else if (deadline < absl::InfiniteDuration()) {
      live->expires = std::max(live->expires, live->asked_at + in_time);
    }
  }
}

void ClientCore::SendQuery(Live& live, Instant now) {
  waiting_.erase(live.number);
  if (std::exchange(live.queued, false)) {  // goad hears of it only now
    live.expires = std::min(now + options_.decision_budget, live.asked_at + live.query.deadline);
  }
  ++live.asks;
  live.answer.waited = now - live.asked_at;
  live.phase = Phase::kAsked;
  live.sent_at = now;
  live.stream = attachment_.ready()->generation;
  live.answer.goad = attachment_.ready()->address;
  ++running_[live.stream];
  Send(live.stream, QueryFrame(live.query, options_.uncertainty.metric, now - live.asked_at));
}

void ClientCore::SendPrompt(const std::string& query_id) {
  if (Live* live = Find(query_id)) SendPrompt(*live);
}

void ClientCore::SendPrompt(Live& live) {
  if (live.phase != Phase::kGranted) return;
  live.phase = Phase::kAnswering;
  Send(live.stream, PromptFrame(live.query));
}

void ClientCore::Cancel(const std::string& query_id, Instant now) {
  if (Live* live = Find(query_id)) GiveUp(*live, "CANCELLED", "cancelled by the caller", now);
  AskWaiting(now);
}

void ClientCore::CallbackFailed(const std::string& query_id, const std::string& what, Instant now) {
  if (query_id.empty()) return;  // on_problem itself: there is nobody else to tell
  if (Live* live = Find(query_id)) GiveUp(*live, "CALLBACK_FAILED", what, now);
  Tell("CALLBACK_FAILED", absl::StrCat("query ", query_id, ": a callback threw: ", what), now);
  AskWaiting(now);
}

void ClientCore::ReportLinks(std::vector<Link> links, Instant now) {
  for (Link& link : links) {
    const absl::Status taken = links_.Take(std::move(link), now);
    if (!taken.ok()) Tell("LINK_REFUSED", std::string(taken.message()), now);
  }
  SendLinks(now);
}

void ClientCore::SendLinks(Instant now) {
  if (used_ == 0 || links_.due() > now) return;
  v1::DeviceFrame report = links_.Report(now);
  // Nothing of the sites of a goad that is away: each of the others would send us there, and so back and forth.
  auto& links = *report.mutable_link_report()->mutable_links();
  for (const Site& site : sites_) {
    if (site.neighbour.empty() || !attachment_.Away(site.neighbour, now)) continue;
    const auto same = [&](const v1::SiteLink& link) { return link.site() == site.name; };
    links.erase(std::remove_if(links.begin(), links.end(), same), links.end());
  }
  if (report.link_report().links_size() > 0) Send(used_, std::move(report));
}

void ClientCore::ReportLocal(const std::string& query_id, absl::Duration delay, Instant now) {
  const absl::Status checked = CheckLocalDelay(query_id, delay);
  if (!checked.ok()) return Tell("REPORT_REFUSED", std::string(checked.message()), now);
  if (used_ != 0) Send(used_, OutcomeFrame(query_id, delay));
}

void ClientCore::ReportQuality(const std::string& query_id, double quality, Instant now) {
  const absl::Status checked = CheckQuality(query_id, quality);
  if (!checked.ok()) return Tell("REPORT_REFUSED", std::string(checked.message()), now);
  if (used_ != 0) Send(used_, QualityFrame(query_id, quality));
}

void ClientCore::Shutdown(Instant now) {
  while (!queries_.empty()) FinishLocally(queries_.begin()->second, "CANCELLED", "the client was closed", now);
  for (const uint64_t generation : attachment_.All()) actions_.emplace_back(CloseStream{generation});
  attachment_.Never();
  used_ = 0;
}

// --- one query -------------------------------------------------------------------------------------------------------

void ClientCore::OnDecision(Live& live, const v1::Decision& wire, Instant now) {
  if (live.phase != Phase::kAsked) return;  // told again
  // It crossed a Goodbye, and there is another stream or goad. Where there was no Goodbye it is an answer as others
  // are: on the same stream it would be repeated.
  const bool left = attachment_.Find(live.stream)->state == Attachment::State::kLeaving;
  const bool sent_away = wire.reason() == v1::REASON_DRAINING || !wire.neighbour().empty();
  if (sent_away && left && attachment_.Elsewhere(live.stream, now) && MayAskAgain(live)) {
    return Wait(live, now);
  }
  live.answer.decided = true;
  live.answer.decision = ReadDecision(wire);
  const Decision decision = live.answer.decision;
  if (decision.retry_after > absl::ZeroDuration()) {
    not_now_.Hold(decision.reason, now + decision.retry_after);
    live.answer.retry_after = decision.retry_after;
  }
  if (live.callbacks->on_decision) Call(live, [to = live.callbacks, decision] { to->on_decision(decision); });
  if (decision.offload) {
    live.phase = Phase::kGranted;
    live.expires = live.query.deadline != absl::InfiniteDuration() ? live.asked_at + live.query.deadline
                                                                   : now + options_.answer_budget;
    if (live.callbacks->on_grant) {
      Call(live, [to = live.callbacks, decision, send = live.send_later] { to->on_grant(decision, send); });
    } else {
      SendPrompt(live);
    }
  } else {
    FinishLocally(live, decision.reason, "", now);
  }
  if (not_now_.HoldLeft(now) > absl::ZeroDuration()) RejectWaiting(now);
}

void ClientCore::OnTokens(Live& live, const v1::Tokens& tokens, Instant now) {
  if (tokens.text_offset() != live.answer.text.size()) {
    return GiveUp(live, "INCOMPLETE",
                  absl::StrCat("text at ", tokens.text_offset(), " after ", live.answer.text.size(), " bytes"), now);
  }
  AnswerPiece piece = ReadTokens(tokens);
  if (!AddPiece(piece, kMostAnswerBytes, &live.answer)) {
    return GiveUp(live, "INCOMPLETE", absl::StrCat("an answer of more than ", kMostAnswerBytes, " bytes"), now);
  }
  if (!std::exchange(live.begun, true)) live.answer.first_token_after = now - live.asked_at;
  live.silent = now + options_.between_tokens_budget;
  if (live.callbacks->on_text && !piece.text.empty()) {
    Call(live, [to = live.callbacks, text = piece.text] { to->on_text(text); });
  }
  if (live.callbacks->on_piece) {
    Call(live, [to = live.callbacks, piece = std::move(piece)] { to->on_piece(piece); });
  }
}

void ClientCore::OnCompleted(Live& live, const v1::Completed& completed, Instant now) {
  if (!live.begun || completed.text_bytes() != live.answer.text.size()) {  // the rest went down with an earlier stream
    return FinishLocally(live, "INCOMPLETE",
                         absl::StrCat(live.answer.text.size(), " of ", completed.text_bytes(), " bytes arrived"), now);
  }
  retries_.Earn();
  live.answer.source = Answer::Source::kEdge;
  ReadCompleted(completed, &live.answer);
  Finish(live, now);
}

// As FinishLocally, when goad may still be working on the query.
void ClientCore::GiveUp(Live& live, const std::string& why, const std::string& detail, Instant now) {
  if (live.phase != Phase::kWaiting) Send(live.stream, CancelFrame(live.query.id));
  FinishLocally(live, why, detail, now);
}

// The caller answers locally.
void ClientCore::FinishLocally(Live& live, const std::string& why, const std::string& detail, Instant now) {
  live.answer.source = Answer::Source::kNone;
  live.answer.text.clear(), live.answer.reasoning.clear(), live.answer.tool_calls.clear();
  live.answer.refusal = false;
  live.answer.why_local = why;
  live.answer.detail = Clip(detail, kMostDetailBytes);
  if (const auto left = not_now_.HoldLeft(now); left > absl::ZeroDuration()) live.answer.retry_after = left;
  Finish(live, now);
}

void ClientCore::Finish(Live& live, Instant now) {
  live.answer.delay = now - live.asked_at;
  LeaveStream(live);
  if (live.callbacks->on_done)
    Call(live, [to = live.callbacks, answer = std::move(live.answer)] { to->on_done(answer); });
  waiting_.erase(live.number);
  queries_.erase(queries_.find(live.query.id));
}

ClientCore::Live* ClientCore::Find(const std::string& query_id) {
  const auto found = queries_.find(query_id);
  return found == queries_.end() ? nullptr : &found->second;
}

void ClientCore::Tell(const std::string& code, const std::string& detail, Instant now) {
  if (!options_.on_problem) return;
  if (const auto problem = problems_.Told(code, detail, now)) {
    actions_.push_back(Notify{[this, problem = *problem] { options_.on_problem(problem); }, ""});
  }
}

// --- time ------------------------------------------------------------------------------------------------------------

void ClientCore::Tick(Instant now) {
  for (const uint64_t generation : attachment_.Ungreeted(now)) {
    const Attachment::Stream& stream = *attachment_.Find(generation);
    const std::string why = absl::StrCat("no greeting within ", absl::FormatDuration(stream.greet_by - stream.heard));
    actions_.emplace_back(CloseStream{generation});
    OnStreamLost(generation, why, now);
  }
  std::vector<Live*> late;
  for (auto& [id, live] : queries_) {
    if (live.due() <= now) late.push_back(&live);
  }
  std::set<uint64_t> silent;
  for (Live* live : late) {
    const char* why = live->phase == Phase::kAsked     ? "NO_DECISION"
                      : live->phase != Phase::kWaiting ? "TIMEOUT"
                      : live->queued                   ? "SESSION_FULL"
                      : not_now_.away() == "DRAINING"  ? "DRAINING"
                                                       : "UNREACHABLE";
    if (live->phase == Phase::kAsked && attachment_.Silent(live->stream, live->sent_at, now)) {
      silent.insert(live->stream);
    }
    GiveUp(*live, why, "the query's budget is spent", now);
  }
  for (const uint64_t generation : silent) {  // with no other goad only the keepalive can tell
    actions_.emplace_back(CloseStream{generation});
    OnStreamLost(generation, "silent: nothing was heard since a query was sent", now);
  }
  Advance(now);
  AskWaiting(now);
  SendLinks(now);
}

Instant ClientCore::NextWake() const {
  Instant wake = attachment_.NextWake([this](uint64_t g) { return Busy(g); });
  if (used_ != 0) wake = std::min(wake, links_.due());
  for (const auto& [id, live] : queries_) wake = std::min(wake, live.due());
  return wake;
}

}  // namespace goad::internal
