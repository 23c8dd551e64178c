// The log-probabilities in a JSON answer, or in one chunk of a streamed one, of any of these servers; README.md has the
// shapes.
//   OpenAI chat and its followers   choices[].logprobs.content[].top_logprobs[]
//   OpenAI completions, vLLM, ...   choices[].logprobs.{tokens, token_logprobs, top_logprobs}
//   llama.cpp                       completion_probabilities[].{top_logprobs | top_probs | probs}[]
//   SGLang                          meta_info.{output_token_logprobs, output_top_logprobs}
//   TGI                             details.{tokens, top_tokens}, and streamed token and top_tokens
//   Ollama                          logprobs[].top_logprobs[]
// Pure, any thread.
#ifndef GOAD_CLIENT_SDK_OPENAI_LOGPROBS_H_
#define GOAD_CLIENT_SDK_OPENAI_LOGPROBS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace goad::openai {

// Stands for a probability of 0 (null, -Infinity, and everything below), so that every log-probability is finite; it is
// what vLLM writes. exp of it is exactly 0.
inline constexpr double kLogprobOfZero = -9999;
// Above 0 by no more than this is what half-precision arithmetic makes of 0, and is read as 0; above it is an error.
// For probabilities: as much above 1.
inline constexpr double kRounding = 0.01;
// Candidates kept of one position: the best, in the order given.
inline constexpr size_t kMostTop = 20;
// Of a text that is read here.
inline constexpr size_t kMostLogprobsBytes = 4 << 20;

struct TokenLogprob {
  std::string token;  // its bytes where they are known (perhaps a part of a code point), else its text. A text with
                      // U+FFFD in it names no token for certain. "token_id:N" where only the id is known
  std::optional<int64_t> id;        // in the tokenizer's vocabulary
  double logprob = kLogprobOfZero;  // natural logarithm, kLogprobOfZero..0
  bool has_logprob = false;         // else nobody told, of a token that was written; of a candidate it is 0
  bool special = false;             // it stands for no text: TGI says so, llama.cpp prints nothing
  std::vector<TokenLogprob> top;    // one level, at most kMostTop
};

struct Logprobs {
  std::vector<TokenLogprob> tokens;  // of the first choice, in order; empty when the text has none
  bool has_thought = false;          // the text holds thought: reasoning_content, reasoning or thinking
  std::string answer;                // the answer's text in it, empty when there is none
  bool has_tool_call = false;        // the text holds a tool call
  bool thought_apart = false;        // the thought's own log-probabilities are elsewhere: `tokens` are the answer's
  bool from_the_start = false;       // of a streamed chunk that repeats what was sent before (SGLang)
};

// OK with no tokens for a JSON object that has none (a role, a usage, another choice's chunk). INVALID_ARGUMENT for a
// text that is too long, too deep or no JSON, and, by the path of the field, for a log-probability that is none.
// UNAVAILABLE with the server's own words when it is an error object.
absl::StatusOr<Logprobs> ReadLogprobs(std::string_view json);

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_LOGPROBS_H_
