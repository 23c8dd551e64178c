// Reads one answer of an OpenAI-compatible server out of the head and the body of an HTTP response. Pure.
#ifndef GOAD_SERVER_DISPATCH_ANSWER_READER_H_
#define GOAD_SERVER_DISPATCH_ANSWER_READER_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/dispatch/completion_json.h"
#include "server/dispatch/http_transport.h"
#include "server/dispatch/server_error.h"
#include "server/dispatch/sse_parser.h"
#include "server/dispatch/utf8.h"
#include "server/engine/ports.h"

namespace goad::server {

// What some bytes of the body added to the answer.
struct AnswerPart {
  std::string text;                    // whole code points
  int tokens = 0;
  std::vector<TokenLogprob> logprobs;
  bool alive = false;                  // something of it belonged to the answer, if only to what the model thought
};

// Thread-compatible. One per request; of no use once the state is not kReading.
class AnswerReader {
 public:
  enum class State { kReading, kWhole, kFailed };

  explicit AnswerReader(bool logprobs_wanted) : logprobs_wanted_(logprobs_wanted) {}

  void OnHead(const HttpHead& head);
  AnswerPart OnBody(std::string_view bytes);
  AnswerPart OnEnd(TransportEnd end, const std::string& detail);

  State state() const { return state_; }
  const ServerError& error() const { return error_; }  // when kFailed
  int http_status() const { return head_.status; }
  const std::string& finish_reason() const { return finish_reason_; }
  const std::optional<Usage>& usage() const { return usage_; }

 private:
  void OnEvent(const std::string& data, AnswerPart* part);
  void Fail(Blame blame, std::string code, std::string words);

  const bool logprobs_wanted_;
  State state_ = State::kReading;
  ServerError error_;
  HttpHead head_;
  std::string error_body_;             // of an answer that is not 200; bounded
  SseParser sse_;
  Utf8Assembler utf8_;
  std::string finish_reason_;
  std::optional<Usage> usage_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_ANSWER_READER_H_
