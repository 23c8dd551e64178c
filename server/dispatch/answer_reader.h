// Reads one answer of an OpenAI-compatible server out of the head and the body of an HTTP response. Pure.
#ifndef GOAD_SERVER_DISPATCH_ANSWER_READER_H_
#define GOAD_SERVER_DISPATCH_ANSWER_READER_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client_sdk/openai/chunk.h"
#include "client_sdk/openai/sse_parser.h"
#include "client_sdk/openai/utf8.h"
#include "server/dispatch/http_transport.h"
#include "server/dispatch/server_error.h"
#include "server/engine/ports.h"

namespace goad::server {

// What some bytes of the body added to the answer.
struct AnswerPart {
  std::string text;  // whole code points
  int tokens = 0;
  std::vector<TokenLogprob> logprobs;
  std::string reasoning;  // whole code points, as in the next; of those that are wanted
  std::vector<openai::ToolCallPiece> tool_calls;
  size_t refusal_bytes = 0;  // of `text`, the last so many
  bool empty() const { return text.empty() && tokens == 0 && reasoning.empty() && tool_calls.empty(); }
  bool alive = false;  // something of it belonged to the answer, if only to what the model thought
};

// Thread-compatible. One per request; of no use once the state is not kReading. README.md says when an answer is whole.
//
// Bounds, in bytes: an event kMaxEvent, kRoomPerPromptByte for each byte of the prompt (servers repeat it, as text or
// as tokens), and kMaxLogprobs more where log-probabilities were asked for; what is not of the answer (comments, pings,
// padding, and an eighth of chunks that are empty) kMaxIdle, the prompt's room and kIdlePerEvent for each event that
// was; the whole body kMaxBody and kBodyPerToken for each token asked for. Nothing of the answer is kept but its end.
class AnswerReader {
 public:
  enum class State { kReading, kWhole, kFailed };
  static constexpr size_t kMaxEvent = 64 << 10, kMaxLogprobs = 1 << 20;
  static constexpr size_t kRoomPerPromptByte = 8, kMaxRoom = 2 << 20;
  static constexpr size_t kChunkIsLess = 8, kPerChunk = 8;
  static constexpr size_t kMaxIdle = 256 << 10, kIdlePerEvent = 64;
  static constexpr size_t kMaxBody = 16 << 20, kBodyPerToken = 8 << 10;
  static constexpr size_t kMaxErrorBody = 64 << 10;

  AnswerReader(std::shared_ptr<const PromptBody> prompt, int max_output_tokens);

  void OnHead(const HttpHead& head);
  AnswerPart OnBody(std::string_view bytes);
  AnswerPart OnEnd(TransportEnd end, const std::string& detail);

  State state() const { return state_; }
  const ServerError& error() const { return error_; }  // when kFailed
  int http_status() const { return head_.status; }
  // Its finish_reason is here, and neither [DONE] nor the body's end: it may be ended as if that had come.
  bool is_at_its_end() const { return state_ == State::kReading && form_ == Form::kEvents && !finish_reason_.empty(); }
  // Its status says that it is none, and what it says of that is still to come.
  bool is_error_body() const { return state_ == State::kReading && head_.status != 0 && !is_answer(); }
  const std::string& finish_reason() const { return finish_reason_; }
  const std::optional<openai::Usage>& usage() const { return usage_; }

 private:
  enum class Form { kUnknown, kEvents, kJson };  // of the body; its first byte tells

  bool is_answer() const { return head_.status / 100 == 2; }
  // It has text and a finish_reason with nothing after it: whatever comes now takes nothing of it away.
  bool has_ended() const { return (has_text_ || !calls_.empty()) && reason_ends_ && !finish_reason_.empty(); }
  bool IsChunk(const std::string& data) const;
  void OnEvent(const openai::SseEvent& event, AnswerPart* part);
  void OnChunk(openai::Chunk chunk, size_t bytes, AnswerPart* part);
  void Refused(const std::string& body, bool is_whole = true);
  void TooLarge(const char* what);
  void OnToolCalls(std::vector<openai::ToolCallPiece> pieces, AnswerPart* part);
  void OnWholeJson(AnswerPart* part);
  void BecomeWhole(AnswerPart* part);
  void Fail(Blame blame, std::string code, std::string words, std::string detail = "");
  openai::SseParser::OnEvent Into(AnswerPart* part);

  const std::shared_ptr<const PromptBody> prompt_;
  const int max_output_tokens_;
  const bool logprobs_wanted_;
  const size_t room_;  // for the prompt, where a server repeats it
  State state_ = State::kReading;
  ServerError error_;
  HttpHead head_;
  Form form_ = Form::kUnknown;
  std::string kept_;  // an error's body, or an answer's that is no stream
  openai::SseParser sse_;
  openai::Utf8Assembler utf8_, reasoning_utf8_;
  struct Call {
    std::string id;
    bool named = false, has_arguments = false;
    openai::Utf8Assembler arguments;
  };
  std::vector<Call> calls_;        // as the device counts them; at most kMostToolCalls
  std::map<int, size_t> call_at_;  // the latest of those at an index of the server's
  std::string finish_reason_;
  std::optional<openai::Usage> usage_;
  bool has_text_ = false, has_thought_ = false, has_tool_call_ = false;
  bool refused_ = false;     // what comes now is of a refusal
  bool reason_ends_ = true;  // no text came after a finish_reason, which some gateways write into every chunk
  size_t body_bytes_ = 0, idle_bytes_ = 0, most_idle_bytes_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_ANSWER_READER_H_
