#include "client_sdk/uncertainty/answer_tokens.h"

#include <string>
#include <utility>

#include "absl/strings/ascii.h"

namespace goad {

absl::StatusOr<bool> AnswerTokens::Push(std::string_view json) {
  auto read = openai::ReadLogprobs(json);
  if (!read.ok()) return read.status();
  if (known()) return true;
  if (read->from_the_start) *this = AnswerTokens(keeps_, wanted_);
  std::string text;
  for (const openai::TokenLogprob& token : read->tokens) text += token.token;
  const std::string answer(absl::StripAsciiWhitespace(read->answer));
  const bool thought = read->has_thought && !read->thought_apart;
  size_t skip = 0, stop = std::string::npos;  // bytes of `text` that are known to come before, and after, the answer
  if (thought) {
    sieve_.BeginInThought();
    tells_thought_ = true;
    if (const size_t at = answer.empty() ? std::string::npos : text.rfind(answer); at != std::string::npos) {
      skip = at;  // in one text with its thought the answer comes last
      sieve_.EndThought();
    }
  } else if (tells_thought_ && !answer.empty()) {
    sieve_.EndThought();
  } else if (!began_ && EndsThoughtItDoesNotOpen(text)) {  // the prompt had opened it
    sieve_.BeginInThought();
  }
  if (keeps_ == AnswerSieve::Keeps::kContent) {
    if (!answer.empty() || read->has_tool_call) sieve_.SetToolCall(answer.empty());
    const size_t at = read->has_tool_call && !thought && !answer.empty() ? text.find(answer) : std::string::npos;
    if (at != std::string::npos) stop = at + answer.size();  // in one text with its tool calls the answer comes first
  }
  size_t begin = 0, end = 0;  // of the token in `text`
  for (openai::TokenLogprob& token : read->tokens) {
    began_ = true;
    begin = std::exchange(end, end + token.token.size());
    if (begin < skip && end <= skip) {
      sieve_.Pass(token, AnswerSieve::Kind::kThought);
    } else if (begin >= stop) {
      sieve_.Pass(token, AnswerSieve::Kind::kToolCall);
    } else {
      sieve_.Push(std::move(token), &tokens_);
    }
    if (tokens_.size() < wanted_) continue;
    tokens_.resize(wanted_);
    return true;
  }
  return false;
}

void AnswerTokens::End() {
  if (known()) return;
  sieve_.Flush(&tokens_);
  if (tokens_.size() > wanted_) tokens_.resize(wanted_);
  ended_ = true;
}

}  // namespace goad
