#include "server/base/clip.h"

namespace goad::server {
namespace {

// Bytes of the well-formed code point at the front (Unicode 15, table 3-7); 0 when there is none.
size_t CodePoint(std::string_view text) {
  const auto byte = [&](size_t k) { return k < text.size() ? static_cast<unsigned char>(text[k]) : 0u; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                        : lead >= 0xE0 && lead <= 0xEF ? 3
                        : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                       : 0;
  const unsigned low = lead == 0xE0   ? 0xA0
                       : lead == 0xF0 ? 0x90
                                      : 0x80,
                 high = lead == 0xED   ? 0x9F
                        : lead == 0xF4 ? 0x8F
                                       : 0xBF;
  for (size_t k = 1; k < length; ++k) {
    if (byte(k) < (k == 1 ? low : 0x80u) || byte(k) > (k == 1 ? high : 0xBFu)) return 0;
  }
  return length;
}

bool IsControl(std::string_view code_point) {
  const auto lead = static_cast<unsigned char>(code_point[0]);
  if (lead < 0x20 || lead == 0x7F || (lead == 0xC2 && static_cast<unsigned char>(code_point[1]) < 0xA0)) return true;
  // What is not seen and turns or hides what is: U+200B..F, U+2028..E, U+2060..F, U+FEFF.
  if (lead == 0xE2 && code_point[1] == '\x80') {
    const auto last = static_cast<unsigned char>(code_point[2]);
    return (last >= 0x8B && last <= 0x8F) || (last >= 0xA8 && last <= 0xAE);
  }
  if (lead == 0xE2 && code_point[1] == '\x81')
    return static_cast<unsigned char>(code_point[2]) <= 0xAF && static_cast<unsigned char>(code_point[2]) >= 0xA0;
  return code_point == "\xEF\xBB\xBF";
}

// The code point or byte at `*at` as it is shown; `*at` goes behind it.
std::string Shown(std::string_view text, size_t* at) {
  static const char kHex[] = "0123456789abcdef";
  const size_t length = CodePoint(text.substr(*at));
  const std::string_view piece = text.substr(*at, length == 0 ? 1 : length);
  *at += piece.size();
  if (piece == "\n" || piece == "\r" || piece == "\t") return " ";
  if (length != 0 && !IsControl(piece)) return std::string(piece);
  std::string out;
  for (const char c : piece) {
    const auto byte = static_cast<unsigned char>(c);
    out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
  }
  return out;
}

}  // namespace

std::string Printable(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) out += Shown(text, &at);
  return out;
}

std::string Clip(std::string_view text, size_t most) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const std::string shown = Shown(text, &at);
    if (out.size() + shown.size() > most) return out + "...";
    out += shown;
  }
  return out;
}

bool HasControlCharacter(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = CodePoint(text.substr(at));
    if (length != 0 && IsControl(text.substr(at, length))) return true;
    at += length == 0 ? 1 : length;
  }
  return false;
}

}  // namespace goad::server
