#include "client_sdk/uncertainty/answer_sieve.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"

namespace goad {
namespace {

// Written before and after a thought, in lower case: DeepSeek and Qwen, others' words for it, Magistral, Cohere, Kimi,
// Seed, MedGemma, Gemma 4.
constexpr std::string_view kThoughts[][2] = {
    {"<think>", "</think>"},
    {"<thinking>", "</thinking>"},
    {"<thought>", "</thought>"},
    {"<reasoning>", "</reasoning>"},
    {"[think]", "[/think]"},
    {"<|start_thinking|>", "<|end_thinking|>"},
    {"<|begin_of_thought|>", "<|end_of_thought|>"},
    {"\xE2\x97\x81think\xE2\x96\xB7", "\xE2\x97\x81/think\xE2\x96\xB7"},
    {"<seed:think>", "</seed:think>"},
    {"<unused94>thought", "<unused95>"},
    {"<|channel>thought", "<channel|>"},
};
// Before and after tool calls: Qwen and Hermes, Gemma 4, Llama's and Qwen's functions, Mistral (to the end), Llama's
// own, Kimi, LFM2, Cohere, DeepSeek.
constexpr std::string_view kToolCalls[][2] = {
    {"<tool_call>", "</tool_call>"},
    {"<|tool_call>", "<tool_call|>"},
    {"<function=", "</function>"},
    {"[tool_calls]", "[/tool_calls]"},
    {"<|python_tag|>", "<|eom_id|>"},
    {"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"},
    {"<|tool_call_start|>", "<|tool_call_end|>"},
    {"<|start_action|>", "<|end_action|>"},
    {"<\xEF\xBD\x9Ctool\xE2\x96\x81"
     "calls\xE2\x96\x81"
     "begin\xEF\xBD\x9C>",
     "<\xEF\xBD\x9Ctool\xE2\x96\x81"
     "calls\xE2\x96\x81"
     "end\xEF\xBD\x9C>"},
};
// Markers that are not written <|...|>.
constexpr std::string_view kMarkers[] = {"<s>",   "</s>",  "<bos>",           "<eos>",         "<pad>",   "<unk>",
                                         "[bos]", "[eos]", "[inst]",          "[/inst]",       "[pad]",   "<bos_token>",
                                         "[cls]", "[sep]", "<start_of_turn>", "<end_of_turn>", "[gmask]", "<sop>"};
// Followed by a role or a channel.
constexpr std::string_view kHeaders[] = {"<|start|>", "<|im_start|>", "<|start_header_id|>", "<start_of_turn>",
                                         "<|channel|>"};
// With a number behind it, in brackets.
constexpr std::string_view kReserved[] = {"unused",         "reserved", "reserved_special_token",
                                          "reserved_token", "special",  "extra_id"};
constexpr size_t kMostRecent = 64;  // longer than any marker
constexpr size_t kMostShown = 60;

std::string Lower(std::string_view text) { return absl::AsciiStrToLower(std::string(text)); }
bool IsBlank(std::string_view text) {
  return absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size())).empty();
}
bool StartsWith(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }
bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

template <typename List>
bool IsOneOf(std::string_view text, const List& list) {
  return std::find(std::begin(list), std::end(list), text) != std::end(list);
}

// A token that a vocabulary keeps free and that some models were taught to write: <unused94>, <reserved_106>,
// [unused7], <reserved_special_token_3>, <SPECIAL_20>, <extra_id_0>. The same `text` as below.
bool IsReserved(std::string_view text) {
  if (text.size() < 4 || text.size() > kMostRecent || !absl::ascii_isdigit(text[text.size() - 2])) return false;
  if (!(text.front() == '<' && text.back() == '>') && !(text.front() == '[' && text.back() == ']')) return false;
  std::string_view name = text.substr(1, text.size() - 2);
  while (!name.empty() && absl::ascii_isdigit(name.back())) name.remove_suffix(1);
  if (!name.empty() && name.back() == '_') name.remove_suffix(1);
  return IsOneOf(name, kReserved);
}

// A control token as a whole; `text` in lower case and without blanks around it.
bool IsMarker(std::string_view text) {
  if (IsOneOf(text, kMarkers) || IsReserved(text)) return true;
  if (text.size() > kMostRecent) return false;
  constexpr std::string_view kOpen = "<\xEF\xBD\x9C", kClose = "\xEF\xBD\x9C>";  // DeepSeek's wide bars
  return text == "<|channel>" || (text.size() > 4 && StartsWith(text, "<|") && EndsWith(text, "|>")) ||
         (text.size() > 8 && StartsWith(text, kOpen) && EndsWith(text, kClose));
}

// Whether `text` begins with a row's first marker, may still come to, and whether its last one is somewhere in it.
template <typename Rows>
bool OpensOne(std::string_view text, const Rows& rows) {
  return std::any_of(std::begin(rows), std::end(rows), [&](const auto& row) { return StartsWith(text, row[0]); });
}
template <typename Rows>
bool MayOpenOne(std::string_view text, const Rows& rows) {
  return std::any_of(std::begin(rows), std::end(rows), [&](const auto& row) { return StartsWith(row[0], text); });
}
template <typename Rows>
bool EndsOne(std::string_view text, const Rows& rows) {
  return std::any_of(std::begin(rows), std::end(rows),
                     [&](const auto& row) { return text.find(row[1]) != std::string_view::npos; });
}

void Append(std::string_view text, std::string* recent) {
  *recent += text;
  if (recent->size() > kMostRecent) recent->erase(0, recent->size() - kMostRecent);
}

}  // namespace

bool EndsThoughtItDoesNotOpen(std::string_view text) {
  const std::string lower = Lower(text);
  return std::any_of(std::begin(kThoughts), std::end(kThoughts), [&](const auto& row) {
    const size_t end = lower.find(row[1]);
    return end != std::string::npos && lower.find(row[0]) > end;
  });
}

void AnswerSieve::BeginInThought() {
  if (state_ != State::kSpan) recent_.clear();
  state_ = State::kSpan;
  span_ = Kind::kThought;
}

void AnswerSieve::EndThought() {
  if (state_ == State::kHeader || (state_ == State::kSpan && span_ == Kind::kThought)) EndSpan();
}

void AnswerSieve::EndSpan() {
  state_ = State::kAnswer;
  recent_.clear();
  begun_ = true;
}

void AnswerSieve::Pass(const openai::TokenLogprob& token, Kind kind) {
  switch (kind) {
    case Kind::kBlank: ++left_out_.blanks; break;
    case Kind::kSpecial: ++left_out_.special; break;
    case Kind::kThought: ++left_out_.thoughts; break;
    case Kind::kToolCall: ++left_out_.tool_calls; break;
  }
  shown_all_ &= left_out_.begins.size() + token.token.size() <= kMostShown;
  if (shown_all_) left_out_.begins += token.token;
}

bool AnswerSieve::Opens(std::string_view text, Kind* kind) const {
  const bool tool_call = keeps_ == Keeps::kContent && OpensOne(text, kToolCalls);
  *kind = tool_call ? Kind::kToolCall : Kind::kThought;
  return tool_call || OpensOne(text, kThoughts);
}
bool AnswerSieve::MayOpen(std::string_view text) const {
  return MayOpenOne(text, kThoughts) || (keeps_ == Keeps::kContent && MayOpenOne(text, kToolCalls));
}

void AnswerSieve::Push(openai::TokenLogprob token, std::vector<openai::TokenLogprob>* answer) {
  const std::string text = Lower(token.token);
  switch (state_) {
    case State::kAnswer: return PushAnswer(std::move(token), answer);
    case State::kHeader: return PushHeader(token, text);
    case State::kSpan: return PushSpan(token, text);
  }
}

void AnswerSieve::PushHeader(const openai::TokenLogprob& token, const std::string& text) {
  Append(text, &recent_);
  Pass(token, Kind::kSpecial);
  if (EndsWith(recent_, "<|channel|>")) {
    recent_.clear();
  } else if (EndsWith(recent_, "<|message|>")) {  // of a channel, whose name stands before; without one the answer's
    const std::string name(absl::StripAsciiWhitespace(recent_));
    const bool answer = StartsWith(name, "<|") || StartsWith(name, "final") || StartsWith(name, "assistant");
    state_ = answer ? State::kAnswer : State::kSpan;
    span_ = name.find("to=") != std::string::npos ? Kind::kToolCall : Kind::kThought;
    recent_.clear();
  } else if (EndsWith(recent_, "<|end_header_id|>") || text.find('\n') != std::string::npos) {
    state_ = State::kAnswer;
    recent_.clear();
  }
}

void AnswerSieve::PushSpan(const openai::TokenLogprob& token, const std::string& text) {
  Append(text, &recent_);
  Pass(token, span_);
  if (EndsWith(recent_, "<|end|>") ||
      (span_ == Kind::kThought ? EndsOne(recent_, kThoughts)
                               : EndsOne(recent_, kToolCalls) || EndsWith(recent_, "<|call|>"))) {
    EndSpan();
  }
}

void AnswerSieve::PushAnswer(openai::TokenLogprob token, std::vector<openai::TokenLogprob>* answer) {
  const bool alone = recent_.empty();  // nothing before it that it may belong to
  Append(Lower(token.token), &recent_);
  const std::string text(absl::StripAsciiWhitespace(recent_));
  Kind kind{};
  if (Opens(text, &kind)) {
    for (const openai::TokenLogprob& part : std::exchange(held_, {})) Pass(part, kind);
    state_ = State::kSpan;
    span_ = kind;
    Pass(token, kind);  // recent_ stays: it may hold the end too
    if (kind == Kind::kThought ? EndsOne(recent_, kThoughts) : EndsOne(recent_, kToolCalls)) EndSpan();
    return;
  }
  const std::string own(absl::StripAsciiWhitespace(Lower(token.token)));
  const bool ends_thought = EndsOne(own, kThoughts);
  const bool holds_blank = held_.size() == 1 && IsBlank(held_[0].token);
  if (token.special || token.token.empty() || IsMarker(own) || ends_thought) {
    if (holds_blank) Pass(std::exchange(held_, {})[0], Kind::kBlank);
    Flush(answer);
    if (ends_thought && left_out_.thoughts == 0) {  // the prompt had opened it
      for (const openai::TokenLogprob& thought : *answer) Pass(thought, Kind::kThought);
      answer->clear();
    }
    Pass(token, ends_thought ? Kind::kThought : Kind::kSpecial);
    if (own.empty() || !MayOpen(text)) recent_.clear();  // <unused94> alone, or before its "thought"
    begun_ = true;
    if (IsOneOf(own, kHeaders)) state_ = State::kHeader;
    return;
  }
  if (own.empty()) {
    if (keeps_ == Keeps::kAnswer && !begun_ && held_.empty()) {
      held_.push_back(std::move(token));
    } else {
      Pass(token, Kind::kBlank);
      if (holds_blank) return;
      Flush(answer);
      recent_.clear();
    }
    return;
  }
  if (MayOpen(text)) {  // a marker has few bytes, and a token at least one
    held_.push_back(std::move(token));
    return;
  }
  recent_.clear();
  if (alone && held_.empty()) return Emit(std::move(token), answer);
  Flush(answer);
  PushAnswer(std::move(token), answer);  // it may open something by itself
}

void AnswerSieve::Flush(std::vector<openai::TokenLogprob>* answer) {
  if (held_.empty()) return;
  for (openai::TokenLogprob& token : std::exchange(held_, {})) Emit(std::move(token), answer);
  recent_.clear();
}

void AnswerSieve::Emit(openai::TokenLogprob token, std::vector<openai::TokenLogprob>* answer) {
  if (tool_call_) return Pass(token, Kind::kToolCall);
  if (keeps_ == Keeps::kContent) token.top.clear();
  answer->push_back(std::move(token));
}

}  // namespace goad
