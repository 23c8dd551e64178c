// Token-level uncertainty: how unsure a small model is about the first token of its answer.
// A small library of its own, without gRPC; devices and the daemon compute the same number with it.
#ifndef GOAD_UNCERTAINTY_H_
#define GOAD_UNCERTAINTY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace goad {

struct TokenProbability {
  std::string token;      // as the tokenizer gives it, blanks and case included
  double probability = 0; // 0..1
};

// alpha = 1 - (p1 - p2) of arXiv 2602.07958, in 0..1: 0 is sure, 1 is a tie. Takes the ten best entries, merges tokens
// that are equal once stripped of blanks and ASCII case, renormalises, and subtracts the two best (p2 = 0 when one is
// left). Any order, any length >= 1. INVALID_ARGUMENT names the entry: empty list, a probability that is not in 0..1, or
// a sum of 0. Thread-safe.
absl::StatusOr<double> MarginUncertainty(std::vector<TokenProbability> top);

// The first token's candidates from a server's JSON answer. Reads llama.cpp's `completion_probabilities` (n_probs), and
// `logprobs.content[0].top_logprobs` of OpenAI chat and of llama.cpp's /v1/completions, and OpenAI's older
// `logprobs.top_logprobs[0]` object. INVALID_ARGUMENT when the text is no JSON or has none of them.
absl::StatusOr<std::vector<TokenProbability>> FirstTokenFromJson(const std::string& json);

}  // namespace goad

#endif  // GOAD_UNCERTAINTY_H_
