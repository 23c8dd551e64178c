// The body of a local server's answer, as it comes: pieces, uncertainty, end. Pure.
#ifndef GOAD_CLIENT_SDK_DEVICE_LOCAL_ANSWER_H_
#define GOAD_CLIENT_SDK_DEVICE_LOCAL_ANSWER_H_

#include <string>
#include <string_view>

#include "client_sdk/openai/chunk.h"
#include "client_sdk/openai/sse_parser.h"
#include "client_sdk/openai/utf8.h"
#include "goad/runtime.h"
#include "goad/uncertainty.h"

namespace goad::device {

// Thread-compatible.
class LocalAnswer {
 public:
  static constexpr size_t kMostEventBytes = 4 << 20;

  // `streamed`: server-sent events; else one JSON object.
  LocalAnswer(bool streamed, bool logprobs, LocalOutput* output);

  // False: nobody wants the rest, there is none, or it makes no sense (End says what).
  bool Push(std::string_view bytes);
  int pieces() const { return pieces_; }       // that have come
  bool finished() const { return finished_; }  // but for usage, all is there
  // The body is over.
  LocalEnd End();

 private:
  void OnData(const std::string& data);
  void OnChunk(const openai::Chunk& chunk);
  void Fail(const std::string& what);

  const bool streamed_, logprobs_;
  LocalOutput* const output_;
  openai::SseParser events_{kMostEventBytes};
  std::string whole_;  // when not streamed
  openai::Utf8Assembler text_, reasoning_;
  FirstTokenReader first_token_;
  bool uncertainty_known_ = false, wanted_ = true;
  bool finished_ = false, done_ = false;  // a finish_reason, [DONE]
  int pieces_ = 0;
  LocalEnd end_;
};

}  // namespace goad::device

#endif  // GOAD_CLIENT_SDK_DEVICE_LOCAL_ANSWER_H_
