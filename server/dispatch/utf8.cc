#include "server/dispatch/utf8.h"

#include <utility>

namespace goad::server {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Length of the code point at the front, 0 when it is malformed, -1 when more bytes are needed.
int FrontLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  int length = 0;
  unsigned char low = 0x80, high = 0xBF;  // of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  for (int i = 1; i < length; ++i) {
    if (static_cast<size_t>(i) >= text.size()) return -1;
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) return 0;
  }
  return length;
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const int length = FrontLength(text);
    if (length <= 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string Utf8Assembler::Push(std::string_view bytes) {
  const std::string joined = std::exchange(tail_, {}).append(bytes);
  std::string_view rest = joined;
  std::string out;
  out.reserve(joined.size());
  while (!rest.empty()) {
    const int length = FrontLength(rest);
    if (length < 0) {
      tail_ = std::string(rest);
      break;
    }
    if (length == 0) {
      out += kReplacement;
      rest.remove_prefix(1);
    } else {
      out += rest.substr(0, length);
      rest.remove_prefix(length);
    }
  }
  return out;
}

std::string Utf8Assembler::Finish() { return std::exchange(tail_, {}).empty() ? "" : std::string(kReplacement); }

}  // namespace goad::server
