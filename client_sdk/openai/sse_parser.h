// Server-sent events (WHATWG HTML, section 9.2.6) out of body bytes that may be cut anywhere. Pure.
#ifndef GOAD_CLIENT_SDK_OPENAI_SSE_PARSER_H_
#define GOAD_CLIENT_SDK_OPENAI_SSE_PARSER_H_

#include <functional>
#include <string>
#include <string_view>

namespace goad::openai {

struct SseEvent {
  std::string type;  // empty = message
  std::string data;
};

// Thread-compatible. Lines end in LF, CRLF or CR; a BOM, comments, `id` and `retry` are passed over. Some things that
// servers send and the standard does not have, none of which can be anything else:
//   `error: {...}` is `event: error` with that data (llama-server before its pull request 16109);
//   so is a bare line `{"error"...` (Ollama, when it fails within a stream), and a chunk in an unknown field: a damaged
//   `data:` that is passed over would cost a piece of the text; an object's data line after another object's (or
//   `[DONE]`) begins an event though the empty line is missing.
class SseParser {
 public:
  using OnEvent = std::function<void(const SseEvent&)>;

  explicit SseParser(size_t most_event_bytes) : most_event_bytes_(most_event_bytes) {}

  // Calls on_event with each event that `bytes` completes. False when an event, or a line of any kind, exceeds its
  // limit; the parser is then unusable.
  bool Push(std::string_view bytes, const OnEvent& on_event);
  // The stream is over. The standard discards an event whose empty line is missing; here the caller decides.
  void End(const OnEvent& on_event);

  size_t passed_over() const { return passed_over_; }  // bytes of lines that were no data

 private:
  void EndLine(const OnEvent& on_event);
  void AddData(std::string_view value, const OnEvent& on_event);
  void Dispatch(const OnEvent& on_event);

  const size_t most_event_bytes_;
  std::string line_;
  SseEvent event_;
  bool has_data_ = false;
  bool after_cr_ = false;
  bool first_line_ = true;
  size_t passed_over_ = 0;
};

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_SSE_PARSER_H_
