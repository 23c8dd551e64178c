// Token-level uncertainty: how unsure a small model is about the first token of its answer.
// A small library of its own, without gRPC; devices and the daemon compute the same number with it.
#ifndef GOAD_UNCERTAINTY_H_
#define GOAD_UNCERTAINTY_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace goad {

struct TokenProbability {
  std::string token;       // as the tokenizer gives it, blanks and case included
  double probability = 0;  // 0..1
};

// alpha = 1 - (p1 - p2) of arXiv 2602.07958, in 0..1: 0 is sure, 1 is a tie. Takes the ten best entries, merges tokens
// that are equal once stripped of blanks and ASCII case, renormalises, and subtracts the two best. A token with
// U+FFFD in it is a part of some character and is merged with none. Any order, any length >= 2. INVALID_ARGUMENT names
// the entry: too few, a probability that is not in 0..1, or fewer than two answers with a probability above 0 once
// merged, for one alone says nothing. Thread-safe.
absl::StatusOr<double> MarginUncertainty(std::vector<TokenProbability> top);

// The candidates for the first token of an answer, the best ten of them, from the JSON of OpenAI, llama.cpp (n_probs),
// vLLM, SGLang, TGI or Ollama: a whole answer, or its chunks in order as they are streamed (without "data: "). What
// models write before they answer, markers, roles, channels and thoughts, is passed over. Thread-compatible.
//
//   goad::FirstTokenReader reader;
//   while (next chunk) { auto known = reader.Push(chunk);  if (!known.ok() || *known) break; }
//   auto top = reader.Candidates();
class FirstTokenReader {
 public:
  FirstTokenReader();
  ~FirstTokenReader();

  // True once the first token of the answer is known; further chunks change nothing then. A chunk without
  // log-probabilities (a role, a usage) is no error. INVALID_ARGUMENT when the text is no JSON, has more than 4 MiB or
  // 64 levels, or has a log-probability that is none, by the name of the field: above 0.01 (up to there it is rounding,
  // and 0), or not a number. null and -Infinity are probability 0. UNAVAILABLE with the server's words when it is an
  // error.
  absl::StatusOr<bool> Push(std::string_view json);

  // INVALID_ARGUMENT when fewer than two candidates came for that token, or when no token of the answer has come; it
  // says what came instead. A token is its bytes where the server gives them, so not always UTF-8; "token_id:N" where
  // only its id is known.
  absl::StatusOr<std::vector<TokenProbability>> Candidates() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Of a whole answer, or of one chunk.
absl::StatusOr<std::vector<TokenProbability>> FirstTokenFromJson(std::string_view json);

}  // namespace goad

#endif  // GOAD_UNCERTAINTY_H_
