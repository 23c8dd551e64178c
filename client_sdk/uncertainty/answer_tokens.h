// The tokens of an answer from a server's JSON, as far as they are wanted: what the server says of its text, and where
// it says nothing, what the tokens look like (answer_sieve.h). Pure; one object per answer, thread-compatible.
#ifndef GOAD_CLIENT_SDK_UNCERTAINTY_ANSWER_TOKENS_H_
#define GOAD_CLIENT_SDK_UNCERTAINTY_ANSWER_TOKENS_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "client_sdk/uncertainty/answer_sieve.h"

namespace goad {

class AnswerTokens {
 public:
  AnswerTokens(AnswerSieve::Keeps keeps, size_t wanted) : keeps_(keeps), wanted_(wanted), sieve_(keeps) {}

  // A whole answer or its next chunk; true once as many as are wanted are known. Errors as FirstTokenReader's.
  absl::StatusOr<bool> Push(std::string_view json);
  // None comes any more: what may still have been something else is the answer's.
  void End();

  bool known() const { return ended_ || tokens_.size() >= wanted_; }
  const std::vector<openai::TokenLogprob>& tokens() const { return tokens_; }  // at most as many as are wanted
  const AnswerSieve& sieve() const { return sieve_; }
  bool began() const { return began_; }  // a token has come, of whatever

 private:
  AnswerSieve::Keeps keeps_;
  size_t wanted_;
  AnswerSieve sieve_;
  std::vector<openai::TokenLogprob> tokens_;
  bool began_ = false, ended_ = false;
  bool tells_thought_ = false;  // the server says which text is thought
};

}  // namespace goad

#endif  // GOAD_CLIENT_SDK_UNCERTAINTY_ANSWER_TOKENS_H_
