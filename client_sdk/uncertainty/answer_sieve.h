// Which of the tokens that a model writes are its answer: servers hand over markers, roles, channels, thoughts and tool
// calls beside it. Pure; one object per answer, thread-compatible.
#ifndef GOAD_CLIENT_SDK_UNCERTAINTY_ANSWER_SIEVE_H_
#define GOAD_CLIENT_SDK_UNCERTAINTY_ANSWER_SIEVE_H_

#include <string>
#include <string_view>
#include <vector>

#include "client_sdk/openai/logprobs.h"
#include "goad/uncertainty.h"

namespace goad {

// Whether the text ends a thought ("</think>" and its like) that began before it.
bool EndsThoughtItDoesNotOpen(std::string_view text);

class AnswerSieve {
 public:
  // What is an answer: its first token may be a blank, as in the paper, and may begin a tool call; content may not.
  enum class Keeps { kAnswer, kContent };
  enum class Kind { kBlank, kSpecial, kThought, kToolCall };

  explicit AnswerSieve(Keeps keeps) : keeps_(keeps) {}

  // The tokens to come are thought, until its marker.
  void BeginInThought();
  // They are the answer's, said by somebody who knows: no marker needed.
  void EndThought();
  // They are a tool call's, or not any more, said by somebody who knows.
  void SetToolCall(bool tool_call) { tool_call_ = tool_call; }

  // The next token. Appends to `answer` what belongs to it once that is certain: blanks and "<" may still begin a
  // thought, and are held until the next token. An end marker of a thought that nothing began makes all of `answer`
  // thought, and clears it. Of content, `top` is not kept.
  void Push(openai::TokenLogprob token, std::vector<openai::TokenLogprob>* answer);
  // No token follows: what is held is the answer's.
  void Flush(std::vector<openai::TokenLogprob>* answer);
  const std::vector<openai::TokenLogprob>& held() const { return held_; }

  // One that is not the answer's, said by somebody who knows.
  void Pass(const openai::TokenLogprob& token, Kind kind);
  const LeftOut& left_out() const { return left_out_; }

 private:
  enum class State {
    kAnswer,  // or before it
    kHeader,  // a role or a channel's name, until its marker or its line ends
    kSpan,    // a thought or a tool call, until its marker
  };

  void PushAnswer(openai::TokenLogprob token, std::vector<openai::TokenLogprob>* answer);
  void PushHeader(const openai::TokenLogprob& token, const std::string& text);
  void PushSpan(const openai::TokenLogprob& token, const std::string& text);
  void Emit(openai::TokenLogprob token, std::vector<openai::TokenLogprob>* answer);
  bool Opens(std::string_view text, Kind* kind) const;
  bool MayOpen(std::string_view text) const;
  void EndSpan();

  Keeps keeps_;
  State state_ = State::kAnswer;
  Kind span_ = Kind::kThought;
  bool tool_call_ = false;
  bool begun_ = false;  // a marker or a thought was passed, so that blanks are spacing and not the answer
  std::string recent_;  // the last bytes of a header or a span, or of what is held
  std::vector<openai::TokenLogprob> held_;
  LeftOut left_out_;
  bool shown_all_ = true;  // in left_out_.begins, which has no gap
};

}  // namespace goad

#endif  // GOAD_CLIENT_SDK_UNCERTAINTY_ANSWER_SIEVE_H_
