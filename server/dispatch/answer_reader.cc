#include "server/dispatch/answer_reader.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

// Reasons that servers give for an answer that is none.
constexpr std::array<std::string_view, 7> kNoAnswer = {"abort", "aborted", "cancelled", "canceled",
                                                       "error", "load",    "unload"};
constexpr std::string_view kBlank = " \t\r\n";

bool IsBlank(std::string_view text) { return text.find_first_not_of(kBlank) == text.npos; }
bool IsDone(std::string_view text) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size()));
  return absl::EqualsIgnoreCase(trimmed, "[DONE]");
}

}  // namespace

AnswerReader::AnswerReader(std::shared_ptr<const PromptBody> prompt, int max_output_tokens)
    : prompt_(std::move(prompt)),
      max_output_tokens_(max_output_tokens),
      logprobs_wanted_(prompt_->top_logprobs > 0),
      sse_(kMaxEvent + (logprobs_wanted_ ? kMaxLogprobs : 0)) {}

void AnswerReader::Fail(Blame blame, std::string code, std::string words, std::string detail) {
  state_ = State::kFailed;
  error_ = {blame, false, std::move(code), std::move(words), "", std::move(detail)};
}

void AnswerReader::Refused(const std::string& body, bool says_when_to_retry) {
  state_ = State::kFailed;
  error_ = ReadServerError(head_.status, says_when_to_retry, body, *prompt_);
}

void AnswerReader::OnHead(const HttpHead& head) { head_ = head; }

bool AnswerReader::IsChunk(const std::string& data) const {
  if (data.empty() || data.front() != '{') return false;
  const absl::StatusOr<CompletionChunk> chunk = ParseChunk(data, false);
  return chunk.ok() && chunk->has_choice;
}

SseParser::OnEvent AnswerReader::Into(AnswerPart* part) {
  return [this, part](const SseEvent& event) {
    if (state_ == State::kReading) OnEvent(event, part);
  };
}

AnswerPart AnswerReader::OnBody(std::string_view bytes) {
  AnswerPart part;
  if (state_ != State::kReading) return part;
  body_bytes_ += bytes.size();
  if (!is_answer()) {
    kept_ += bytes.substr(0, kMaxErrorBody - std::min(kept_.size(), kMaxErrorBody));
    if (body_bytes_ > kMaxIdle) Refused(kept_, head_.retry_after > absl::ZeroDuration());
    return part;
  }
  if (form_ == Form::kUnknown) {
    const size_t first = bytes.find_first_not_of(" \t\r\n\xEF\xBB\xBF");  // blanks, and a BOM's bytes
    idle_bytes_ += std::min(first, bytes.size());
    bytes.remove_prefix(std::min(first, bytes.size()));
    if (!bytes.empty()) form_ = bytes.front() == '{' || bytes.front() == '[' ? Form::kJson : Form::kEvents;
    if (!bytes.empty() && bytes.front() == '<') {
      Fail(Blame::kBackend, "garbage", absl::StrCat("the answer is ", head_.content_type, " and no event stream"));
      return part;
    }
  }
  if (form_ == Form::kJson) {
    part.alive = !IsBlank(bytes);
    if (!part.alive) idle_bytes_ += bytes.size();
    kept_ += bytes;
    if (kept_.size() > kMaxEvent + kMaxLogprobs)
      Fail(Blame::kBackend, "garbage", "an answer that is no stream is larger than 1 MiB");
  } else if (form_ == Form::kEvents && !sse_.Push(bytes, Into(&part)) && state_ == State::kReading) {
    Fail(Blame::kBackend, "garbage", "an event of the answer is larger than 64 KiB and its log-probabilities");
  }
  if (state_ != State::kReading) return part;
  if (idle_bytes_ + sse_.passed_over() > most_idle_bytes_) {
    Fail(Blame::kBackend, "garbage",
         absl::StrCat(idle_bytes_ + sse_.passed_over(), " bytes of the answer had nothing of it"));
  } else if (body_bytes_ > kMaxBody + kBodyPerToken * static_cast<size_t>(std::max(max_output_tokens_, 0))) {
    Fail(Blame::kBackend, "garbage",
         absl::StrCat("the answer has ", body_bytes_, " bytes for ", max_output_tokens_, " tokens"));
  }
  return part;
}

void AnswerReader::OnEvent(const SseEvent& event, AnswerPart* part) {
  if (event.type == "error") return Refused(event.data, false);
  // An event of another name counts when it holds a chunk all the same, as some gateways name theirs.
  const bool named = !event.type.empty() && event.type != "message";
  if (IsBlank(event.data) || (named && !IsChunk(event.data))) {
    idle_bytes_ += event.data.size() + 8;  // and "data: " with its line ends
    return;
  }
  if (IsDone(event.data)) {
    if (finish_reason_.empty()) return Fail(Blame::kBackend, "broken", "the answer ended without a finish_reason");
    return BecomeWhole(part);
  }
  absl::StatusOr<CompletionChunk> chunk = ParseChunk(event.data, logprobs_wanted_);
  if (!chunk.ok() && !finish_reason_.empty()) {  // whatever comes after an answer's end takes nothing of it away
    idle_bytes_ += event.data.size() + 8;
    return;
  }
  if (!chunk.ok()) return Fail(Blame::kBackend, "garbage", std::string(chunk.status().message()));
  if (chunk->is_error) return Refused(event.data, false);
  OnChunk(*std::move(chunk), event.data.size(), part);
}

void AnswerReader::OnChunk(CompletionChunk chunk, size_t bytes, AnswerPart* part) {
  if (chunk.usage) usage_ = chunk.usage;
  if (chunk.text.size() > kMaxEvent) return Fail(Blame::kBackend, "garbage", "an event has more than 64 KiB of text");
  if (chunk.finish_reason) finish_reason_ = *chunk.finish_reason;
  if (std::find(kNoAnswer.begin(), kNoAnswer.end(), finish_reason_) != kNoAnswer.end()) {
    return Fail(Blame::kBackend, "unfinished",
                absl::StrCat("the server ended the answer: finish_reason ", finish_reason_));
  }
  if (chunk.text.empty() && !chunk.thought && !chunk.tool_call) {
    if (!chunk.has_other_choices) idle_bytes_ += bytes;
    return;
  }
  part->alive = true;
  most_idle_bytes_ += kIdlePerEvent;
  has_thought_ |= chunk.thought;
  has_tool_call_ |= chunk.tool_call;
  if (chunk.text.empty()) return;
  has_text_ = true;
  part->text += utf8_.Push(chunk.text);
  part->tokens += chunk.tokens;
  part->logprobs.insert(part->logprobs.end(), std::make_move_iterator(chunk.logprobs.begin()),
                        std::make_move_iterator(chunk.logprobs.end()));
}

void AnswerReader::OnWholeJson(AnswerPart* part) {
  absl::StatusOr<CompletionChunk> chunk = ParseChunk(kept_, logprobs_wanted_);
  if (chunk.ok() && chunk->is_error) return Refused(kept_, false);
  if (!chunk.ok() || !chunk->has_choice) {
    return Fail(Blame::kBackend, "garbage", "the answer is no event stream, and no JSON answer or error");
  }
  OnChunk(*std::move(chunk), 0, part);
  if (state_ != State::kReading) return;
  if (finish_reason_.empty()) finish_reason_ = "other";
  BecomeWhole(part);
}

// The server says that this is all. Without text it is an answer only where the model chose to say nothing.
void AnswerReader::BecomeWhole(AnswerPart* part) {
  if (!has_text_ && !has_tool_call_ && (has_thought_ || finish_reason_ == "length")) {
    return Fail(
        Blame::kPrompt, "empty",
        absl::StrCat("the answer ended (", finish_reason_, ") ", has_thought_ ? "in thought" : "before its first text",
                     "; max_output_tokens ", max_output_tokens_));
  }
  part->text += utf8_.Finish();
  state_ = State::kWhole;
}

AnswerPart AnswerReader::OnEnd(TransportEnd end, const std::string& detail) {
  AnswerPart part;
  if (state_ != State::kReading) return part;
  if (end == TransportEnd::kConnectFailed) {
    Fail(Blame::kBackend, "connect_failed", "no connection", detail);
    return part;
  }
  if (!is_answer() && head_.status != 0) {  // its status says enough, cut or not
    Refused(kept_, head_.retry_after > absl::ZeroDuration());
    return part;
  }
  // A connection that breaks is an end like another where there is no other way to tell the end.
  const bool is_clean = end == TransportEnd::kComplete || (head_.status != 0 && !head_.framed);
  if (is_clean && form_ == Form::kJson) {
    OnWholeJson(&part);
  } else if (form_ == Form::kEvents) {
    // What the last event holds counts when it is whole, though the empty line after it is missing; half a one is no
    // garbage.
    sse_.End([&](const SseEvent& event) {
      if (state_ != State::kReading) return;
      if (IsDone(event.data) || (is_clean && ParseChunk(event.data, false).ok())) OnEvent(event, &part);
    });
    if (state_ == State::kReading && is_clean && !finish_reason_.empty()) BecomeWhole(&part);
  }
  if (state_ != State::kReading) return part;
  if (end == TransportEnd::kBroken) {
    Fail(Blame::kBackend, "broken", "connection lost", detail);
  } else {
    Fail(Blame::kBackend, "broken", "the answer ended without a finish_reason");
  }
  return part;
}

}  // namespace goad::server
