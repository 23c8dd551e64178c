#include "client_sdk/openai/utf8.h"

#include <algorithm>
#include <utility>

namespace goad::openai {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Bytes of one half of a UTF-16 pair at `i`, encoded as if it were a code point: 3, 0 for something else, -1 when more
// are needed. `high`: the half that comes first.
int HalfLength(std::string_view text, size_t i, bool high) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[i + k]); };
  const size_t left = text.size() - std::min(i, text.size());
  if (left >= 1 && byte(0) != 0xED) return 0;
  if (left >= 2 && (byte(1) < (high ? 0xA0 : 0xB0) || byte(1) > (high ? 0xAF : 0xBF))) return 0;
  if (left >= 3 && (byte(2) & 0xC0) != 0x80) return 0;
  return left >= 3 ? 3 : -1;
}

// The code point of both halves at the front.
std::string Joined(std::string_view text) {
  const auto bits = [&](size_t k, unsigned mask) { return static_cast<unsigned char>(text[k]) & mask; };
  const unsigned code = 0x10000 + ((bits(1, 0x0F) << 6 | bits(2, 0x3F)) << 10) + (bits(4, 0x0F) << 6 | bits(5, 0x3F));
  std::string out;
  for (const unsigned byte :
       {0xF0u | code >> 18, 0x80u | (code >> 12 & 0x3F), 0x80u | (code >> 6 & 0x3F), 0x80u | (code & 0x3F)}) {
    out += static_cast<char>(byte);
  }
  return out;
}

}  // namespace

int CodePointLength(std::string_view text) {
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

size_t FirstBadUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const int length = CodePointLength(text.substr(i));
    if (length <= 0) return i;
    i += static_cast<size_t>(length);
  }
  return std::string_view::npos;
}

std::string Utf8Assembler::Push(std::string_view bytes) {
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (tail_.empty() && std::all_of(bytes.begin(), bytes.end(), is_ascii)) return std::string(bytes);
  const std::string joined = std::exchange(tail_, {}).append(bytes);
  std::string_view rest = joined;
  std::string out;
  out.reserve(joined.size());
  while (!rest.empty()) {
    if (HalfLength(rest, 0, /*high=*/true) == 3) {
      const int low = HalfLength(rest, 3, /*high=*/false);
      if (low < 0) {
        tail_ = std::string(rest);
        break;
      }
      out += low == 3 ? Joined(rest) : std::string(kReplacement);
      rest.remove_prefix(low == 3 ? 6 : 3);
      continue;
    }
    if (HalfLength(rest, 0, /*high=*/false) == 3) {
      out += kReplacement;
      rest.remove_prefix(3);
      continue;
    }
    const bool half_begun = rest.size() == 2 && (HalfLength(rest, 0, true) < 0 || HalfLength(rest, 0, false) < 0);
    const int length = half_begun ? -1 : CodePointLength(rest);
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

}  // namespace goad::openai
