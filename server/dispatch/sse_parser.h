// Server-sent events (WHATWG HTML, section 9.2.6) out of body bytes that may be cut anywhere. Pure.
#ifndef GOAD_SERVER_DISPATCH_SSE_PARSER_H_
#define GOAD_SERVER_DISPATCH_SSE_PARSER_H_

#include <functional>
#include <string>
#include <string_view>

namespace goad::server {

// Thread-compatible. Lines end in LF, CRLF or CR; comments and fields other than `data` are passed over.
class SseParser {
 public:
  static constexpr size_t kMaxEventBytes = 1 << 20;

  // Calls on_event with the data of each event that `bytes` completes. False when an event exceeds kMaxEventBytes; the
  // parser is then unusable.
  bool Push(std::string_view bytes, const std::function<void(const std::string& data)>& on_event);

 private:
  void EndLine(const std::function<void(const std::string&)>& on_event);

  std::string line_, data_;
  bool has_data_ = false;
  bool after_cr_ = false;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_SSE_PARSER_H_
