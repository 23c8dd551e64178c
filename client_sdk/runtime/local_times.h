// What a local answer still takes once its first token is there, learned from those that ran to their end.
#ifndef GOAD_CLIENT_SDK_RUNTIME_LOCAL_TIMES_H_
#define GOAD_CLIENT_SDK_RUNTIME_LOCAL_TIMES_H_

#include "scheduler/estimate/linear_estimate.h"

namespace goad::internal {

// Thread-compatible; no clock of its own.
class LocalTimes {
 public:
  // What is assumed before the first sample. token_s above 0, output_tokens 1 or more.
  LocalTimes(double token_s, double output_tokens) : token_s_(token_s), output_tokens_(output_tokens) {}

  // Seconds until an answer of which `tokens` are there has ended. most_tokens: its maximum; 0 = none.
  double Remaining(int tokens, int most_tokens, double now_s) const;
  // Tokens of a prompt of so many bytes of text; at least 1.
  int PromptTokens(size_t bytes) const;
  void AddPrompt(size_t bytes, int tokens);
  // An answer of `output_tokens` took `seconds` from its first token to its end.
  void Add(int output_tokens, double seconds, double now_s);

 private:
  // Without samples the estimate returns to its prior within a minute, which is right for a server that others share.
  // A device stays what it is: the prior is the mean of what it took, and only what loads it now is forgotten.
  estimate::Vector Prior() const { return {0, token_s_, 0, 0}; }

  double token_s_, output_tokens_;  // fading means
  double bytes_per_token_ = 4;      // of prompts, likewise
  int samples_ = 0;                 // as many, and what was assumed as one more, make the mean of the output tokens
  estimate::LinearEstimate estimate_{0.95};
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_RUNTIME_LOCAL_TIMES_H_
