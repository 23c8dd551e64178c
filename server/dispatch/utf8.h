// Whole code points out of a stream of bytes that may be cut anywhere. Pure.
#ifndef GOAD_SERVER_DISPATCH_UTF8_H_
#define GOAD_SERVER_DISPATCH_UTF8_H_

#include <string>
#include <string_view>

namespace goad::server {

// True when every byte belongs to a well-formed code point (RFC 3629: no overlong forms, no surrogates).
bool IsValidUtf8(std::string_view text);

// Thread-compatible.
class Utf8Assembler {
 public:
  // Returns the whole code points so far; keeps an incomplete one (at most 5 bytes) for the next call. Each byte that
  // cannot belong to a code point becomes U+FFFD. Halves of a UTF-16 pair that were encoded one by one are joined; one
  // alone becomes U+FFFD.
  std::string Push(std::string_view bytes);
  // The stream is over: what is still incomplete becomes U+FFFD.
  std::string Finish();

 private:
  std::string tail_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_UTF8_H_
