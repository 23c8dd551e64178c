#include "client_sdk/uncertainty/answer_start.h"

#include <algorithm>

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

std::string Lower(std::string_view text) { return absl::AsciiStrToLower(std::string(text)); }
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

// The thought whose first marker `text` begins with.
bool OpensThought(std::string_view text) {
  return std::any_of(std::begin(kThoughts), std::end(kThoughts),
                     [&](const auto& pair) { return StartsWith(text, pair[0]); });
}
bool EndsThought(std::string_view text) {  // somewhere in it
  return std::any_of(std::begin(kThoughts), std::end(kThoughts),
                     [&](const auto& pair) { return text.find(pair[1]) != std::string_view::npos; });
}
bool MayOpenThought(std::string_view text) {
  return std::any_of(std::begin(kThoughts), std::end(kThoughts),
                     [&](const auto& pair) { return StartsWith(pair[0], text); });
}

void Append(std::string_view text, std::string* recent) {
  *recent += text;
  if (recent->size() > kMostRecent) recent->erase(0, recent->size() - kMostRecent);
}

}  // namespace

bool EndsThoughtItDoesNotOpen(std::string_view text) {
  const std::string lower = Lower(text);
  return std::any_of(std::begin(kThoughts), std::end(kThoughts), [&](const auto& pair) {
    const size_t end = lower.find(pair[1]);
    return end != std::string::npos && lower.find(pair[0]) > end;
  });
}

void AnswerStart::EndThought() {
  if (state_ == State::kStart) return;
  state_ = State::kStart;
  recent_.clear();
  begun_ = true;
}

void AnswerStart::Pass(const openai::TokenLogprob& token) {
  if (passed_.size() + token.token.size() <= 60) passed_ += token.token;
}

std::optional<openai::TokenLogprob> AnswerStart::Push(openai::TokenLogprob token) {
  const std::string text = Lower(token.token);
  switch (state_) {
    case State::kStart: return PushStart(std::move(token));
    case State::kHeader: {
      Append(text, &recent_);
      Pass(token);
      if (EndsWith(recent_, "<|channel|>")) {
        recent_.clear();
      } else if (EndsWith(recent_,
                          "<|message|>")) {  // of a channel, whose name stands before; without one it is the answer's
        const std::string name(absl::StripAsciiWhitespace(recent_));
        const bool answer = StartsWith(name, "<|") || StartsWith(name, "final") || StartsWith(name, "assistant");
        state_ = answer ? State::kStart : State::kThought;
        recent_.clear();
      } else if (EndsWith(recent_, "<|end_header_id|>") || text.find('\n') != std::string::npos) {
        state_ = State::kStart;
        recent_.clear();
      }
      return std::nullopt;
    }
    case State::kThought: {
      Append(text, &recent_);
      Pass(token);
      if (EndsThought(recent_) || EndsWith(recent_, "<|end|>")) EndThought();
      return std::nullopt;
    }
  }
  return std::nullopt;
}

std::optional<openai::TokenLogprob> AnswerStart::PushStart(openai::TokenLogprob token) {
  Append(Lower(token.token), &recent_);
  const std::string text(absl::StripAsciiWhitespace(recent_));
  if (OpensThought(text)) {
    Pass(token);
    held_.reset();
    state_ = State::kThought;  // recent_ stays: it may hold the end too
    if (EndsThought(recent_)) EndThought();
    return std::nullopt;
  }
  const std::string own(absl::StripAsciiWhitespace(Lower(token.token)));
  if (token.special || token.token.empty() || IsMarker(own) || EndsThought(own)) {
    Pass(token);
    if (own.empty() || !MayOpenThought(text)) recent_.clear();  // <unused94> alone, or before its "thought"
    held_.reset();
    begun_ = true;
    if (IsOneOf(own, kHeaders)) state_ = State::kHeader;
    return std::nullopt;
  }
  if (own.empty() && begun_ && !held_) {
    Pass(token);
    recent_.clear();
    return std::nullopt;
  }
  if (MayOpenThought(text)) {
    if (!held_) held_ = std::move(token);
    return std::nullopt;
  }
  return held_ ? std::move(held_) : std::optional<openai::TokenLogprob>(std::move(token));
}

}  // namespace goad
