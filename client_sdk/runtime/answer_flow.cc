#include "client_sdk/runtime/answer_flow.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client_sdk/src/wire.h"

namespace goad::internal {
namespace {

size_t BytesOf(const AnswerPiece& piece) {
  size_t bytes = sizeof(AnswerPiece) + piece.text.size() + piece.reasoning.size();
  for (const auto& [index, call] : piece.tool_calls) bytes += call.id.size() + call.name.size() + call.arguments.size();
  for (const TokenLogprob& token : piece.logprobs) {
    bytes += sizeof(TokenLogprob) * (1 + token.top.size()) + token.token.size();
    for (const TokenLogprob& top : token.top) bytes += top.token.size();
  }
  return bytes;
}

int TokensOf(const AnswerPiece& piece) { return std::max(piece.tokens, 1); }

}  // namespace

AnswerFlow::AnswerFlow(const RuntimeOptions& options, Route route, bool whole)
    : options_(options), route_(route), whole_(whole) {}

void AnswerFlow::Start() {
  if (route_ == Route::kEdge) return Ask(std::nullopt);
  local_ = Local::kRunning;
  actions_.push_back(StartLocal{});
  if (route_ == Route::kLocal) ShowLocal("LOCAL_ONLY");
}

// --- the local model -------------------------------------------------------------------------------------------------

void AnswerFlow::OnLocalPiece(AnswerPiece piece) {
  if (ended_ || local_ != Local::kRunning) return;
  local_bytes_ += BytesOf(piece);
  if (local_bytes_ > kMostBytes) {
    actions_.push_back(StopLocal{});
    return OnLocalEnd(
        {absl::ResourceExhaustedError(absl::StrCat("a local answer of more than ", kMostBytes, " bytes")), "", 0, 0});
  }
  if (shown_ == Answer::Source::kLocal) return ShowPiece(std::move(piece));
  if (edge_ == Edge::kGranted) hedged_tokens_ += TokensOf(piece);
  local_pieces_.push_back(std::move(piece));
  if (edge_ == Edge::kGranted && hedged_tokens_ > options_.hedge_tokens) StopLocalModel();
}

void AnswerFlow::OnUncertainty(double uncertainty) {
  if (ended_ || local_ != Local::kRunning || edge_ != Edge::kIdle || chosen_ || shown_ != Answer::Source::kNone) return;
  Ask(uncertainty);
}

void AnswerFlow::OnLocalSlow() {
  if (ended_ || local_ != Local::kRunning || edge_ != Edge::kIdle || route_ != Route::kAuto) return;
  Ask(std::nullopt);  // and who is there first answers
}

void AnswerFlow::OnLocalEnd(LocalEnd end) {
  if (ended_ || local_ != Local::kRunning) return;
  local_end_ = std::move(end);
  local_ = local_end_.status.ok() ? Local::kDone : Local::kFailed;
  if (shown_ == Answer::Source::kLocal) return EndLocally();
  if (local_ == Local::kFailed) {
    local_pieces_.clear();
    if (edge_ != Edge::kIdle && !chosen_) return;  // the edge may answer
    const bool asked = edge_ != Edge::kIdle && forced_;
    if (route_ != Route::kAuto || asked) return EndLocally();
    chosen_ = false;
    return Ask(std::nullopt);  // nobody else can answer
  }
  if (chosen_) return ShowLocal(std::string(answer_.why_local));
  if (edge_ != Edge::kIdle) return PreferLocal();
  if (options_.unknown_uncertainty) return Ask(options_.unknown_uncertainty);
  ShowLocal("NO_UNCERTAINTY");
}

void AnswerFlow::StopLocalModel() {
  if (local_ == Local::kRunning) actions_.push_back(StopLocal{});
  local_ = Local::kStopped;
  local_pieces_.clear();
  local_bytes_ = 0;
}

// --- the edge --------------------------------------------------------------------------------------------------------

void AnswerFlow::Ask(std::optional<double> uncertainty) {
  edge_ = Edge::kAsked;
  forced_ = !uncertainty;
  if (uncertainty) uncertainty_ = uncertainty;
  answer_.uncertainty = uncertainty.value_or(1);
  actions_.push_back(AskEdge{uncertainty, local_ == Local::kDone});
}

void AnswerFlow::OnDecision(const Decision& decision) {
  if (ended_ || edge_ != Edge::kAsked || !decision.offload) return;  // LOCAL comes as the query's end
  edge_ = Edge::kGranted;
  answer_.decided = true;
  answer_.decision = decision;
  if (local_ == Local::kRunning && options_.hedge_tokens == 0) return StopLocalModel();
  if (local_ == Local::kDone) PreferLocal();
}

// Offloaded for delay, or because the local model took long to begin: who is there first has won. Offloaded because the
// device was unsure: the edge's is the better one, and waited for, but not without end.
void AnswerFlow::PreferLocal() {
  if (edge_ != Edge::kGranted) return;
  if (!forced_ && !edge_slow_ && answer_.decision.reason == "UNCERTAIN") return;
  const bool slow = edge_slow_;
  StopEdge();
  ShowLocal(slow ? "EDGE_SLOW" : "LOCAL_FIRST");
}

void AnswerFlow::OnEdgeSlow() {
  if (ended_ || edge_ != Edge::kGranted || !edge_pieces_.empty() || shown_ == Answer::Source::kEdge) return;
  edge_slow_ = true;  // and from now on the local answer is the better one as soon as it is whole
  if (local_ == Local::kDone) PreferLocal();
}

void AnswerFlow::OnEdgePiece(AnswerPiece piece) {
  if (ended_ || edge_ != Edge::kGranted) return;
  if (shown_ == Answer::Source::kEdge) return ShowPiece(std::move(piece));
  edge_slow_ = false;
  held_tokens_ += TokensOf(piece);
  edge_pieces_.push_back(std::move(piece));
  if (!whole_ && held_tokens_ > options_.edge_hold_tokens) ShowEdge();
}

void AnswerFlow::OnEdgeEnd(const Answer& answer) {
  if (ended_ || (edge_ != Edge::kAsked && edge_ != Edge::kGranted)) return;
  edge_ = Edge::kOver;
  answer_ = answer;
  if (answer.source == Answer::Source::kEdge) {
    if (shown_ != Answer::Source::kEdge) ShowEdge();
    return End();
  }
  if (shown_ == Answer::Source::kEdge) return Fail(answer.why_local, answer.detail);
  edge_pieces_.clear();
  held_tokens_ = 0;
  switch (local_) {
    case Local::kIdle: return Fail(answer.why_local, answer.detail);
    case Local::kFailed:
      if (answer.decided && !answer.decision.offload && !forced_) return Ask(std::nullopt);  // LOCAL, which cannot be
      return Fail("LOCAL_FAILED", absl::StrCat("the local model: ", local_end_.status.message(), "; the edge: ",
                                               answer.why_local, answer.detail.empty() ? "" : ": ", answer.detail));
    case Local::kStopped:
      local_ = Local::kRunning;
      actions_.push_back(StartLocal{});
      break;
    case Local::kRunning:
    case Local::kDone: break;
  }
  ShowLocal(answer.why_local);
}

void AnswerFlow::OnEdgeAway() {
  if (!waits_for_goad()) return;
  StopEdge();
  ShowLocal("UNREACHABLE");
}

void AnswerFlow::StopEdge() {
  if (edge_ == Edge::kAsked || edge_ == Edge::kGranted) actions_.push_back(CancelEdge{});
  edge_ = Edge::kOver;
  edge_pieces_.clear();
}

// --- what is shown ---------------------------------------------------------------------------------------------------

void AnswerFlow::ShowLocal(const std::string& why) {
  answer_.why_local = why;
  chosen_ = whole_ && local_ == Local::kRunning;
  if (chosen_) return;
  shown_ = Answer::Source::kLocal;
  answer_.text.clear(), answer_.reasoning.clear(), answer_.tool_calls.clear();
  for (AnswerPiece& piece : std::exchange(local_pieces_, {})) ShowPiece(std::move(piece));
  if (local_ == Local::kDone) EndLocally();
}

void AnswerFlow::ShowEdge() {
  shown_ = Answer::Source::kEdge;
  StopLocalModel();
  for (AnswerPiece& piece : std::exchange(edge_pieces_, {})) ShowPiece(std::move(piece));
}

void AnswerFlow::ShowPiece(AnswerPiece piece) {
  if (ended_) return;
  if (shown_ == Answer::Source::kLocal && !AddPiece(piece, kMostBytes, &answer_)) {  // else the SDK has added it
    StopLocalModel();
    return Fail("LOCAL_FAILED", "the local answer has a tool call beyond what is read");
  }
  actions_.emplace_back(Show{std::move(piece)});
}

void AnswerFlow::EndLocally() {
  if (ended_) return;
  if (!local_end_.status.ok()) return Fail("LOCAL_FAILED", std::string(local_end_.status.message()));
  answer_.source = Answer::Source::kLocal;
  answer_.finish_reason = local_end_.finish_reason;
  answer_.prompt_tokens = local_end_.prompt_tokens;
  answer_.output_tokens = local_end_.output_tokens;
  End();
}

void AnswerFlow::Fail(const std::string& why, const std::string& detail) {
  answer_.source = Answer::Source::kNone;
  answer_.text.clear(), answer_.reasoning.clear(), answer_.tool_calls.clear();
  answer_.why_local = why;
  answer_.detail = detail;
  End();
}

void AnswerFlow::OnCancel() {
  if (ended_) return;
  StopEdge();
  StopLocalModel();
  Fail("CANCELLED", "cancelled by the caller");
}

void AnswerFlow::End() {
  if (std::exchange(ended_, true)) return;
  actions_.push_back(EndFlow{});
}

}  // namespace goad::internal
