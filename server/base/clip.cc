#include "server/base/clip.h"

#include <cstdint>

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

// Of a well-formed one.
uint32_t NumberOf(std::string_view code_point) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(code_point[k]); };
  if (code_point.size() == 1) return byte(0);
  uint32_t number = byte(0) & (0xFFu >> (code_point.size() + 1));
  for (size_t k = 1; k < code_point.size(); ++k) number = number << 6 | (byte(k) & 0x3Fu);
  return number;
}

// Controls, and what is not seen and turns or hides what is (Unicode 15, general category Cf and blank letters).
bool IsControl(std::string_view code_point) {
  struct Range {
    uint32_t first, last;
  };
  static constexpr Range kRanges[] = {{0, 0x1F},          {0x7F, 0x9F},       {0xAD, 0xAD},      {0x600, 0x605},
                                      {0x61C, 0x61C},     {0x6DD, 0x6DD},     {0x115F, 0x1160},  {0x17B4, 0x17B5},
                                      {0x180B, 0x180F},   {0x200B, 0x200F},   {0x2028, 0x202E},  {0x2060, 0x206F},
                                      {0x3164, 0x3164},   {0xFEFF, 0xFEFF},   {0xFFA0, 0xFFA0},  {0xFFF0, 0xFFFB},
                                      {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF}};
  const uint32_t number = NumberOf(code_point);
  for (const Range& range : kRanges) {
    if (number >= range.first && number <= range.last) return true;
  }
  return false;
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
