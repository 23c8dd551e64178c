// How unsure a small model is about its answer: from the first token, from the first tokens of its content.
// A small library of its own, without gRPC; devices and the daemon compute the same number with it.
#ifndef GOAD_UNCERTAINTY_H_
#define GOAD_UNCERTAINTY_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "goad/uncertainty_source.h"

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

// 1 - p1, p1 the best probability after the same merging and renormalising, with the same errors. In 0..1 - 1/n for n
// answers: at most 0.9 of ten, 0.67 of three. Never above the margin of the same entries. Thread-safe.
absl::StatusOr<double> MaxProbabilityUncertainty(std::vector<TokenProbability> top);

// The one of the two that is asked for. INVALID_ARGUMENT also for a metric that is not made from the first token.
absl::StatusOr<double> FirstTokenUncertainty(UncertaintyMetric metric, std::vector<TokenProbability> top);

// 1 - exp((l_1 + ... + l_n) / n), l the natural logarithms of the probabilities of the first n tokens of the content
// that were written: 1 less their geometric mean. In 0..1; 0 when every token was certain. -infinity, and what is below
// -9999, is -9999, a probability of 0; up to 0.01 above 0 is 0, as ReadLogprobs has it. INVALID_ARGUMENT for none, more
// than 256, one above that or NaN, by its place. Thread-safe.
absl::StatusOr<double> MeanLogprobUncertainty(const std::vector<double>& logprobs);

// 1 - exp(q), q the 0.1-quantile of the same: sorted from the least, the value at place 0.1 * (n - 1) counted from 0,
// linear between neighbours (Hyndman and Fan's type 7, numpy's default). The least certain tenth speaks for the answer
// (arXiv 2404.10136 has why: a mean over many easy tokens hides the one that matters). With the same errors.
absl::StatusOr<double> LowQuantileUncertainty(std::vector<double> logprobs);

// Whether the numbers are in range and belong to the metric; "FIELD: value, and what is allowed". Not the texts.
absl::Status CheckUncertaintySource(const UncertaintySource& source);

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

// What a ContentReader passed over, in tokens.
struct LeftOut {
  int blanks = 0;
  int special = 0;     // markers, tokens without text, roles and channels
  int thoughts = 0;    // their markers too
  int tool_calls = 0;  // their markers too
  std::string begins;  // of all that, for people: the first tokens, at most 60 bytes, not always UTF-8
};

// The log-probabilities of the first K tokens of an answer's content, from the same JSON. Content is the text for
// people: blanks, special tokens, roles, channels, thoughts and tool calls are none, wherever they come. Of a token
// that the model did not choose as its most likely one, it is its own log-probability that counts. Thread-compatible.
//
//   goad::ContentReader reader(16);
//   while (next chunk) { auto known = reader.Push(chunk);  if (!known.ok() || *known) break; }
//   reader.End();
//   auto logprobs = reader.Logprobs();
class ContentReader {
 public:
  explicit ContentReader(int tokens);  // K, moved into 1..256
  ~ContentReader();

  // True once K are known, or the answer has ended. Else as FirstTokenReader's.
  absl::StatusOr<bool> Push(std::string_view json);
  // The answer is over: one with fewer than K content tokens is known by those it has.
  void End();

  // 1..K of them, in order. FAILED_PRECONDITION before they are known. INVALID_ARGUMENT when there is no content; it
  // says what came instead. INVALID_ARGUMENT for a content token whose log-probability the server did not tell, by its
  // place: as none, it would make sure or unsure by mistake.
  absl::StatusOr<std::vector<double>> Logprobs() const;
  LeftOut left_out() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace goad

#endif  // GOAD_UNCERTAINTY_H_
