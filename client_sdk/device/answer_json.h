// Answers as OpenAI's API has them, whole and in chunks, whoever gave them.
#ifndef GOAD_CLIENT_SDK_DEVICE_ANSWER_JSON_H_
#define GOAD_CLIENT_SDK_DEVICE_ANSWER_JSON_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "client_sdk/device/app_call.h"
#include "goad/runtime.h"

namespace goad::device {

// "local REASON" or "edge SITE REASON": the header x-goad. `source` speaks or has spoken.
std::string AnsweredBy(Answer::Source source, const Answer& answer);

// Of one answer. Thread-compatible.
class AnswerJson {
 public:
  // `model`: whose name the answer bears. `created_s`: since 1970.
  AnswerJson(const AppCall& call, std::string id, std::string model, int64_t created_s);

  // One chunk of a streamed answer, a JSON text.
  std::string Chunk(const AnswerPiece& piece);
  // The last one, with finish_reason and the object `goad`, of an answer that was whole or broken off.
  // `uncertainty` that goad was asked with.
  std::string LastChunk(const Answer& answer, Answer::Source source, std::optional<double> uncertainty);
  std::string UsageChunk(const Answer& answer) const;  // for include_usage
  // One that is not streamed: its pieces, then all of it.
  void Add(const AnswerPiece& piece);
  std::string Whole(const Answer& answer, Answer::Source source, std::optional<double> uncertainty);

 private:
  nlohmann::ordered_json Frame(bool chunk) const;
  nlohmann::ordered_json Logprobs(const std::vector<TokenLogprob>& tokens);

  const bool chat_, logprobs_;
  const int top_logprobs_;
  const std::string id_, model_;
  const int64_t created_s_;
  bool begun_ = false;
  size_t text_bytes_ = 0;             // told, for text_offset
  std::vector<TokenLogprob> tokens_;  // of the pieces that were added, as is the refusal
  std::string refusal_;
};

}  // namespace goad::device

#endif  // GOAD_CLIENT_SDK_DEVICE_ANSWER_JSON_H_
