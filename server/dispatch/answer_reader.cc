#include "server/dispatch/answer_reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

// Reasons that servers give for an answer that is none, in lower case.
constexpr std::array<std::string_view, 12> kNoAnswer = {"abort",
                                                        "aborted",
                                                        "cancelled",
                                                        "canceled",
                                                        "error",
                                                        "load",
                                                        "unload",
                                                        "timeout",
                                                        "repetition",
                                                        "network_error",
                                                        "insufficient_system_resource",
                                                        "malformed_function_call"};
constexpr std::string_view kBlank = " \t\r\n";

bool IsBlank(std::string_view text) { return text.find_first_not_of(kBlank) == text.npos; }
// Bytes of what somebody asks, as far as servers repeat it beside an answer.
size_t RoomFor(const PromptBody& prompt) {
  return std::min(prompt.bytes() * AnswerReader::kRoomPerPromptByte, AnswerReader::kMaxRoom);
}
// Whole characters: a token, or a name, may end in a part of one.
std::string WholeText(const std::string& bytes) {
  openai::Utf8Assembler assembler;
  std::string text = assembler.Push(bytes);
  return text + assembler.Finish();
}
TokenLogprob ForDevice(const openai::TokenLogprob& token) {
  TokenLogprob out{WholeText(token.token), token.logprob, {}};
  out.top.reserve(token.top.size());
  for (const openai::TokenLogprob& other : token.top) out.top.push_back({WholeText(other.token), other.logprob});
  return out;
}
bool IsDone(std::string_view text) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size()));
  return absl::EqualsIgnoreCase(trimmed, "[DONE]");
}

}  // namespace

AnswerReader::AnswerReader(std::shared_ptr<const PromptBody> prompt, int max_output_tokens)
    : prompt_(std::move(prompt)),
      max_output_tokens_(max_output_tokens),
      logprobs_wanted_(prompt_->top_logprobs > 0),
      room_(RoomFor(*prompt_)),
      sse_(kMaxEvent + room_ + (logprobs_wanted_ ? kMaxLogprobs : 0)),
      most_idle_bytes_(kMaxIdle + room_) {}

void AnswerReader::Fail(Blame blame, std::string code, std::string words, std::string detail) {
  state_ = State::kFailed;
  error_ = {blame, /*doubtful=*/false, std::move(code), std::move(words), "", std::move(detail)};
}

void AnswerReader::Refused(const std::string& body, bool is_whole) {
  state_ = State::kFailed;
  const bool says_when_to_retry = head_.says_when_to_retry || head_.retry_after > absl::ZeroDuration();
  error_ = ReadServerError(head_.status, says_when_to_retry && !is_answer(), body, *prompt_, is_whole);
}

// Servers that are told to repeat the prompt beside the answer: a device chose its size.
void AnswerReader::TooLarge(const char* what) {
  Fail(Blame::kBackend, "garbage", absl::StrCat(what, " is larger than its bound"));
  error_.doubtful = true;
}

void AnswerReader::OnHead(const HttpHead& head) { head_ = head; }

bool AnswerReader::IsChunk(const std::string& data) const {
  if (data.empty() || data.front() != '{') return false;
  const absl::StatusOr<openai::Chunk> chunk = openai::ParseChunk(data, false);
  return chunk.ok() && chunk->has_choice;
}

openai::SseParser::OnEvent AnswerReader::Into(AnswerPart* part) {
  return [this, part](const openai::SseEvent& event) {
    if (state_ == State::kReading) OnEvent(event, part);
  };
}

AnswerPart AnswerReader::OnBody(std::string_view bytes) {
  AnswerPart part;
  if (state_ != State::kReading) return part;
  body_bytes_ += bytes.size();
  if (!is_answer()) {
    kept_ += bytes.substr(0, kMaxErrorBody - std::min(kept_.size(), kMaxErrorBody));
    if (body_bytes_ > kMaxIdle) Refused(kept_);
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
    if (kept_.size() > kMaxEvent + room_ + kMaxLogprobs) TooLarge("an answer that is no stream");
  } else if (form_ == Form::kEvents && !sse_.Push(bytes, Into(&part)) && state_ == State::kReading) {
    if (has_ended()) {
      BecomeWhole(&part);
    } else {
      TooLarge("an event of the answer");
    }
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

void AnswerReader::OnEvent(const openai::SseEvent& event, AnswerPart* part) {
  if (event.type == "error") {
    if (!has_ended()) Refused(event.data);
    return;
  }
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
  absl::StatusOr<openai::Chunk> chunk = openai::ParseChunk(event.data, logprobs_wanted_);
  if (!chunk.ok() && !finish_reason_.empty()) {  // whatever comes after an answer's end takes nothing of it away
    idle_bytes_ += event.data.size() + 8;
    return;
  }
  if (!chunk.ok()) return Fail(Blame::kBackend, "garbage", std::string(chunk.status().message()));
  if (chunk->is_error) {
    if (!has_ended()) Refused(event.data);
    return;
  }
  OnChunk(*std::move(chunk), event.data.size(), part);
}

void AnswerReader::OnChunk(openai::Chunk chunk, size_t bytes, AnswerPart* part) {
  if (chunk.usage) usage_ = chunk.usage;
  size_t answer_bytes = chunk.text.size() + chunk.reasoning.size();
  for (const auto& piece : chunk.tool_calls)
    answer_bytes += piece.id.size() + piece.name.size() + piece.arguments.size();
  if (answer_bytes > kMaxEvent) return Fail(Blame::kBackend, "garbage", "an event has more than 64 KiB of the answer");
  reason_ends_ &= finish_reason_.empty() || (chunk.text.empty() && chunk.tool_calls.empty());
  if (chunk.finish_reason) finish_reason_ = *chunk.finish_reason;
  if (std::find(kNoAnswer.begin(), kNoAnswer.end(), absl::AsciiStrToLower(finish_reason_)) != kNoAnswer.end()) {
    return Fail(Blame::kBackend, "unfinished",
                absl::StrCat("the server ended the answer: finish_reason ", finish_reason_));
  }
  if (chunk.text.empty() && !chunk.thought && !chunk.tool_call) {
    // Roles, progress, usage: the time limits bound these, and their bytes only where they are a flood.
    if (!chunk.has_other_choices) idle_bytes_ += bytes / kChunkIsLess + kPerChunk;
    return;
  }
  part->alive = true;
  most_idle_bytes_ += kIdlePerEvent;
  has_thought_ |= chunk.thought;
  has_tool_call_ |= chunk.tool_call;
  if (prompt_->reasoning && !chunk.reasoning.empty()) {
    part->reasoning += reasoning_utf8_.Push(chunk.reasoning);
    part->tokens += chunk.text.empty() ? 1 : 0;
  }
  if (prompt_->tools) OnToolCalls(std::move(chunk.tool_calls), part);
  if (chunk.text.empty()) return;
  has_text_ = true;
  refused_ |= chunk.refusal;
  const size_t before = part->text.size();
  part->text += utf8_.Push(chunk.text);
  if (refused_) part->refusal_bytes += part->text.size() - before;
  part->tokens += chunk.tokens;
  for (const openai::TokenLogprob& token : chunk.logprobs) part->logprobs.push_back(ForDevice(token));
}

// Servers tell one call from another by its index, its id or its name; some say the same ones again with each piece,
// and some leave the index out or say 0 for all.
void AnswerReader::OnToolCalls(std::vector<openai::ToolCallPiece> pieces, AnswerPart* part) {
  for (openai::ToolCallPiece& piece : pieces) {
    const std::string id = WholeText(piece.id), name = WholeText(piece.name);
    const auto at = call_at_.find(piece.index);
    const Call* const before = at == call_at_.end() ? nullptr : &calls_[at->second];
    const bool another = before == nullptr || (!id.empty() && !before->id.empty() && id != before->id) ||
                         (id.empty() && before->id.empty() && !name.empty() && before->has_arguments);
    if (another) {
      if (calls_.size() >= static_cast<size_t>(openai::kMostToolCalls)) continue;
      call_at_[piece.index] = calls_.size();
      calls_.emplace_back();
    }
    const size_t k = call_at_[piece.index];
    Call& call = calls_[k];
    openai::ToolCallPiece out{static_cast<int>(k), "", "", call.arguments.Push(piece.arguments)};
    if (call.id.empty()) out.id = call.id = id;
    if (!std::exchange(call.named, call.named || !name.empty())) out.name = name;
    call.has_arguments |= !piece.arguments.empty();
    if (out.id.empty() && out.name.empty() && out.arguments.empty()) continue;
    part->tool_calls.push_back(std::move(out));
    ++part->tokens;
  }
}

void AnswerReader::OnWholeJson(AnswerPart* part) {
  absl::StatusOr<openai::Chunk> chunk = openai::ParseChunk(kept_, logprobs_wanted_);
  if (chunk.ok() && chunk->is_error) return Refused(kept_);
  if (!chunk.ok() || !chunk->has_choice) {
    return Fail(Blame::kBackend, "garbage", "the answer is no event stream, and no JSON answer or error");
  }
  OnChunk(*std::move(chunk), 0, part);
  if (state_ != State::kReading) return;
  if (finish_reason_.empty()) finish_reason_ = "other";
  BecomeWhole(part);
}

// The server says that this is all. Without text there is nothing to show, and the device's own model may do better.
void AnswerReader::BecomeWhole(AnswerPart* part) {
  if (!has_text_ && calls_.empty()) {
    return Fail(Blame::kPrompt, "empty",
                absl::StrCat("the answer ended (", finish_reason_, ") ",
                             has_thought_     ? "in thought"
                             : has_tool_call_ ? "with a tool call, and no text"
                                              : "before its first text",
                             "; max_output_tokens ", max_output_tokens_));
  }
  part->text += utf8_.Finish();
  part->reasoning += reasoning_utf8_.Finish();
  for (size_t k = 0; k < calls_.size(); ++k) {
    if (std::string rest = calls_[k].arguments.Finish(); !rest.empty()) {
      part->tool_calls.push_back({static_cast<int>(k), "", "", std::move(rest)});
    }
  }
  state_ = State::kWhole;
}

AnswerPart AnswerReader::OnEnd(TransportEnd end, const std::string& detail) {
  AnswerPart part;
  if (state_ != State::kReading) return part;
  if (end == TransportEnd::kConnectFailed) {
    Fail(Blame::kBackend, "connect_failed", "no connection", detail);
    return part;
  }
  if (is_error_body()) {  // its status says enough, cut or not
    Refused(kept_, end == TransportEnd::kComplete);
    return part;
  }
  // A connection that breaks is an end like another where there is no other way to tell the end.
  const bool is_clean = end == TransportEnd::kComplete || (head_.status != 0 && !head_.framed);
  if (is_clean && form_ == Form::kJson) {
    OnWholeJson(&part);
  } else if (form_ == Form::kEvents) {
    // What the last event holds counts when it is whole, though the empty line after it is missing; half a one is no
    // garbage.
    sse_.End([&](const openai::SseEvent& event) {
      if (state_ != State::kReading) return;
      if (IsDone(event.data) || (is_clean && openai::ParseChunk(event.data, false).ok())) OnEvent(event, &part);
    });
    if (state_ == State::kReading && !finish_reason_.empty() && (is_clean || has_ended())) BecomeWhole(&part);
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
