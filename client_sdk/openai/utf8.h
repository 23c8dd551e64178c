// UTF-8: what is none, and whole code points out of a stream of bytes that may be cut anywhere. Pure.
#ifndef GOAD_CLIENT_SDK_OPENAI_UTF8_H_
#define GOAD_CLIENT_SDK_OPENAI_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace goad::openai {

// Length of the code point at the front of `text`, which is not empty; 0 when it is malformed (RFC 3629: no overlong
// forms, no surrogates), -1 when more bytes are needed.
int CodePointLength(std::string_view text);

// Where the first byte is that belongs to no well-formed code point; npos when there is none.
size_t FirstBadUtf8(std::string_view text);
inline bool IsValidUtf8(std::string_view text) { return FirstBadUtf8(text) == std::string_view::npos; }

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

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_UTF8_H_
