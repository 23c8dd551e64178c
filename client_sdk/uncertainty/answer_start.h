// Where an answer begins: servers hand over what a model writes, and models write markers, a role, a channel or a
// thought first. Pure; one object per answer, thread-compatible.
#ifndef GOAD_CLIENT_SDK_UNCERTAINTY_ANSWER_START_H_
#define GOAD_CLIENT_SDK_UNCERTAINTY_ANSWER_START_H_

#include <optional>
#include <string>
#include <string_view>

#include "client_sdk/openai/logprobs.h"

namespace goad {

// Whether the text ends a thought ("</think>" and its like) that began before it.
bool EndsThoughtItDoesNotOpen(std::string_view text);

class AnswerStart {
 public:
  // The tokens to come are thought, until its marker.
  void BeginInThought() { state_ = State::kThought; }
  // They are the answer's, said by somebody who knows: no marker needed.
  void EndThought();

  // The next token of the answer. Returns the first that belongs to the answer once that is certain: blanks and "<" may
  // still begin a thought, and are held until the next token. Afterwards not to be called again.
  std::optional<openai::TokenLogprob> Push(openai::TokenLogprob token);
  // When no token follows, the first of the answer is the one that is held, if any.
  const std::optional<openai::TokenLogprob>& held() const { return held_; }

  // What was passed over, for people: at most 60 bytes of it.
  const std::string& passed() const { return passed_; }

 private:
  enum class State {
    kStart,    // nothing of the answer yet
    kHeader,   // a role or a channel's name, until its marker or its line ends
    kThought,  // until its marker
  };

  std::optional<openai::TokenLogprob> PushStart(openai::TokenLogprob token);
  void Pass(const openai::TokenLogprob& token);

  State state_ = State::kStart;
  bool begun_ = false;  // a marker or a thought was passed, so that blanks are spacing and not the answer
  std::string recent_;  // the last bytes of a header or a thought, or what is held
  std::optional<openai::TokenLogprob> held_;
  std::string passed_;
};

}  // namespace goad

#endif  // GOAD_CLIENT_SDK_UNCERTAINTY_ANSWER_START_H_
